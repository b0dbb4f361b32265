"""`login.yaml`: which identity providers vouch for whom, and what is refused in it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from scheduler.api import login_file
from scheduler.api.state_files import Declarations
from scheduler.model.login import PersonRule
from sovshared.pki import PkiInvalid
from tests.shared.ca import TestCa

ISSUER = "https://login.trust-a.example/realm"
GOOD: dict[str, Any] = {
    "issuer": ISSUER,
    "country": "GB",
    "audience": "sovctl",
    "algorithms": ["ES256"],
    "ca": "ca.pem",
    "people": [{"when": {"groups": "x"}, "name": "/tenant/trust-a/user/{preferred_username}"}],
    "operators": [{"when": {"acr": "2"}, "name": "/auditor/{sub}"}],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "ca.pem").write_bytes(TestCa().trust_pem)
    return tmp_path / "login.yaml"


def write(file: Path, *providers: dict[str, Any]) -> Path:
    file.write_text(yaml.safe_dump({"providers": list(providers)}))
    return file


def test_a_provider_is_declared_with_its_rules(file: Path) -> None:
    assert login_file.load(file) == {}
    found = login_file.load(write(file, GOOD))[ISSUER]
    assert (found.country, found.audience, found.algorithms) == ("GB", "sovctl", ("ES256",))
    assert (found.skew_ms, found.session_ms, found.nonce_required) == (60_000, 28_800_000, True)
    assert found.rules == (
        PersonRule((("groups", "x"),), "/tenant/trust-a/user/", "preferred_username"),
        PersonRule((("acr", "2"),), "/auditor/", "sub"),
    )
    assert b"BEGIN CERTIFICATE" in found.trust_pem


EVERYBODY: list[dict[str, Any]] = [{"when": {}, "name": "/tenant/a/user/{sub}"}]


def rule(name: str, **when: str) -> list[dict[str, Any]]:
    return [{"when": when or {"groups": "x"}, "name": name}]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        pytest.param({"issuer": "http://x.example"}, "allowed https", id="no https"),
        pytest.param({"issuer": f"{ISSUER}?a=b"}, "allowed https", id="a query"),
        pytest.param({"country": "gb"}, "allowed an ISO country", id="no country"),
        pytest.param({"country": None}, "country", id="under nobody's law"),
        pytest.param({"algorithms": ["none"]}, "algorithms.0", id="no signature"),
        pytest.param({"algorithms": ["HS256"]}, "algorithms.0", id="a shared secret"),
        pytest.param({"algorithms": []}, "algorithms", id="no algorithm"),
        pytest.param({"session_minutes": 721}, "session_minutes", id="longer than anybody's"),
        pytest.param({"clock_skew_s": 301}, "clock_skew_s", id="a clock that is off for long"),
        pytest.param({"nonce": "no"}, "nonce", id="no nonce"),
        pytest.param({"ca": "away.pem"}, "away.pem: No such file", id="no CA"),
        pytest.param({"people": rule("/operator/{sub}")}, "allowed /tenant", id="not of a tenant"),
        pytest.param({"operators": rule("/tenant/a/user/{sub}")}, "allowed /audi", id="of one"),
        pytest.param({"people": rule("/tenant/{t}/user/ada")}, "ends in a claim", id="its middle"),
        pytest.param({"people": rule("/tenant/a/user/{sub}x")}, "ends in a claim", id="a part"),
        pytest.param({"people": rule("/site/a/node/{sub}")}, "allowed /tenant", id="a node"),
        pytest.param({"people": EVERYBODY}, "when", id="everybody"),
        pytest.param({"trusted": True}, "trusted", id="what nobody knows"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(file: Path, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(PkiInvalid) as refused:
        login_file.load(write(file, GOOD | wrong))
    assert told in str(refused.value)


def test_all_faults_are_named_at_once_and_one_issuer_is_declared_once(file: Path) -> None:
    with pytest.raises(PkiInvalid) as refused:
        login_file.load(write(file, GOOD | {"country": "x", "algorithms": ["none"], "nonce": "x"}))
    assert all(word in str(refused.value) for word in ("country", "algorithms", "nonce"))
    with pytest.raises(PkiInvalid, match="more than once"):
        login_file.load(write(file, GOOD, copy.deepcopy(GOOD)))


def test_a_file_that_cannot_be_read_leaves_what_was_and_one_that_is_gone_nobody(
    file: Path,
) -> None:
    declared = Declarations(write(file, GOOD), login_file.load)
    file.write_text("providers: [")
    assert set(declared()) == {ISSUER}
    file.unlink()
    assert declared() == {}
