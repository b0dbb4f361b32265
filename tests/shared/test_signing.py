"""Keys that sign: kept in files that only their owner reads, one for each purpose."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from sovshared import pki, signing


def test_a_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "log.pem"
    made = signing.kept_in(path)
    again = signing.kept_in(path)
    assert made.public_key == again.public_key
    assert made.key_id == signing.key_id_of(again.public_key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_signature_holds_for_its_key_and_message_alone(tmp_path: Path) -> None:
    signer, other = signing.kept_in(tmp_path / "a.pem"), signing.kept_in(tmp_path / "b.pem")
    signature = signer.sign(b"said")
    assert signing.is_signed(signer.public_key, signature, b"said")
    assert not signing.is_signed(signer.public_key, signature, b"unsaid")
    assert not signing.is_signed(other.public_key, signature, b"said")
    assert not signing.is_signed(signer.public_key, signature[:-1], b"said")
    assert not signing.is_signed(b"short", signature, b"said")


def test_any_flipped_bit_of_a_signature_is_noticed(tmp_path: Path) -> None:
    signer = signing.kept_in(tmp_path / "a.pem")
    signature = signer.sign(b"said")
    for bit in range(8 * len(signature)):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not signing.is_signed(signer.public_key, bytes(flipped), b"said"), bit


def test_others_may_not_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "log.pem"
    signing.kept_in(path)
    path.chmod(0o640)
    with pytest.raises(pki.PkiInvalid, match=r"log\.pem: found mode 640, allowed 600"):
        signing.load(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param(b"", "no usable private key", id="an empty file"),
        pytest.param(b"x" * 9_000, "no usable private key", id="something long"),
        pytest.param(pki.key_to_pem(pki.new_key()), ".*allowed an Ed25519", id="another kind"),
    ],
)
def test_what_is_no_ed25519_key_is_refused(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "log.pem"
    pki.write_private(path, content)
    with pytest.raises(pki.PkiInvalid, match=rf"log\.pem: found {found}"):
        signing.kept_in(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(pki.PkiInvalid, match=r"nowhere\.pem: No such file"):
        signing.load(tmp_path / "nowhere.pem")


def test_keys_are_what_openssl_makes_too(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    path = tmp_path / "made.pem"
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pki.write_private(path, pem)
    assert signing.kept_in(path).public_key == key.public_key().public_bytes_raw()
