"""A placement that is stale, forged, replayed, or meant for another starts nothing at a site."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.site import events as ev
from agent.site.granted import SiteGrants
from agent.site.machine import SiteMachine
from agent.site.state import Journal, Verdict
from sovapi.v1 import common_pb2 as common
from sovapi.v1 import sitelink_pb2 as sitelink
from sovapi.v1.jobs_pb2 import DatasetOutput, SignalBeforeEnd
from sovapi.v1.sitelink_pb2 import DesiredAttempt, Launch, LaunchInput
from sovshared import grants
from tests.agent.site.builders import desired, launch, row
from tests.shared.granting import Granting

NOW_MS = 1_800_000_000_000
GRANTING = Granting()
COVERED = {
    "command": "work", "env": "work", "bundle_digest": "work", "image": "work", "secrets": "work",
    "egress": "work",
    "inputs": "work", "outputs": "work",
    "residency": "requirement", "min_isolation": "requirement",
    "controlling_stake_milli_percent": "requirement",
    "tasks_per_node": "terms", "gpus_per_node": "terms", "gpu_share_milli": "terms",
    "time_limit_ms": "terms", "stop_grace_ms": "terms", "signal_before_end": "terms",
    "leased": "terms", "mig_profile": "terms", "ray": "terms", "nodes": "nodes",
    "policy_revision": "policy_revision", "grant": "itself",
}  # fmt: skip
"""What of a grant each field of a launch is bound by."""
SEALED = {"sealed_secrets", "key_ticket"}
"""Of these only the tenant's key service knows whether they are right."""


