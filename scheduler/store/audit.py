"""The append-only log: entries, their hashes, and the peaks of the tree over them.

Columns beside the body (kind, tenant, job, time) repeat what the body says, to find leaves by;
the body alone is hashed. Indices are dense: leaf n is the n-th of the log, from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Select, select

from scheduler.core.job_ids import JobIdCodec
from scheduler.model.ids import JobId, TenantPath
from scheduler.store import tree
from scheduler.store.bulk import How, Statement, Values, inserting
from scheduler.store.codec import canonical
from scheduler.store.link import Link
from scheduler.store.merkle import Peaks, leaf_hash
from scheduler.store.records import AuditLeaf
from scheduler.store.schema import ATTEMPTS, AUDIT, FOUND_BY_JOB, TREE
from scheduler.store.scratch import PendingLeaf, Scratch
from scheduler.store.tree import TreeReader

LOG_NAME = "log"
LEAF_BYTES_MAX = 1 << 20
"""A leaf that is larger was built wrongly: lists in it are bounded by the caller."""

_PEAKS = Statement(TREE, "SELECT size, peaks FROM audit_tree WHERE name = ?")
SaltSource = Callable[[], bytes]
"""16 new random bytes at each call."""


class AuditReader:
    """Reads the log."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def peaks(self) -> Peaks:
        """The tree over all committed leaves."""
        for size, peaks in _PEAKS.rows(self._link.connection, (LOG_NAME,)):
            return Peaks.of(size, bytes(peaks))
        return Peaks(0, [])

    def tree(self) -> TreeReader:
        """Proofs about the committed leaves."""
        return TreeReader(self._link)

    def leaf(self, index: int) -> AuditLeaf | None:
        """The leaf with this index."""
        return next(self._leaves(select(AUDIT).where(AUDIT.c.leaf_index == index)), None)

    def page(
        self, *, first: int, limit: int, tenant: TenantPath | None = None, job: JobId | None = None
    ) -> tuple[AuditLeaf, ...]:
        """At most `limit` leaves from index `first` on; of one tenant or job alone if given."""
        query = select(AUDIT).where(AUDIT.c.leaf_index >= first)
        if tenant is not None:
            query = query.where(AUDIT.c.tenant == tenant)
        query = query.order_by(AUDIT.c.leaf_index).limit(limit)
        if job is None:
            return tuple(self._leaves(query))
        placed = query.join(ATTEMPTS, ATTEMPTS.c.leaf_index == AUDIT.c.leaf_index)
        found = (
            self._leaves(query.where(FOUND_BY_JOB, AUDIT.c.job == job)),
            self._leaves(placed.where(ATTEMPTS.c.job == job)),
        )
        return tuple(islice(merge(*found, key=lambda leaf: leaf.index), limit))

    def all(self) -> Iterator[AuditLeaf]:
        """Every leaf, in order."""
        yield from self._leaves(select(AUDIT).order_by(AUDIT.c.leaf_index))

    def _leaves(self, query: Select[Any]) -> Iterator[AuditLeaf]:
        for row in self._link.execute(query):
            yield AuditLeaf(
                index=row.leaf_index,
                kind=row.kind,
                tenant=row.tenant,
                job=None if row.job is None else JobId(row.job),
                at_ms=row.at_ms,
                body=row.body,
                salt=row.salt,
                leaf_hash=row.leaf_hash,
            )


_ADD = inserting(AUDIT)
_GROW = inserting(TREE, How.REPLACE)


class AuditWriter(AuditReader):
    """Adds to the log, in the transaction that makes true what a leaf says."""

    def __init__(self, scratch: Scratch, codec: JobIdCodec) -> None:
        super().__init__(scratch.link)
        self._scratch = scratch
        self._codec = codec

    def name_of(self, job: JobId) -> str:
        """The job as its tenant names it."""
        return self._codec.encode(job)

    def next_index(self) -> int:
        """The index that the next leaf has, if what is done until then is not undone."""
        if self._scratch.first_leaf is None:
            self._scratch.first_leaf = self.peaks().size
        return self._scratch.first_leaf + len(self._scratch.leaves)

    def append(
        self,
        kind: str,
        at_ms: int,
        body: Mapping[str, object],
        *,
        tenant: TenantPath | None = None,
        job: JobId | None = None,
    ) -> None:
        """One leaf. `tenant` and `job` go into the body too; None where nobody owns the leaf.

        The body names the job as its tenant does: row ids would tell how many jobs there are.
        """
        entry: dict[str, object] = {"kind": kind, "at_ms": at_ms, **body}
        if tenant is not None:
            entry["tenant"] = tenant
        if job is not None:
            entry["job"] = self._codec.encode(job)
        self.append_text(kind, at_ms, canonical(entry), tenant=tenant, job=job)

    def append_text(
        self, kind: str, at_ms: int, text: str, *, tenant: TenantPath | None, job: JobId | None
    ) -> None:
        """As `append`, of a whole entry in its canonical form."""
        assert len(text) <= LEAF_BYTES_MAX, f"an audit leaf of {len(text)} characters"
        self._scratch.leaves.append(PendingLeaf(kind, tenant or "", job, at_ms, text))

    def append_texts(
        self, kind: str, at_ms: int, leaves: Iterable[tuple[str, TenantPath, JobId]]
    ) -> None:
        """As `append_text` of each, of one kind: with whose and about which job it is."""
        made = [PendingLeaf(kind, tenant, job, at_ms, text) for text, tenant, job in leaves]
        longest = max((len(leaf.body) for leaf in made), default=0)
        assert longest <= LEAF_BYTES_MAX, f"an audit leaf of {longest} characters"
        self._scratch.leaves += made


def write_leaves(
    connection: Connection, leaves: Sequence[PendingLeaf], salts: SaltSource, known: Peaks | None
) -> Peaks | None:
    """Writes pending leaves and grows the tree by them; the last step before a commit.

    `known`: the tree as it is, where that is remembered. The tree as it is then, if it is known.
    """
    if not leaves:
        return known
    peaks = AuditReader(Link(connection)).peaks() if known is None else known.copied()
    rows: list[Values] = []
    hashes: list[bytes] = []
    for index, (kind, tenant, job, at_ms, body) in enumerate(leaves, peaks.size):
        salt = salts()
        hashed = leaf_hash(salt, body)
        hashes.append(hashed)
        rows.append((index, kind, tenant, job, at_ms, body, salt, hashed))
    peaks.extend(hashes)
    _ADD.many(connection, rows)
    tree.keep(connection, peaks.kept)
    _GROW.many(connection, [(LOG_NAME, peaks.size, peaks.joined())])
    peaks.kept.clear()
    return peaks
