"""Keys, requests, certificate facts, and the directory they are kept in."""

import stat
from pathlib import Path

import pytest

from sovshared import pki
from tests.shared.ca import FROM_MS, UNTIL_MS, TestCa

URI = "spiffe://sov.example/operator/olga"


def test_an_identity_is_kept_private_and_read_back(tmp_path: Path) -> None:
    identity = TestCa().issue(URI, dns=("localhost",))
    pki.save(tmp_path / "id", identity)
    assert pki.load(tmp_path / "id") == identity
    assert stat.S_IMODE((tmp_path / "id").stat().st_mode) == 0o700
    for name in (pki.IDENTITY_FILE, pki.TRUST_FILE):
        assert stat.S_IMODE((tmp_path / "id" / name).stat().st_mode) == 0o600
    assert sorted(p.name for p in (tmp_path / "id").iterdir()) == ["identity.pem", "trust.pem"]


def test_facts_of_a_certificate() -> None:
    facts = TestCa().issue(URI, dns=("localhost",)).facts()
    assert facts.spiffe_id == URI
    assert facts.dns_names == ("localhost",)
    assert (facts.not_before_ms, facts.not_after_ms) == (FROM_MS, UNTIL_MS)


def test_an_identity_never_prints_its_key() -> None:
    assert "PRIVATE" not in repr(TestCa().issue(URI))


def test_files_may_be_named_one_by_one_and_be_one_file(tmp_path: Path) -> None:
    identity = TestCa().issue(URI)
    pki.save(tmp_path, identity)
    both = tmp_path / pki.IDENTITY_FILE
    assert pki.load_files(key=both, certificate=both, trust=tmp_path / pki.TRUST_FILE) == identity


def test_a_certificate_for_another_key_is_refused(tmp_path: Path) -> None:
    ca = TestCa()
    one, other = ca.issue(URI), ca.issue(URI)
    pki.save(tmp_path, pki.Identity(one.key_pem, other.chain_pem, one.trust_pem))
    with pytest.raises(pki.PkiInvalid, match="another key"):
        pki.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"-----BEGIN X", b"a" * 100_000])
def test_junk_files_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / pki.IDENTITY_FILE).write_bytes(content)
    (tmp_path / pki.TRUST_FILE).write_bytes(content)
    with pytest.raises(pki.PkiInvalid, match=r"identity\.pem"):
        pki.load(tmp_path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(pki.PkiInvalid, match=r"identity\.pem: No such file"):
        pki.load(tmp_path)


def test_a_request_proves_its_key() -> None:
    key = pki.new_key()
    der = pki.make_csr(key, "/operator/olga")
    csr = pki.load_csr(der)
    assert csr.public_key() == key.public_key()
    assert pki.replaced_certificate(csr) is None
    broken = bytearray(der)
    broken[-1] ^= 1
    with pytest.raises(pki.PkiInvalid, match="csr_der"):
        pki.load_csr(bytes(broken))


@pytest.mark.parametrize("der", [b"", b"\x30\x00", b"x" * 20_000])
def test_a_request_of_junk_is_refused(der: bytes) -> None:
    with pytest.raises(pki.PkiInvalid, match="csr_der"):
        pki.load_csr(der)


def test_a_request_can_prove_whose_certificate_it_replaces() -> None:
    ca = TestCa()
    old = ca.issue(URI, until_ms=FROM_MS + 1000)
    csr = pki.load_csr(pki.make_csr(pki.new_key(), "/operator/olga", replaces=old))
    replaced = pki.replaced_certificate(csr)
    assert replaced is not None
    assert pki.facts_of(replaced) == old.facts()


def test_who_lacks_the_old_key_proves_nothing() -> None:
    ca = TestCa()
    old, thief = ca.issue(URI), ca.issue(URI)
    stolen = pki.Identity(thief.key_pem, old.chain_pem, old.trust_pem)
    csr = pki.load_csr(pki.make_csr(pki.new_key(), "/operator/olga", replaces=stolen))
    with pytest.raises(pki.PkiInvalid, match="proves nothing"):
        pki.replaced_certificate(csr)
