"""Agreements as the operator makes them, against a real control plane."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.api.agreements import DIRECTORY
from sovctl import config
from sovctl.config import Context
from tests.api import control_plane as control_plane_module
from tests.api.control_plane import ControlPlane
from tests.sovctl.conftest import invoke

DEPLOY = Path(__file__).parents[2] / "deploy"
NAME = "uk-ca-compute"


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
    """The shipped agreement, which nobody has signed."""
    path = tmp_path / "uk-ca.yaml"
    path.write_text((DEPLOY / "agreements" / f"{NAME}.yaml").read_text())
    return path


def sign(control_plane: ControlPlane, file: Path, party: str) -> None:
    """`party` signs, and the operator has its public key."""
    key = file.parent / f"{party}.pem"
    signed = invoke("agreements", "sign", str(file), "--as", party, "--key", str(key), "-o", "json")
    assert signed.code == 0, signed.err
    keys = control_plane.directory / "state" / DIRECTORY
    keys.mkdir(exist_ok=True)
    (keys / f"{party}.pub").write_text(signed.json()["public_key"])


def test_an_agreement_lives_from_its_signatures_to_its_revocation(
    control_plane: ControlPlane, file: Path, tmp_path: Path
) -> None:
    apply = ("agreements", "apply", str(file))
    nobody = invoke(*apply)
    assert nobody.code == 2
    assert "party 'uk'" in nobody.err
    assert "party 'canada'" in nobody.err
    sign(control_plane, file, "uk")
    sign(control_plane, file, "canada")
    (tmp_path / "uk-ca.yaml.canada.sig").rename(tmp_path / "kept")
    one = invoke(*apply)
    assert one.code == 2
    assert "none of 'canada'" in one.err
    (tmp_path / "kept").rename(tmp_path / "uk-ca.yaml.canada.sig")
    assert f"+ agreement {NAME}" in invoke(*apply, "--dry-run").out
    assert invoke("agreements", "list", "-o", "json").json() == []
    done = invoke(*apply)
    assert done.code == 0, done.err
    assert "no change" in invoke(*apply).err
    assert "in force" in invoke("agreements", "list").out
    shown = invoke("agreements", "show", NAME).out
    assert "canada (CA), key" in shown
    assert "0/64" in shown
    trust = tmp_path / "trust"
    assert invoke("audit", "trust", "-o", str(trust)).code == 0
    verified = invoke("agreements", "ledger", NAME, "--verify", "--trust", str(trust))
    assert verified.code == 0, verified.err
    assert "0 entries hold" in verified.out
    _countersign(control_plane, tmp_path, trust)
    gone = invoke("agreements", "revoke", NAME, "--reason", "the parties parted")
    assert gone.code == 0, gone.err
    assert f"- agreement {NAME}" in gone.out
    listed = invoke("agreements", "list").out
    assert "revoked" in listed
    again = invoke(*apply)
    assert again.code == 3
    assert "signed anew" in again.err


def test_what_was_changed_after_the_signature_is_not_what_was_signed(
    control_plane: ControlPlane, file: Path
) -> None:
    sign(control_plane, file, "uk")
    sign(control_plane, file, "canada")
    file.write_text(file.read_text().replace("gpus: 64 ", "gpus: 640"))
    refused = invoke("agreements", "apply", str(file))
    assert refused.code == 2
    assert "none of 'uk'" in refused.err


def test_a_file_with_faults_names_each_with_its_line(file: Path) -> None:
    text = file.read_text().replace("instrument: memorandum", "instrument: handshake")
    file.write_text(text.replace("jurisdictions: [CA]", "jurisdictions: [Canada]"))
    refused = invoke("agreements", "apply", str(file))
    assert refused.code == 2
    assert "instrument" in refused.err
    assert "jurisdictions" in refused.err


def test_only_a_party_signs(file: Path, tmp_path: Path) -> None:
    key = str(tmp_path / "key.pem")
    refused = invoke("agreements", "sign", str(file), "--as", "france", "--key", key)
    assert refused.code == 2
    assert "uk, canada" in refused.err


def test_an_agreement_that_is_none_is_not_found() -> None:
    assert invoke("agreements", "revoke", "none-such", "--reason", "x").code == 4
    assert invoke("agreements", "ledger", "none-such").code == 4


def _countersign(control_plane: ControlPlane, tmp_path: Path, trust: Path) -> None:
    """Each party in turn checks the ledger and signs for it; then either sees both."""
    ledger = tmp_path / "ledger.json"
    assert invoke("agreements", "ledger", NAME, "--file", str(ledger)).code == 0
    for party in ("uk", "canada"):
        signed = tmp_path / f"ledger.{party}.json"
        done = invoke(
            *("agreements", "countersign", NAME, "--from", str(ledger), "--file", str(signed)),
            *("--as", party, "--key", str(tmp_path / f"{party}.pem"), "--trust", str(trust)),
        )
        assert done.code == 0, done.err
        ledger = signed
    keys = control_plane.directory / "state" / DIRECTORY
    verify = ("agreements", "ledger", NAME, "--from", str(ledger), "--verify")
    seen = invoke(*verify, "--trust", str(trust), "--parties", str(keys), "-o", "json")
    assert seen.code == 0, seen.err
    assert sorted(seen.json()["signed"]) == ["canada", "uk"]
    (tmp_path / "nobody").mkdir()
    none = invoke(*verify, "--trust", str(trust), "--parties", str(tmp_path / "nobody"))
    assert none.code == 2
