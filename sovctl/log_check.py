"""Checks the audit log as a whole: that its leaves are those that its head was signed over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import sha256

from sovapi.v1 import audit_pb2
from sovctl import verify
from sovctl.verify import Head, NotVerified, Trust


@dataclass(frozen=True, slots=True)
class Checked:
    """A log that holds: its head, and how many leaves were hashed again."""

    head: Head
    leaves: int
    hidden: int = 0
    """Of which only the hashes were shown: they are in the log, and what they say was not read."""


async def check_log(
    signed_note: bytes,
    trust: Trust,
    leaves: Callable[[], AsyncIterator[audit_pb2.AuditLeaf]],
) -> Checked:
    """Hashes every leaf again, up to the head, and compares roots; raises `NotVerified`.

    Only who may read the whole log can do this: tenants rely on witnesses and on their proofs. An
    operator is shown the hashes alone of what is tenants'.
    """
    head = verify.open_checkpoint(signed_note, trust)
    if not trust.is_met(trust.quorum, set(head.witnesses)):
        raise NotVerified(f"quorum: {trust.quorum} has not witnessed this head")
    peaks: list[tuple[int, bytes]] = []
    size = hidden = 0
    async for leaf in leaves():
        if size == head.size:
            break
        if leaf.canonical_json:
            found = sha256(b"\x00" + leaf.salt + leaf.canonical_json).digest()
        else:
            found, hidden = leaf.leaf_hash, hidden + 1
        if leaf.index != size or found != leaf.leaf_hash:
            raise NotVerified(f"leaf {size}: found leaf {leaf.index}, or another content than hash")
        height = 0
        while peaks and peaks[-1][0] == height:
            found = sha256(b"\x01" + peaks.pop()[1] + found).digest()
            height += 1
        peaks.append((height, found))
        size += 1
    root = peaks.pop()[1] if peaks else sha256(b"").digest()
    while peaks:
        root = sha256(b"\x01" + peaks.pop()[1] + root).digest()
    if size != head.size or root != head.root:
        raise NotVerified(f"the {size} leaves that are shown are not those that were signed")
    return Checked(head, size, hidden)
