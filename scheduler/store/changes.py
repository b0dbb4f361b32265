"""The change log as its followers read it: what is true now of everything that changed.

Rows say only *that* something changed. A reader looks up what is true at its own snapshot, so the
changes it gets are absolute, coalesced, and consistent with one another at the sequence answered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import delete, func, select

from scheduler.core.alarm import Own
from scheduler.core.quota import QuotaTree
from scheduler.model.ids import JobId, NodeId, SiteId, TenantPath
from scheduler.model.plan import (
    AgreementUsed,
    BudgetChanged,
    Change,
    JobChanged,
    NodeChanged,
    PlanBorneOut,
    PlanKept,
    PolicyChanged,
    ReservationChanged,
    SiteChanged,
    TenantsChanged,
    WindowChanged,
)
from scheduler.store.bulk import Statement, inserting
from scheduler.store.fleet import FleetReader
from scheduler.store.job_changes import JobChangesReader
from scheduler.store.jobs import JobsReader
from scheduler.store.learned import LearnedReader
from scheduler.store.link import Link
from scheduler.store.reservations import ReservationsReader
from scheduler.store.schema import (
    CHANGES,
    COUNTERS,
    SITE_STATE,
)
from scheduler.store.scratch import CHANGE_COUNTER, ChangeKind, Placed, Scratch
from scheduler.store.tenancy import TenancyReader
from scheduler.store.usage import UsageReader
from scheduler.store.windows import WindowsReader

CHANGES_KEPT = 200_000
"""Rows kept at least: a follower further behind starts anew."""
TRIM_EVERY = 10_000
"""Old rows are deleted when this many new ones have come."""

_SINCE = Statement(CHANGES, "SELECT DISTINCT kind, key FROM changes WHERE seq > ?")


class ChangesTrimmed(LookupError):
    """The follower is too far behind: it starts from an empty state with `load_all`."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Changes that bring a follower to `sequence`, in the order in which to apply them."""

    sequence: int
    changes: tuple[Change, ...]


NOBODYS = Own(0, (), {}, frozenset())


