"""Operators' access from the command line, against the real control plane: what they may without a
grant, what with one, and what the tenant sees of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scheduler.model.identity import Claims, Clearance
from sovctl import Context, config
from sovshared import pki, spiffe
from tests.api import control_plane as control_plane_module
from tests.api.control_plane import ControlPlane
from tests.sovctl.conftest import Result, invoke

DEPLOY = Path(__file__).parents[2] / "deploy"
ADA = spiffe.tenant_user("trust-a", "ada")
FOR_EVER_MS = 1 << 50
CANARY = "xylophone"

As = Callable[..., Result]


def claims(country: str) -> Claims:
    return Claims(country, Clearance.SC, "/operator/fay", FOR_EVER_MS)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A configuration with a tenant, three operators of the home country, and one of another."""
    directory = tmp_path_factory.mktemp("access")
    path = directory / "config.yaml"
    for plane in control_plane_module.running(directory):
        context = Context(endpoint=plane.endpoint, credentials=str(plane.operator_credentials))
        contexts = {
            "olga": context,
            "ada": _context(plane, ADA),
            "otto": _context(plane, spiffe.operator("otto"), claims("GB")),
            "odile": _context(plane, spiffe.operator("odile"), claims("FR")),
        }
        config.save(path, "olga", contexts)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SOVCTL_CONFIG", str(path))
            for what, folder in (("fleet", "fleets"), ("tenants", "tenants")):
                applied = invoke(what, "apply", str(DEPLOY / folder / "demo.yaml"))
                assert applied.code == 0, applied.err
        yield path


def _context(plane: ControlPlane, name: spiffe.Name, vouched: Claims | None = None) -> Context:
    identity = plane.identity(name, vouched) if vouched is not None else plane.identity(name)
    directory = plane.directory / "people" / name.path.strip("/").replace("/", "-")
    pki.save(directory, identity)
    return Context(endpoint=plane.endpoint, credentials=str(directory))


@pytest.fixture
def as_(people: Path, monkeypatch: pytest.MonkeyPatch) -> As:
    """Runs the command line as somebody."""
    monkeypatch.setenv("SOVCTL_CONFIG", str(people))

    def run(who: str, *argv: str) -> Result:
        return invoke("--context", who, *argv)

    return run


@pytest.fixture
def job(as_: As) -> str:
    """A job of ada's that waits: there is no site."""
    project = ("--project", "trust-a/radiology")
    made = as_("ada", "submit", "-o", "name", "--name", CANARY, *project, "--", "echo", CANARY)
    assert made.code == 0, made.err
    return made.out.strip()


def document(result: Result) -> Any:
    assert result.code == 0, result.err
    return json.loads(result.out)


def request(as_: As, who: str, tenant: str = "trust-a") -> Result:
    return as_(
        *(who, "access", "request", tenant, "--action", "read", "--action", "cancel"),
        *("--reason", "support", "--detail", "ticket 4711", "-o", "json"),
    )


def test_without_a_grant_work_is_there_and_says_nothing(as_: As, job: str) -> None:
    seen = as_("olga", "get", job, "-o", "json")
    listed = as_("olga", "list", "-o", "json")
    assert document(seen)["state"] == "QUEUED"
    assert CANARY not in seen.out + listed.out
    assert "/user/ada" not in seen.out + listed.out


@pytest.mark.parametrize("verb", ["cancel", "logs", "certificate"])
def test_an_operator_without_a_grant_is_refused_and_the_tenant_sees_it(
    as_: As, job: str, verb: str
) -> None:
    refused = as_("otto", verb, job)
    assert refused.code == 5
    assert "ACCESS_NOT_GRANTED" in refused.err
    events = document(as_("ada", "access", "log", "-o", "json"))
    last = events[-1]
    assert last["kind"] == "operator_access_refused"
    assert last["by"] == {"name": "/operator/otto", "country": "GB", "clearance": "SC"}
    assert last["job"] == job


def test_with_a_second_operators_word_it_may_and_the_tenant_sees_each_step(
    as_: As, job: str
) -> None:
    grant = document(request(as_, "otto"))
    assert as_("otto", "access", "approve", grant["id"]).code == 5
    assert (
        document(as_("olga", "access", "approve", grant["id"], "-o", "json"))["state"] == "ACTIVE"
    )
    assert document(as_("otto", "get", job, "-o", "json"))["name"] == CANARY
    assert document(as_("olga", "get", job, "-o", "json"))["name"] == ""
    cancelled = as_("otto", "cancel", job)
    assert cancelled.code == 0, cancelled.err
    shown = document(as_("ada", "access", "show", grant["id"], "-o", "json"))
    done = [(event["kind"], event.get("action")) for event in shown["events"]]
    assert done == [
        ("operator_access_requested", None),
        ("operator_access_approved", None),
        ("operator_access_used", "READ"),
        ("operator_access_used", "CANCEL"),
    ]
    assert as_("ada", "access", "revoke", grant["id"], "--reason", "thanks").code == 0
    assert CANARY not in as_("otto", "get", job, "-o", "json").out


def test_an_operator_abroad_gets_nothing_unless_the_tenant_says_so(as_: As) -> None:
    refused = request(as_, "odile")
    assert refused.code == 5
    assert "ACCESS_NOT_ALLOWED" in refused.err
    assert "found FR, allowed GB" in refused.err
    project = "trust-a/radiology"
    both = ("--country", "GB", "--country", "FR")
    assert as_("ada", "access", "set-policy", *both, "--tenant", project).code == 0
    policy = document(as_("ada", "access", "policy", project, "-o", "json"))
    assert [each["countries"] for each in policy] == [["GB"], ["FR", "GB"]]
    assert request(as_, "odile", project).code == 5  # The organisation has not said so.
    assert as_("ada", "access", "set-policy", *both).code == 0
    assert document(request(as_, "odile", project))["state"] == "PENDING"


def test_what_somebody_vouched_for_is_in_the_certificate(as_: As) -> None:
    found = document(as_("otto", "whoami", "-o", "json"))
    told = (found["country"], found["clearance"], found["vouched_by"])
    assert told == ("GB", "SC", "/operator/fay")


def test_an_operator_reads_what_is_in_a_tenants_leaves_with_a_grant_alone(
    as_: As, job: str
) -> None:
    def texts(*of: str) -> list[str]:
        found = document(as_("olga", "audit", "log", *of, "-o", "json"))
        return [base64.b64decode(leaf.get("canonical_json", "")).decode() for leaf in found]

    assert "/user/ada" not in str(texts())
    grant = document(request(as_, "olga"))
    assert "/user/ada" not in str(texts("--job", job))
    assert as_("otto", "access", "approve", grant["id"]).code == 0
    assert "/user/ada" in str(texts("--job", job))
    assert "/user/ada" in str(texts("--tenant", "trust-a/radiology"))
    assert "/user/ada" not in str(texts()), "the grant is used on what is asked for by name"
    uses = [e for e in document(as_("ada", "access", "log", "-o", "json")) if "used" in e["kind"]]
    assert len(uses) >= 2


def test_the_whole_log_is_checked_by_an_operator_too_by_hashes_where_that_is_all(
    as_: As, job: str, tmp_path: Path
) -> None:
    assert job
    trust = tmp_path / "trust"
    assert as_("olga", "audit", "trust", "-o", str(trust)).code == 0
    checked = document(as_("olga", "audit", "verify", "--trust", str(trust), "-o", "json"))
    assert 0 < checked["hidden"] < checked["tree_size"]
