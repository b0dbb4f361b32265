"""Statements of the parties about a ledger: what both know cannot be told otherwise afterwards."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sovctl import countersigned
from sovctl.verify import NotVerified, Trust
from sovshared import signing
from sovshared.signing import Signer
from tests.sovctl.test_agreement_ledger import kept as kept

NAME = "uk-ca"
Ledger = dict[str, Any]
Kept = tuple[Ledger, Trust, int]


@pytest.fixture
def signers(tmp_path: Path) -> dict[str, Signer]:
    return {party: signing.kept_in(tmp_path / f"{party}.pem") for party in ("ca", "gb")}


def keys(signers: dict[str, Signer]) -> dict[str, bytes]:
    return {party: signer.public_key for party, signer in signers.items()}


def cut(document: Ledger, entries: int) -> Ledger:
    """The ledger as it was after so many entries."""
    shorter = copy.deepcopy(document)
    del shorter["pages"][0]["entries"][entries:]
    return shorter


def test_each_party_signs_and_either_sees_both(kept: Kept, signers: dict[str, Signer]) -> None:
    document, trust, settled = kept
    assert countersigned.check(document, NAME, trust, keys(signers)).by_all == 0
    for party, signer in signers.items():
        document = countersigned.add(document, NAME, trust, party, signer)
    found = countersigned.check(document, NAME, trust, keys(signers))
    assert (found.by_all, found.signed) == (5, {"ca": 5, "gb": 5})
    assert found.totals.settled_gpu_ms == settled
    assert len(document["statements"]) == 1, "both have signed the same text"


def test_what_was_signed_for_holds_while_the_ledger_grows(
    kept: Kept, signers: dict[str, Signer]
) -> None:
    document, trust, _ = kept
    early = countersigned.add(cut(document, 3), NAME, trust, "gb", signers["gb"])
    grown = {**document, "statements": early["statements"]}
    both = countersigned.add(grown, NAME, trust, "ca", signers["ca"])
    found = countersigned.check(both, NAME, trust, keys(signers))
    assert (found.by_all, found.signed) == (3, {"ca": 5, "gb": 3})


def test_a_ledger_that_is_cut_short_of_what_was_signed_does_not_hold(
    kept: Kept, signers: dict[str, Signer]
) -> None:
    document, trust, _ = kept
    signed = countersigned.add(document, NAME, trust, "gb", signers["gb"])
    with pytest.raises(NotVerified, match="about 5 entries, found 4: some are missing"):
        countersigned.check(cut(signed, 4), NAME, trust, keys(signers))


def _less(note: str) -> str:
    return note.replace("18000", "17000")


def _renumbered(note: str) -> str:
    return note.replace("\n5\n", "\n4\n")


def _unsigned(note: str) -> str:
    return note.partition("\n\n")[0]


def _unnumbered(note: str) -> str:
    return note.replace("\n5\n", "\nmany\n")


@pytest.mark.parametrize("change", [_less, _renumbered, _unsigned, _unnumbered])
def test_a_statement_that_was_changed_does_not_hold(
    kept: Kept, signers: dict[str, Signer], change: Callable[[str], str]
) -> None:
    document, trust, _ = kept
    signed = countersigned.add(document, NAME, trust, "gb", signers["gb"])
    [note] = signed["statements"]
    assert change(note) != note
    with pytest.raises(NotVerified):
        countersigned.check({**signed, "statements": [change(note)]}, NAME, trust, keys(signers))


def test_a_signature_by_another_key_is_none_of_the_partys(
    kept: Kept, signers: dict[str, Signer]
) -> None:
    document, trust, _ = kept
    forged = countersigned.add(document, NAME, trust, "gb", signers["ca"])
    with pytest.raises(NotVerified, match="by another key"):
        countersigned.check(forged, NAME, trust, keys(signers))


def test_nobody_signs_for_a_ledger_that_does_not_hold(
    kept: Kept, signers: dict[str, Signer]
) -> None:
    document, trust, _ = kept
    wrong = copy.deepcopy(document)
    del wrong["pages"][0]["entries"][1]
    with pytest.raises(NotVerified):
        countersigned.add(wrong, NAME, trust, "gb", signers["gb"])
