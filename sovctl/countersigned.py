"""Statements of an agreement's parties that its ledger is so far what they both know.

A statement is a C2SP signed note: how many entries there are, the digest of the last one, and what
they come to. Each party signs the same text with the key by which it signed the agreement, after it
has checked the ledger itself. Statements travel with the ledger: one that is cut short before an
entry that somebody signed for, or tells it otherwise, does not hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sovctl import agreement_ledger
from sovctl.agreement_ledger import Totals
from sovctl.verify import NotVerified, Trust
from sovshared import notes
from sovshared.notes import Note, NoteInvalid, VKey
from sovshared.signing import Signer

STATEMENTS_MAX = 10_000
"""That one ledger carries."""
_MEMBER, _NUMBER_LINE = "statements", 2


@dataclass(frozen=True, slots=True)
class Countersigned:
    """A ledger that holds, and how far its parties have signed for it."""

    totals: Totals
    signed: Mapping[str, int]
    """By party, up to which entry; 0: not at all."""

    @property
    def by_all(self) -> int:
        """Up to which entry every party has signed for it, each for as much or more."""
        return min(self.signed.values(), default=0)


def key_of(agreement: str, party: str, public_key: bytes) -> VKey:
    """The key of a party under which it signs statements on one agreement."""
    return notes.vkey(f"{agreement}/{party}", notes.ED25519, public_key)


def add(
    document: Mapping[str, Any], name: str, trust: Trust, party: str, signer: Signer
) -> dict[str, Any]:
    """The ledger with a party's signature on a statement about all of it; raises `NotVerified`
    where the ledger, or what was signed of it, does not hold: nobody signs what they cannot check.
    """
    found = check(document, name, trust, {party: signer.public_key})
    text = found.totals.statement(name)
    line = notes.signature_line(key_of(name, party, signer.public_key), signer, text)
    statements = _statements(document)
    same = [note for note in statements if note.text == text]
    others = [note for note in statements if note.text != text]
    lines = {one for note in same for one in note.lines} | {line}
    told = [*others, Note(text, tuple(sorted(lines)))]
    return {**document, _MEMBER: [note.encode().decode() for note in told]}


def check(
    document: Mapping[str, Any], name: str, trust: Trust, parties: Mapping[str, bytes]
) -> Countersigned:
    """What a ledger comes to and how far `parties` (public keys by name) have signed for it, if all
    of it holds; raises `NotVerified`, which says where not."""
    statements = _statements(document)
    numbers = [_number(note) for note in statements]
    totals = agreement_ledger.check(document, name, trust, at=frozenset(numbers))
    signed = dict.fromkeys(sorted(parties), 0)
    for note, number in zip(statements, numbers, strict=True):
        if number > totals.entries:
            detail = f"a statement is about {number} entries, found {totals.entries}"
            raise NotVerified(f"{detail}: some are missing")
        if note.text != totals.statements[number]:
            raise NotVerified(f"the first {number} entries are not those that were signed for")
        for party in signed:
            if _is_signed(note, key_of(name, party, parties[party])):
                signed[party] = max(signed[party], number)
    return Countersigned(totals, signed)


def _is_signed(note: Note, key: VKey) -> bool:
    mine = [line for line in note.lines if line.startswith(f"\N{EM DASH} {key.name} ")]
    if mine and not any(notes.signs(key, note.text, line) for line in mine):
        raise NotVerified(f"{key.name}: found a signature by another key than is known")
    return bool(mine)


def _statements(document: Mapping[str, Any]) -> list[Note]:
    listed = document.get(_MEMBER, [])
    if not isinstance(listed, list) or len(cast(list[object], listed)) > STATEMENTS_MAX:
        raise NotVerified(f"{_MEMBER}: allowed a list of {STATEMENTS_MAX} at most")
    try:
        return [notes.parse(str(each).encode()) for each in cast(Iterable[object], listed)]
    except NoteInvalid as error:
        raise NotVerified(f"{_MEMBER}: {error}") from error


def _number(note: Note) -> int:
    parts = note.text.split("\n")
    if len(parts) <= _NUMBER_LINE or not parts[_NUMBER_LINE].isdecimal():
        raise NotVerified(f"{_MEMBER}: found one that does not say about how many entries it is")
    return int(parts[_NUMBER_LINE])
