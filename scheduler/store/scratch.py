"""What a transaction carries besides its connection: memory to keep in step, rows to add last.

Audit leaves and change rows are only ever appended and nobody reads them inside the transaction, so
they wait here and are written once, at the commit: a savepoint that is rolled back cuts the lists,
and the audit log has no holes. Everything else that lives in memory registers how to undo itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from sqlalchemy import select

from scheduler.core.budgets import Book
from scheduler.core.power import Cap
from scheduler.core.quota import QuotaTree
from scheduler.core.stays import FactsThen, PolicyThen, Verdicts
from scheduler.model.fleet import Site, SiteContact
from scheduler.model.ids import GpuClass, JobId, NodeId, SiteId, TenantPath
from scheduler.model.plan import JobClass
from scheduler.model.residency import Policy, Requirement
from scheduler.model.tenancy import SettledUse, Tenant
from scheduler.store.bulk import How, inserting
from scheduler.store.known import Group, Known
from scheduler.store.ledger import Ledger
from scheduler.store.link import Link, LinkMark
from scheduler.store.merkle import Peaks
from scheduler.store.records import NodeEntry
from scheduler.store.schema import COUNTERS
from scheduler.store.statements import Frames

JOB_COUNTER = "job"
CLASS_COUNTER = "class"
SPEC_COUNTER = "spec"
CHANGE_COUNTER = "change"
WINDOW_COUNTER = "window"
DECLARED_COUNTER = "declared"
"""Rises with every change of what is declared: sites, nodes, tenants, policy; reports excluded."""


class ChangeKind(IntEnum):
    """What a change row is about; its key says which."""

    POLICY = 1
    TENANTS = 2
    SITE = 3
    NODE = 4
    JOB = 5
    BUDGET = 6
    WINDOW = 7
    RESERVATION = 8
    MIX = 9
    AGREEMENT = 10
    PLACED = 11
    """Jobs that one plan placed, all in one row (`Placed`)."""
    LENGTHS = 12


class Placed(NamedTuple):
    """What a plan's row in the change log says: which jobs it placed, and when."""

    plan: int
    """The plan's number."""
    at_ms: int
    jobs: tuple[JobId, ...]

    def key(self) -> str:
        """As it stands in the log."""
        return f"{self.plan} {self.at_ms} {' '.join(map(str, self.jobs))}"

    @staticmethod
    def of(key: str) -> Placed:
        """The one that wrote `key`."""
        plan, at_ms, *jobs = map(int, key.split(" "))
        return Placed(plan, at_ms, tuple(map(JobId, jobs)))


def jobs_among(changes: Iterable[tuple[ChangeKind, str]]) -> Iterator[JobId]:
    """The jobs that `changes` are about; some twice."""
    for kind, key in changes:
        if kind is ChangeKind.JOB:
            yield JobId(int(key))
        elif kind is ChangeKind.PLACED:
            yield from Placed.of(key).jobs


class PendingLeaf(NamedTuple):
    """An audit leaf that is written at the commit. A tuple: there are thousands in a commit."""

    kind: str
    tenant: str
    job: int | None
    at_ms: int
    body: str


@dataclass(frozen=True, slots=True)
class News:
    """What a transaction changed, for whoever shall look once it is committed."""

    changes: Sequence[tuple[ChangeKind, str]]
    """What it told the change log."""
    sites: frozenset[SiteId]
    """Where something new is desired; more of them where some of it was undone."""

    def jobs(self) -> frozenset[JobId]:
        """The jobs among the changes."""
        return frozenset(jobs_among(self.changes))


