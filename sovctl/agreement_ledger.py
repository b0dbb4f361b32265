"""An agreement's ledger: what was used under it, entry by entry, and whether it holds.

Either party checks it offline, with a trust file alone: every entry is a leaf of the audit log, the
entries are numbered without gaps, each names the digest of the one before, and what was opened is
closed once at most.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, cast

from sovapi.v1 import policy_pb2
from sovctl.verify import NotVerified, Trust, open_checkpoint, root_of

LEAF_KIND = "agreement_use"
OPENED, CLOSED = "opened", "closed"
FORMAT = "sovereign agreement ledger v1"
STATEMENT = "sovereign agreement ledger statement v1"


@dataclass(slots=True)
class Totals:
    """What a ledger that holds comes to."""

    entries: int = 0
    last_digest: str = ""
    settled_gpu_ms: int = 0
    """Charged for uses that are over."""
    open_gpu_milli: int = 0
    """In use when the newest entry was made."""
    open_reserved_gpu_ms: int = 0
    given_milli: int = 0
    """Given to joint projects when the newest entry was made."""
    lent_gpu_ms: int = 0
    """Charged for what was given to joint projects and taken back."""
    statements: dict[int, str] = field(default_factory=lambda: {}, repr=False)
    """What parties sign, after the entries that were asked about: `statement` as it was then."""
    _given: dict[str, tuple[int, int]] = field(default_factory=lambda: {}, repr=False)
    _open: dict[str, tuple[int, int]] = field(default_factory=lambda: {}, repr=False)

    def statement(self, name: str) -> str:
        """What a party signs that knows the entries of the ledger `name` so far, line by line:
        its form, the agreement, how many entries, the digest of the last, GPU-milliseconds settled,
        milli-GPUs in use, milli-GPUs given to joint projects, GPU-milliseconds lent to them."""
        told = (
            STATEMENT, name, self.entries, self.last_digest or "-", self.settled_gpu_ms,
            self.open_gpu_milli, self.given_milli, self.lent_gpu_ms,
        )  # fmt: skip
        return "".join(f"{line}\n" for line in told)

    def take(self, entry: Mapping[str, Any]) -> None:
        """Counts one entry; raises `NotVerified` where it cannot follow the ones before."""
        use, milli, gpu_ms = str(entry["use"]), int(entry["gpu_milli"]), int(entry["gpu_ms"])
        match entry["event"]:
            case "opened" if use not in self._open:
                self._open[use] = milli, gpu_ms
                self.open_gpu_milli += milli
                self.open_reserved_gpu_ms += gpu_ms
            case "closed" if use in self._open:
                held, reserved = self._open.pop(use)
                self.open_gpu_milli -= held
                self.open_reserved_gpu_ms -= reserved
                if gpu_ms > reserved:
                    raise NotVerified(f"{use}: charged {gpu_ms} GPU-ms, reserved {reserved}")
                self.settled_gpu_ms += gpu_ms
            case "given" if use not in self._given:
                self._given[use] = milli, int(entry["at_ms"])
                self.given_milli += milli
            case "taken_back" if self._given.get(use, (milli + 1, 0))[0] == milli:
                _, since_ms = self._given.pop(use)
                self.given_milli -= milli
                if gpu_ms != milli * (int(entry["at_ms"]) - since_ms) // 1000:
                    raise NotVerified(f"{use}: charged {gpu_ms} GPU-ms, given since {since_ms}")
                self.lent_gpu_ms += gpu_ms
            case event:
                raise NotVerified(f"{use}: found {event!r} where it cannot be")


def document_of(name: str, pages: Iterable[policy_pb2.AgreementLedgerResponse]) -> dict[str, Any]:
    """The ledger as it is written to a file."""
    return {
        "format": FORMAT,
        "agreement": name,
        "pages": [
            {
                "checkpoint": page.checkpoint,
                "entries": [
                    {
                        "number": entry.number,
                        "index": entry.leaf.index,
                        "salt": _text(entry.leaf.salt),
                        "leaf": entry.leaf.canonical_json.decode(),
                        "path": [_text(one) for one in entry.path],
                    }
                    for entry in page.entries
                ],
            }
            for page in pages
        ],
    }


def check(document: Mapping[str, Any], name: str, trust: Trust, at: Container[int] = ()) -> Totals:
    """What the ledger of the agreement `name` comes to, if all of it holds, with the statements
    about it after the entries `at`; raises `NotVerified`, which says where not."""
    try:
        if document["format"] != FORMAT:
            raise NotVerified(f"format: found {document['format']!r}, allowed {FORMAT!r}")
        if document["agreement"] != name:
            raise NotVerified(f"agreement: found {document['agreement']!r}, allowed {name!r}")
        return _checked(name, document["pages"], trust, at)
    except (KeyError, TypeError, ValueError) as error:
        raise NotVerified(f"it is no ledger: {error!r}") from error


def _checked(name: str, pages: list[Any], trust: Trust, at: Container[int]) -> Totals:
    totals, last_index = Totals(), -1
    totals.statements[0] = totals.statement(name)
    for page in pages:
        head = open_checkpoint(str(page["checkpoint"]).encode(), trust)
        if not trust.is_met(trust.quorum, set(head.witnesses)):
            raise NotVerified(f"quorum: {trust.quorum} is not met")
        for entry in page["entries"]:
            text, index = str(entry["leaf"]).encode(), int(entry["index"])
            leaf = sha256(b"\x00" + _bytes(entry["salt"]) + text).digest()
            path = [_bytes(one) for one in entry["path"]]
            if index <= last_index or root_of(leaf, index, head.size, path) != head.root:
                raise NotVerified(f"entry {entry['number']}: the signed log does not hold it there")
            last_index = index
            _follow(name, json.loads(text), totals)
            totals.last_digest = "sha256:" + sha256(text).hexdigest()
            if totals.entries in at:
                totals.statements[totals.entries] = totals.statement(name)
    return totals


def _follow(name: str, told: object, totals: Totals) -> None:
    """One entry after those that are counted already."""
    entry = cast(dict[str, Any], told)
    number = totals.entries + 1
    if entry["kind"] != LEAF_KIND or entry["agreement"] != name:
        raise NotVerified(f"entry {number}: it is of another ledger")
    if entry["number"] != number:
        raise NotVerified(f"entry {number}: found number {entry['number']}: one is missing")
    if entry["prev"] != totals.last_digest:
        raise NotVerified(f"entry {number}: it follows another entry than the one before it")
    totals.take(entry)
    totals.entries = number


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: object) -> bytes:
    return base64.b64decode(str(text), validate=True)
