"""Work of the running system that may stay no longer: its site changes hands, or the agreement that
opened the site to it is revoked."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from deploy.local.layout import FLEET_FILE, POLICY_FILE
from sovctl import Preemption, Residency, verify
from sovctl.agreement_file import SIGNED_AS, Agreement
from sovctl.cli.session import read_file
from sovctl.client import Job
from sovctl.fleet_file import Fleet
from sovctl.policy_file import Policy
from sovshared import signing
from tests.e2e.local import HERE, LIFE, NARVIK, World

AGREED = "uk-no-test"
HEEDED_MS, LEFT_MS = 5_000, 600_000
"""From the change on: nothing starts any more; nothing is there any more."""
UNDER_AGREEMENT = Residency(
    jurisdictions=("NO",), tolerate_foreign_compulsion=("GB", "NO"), agreements=(AGREED,)
)

Change: TypeAlias = Callable[[], None]
Stage: TypeAlias = Callable[[World, Path], contextlib.AbstractContextManager[Change]]


@contextlib.contextmanager
def sold(world: World, _directory: Path) -> Generator[Change]:
    """The site comes under foreign control."""
    declared = read_file(Fleet, FLEET_FILE).to_proto()
    changed = read_file(Fleet, FLEET_FILE).to_proto()
    (narvik,) = [site for site in changed if site.id == NARVIK]
    narvik.ultimate_parents[0].country = "US"

    def change() -> None:
        assert world.operator.apply_fleet(changed, reason="it was sold")

    try:
        yield change
    finally:
        world.operator.apply_fleet(declared, reason="it was bought back")
        world.cluster.wait_ready()


@contextlib.contextmanager
def revoked(world: World, directory: Path) -> Generator[Change]:
    """The agreement that alone opens the country ends."""
    demo = read_file(Policy, POLICY_FILE)
    home = demo.model_copy(
        update={"name": "home", "allowed_jurisdictions": ("GB",), "agreements": ("treaty",)}
    )
    override = "a test of agreements"
    try:
        world.operator.apply_policy(home.to_proto(), reason="a test", override=override)
        document = Agreement.model_validate(AGREEMENT).to_document()
        keys = world.cluster.layout.control_dir / "agreement-parties"
        keys.mkdir(exist_ok=True)
        signatures: list[bytes] = []
        for party in ("uk", "norway"):
            signer = signing.kept_in(directory / f"{party}.pem")
            (keys / f"{party}.pub").write_bytes(base64.b64encode(signer.public_key))
            signatures.append(signer.sign(SIGNED_AS + document))
        world.operator.apply_agreement(document, signatures, reason="a test")
        yield lambda: _revoke(world)
    finally:
        world.operator.apply_policy(demo.to_proto(), reason="as before", override=override)


AGREEMENT = {
    "name": AGREED,
    "instrument": "treaty",
    "text": "researchers of either country may use compute of the other",
    "cites": "nothing: it is a test's",
    "parties": [{"name": "uk", "country": "GB"}, {"name": "norway", "country": "NO"}],
    "jurisdictions": ["NO"],
    "scope": {"tier": "OFFICIAL", "kinds": ["batch"]},
    "valid": {"from": "2025-01-01", "until": "2060-01-01"},
}


def _revoke(world: World) -> None:
    assert world.operator.revoke_agreement(AGREED, reason="a test").changes


def certified(world: World, job: Job) -> dict[str, Any]:
    """What a verified certificate of a job says."""
    trust = verify.parse_trust(world.ada.trust())
    assert job.id is not None
    return verify.verify(world.ada.certificate(job.id), trust).predicate


def leaves(world: World, kind: str, job: Job | None = None) -> list[dict[str, Any]]:
    """The bodies of the audit log's leaves of a kind, oldest first."""
    found = (
        world.operator.audit_leaves() if job is None else world.ada.audit_leaves(job=job.id or "")
    )
    texts = (leaf.canonical_json.decode() for leaf in found if leaf.kind == kind)
    return [json.loads(text) for text in texts]


def changed_at_ms(world: World, stage: Stage) -> int:
    """When the change was committed, by the control plane's clock."""
    kind = "fleet_applied" if stage is sold else "policy_in_force"
    return int(leaves(world, kind)[-1]["at_ms"])


@pytest.mark.parametrize(
    ("stage", "residency", "reason"),
    [
        pytest.param(sold, HERE[NARVIK], "FOREIGN_COMPULSION", id="its-operator-is-sold"),
        pytest.param(revoked, UNDER_AGREEMENT, "AGREEMENT_UNKNOWN", id="its-agreement-is-revoked"),
    ],
)
def test_what_may_stay_no_longer_leaves_by_its_deadline_and_nothing_starts_there_any_more(
    world: World, tmp_path: Path, stage: Stage, residency: Residency, reason: str
) -> None:
    with stage(world, tmp_path) as change:
        patient = Preemption(grace="1h")
        ran = [world.run(LIFE, gpus=8, residency=residency, preemption=patient) for _ in "12"]
        for job in ran:
            world.until_said(job, "start")
        waits = world.run(LIFE, gpus=8, residency=residency)
        change()
        at_ms = changed_at_ms(world, stage)
        for job in ran:  # It may write a checkpoint before it goes.
            world.until_said(job, "term")
            world.tell(job, "finish")
        for job in (*ran, waits):
            world.until(job, "waits for a place", lambda info: info.state == "QUEUED")
        for job in ran:
            assert [lost["grace_ms"] for lost in leaves(world, "residency_lost", job)] == [LEFT_MS]
        # Room and quota are there again, and what is new finds a place elsewhere.
        assert world.end(world.run("true")).state == "SUCCEEDED"
        (narvik,) = [site for site in waits.explain().sites if site.site == NARVIK]
        assert reason in {denial.reason for denial in narvik.denials}
        assert waits.refresh().state == "QUEUED"
        for job in (*ran, waits):
            job.cancel(now=True)
            world.until_state(job, "CANCELLED")
        begun = [said for job in (*ran, waits) for said in world.said(job) if said.what == "start"]
        assert len(begun) == len(ran)
        assert all(said.at_ms < at_ms + HEEDED_MS for said in begun)
        assert certified(world, waits)["verdict"] == "NOT_PLACED"
        for job in ran:
            told = certified(world, job)
            assert told["verdict"] == "OUT_OF_BOUNDS"
            before, after = told["intervals"]
            assert (before["verdict"], after["verdict"]) == ("IN_BOUNDS", "OUT_OF_BOUNDS")
            assert before["to"] == after["from"] == at_ms
            assert at_ms < after["to"] <= at_ms + LEFT_MS
            assert reason in {denial["reason"] for denial in after["denials"]}
            under = AGREED if stage is revoked else None
            assert {each.get("agreement") for each in told["intervals"]} == {under}
            signed = [agreement["name"] for agreement in told.get("agreements", ())]
            assert signed == ([AGREED] if stage is revoked else [])
