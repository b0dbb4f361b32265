"""Signed notes, checkpoints and cosignatures are those that other programs make and take."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sovshared import notes, signing
from sovshared.notes import COSIGNATURE, ED25519, Checkpoint

# The note, and its key, that the documentation of golang.org/x/mod/sumdb/note shows.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"  # noqa: E501
)
SIGNER = signing.signer_of(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
LOG = notes.vkey("log.example/one", ED25519, SIGNER.public_key)
WITNESS = notes.vkey("witness.example", COSIGNATURE, SIGNER.public_key)
TEXT = Checkpoint("log.example/one", 7, bytes(32)).text()


def test_the_note_of_another_implementation_verifies() -> None:
    key, note = notes.parse_vkey(GO_KEY), notes.parse(GO_NOTE.encode())
    assert notes.signs(key, note.text, note.lines[0])
    assert not notes.signs(key, note.text + "x", note.lines[0])
    assert note.encode() == GO_NOTE.encode()
    assert str(key) == GO_KEY


def test_a_checkpoint_is_origin_size_and_root() -> None:
    assert f"log.example/one\n7\n{'A' * 43}=\n" == TEXT
    assert notes.checkpoint_of(TEXT) == Checkpoint("log.example/one", 7, bytes(32))


def test_a_log_signs_and_a_witness_cosigns() -> None:
    signed = notes.signature_line(LOG, SIGNER, TEXT)
    cosigned = notes.cosignature_line(WITNESS, SIGNER, TEXT, 1_700_000_000)
    assert notes.signs(LOG, TEXT, signed)
    assert notes.signs(WITNESS, TEXT, cosigned)
    # The same key, and yet neither is the other: the purpose is part of what is signed.
    assert not notes.signs(LOG, TEXT, cosigned)
    assert not notes.signs(WITNESS, TEXT, signed)
    other = notes.vkey("witness.other", COSIGNATURE, SIGNER.public_key)
    assert not notes.signs(other, TEXT, cosigned)
    note = notes.Note(TEXT, (signed, cosigned))
    assert notes.parse(note.encode()) == note


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_bit_of_a_cosignature_may_change(at: int, bit: int) -> None:
    line = notes.cosignature_line(WITNESS, SIGNER, TEXT, 1_700_000_000).encode()
    flipped = bytearray(line)
    flipped[at % len(line)] ^= 1 << bit
    assert not notes.signs(WITNESS, TEXT, flipped.decode(errors="replace"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("name", "allowed NAME\\+ID\\+KEY|allowed an Ed25519 key"),
        ("name+00000000+AAAA", "allowed an Ed25519 key"),
        ("name+00000000+!", "allowed NAME"),
        (GO_KEY.replace("c74f", "c74e"), "when written out"),
        (GO_KEY.replace("Peter", "Pe ter"), "key name"),
    ],
)
def test_a_key_that_is_none_is_refused(text: str, found: str) -> None:
    with pytest.raises(notes.NoteInvalid, match=found):
        notes.parse_vkey(text)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\nno signature\n",
        GO_NOTE.encode()[:-1],
        b"\xff\n\n" + GO_NOTE.encode(),
        b"x" * (notes.NOTE_BYTES_MAX + 1),
        b"text\n\n" + "— a b\n".encode() * (notes.LINES_MAX + 1),
    ],
)
def test_what_is_no_note_is_refused(note: bytes) -> None:
    with pytest.raises(notes.NoteInvalid):
        notes.parse(note)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\n",
        "\n1\n" + "A" * 43 + "=\n",
        "a\n01\n" + "A" * 43 + "=\n",
        "a\n1\nAAAA\n",
        "a\n1\n!\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(notes.NoteInvalid):
        notes.checkpoint_of(text)