class ChangesReader:
    """Follows the change log."""

    def __init__(
        self, link: Link, fleet: FleetReader, tenancy: TenancyReader, jobs: JobsReader
    ) -> None:
        self._link = link
        self._fleet = fleet
        self._tenancy = tenancy
        self._followed = JobChangesReader(link, jobs)
        self._learned = LearnedReader(link)
        self._windows = WindowsReader(link)
        self._reservations = ReservationsReader(link)
        self._usage = UsageReader(link)

    def sequence(self) -> int:
        """The newest change's number, 0 when there was none."""
        query = select(COUNTERS.c.value).where(COUNTERS.c.name == CHANGE_COUNTER)
        return self._link.execute(query).scalar() or 0

    def since(self, sequence: int, limit: int, own: Own = NOBODYS) -> Feed:
        """What changed after `sequence`; all of it, because a part would not be consistent.

        `own`: the reader's newest plans. What was committed of them as it was planned need not be
        read: the reader is told that it was, and knows the rest. What it presumes in vain is read.

        Raises `ChangesTrimmed` when more than `limit` rows are waiting, or some are gone already.
        """
        newest = self.sequence()
        self._check_held(sequence, newest)
        if newest - sequence > limit:
            raise ChangesTrimmed(f"follower at {sequence}, the log ends at {newest}")
        if sequence == newest and not own.overdue:
            return Feed(newest, ())
        keys: defaultdict[int, list[str]] = defaultdict(list)
        for kind, key in self._link.rows(_SINCE, (sequence,)):
            keys[kind].append(key)
        kept = list(_taken_apart(keys, own))
        return Feed(newest, (*kept, *self._delta(keys)))

    def nodes_since(self, sequence: int, limit: int) -> tuple[NodeId, ...]:
        """The nodes that changed after `sequence`, whatever else did.

        Raises `ChangesTrimmed` when they are more than `limit`, or some rows are gone already.
        """
        self._check_held(sequence, self.sequence())
        changed = CHANGES.c.seq > sequence, CHANGES.c.kind == int(ChangeKind.NODE)
        query = select(CHANGES.c.key).where(*changed).distinct().limit(limit + 1)
        found = self._link.execute(query).scalars().all()
        if len(found) > limit:
            raise ChangesTrimmed(f"more than {limit} nodes changed after {sequence}")
        return tuple(sorted(map(NodeId, found)))

    def load_all(self) -> tuple[int, Iterator[Change]]:
        """Everything, for an empty follower; read the changes inside the snapshot."""
        return self.sequence(), self._everything()

    def _check_held(self, sequence: int, newest: int) -> None:
        """Refuses a follower that needs rows which are gone, or were never there."""
        if sequence > newest:
            raise ChangesTrimmed(f"follower at {sequence}, the log ends at {newest}")
        if sequence == newest:
            return
        oldest = self._link.execute(select(func.min(CHANGES.c.seq))).scalar()
        if oldest is None or oldest > sequence + 1:
            raise ChangesTrimmed(f"follower at {sequence}, the log holds {oldest} to {newest}")

    def _everything(self) -> Iterator[Change]:
        yield PolicyChanged(self._tenancy.policy())
        yield TenantsChanged(self._tenancy.tenants())
        if (mix := self._learned.mix()).learned_at_ms:
            yield mix
        yield from self._learned.all_lengths()
        yield from self._settled()
        yield from self._under_agreements()
        for entry in self._fleet.sites():
            yield SiteChanged(entry.site.id, entry.site, entry.contact.connected)
        for node in self._fleet.nodes():
            yield NodeChanged(node.node.id, node.node, node.report)
        for window in self._windows.all():
            yield WindowChanged(window.id, window)
        for kept in self._reservations.all():
            yield ReservationChanged(kept.job, kept)
        yield from self._followed.fresh()
        yield from self._followed.odd()
        yield from self._followed.live()

    def _delta(self, keys: defaultdict[int, list[str]]) -> Iterator[Change]:
        """What frees something comes before what takes it, whatever happened in between."""
        jobs = sorted(map(JobId, map(int, keys[ChangeKind.JOB])))
        found = self._followed.of(jobs)
        yield from found.over
        # A second attempt may stand where another's first one stood: clear before placing any.
        yield from (JobChanged(c.id, None, None, c.job_class) for c in found.live if _is_retry(c))
        yield from self._policy_delta(keys)
        if keys[ChangeKind.TENANTS]:
            yield TenantsChanged(self._tenancy.tenants())
            yield from self._settled()
        else:
            for key in sorted(keys[ChangeKind.BUDGET]):
                yield BudgetChanged(self._usage.changed(key))
        if keys[ChangeKind.MIX]:
            yield self._learned.mix()
        for tenant in sorted(map(TenantPath, keys[ChangeKind.LENGTHS])):
            yield self._learned.lengths(tenant)
        connected = self._connected(keys[ChangeKind.SITE])
        for site in sorted(map(SiteId, keys[ChangeKind.SITE])):
            yield SiteChanged(site, self._fleet.site(site), site in connected)
        nodes = sorted(map(NodeId, keys[ChangeKind.NODE]))
        entries = self._fleet.nodes_by_id(nodes)
        for node in nodes:
            entry = entries.get(node)
            if entry is None:
                yield NodeChanged(node, None, None)
            else:
                yield NodeChanged(node, entry.node, entry.report)
        for name in sorted(keys[ChangeKind.WINDOW]):
            yield WindowChanged(name, self._windows.get(name))
        for job in sorted(JobId(int(key)) for key in keys[ChangeKind.RESERVATION]):
            yield ReservationChanged(job, self._reservations.get(job))
        yield from found.queued
        yield from found.live

    def _settled(self) -> Iterator[BudgetChanged]:
        """All that the budgets in force may ask about."""
        tree = QuotaTree(self._tenancy.tenants())
        return (BudgetChanged(use) for use in self._usage.for_budgets(tree))

    def _policy_delta(self, keys: defaultdict[int, list[str]]) -> Iterator[Change]:
        if keys[ChangeKind.POLICY]:
            yield PolicyChanged(self._tenancy.policy())
        if keys[ChangeKind.POLICY] or keys[ChangeKind.AGREEMENT]:
            yield from self._under_agreements()

    def _under_agreements(self) -> Iterator[AgreementUsed]:
        """What is used under each agreement in the policy."""
        tenancy = self._tenancy
        return (tenancy.agreements.used(each) for each in tenancy.policy().agreements)

    def _connected(self, sites: list[str]) -> set[SiteId]:
        query = select(SITE_STATE.c.site).where(SITE_STATE.c.connected)
        connected = {SiteId(row.site) for row in self._link.execute(query)}
        return connected & set(map(SiteId, sites))


def _taken_apart(keys: defaultdict[int, list[str]], own: Own) -> Iterator[PlanKept | PlanBorneOut]:
    """What was kept of `own`; the jobs that other plans placed join those in `keys`, and so do
    those of which the log has more to say, or nothing although it should."""
    changed = set(map(JobId, map(int, keys[ChangeKind.JOB])))
    overdue = own.overdue
    for placed in map(Placed.of, keys.pop(ChangeKind.PLACED, ())):
        kept: tuple[JobId, ...] = ()
        presumed = own.presumed.get(placed.plan)
        if presumed is not None and presumed.at_ms == placed.at_ms:
            kept = tuple([j for j in placed.jobs if j in presumed.jobs and j not in changed])
            overdue = overdue.difference(kept)
            yield PlanBorneOut(placed.plan, kept)
        elif own.plan and placed.plan == own.plan:
            kept = tuple([j for j in placed.jobs if j in own.pending and j not in changed])
            yield PlanKept(kept, placed.at_ms)
        changed.update(set(placed.jobs).difference(kept))
    changed |= overdue
    keys[ChangeKind.JOB] = list(map(str, changed))


def _is_retry(change: JobChanged) -> bool:
    return change.live is not None and change.live.placement.key.attempt > 1


_ADD = inserting(CHANGES)


def write_changes(scratch: Scratch) -> None:
    """Writes pending change rows, each key once; a last step before a commit."""
    unique = list(dict.fromkeys(scratch.changes))
    if not unique:
        return
    first = scratch.take(CHANGE_COUNTER, len(unique))
    rows = [(n, int(kind), key) for n, (kind, key) in enumerate(unique, first)]
    _ADD.many(scratch.link.connection, rows)
    last = first + len(unique) - 1
    if first // TRIM_EVERY != (last + 1) // TRIM_EVERY:
        old = delete(CHANGES).where(CHANGES.c.seq <= last - CHANGES_KEPT)
        scratch.link.execute(old)