@dataclass(slots=True)
class Memo:
    """Decoded rows kept between transactions; the writer's own, so it knows when they age."""

    ledger: Ledger = field(default_factory=Ledger)
    class_ids: dict[JobClass, int] = field(default_factory=lambda: {})
    class_numbers: dict[int, tuple[JobClass, int]] = field(default_factory=lambda: {})
    """As `class_ids`, by the `id` of the very object."""
    classes: dict[int, JobClass] = field(default_factory=lambda: {})
    spec_numbers: dict[str, int] = field(default_factory=lambda: {})
    """Of specs that came lately, by their digests."""
    sites: dict[SiteId, Site] = field(default_factory=lambda: {})
    nodes: dict[NodeId, NodeEntry] = field(default_factory=lambda: {})
    contacts: dict[SiteId, tuple[SiteContact, int]] = field(default_factory=lambda: {})
    """With the time when a site was last heard of."""
    known: Known = field(default_factory=Known)
    """Who is on a node, for plans to be held against (`mirror.py`)."""
    caps: dict[SiteId, Cap | None] = field(default_factory=lambda: {})
    """What sites may draw, for as long as nothing is declared anew; None: as much as they like."""
    groups: dict[int, Group] = field(default_factory=lambda: {})
    """Classes as placements are checked by them."""
    requirements: dict[Requirement, int] = field(default_factory=lambda: {})
    """Numbers of the requirements that classes have: many classes have the same."""
    digests: dict[SiteId, str] = field(default_factory=lambda: {})
    """Of the facts of `sites`."""
    times_known: dict[SiteId, int] = field(default_factory=lambda: {})
    """How often something else was found out about nodes of a site; too often does no harm."""
    counters: dict[str, int] = field(default_factory=lambda: {})
    """Last numbers given out by transactions that were committed."""
    peaks: Peaks | None = None
    """The tree over the leaves that were committed; never changed, another one takes its place."""
    histories: dict[SiteId, tuple[FactsThen, ...]] = field(default_factory=lambda: {})
    """What was known of sites, oldest first."""
    policies: tuple[PolicyThen, ...] = ()
    """Every policy that was ever in force; read again when there is a newer one."""
    chains: dict[TenantPath, tuple[int, str]] = field(default_factory=lambda: {})
    """Number and digest of the newest certificate of tenants."""
    frames: Frames = field(default_factory=lambda: {})
    """What statements on the same grounds have in common."""
    verdicts: Verdicts = field(default_factory=lambda: {})
    """On stays that nothing cut."""
    settled: dict[tuple[TenantPath, GpuClass, int], SettledUse] = field(default_factory=lambda: {})
    """What was used, by tenant, GPU class and day."""
    has_agreements: bool | None = None
    """Whether any agreement was ever applied; None: not looked yet."""
    policy: Policy | None = None
    tenants: tuple[Tenant, ...] | None = None
    tree: QuotaTree | None = None
    book: Book | None = None
    """What budgets have left; made when it is first asked for, and kept in step from then on."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a savepoint began."""

    leaves: int
    changes: int
    undo: int
    link: LinkMark


_COUNT = inserting(COUNTERS, How.REPLACE)


@dataclass(slots=True)
class Scratch:
    """The memory side of one transaction."""

    link: Link
    memo: Memo
    leaves: list[PendingLeaf] = field(default_factory=lambda: [])
    changes: list[tuple[ChangeKind, str]] = field(default_factory=lambda: [])
    undo: list[Callable[[], object]] = field(default_factory=lambda: [])
    counters: dict[str, int] = field(default_factory=lambda: {})
    declared_changed: bool = False
    desired_of: set[SiteId] = field(default_factory=lambda: set())
    """Sites of which something new is desired."""
    first_leaf: int | None = None
    """The index of the first of `leaves`, once somebody asked."""

    def take(self, counter: str, count: int = 1) -> int:
        """The first of `count` numbers never given out before. A rollback leaves a gap."""
        first = self.last(counter) + 1
        self.counters[counter] = first + count - 1
        return first

    def last(self, counter: str) -> int:
        """The last number that was given out."""
        taken = self.counters.get(counter)
        if taken is not None:
            return taken
        known = self.memo.counters.get(counter)
        if known is None:
            query = select(COUNTERS.c.value).where(COUNTERS.c.name == counter)
            known = self.memo.counters[counter] = self.link.execute_around(query).scalar() or 0
        return known

    def declared(self) -> None:
        """Something is declared otherwise than before this transaction."""
        self.take(DECLARED_COUNTER)
        self.declared_changed = True
        self._forget_tree()
        self.undo.append(self._forget_tree)

    def _forget_tree(self) -> None:
        self.memo.tree = None
        self.memo.book = None
        self.memo.caps.clear()

    def changed(self, kind: ChangeKind, key: str = "") -> None:
        """Tells the followers of the change log."""
        self.changes.append((kind, key))

    def forget_records(self, nodes: Sequence[NodeId]) -> None:
        """Who is on `nodes` is another now, or will be: also if this is undone, then as before."""
        records = self.memo.known.records

        def forget() -> None:
            for node in nodes:
                records.pop(node, None)

        forget()
        self.undo.append(forget)

    def save_counters(self) -> None:
        """Writes the numbers that were given out; once committed, `Memo.counters` has them."""
        _COUNT.many(self.link.connection, sorted(self.counters.items()))

    def news(self) -> News:
        """What was changed so far."""
        return News(self.changes, frozenset(self.desired_of))

    def mark(self) -> Mark:
        """Where we are now."""
        return Mark(len(self.leaves), len(self.changes), len(self.undo), self.link.mark())

    def roll_back(self, mark: Mark) -> None:
        """Makes memory what it was at `mark`."""
        del self.leaves[mark.leaves :]
        del self.changes[mark.changes :]
        while len(self.undo) > mark.undo:
            self.undo.pop()()
        self.link.roll_back(mark.link)
