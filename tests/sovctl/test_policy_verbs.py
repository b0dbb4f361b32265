"""A change of policy as the operator makes it, against a real control plane and its prover."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.api import pack_keys
from scheduler.model.reasons import Refused
from sovctl import config
from sovctl.cli.session import read_file
from sovctl.config import Context
from sovctl.policy_file import Policy
from sovshared.pki import PkiInvalid
from tests.api import control_plane as control_plane_module
from tests.api.control_plane import ControlPlane
from tests.sovctl.conftest import invoke

POLICIES = Path(__file__).parents[2] / "deploy" / "policies"
DEMOS_CHANGE = "policy-without-the-rule.yaml"
IN_FORCE = """
name: home-and-norway
allowed_jurisdictions: [GB, "NO"]
control_plane_tier: SECRET
min_assurance: DECLARED
min_isolation: none
"""
SECRET_STAYS = """
rules:
  - id: secret-stays
    text: SECRET work stays in the United Kingdom
    cites: a law
    when: {tier_at_least: SECRET}
    require: {each_in: {fact: country, countries: [GB]}}
"""
INVARIANT = """
invariants:
  - id: secret-never-leaves-gb
    text: SECRET never leaves GB
    cites: a law
    when: {tier_at_least: SECRET}
    require: {each_in: {fact: country, countries: [GB]}}
"""


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    yield from control_plane_module.running(tmp_path_factory.mktemp("control-plane"))


@pytest.fixture(autouse=True)
def operator(control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line acts as the operator."""
    path = tmp_path / "config.yaml"
    credentials = str(control_plane.operator_credentials)
    context = Context(endpoint=control_plane.endpoint, credentials=credentials)
    config.save(path, "op", {"op": context})
    monkeypatch.setenv("SOVCTL_CONFIG", str(path))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A policy file; the policy in force has the rule that SECRET work stays at home."""
    path = tmp_path / "policy.yaml"
    path.write_text(IN_FORCE + SECRET_STAYS + INVARIANT)
    applied = invoke("policy", "apply", str(path), "--override", "the test begins here")
    assert applied.code == 0, applied.err
    return path


def test_dropping_the_secret_rule_is_refused_with_a_counterexample(file: Path) -> None:
    file.write_text(IN_FORCE)
    refused = invoke("policy", "apply", str(file))
    assert refused.code == 3
    assert "SECRET, may be in NO" in refused.err
    assert "country NO" in refused.err
    assert "Traceback" not in refused.err
    assert invoke("policy", "show", "-o", "json").json()["rules"][0]["id"] == "secret-stays"
    proved = invoke("policy", "prove", str(file), "-o", "json")
    assert proved.code == 3
    assert {each["claim"]: each["standing"] for each in proved.json()["findings"]} == {
        "secret-never-leaves-gb": "broken",
        "no-looser": "broken",
    }


def test_a_narrower_policy_is_proved_and_comes_into_force(file: Path) -> None:
    file.write_text((IN_FORCE + SECRET_STAYS + INVARIANT).replace('[GB, "NO"]', "[GB]"))
    applied = invoke("policy", "apply", str(file))
    assert applied.code == 0, applied.err
    assert "proved: no-looser" in applied.err
    shown = invoke("policy", "show").out
    assert "rule secret-stays: SECRET work stays in the United Kingdom" in shown


def test_a_condition_that_is_two_is_refused_with_its_line(file: Path) -> None:
    two = SECRET_STAYS.replace("{tier_at_least: SECRET}", "{tier_at_least: SECRET, marked: []}")
    file.write_text(IN_FORCE + two)
    refused = invoke("policy", "apply", str(file))
    assert refused.code == 2
    assert "rules[0].when" in refused.err
    assert "exactly one condition" in refused.err


def test_the_demos_change_is_refused_with_a_patients_work_abroad(file: Path) -> None:
    assert file.exists()
    demo = invoke("policy", "apply", str(POLICIES / "demo.yaml"), "--override", "the demo")
    assert demo.code == 0, demo.err
    refused = invoke("policy", "apply", str(POLICIES.parent / "examples" / DEMOS_CHANGE))
    assert refused.code == 3
    assert "work: markings PATIENT" in refused.err
    assert "country NO" in refused.err


def test_with_nothing_on_record_nothing_would_change(file: Path) -> None:
    found = invoke("policy", "diff", str(file), "--since", "30d")
    assert found.code == 0, found.err
    assert "nothing would change" in found.out + found.err
    bad = invoke("policy", "diff", str(file), "--since", "soon")
    assert bad.code == 2
    assert "--since" in bad.err


@pytest.mark.parametrize("name", sorted(path.stem for path in POLICIES.glob("*.yaml")))
def test_every_shipped_pack_keeps_its_invariants(file: Path, name: str) -> None:
    proved = invoke("policy", "prove", str(POLICIES / f"{name}.yaml"), "-o", "json").json()
    own = [
        f for f in proved["findings"] if f["claim"] not in ("no-looser", "secret-never-leaves-gb")
    ]
    assert {each["standing"] for each in own} <= {"proved"}, own


def test_where_keys_are_known_only_what_one_of_them_signed_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(IN_FORCE)
    key = str(tmp_path / "signer.pem")
    signed = invoke("policy", "sign", str(file), "--key", key, "-o", "json").json()
    signature = base64.b64decode((tmp_path / "policy.yaml.sig").read_bytes())
    pack = read_file(Policy, file).to_pack()
    assert pack_keys.load(tmp_path).signer_of(pack, b"") == ""
    with pytest.raises(Refused, match="no key is known here"):
        pack_keys.load(tmp_path).signer_of(pack, signature)
    signers = tmp_path / pack_keys.DIRECTORY
    signers.mkdir()
    (signers / "board.pub").write_text(signed["public_key"])
    keys = pack_keys.load(tmp_path)
    assert keys.signer_of(pack, signature) == signed["key_id"]
    for other, by in ((pack, b""), (pack + b"\x00", signature), (pack, signature[::-1])):
        with pytest.raises(Refused, match="signature"):
            keys.signer_of(other, by)


@pytest.mark.parametrize("content", ["not base64!", "AAAA"])
def test_a_key_file_that_holds_no_key_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / pack_keys.DIRECTORY).mkdir()
    (tmp_path / pack_keys.DIRECTORY / "board.pub").write_text(content)
    with pytest.raises(PkiInvalid, match=r"board\.pub"):
        pack_keys.load(tmp_path)
