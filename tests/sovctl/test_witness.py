"""A witness signs what continues the head that it saw last, and refuses everything else loudly."""

from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sovctl import witness
from sovctl.errors import ConfigError
from sovctl.witness import LogForked, Witness
from sovshared import notes, signing
from sovshared.notes import ED25519, Checkpoint, Note

SIGNER = signing.signer_of(Ed25519PrivateKey.from_private_bytes(bytes(32)))
LOG = notes.vkey("log.example", ED25519, SIGNER.public_key)
LEAVES = [sha256(bytes([n])).digest() for n in range(4)]
NOW_S = 1_700_000_000


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


ROOT_2 = node(LEAVES[0], LEAVES[1])
ROOT_3 = node(ROOT_2, LEAVES[2])
FROM_2_TO_3 = [LEAVES[2]]


def head(size: int, root: bytes, key: notes.VKey = LOG) -> bytes:
    text = Checkpoint(key.name, size, root).text()
    return Note(text, (notes.signature_line(key, SIGNER, text),)).encode()


@pytest.fixture
def keeper(tmp_path: Path) -> Witness:
    made = witness.keep(tmp_path / "w", "w.example")
    made.watch(LOG)
    return made


def test_it_cosigns_a_log_that_grows(keeper: Witness) -> None:
    for note, path in ((head(2, ROOT_2), []), (head(3, ROOT_3), FROM_2_TO_3)):
        seen = keeper.open(note)
        signed = notes.parse(keeper.cosign(seen, path, NOW_S))
        assert notes.signs(keeper.key, signed.text, signed.lines[-1])
        assert keeper.last() == seen.head


def test_the_same_head_again_is_signed_again_once(keeper: Witness) -> None:
    once = keeper.cosign(keeper.open(head(2, ROOT_2)), [], NOW_S)
    again = notes.parse(keeper.cosign(keeper.open(once), [], NOW_S + 1))
    assert [line.split()[1] for line in again.lines] == ["log.example", "w.example"]


@pytest.mark.parametrize(
    ("size", "root", "path"),
    [
        pytest.param(3, node(node(LEAVES[1], LEAVES[0]), LEAVES[2]), FROM_2_TO_3, id="a fork"),
        pytest.param(3, ROOT_3, [], id="no proof"),
        pytest.param(2, ROOT_3, [], id="another root of the same size"),
        pytest.param(1, LEAVES[0], [], id="a log that shrank"),
    ],
)
def test_a_fork_is_refused_and_never_signed_again(
    keeper: Witness, size: int, root: bytes, path: list[bytes]
) -> None:
    keeper.cosign(keeper.open(head(2, ROOT_2)), [], NOW_S)
    with pytest.raises(LogForked, match=r"FORK: log\.example signed 2 leaves"):
        keeper.cosign(keeper.open(head(size, root)), path, NOW_S)
    assert keeper.last() == Checkpoint(LOG.name, 2, ROOT_2)
    with pytest.raises(LogForked, match="forked before"):
        keeper.cosign(keeper.open(head(3, ROOT_3)), FROM_2_TO_3, NOW_S)
    assert notes.parse((keeper.directory / "FORKED").read_bytes()).text.startswith("log.example\n")


def test_a_head_that_the_log_has_not_signed_is_refused(keeper: Witness) -> None:
    stranger = signing.signer_of(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
    text = Checkpoint(LOG.name, 2, ROOT_2).text()
    other = notes.vkey(LOG.name, ED25519, stranger.public_key)
    forged = Note(text, (notes.signature_line(other, stranger, text),)).encode()
    for note in (forged, b"no note", head(2, ROOT_2, notes.vkey("b", ED25519, LOG.public_key))):
        with pytest.raises(LogForked):
            keeper.open(note)
    assert keeper.last() is None


def test_a_witness_keeps_its_key_and_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name: found none"):
        witness.keep(tmp_path)
    made = witness.keep(tmp_path, "w.example")
    assert witness.keep(tmp_path).key == made.key
    with pytest.raises(ConfigError, match=r"found 'v\.example'"):
        witness.keep(tmp_path, "v.example")
    with pytest.raises(ConfigError, match="key name"):
        witness.keep(tmp_path / "other", "with space")