class Clock:
    """A site's time of day."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def checks(tmp_path: Path, clock: Clock) -> SiteGrants:
    return at(tmp_path, clock)


def at(root: Path, clock: Callable[[], int]) -> SiteGrants:
    return SiteGrants(
        GRANTING.trust(root / "trust.pem"),
        site="exch-a",
        trust_domain=GRANTING.ca.trust_domain,
        seen=root / "grants.json",
        utc_now_ms=clock,
    )


def asked(
    granting: Granting = GRANTING, *, generation: int = 1, revision: int = 1
) -> DesiredAttempt:
    what = launch("n01", "n02")
    what.policy_revision = revision
    return granting.row(row(generation=generation, what=what), NOW_MS, site="exch-a")


def kind(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    assert (verdict.phase, verdict.reason) == (sitelink.ATTEMPT_PHASE_REFUSED, "GRANT_REFUSED")
    return verdict.detail.partition(":")[0]


def test_what_was_granted_may_begin(checks: SiteGrants) -> None:
    granted = asked()
    assert checks.refuse_row(granted, 0) is None
    assert checks.refuse_start("job-a.1", granted.launch) is None
    assert not checks.refusals


def test_every_field_of_a_launch_is_bound_by_its_grant() -> None:
    assert set(COVERED) | SEALED == set(Launch.DESCRIPTOR.fields_by_name)


CHANGES: dict[str, object] = {
    "command": ["false"], "env": {"A": "b"}, "bundle_digest": "sha256:" + "0" * 64, "image": "x",
    "secrets": {"A": "b"}, "egress": ["a:1"], "min_isolation": common.ISOLATION_UID,
    "controlling_stake_milli_percent": 50_000, "tasks_per_node": 2, "gpus_per_node": 2,
    "gpu_share_milli": 500, "time_limit_ms": 9, "stop_grace_ms": 9, "leased": True,
    "inputs": [LaunchInput(dataset="a/b", version="v", mount="/d")],
    "outputs": [DatasetOutput(dataset="a/b")],
    "mig_profile": "1g.10gb",
    "ray": True,
    "policy_revision": 2, "signal_before_end": SignalBeforeEnd(signal="USR1", before_ms=1),
}  # fmt: skip


@pytest.mark.parametrize("field", sorted(COVERED.keys() - {"grant"}))
def test_a_launch_that_was_changed_starts_nothing(checks: SiteGrants, field: str) -> None:
    changed = asked()
    match field:
        case "residency":
            changed.launch.residency.jurisdictions.append("NO")
        case "nodes":
            changed.launch.nodes[1].gpu_indices[0] = 1
        case _:
            changed.launch.ClearField(field)  # type: ignore[arg-type]
            changed.launch.MergeFrom(Launch(**{field: CHANGES[field]}))  # type: ignore[arg-type]
    want = grants.MISPLACED if field == "nodes" else grants.MISMATCHED
    assert kind(checks.refuse_row(changed, 0)) == want
    assert kind(checks.refuse_start("job-a.1", changed.launch)) == want


def without(changed: DesiredAttempt) -> None:
    changed.launch.ClearField("grant")


def by_somebody_else(changed: DesiredAttempt) -> None:
    changed.launch.CopyFrom(asked(Granting()).launch)


def of_another_attempt(changed: DesiredAttempt) -> None:
    changed.attempt = 2


def of_another_job(changed: DesiredAttempt) -> None:
    changed.job_id = "job-b"


def of_another_site(changed: DesiredAttempt) -> None:
    changed.CopyFrom(GRANTING.row(row(), NOW_MS, site="exch-b"))


def of_another_row(changed: DesiredAttempt) -> None:
    changed.generation = 9


@pytest.mark.parametrize(
    ("forge", "want"),
    [
        (without, grants.MISSING),
        (by_somebody_else, grants.FORGED),
        (of_another_attempt, grants.MISPLACED),
        (of_another_job, grants.MISPLACED),
        (of_another_site, grants.MISPLACED),
        (of_another_row, grants.MISPLACED),
    ],
)
def test_a_grant_of_something_else_is_refused(
    checks: SiteGrants, forge: Callable[[DesiredAttempt], None], want: str
) -> None:
    changed = asked()
    forge(changed)
    assert kind(checks.refuse_row(changed, 0)) == want
    assert checks.refusals == {want: 1}


def test_a_row_that_was_had_before_is_a_replay(checks: SiteGrants) -> None:
    assert kind(checks.refuse_row(asked(generation=40), 40)) == grants.REPLAYED
    assert checks.refuse_row(asked(generation=41), 40) is None
    assert checks.refuse_row(asked(generation=1), 0) is None, "an empty journal has had nothing"


def test_a_grant_that_ended_starts_nothing(checks: SiteGrants, clock: Clock) -> None:
    granted = asked()
    clock.ms += 3_600_000
    assert kind(checks.refuse_start("job-a.1", granted.launch)) == grants.STALE


def test_an_older_policy_is_refused_once_a_newer_one_was_seen(
    tmp_path: Path, checks: SiteGrants, clock: Clock
) -> None:
    assert checks.refuse_row(asked(revision=6), 0) is None
    assert kind(checks.refuse_row(asked(revision=5), 0)) == grants.STALE
    again = at(tmp_path, clock)
    assert kind(again.refuse_row(asked(revision=5), 0)) == grants.STALE, "a restart forgets nothing"


def test_a_retired_key_opens_nothing_once_its_successor_was_seen(checks: SiteGrants) -> None:
    newer = Granting(GRANTING.ca, number=2)
    assert checks.refuse_row(asked(newer), 0) is None
    assert checks.refuse_row(asked(), 0) is None, "two keys are good at once"
    assert checks.refuse_row(asked(Granting(GRANTING.ca, number=3, oldest=3)), 0) is None
    assert kind(checks.refuse_row(asked(), 0)) == grants.STALE
    assert kind(checks.refuse_row(asked(newer), 0)) == grants.STALE


def test_what_cannot_be_remembered_is_not_believed(tmp_path: Path, clock: Clock) -> None:
    checks = SiteGrants(
        GRANTING.trust(tmp_path / "trust.pem"), site="exch-a",
        trust_domain=GRANTING.ca.trust_domain, seen=tmp_path / "none" / "grants.json",
        utc_now_ms=clock,
    )  # fmt: skip
    assert kind(checks.refuse_row(asked(), 0)) == grants.STALE


def machine(checks: SiteGrants, journal: Journal | None = None) -> SiteMachine:
    return SiteMachine(journal or Journal(), judge=lambda _l, _i: None, grants=checks, now_ms=0)


def told(site: SiteMachine, *rows: DesiredAttempt, to: int, since: int = 0) -> Journal:
    """The journal after a word; each write is durable at once."""
    pending = list(site.handle(ev.DesiredReceived(desired(*rows, to=to, since=since)), 0))
    while pending:
        instruction = pending.pop()
        if isinstance(instruction, ev.Persist):
            pending += site.handle(ev.Persisted(instruction.version), 0)
    return site.journal


def test_a_row_sent_again_after_its_end_is_refused(checks: SiteGrants) -> None:
    """An attempt that is over and forgotten here does not begin again by the words it began by."""
    site = machine(checks, Journal(1, 7))
    journal = told(site, asked(generation=5), to=8)
    assert kind(journal.memory["job-a.1"].verdict) == grants.REPLAYED


def test_a_second_launch_of_an_attempt_changes_nothing(checks: SiteGrants) -> None:
    site = machine(checks)
    first = asked()
    told(site, first, to=1)
    other = launch("n09")
    second = GRANTING.row(row(generation=2, what=other), NOW_MS, site="exch-a")
    journal = told(site, second, to=2, since=1)
    assert journal.rows["job-a.1"].launch == first.launch
    assert journal.memory["job-a.1"].verdict is None
