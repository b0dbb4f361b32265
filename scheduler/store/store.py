"""The store: snapshots for everybody, transactions for the one writer that leads.

One class, whatever the database. A transaction asserts the leader's epoch, carries typed methods in
groups (`txn.jobs`, `txn.fleet`, ...), and moves state, audit, outbox and change log together.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from scheduler.core.budgets import Book, gpu_ms
from scheduler.core.job_ids import JobIdCodec
from scheduler.model.ids import JobId
from scheduler.model.plan import JobClass
from scheduler.store import lease, migrations
from scheduler.store.attempts import AttemptsReader, AttemptsWriter
from scheduler.store.audit import AuditReader, AuditWriter, SaltSource, write_leaves
from scheduler.store.certificates import CertificatesReader, CertificatesWriter
from scheduler.store.changes import ChangesReader, write_changes
from scheduler.store.checkpoints import CheckpointsReader, CheckpointsWriter
from scheduler.store.dialect import bound_log, reading_engine, url_of, writing_engine
from scheduler.store.fleet import FleetReader, FleetWriter
from scheduler.store.idempotency import IdempotencyReader, IdempotencyWriter
from scheduler.store.identity import IdentityReader, IdentityWriter
from scheduler.store.jobs import JobsReader, JobsWriter
from scheduler.store.learned import LearnedReader, LearnedWriter
from scheduler.store.ledger import Ledger, derive
from scheduler.store.link import Link
from scheduler.store.mirror import Mirror
from scheduler.store.outbox import OutboxReader, OutboxWriter
from scheduler.store.reservations import ReservationsReader, ReservationsWriter
from scheduler.store.schema import COUNTERS
from scheduler.store.scratch import DECLARED_COUNTER, Memo, News, Scratch, jobs_among
from scheduler.store.tenancy import TenancyReader, TenancyWriter
from scheduler.store.usage import UsageReader, UsageWriter
from scheduler.store.waits import WaitsReader, WaitsWriter
from scheduler.store.windows import WindowsReader, WindowsWriter


class StoreFailed(Exception):
    """The database could not do what it was told (disk full, I/O error): nothing was changed."""


class Snapshot:
    """A consistent view of everything, as of its first question."""

    def __init__(self, link: Link, memo: Memo) -> None:
        self.link = link
        self.connection = link.connection
        self._jobs = JobsReader(link, memo)
        self._waits = WaitsReader(link)
        self._windows = WindowsReader(link)
        self._learned = LearnedReader(link)
        self._reservations = ReservationsReader(link)
        self._attempts = AttemptsReader(link)
        self._fleet = FleetReader(link, memo)
        self._tenancy = TenancyReader(link, memo)
        self._usage = UsageReader(link)
        self._outbox = OutboxReader(link)
        self._audit = AuditReader(link)
        self._checkpoints = CheckpointsReader(link)
        self._certificates = CertificatesReader(link)
        self._identity = IdentityReader(link)
        self._idempotency = IdempotencyReader(link)
        self.changes = ChangesReader(link, self._fleet, self._tenancy, self._jobs)

    @property
    def jobs(self) -> JobsReader:
        """Jobs, specs and classes."""
        return self._jobs

    @property
    def waits(self) -> WaitsReader:
        """Who waits for whom."""
        return self._waits

    @property
    def windows(self) -> WindowsReader:
        """Maintenance and reservations ahead."""
        return self._windows

    @property
    def learned(self) -> LearnedReader:
        """What was learned of the work that comes."""
        return self._learned

    @property
    def reservations(self) -> ReservationsReader:
        """What is kept for queued jobs."""
        return self._reservations

    @property
    def attempts(self) -> AttemptsReader:
        """Attempts, placements and ranks."""
        return self._attempts

    @property
    def fleet(self) -> FleetReader:
        """Sites, nodes and sessions."""
        return self._fleet

    @property
    def tenancy(self) -> TenancyReader:
        """The tenant tree and the policy."""
        return self._tenancy

    @property
    def usage(self) -> UsageReader:
        """What attempts that are over have used."""
        return self._usage

    @property
    def outbox(self) -> OutboxReader:
        """What is desired of sites."""
        return self._outbox

    @property
    def audit(self) -> AuditReader:
        """The append-only log."""
        return self._audit

    @property
    def checkpoints(self) -> CheckpointsReader:
        """Signed heads of the log."""
        return self._checkpoints

    @property
    def certificates(self) -> CertificatesReader:
        """What was certified of jobs that are over."""
        return self._certificates

    @property
    def identity(self) -> IdentityReader:
        """Join tokens and revocations."""
        return self._identity

    @property
    def idempotency(self) -> IdempotencyReader:
        """Answers of earlier requests."""
        return self._idempotency

    def ledger(self) -> Ledger:
        """What is used and queued, summed from the rows of this snapshot."""
        return derive(self.connection)

    def declared_revision(self) -> int | None:
        """Names what is declared now: two views that answer the same number agree on it.

        None inside a transaction that has changed it: that may yet be undone.
        """
        query = select(COUNTERS.c.value).where(COUNTERS.c.name == DECLARED_COUNTER)
        return self.connection.execute(query).scalar() or 0


class Txn(Snapshot):
    """A transaction: reads see its own writes; leaves and change rows are written at its end."""

    def __init__(self, scratch: Scratch, epoch: int, codec: JobIdCodec) -> None:
        super().__init__(scratch.link, scratch.memo)
        self.epoch = epoch
        self._scratch = scratch
        self._jobs = JobsWriter(scratch)
        self._waits = WaitsWriter(scratch)
        self._windows = WindowsWriter(scratch)
        self._learned = LearnedWriter(scratch)
        self._reservations = ReservationsWriter(scratch)
        self._attempts = AttemptsWriter(scratch)
        self._fleet = FleetWriter(scratch)
        self._tenancy = TenancyWriter(scratch)
        self._usage = UsageWriter(scratch)
        self._outbox = OutboxWriter(scratch, self._fleet)
        self._audit = AuditWriter(scratch, codec)
        self._checkpoints = CheckpointsWriter(scratch)
        self._certificates = CertificatesWriter(scratch, self._audit, self._tenancy, self._fleet)
        self._identity = IdentityWriter(scratch)
        self._idempotency = IdempotencyWriter(scratch)
        self.mirror = Mirror(self._jobs, self._attempts, self._fleet, scratch)

    @property
    def jobs(self) -> JobsWriter:
        """Jobs, specs and classes."""
        return self._jobs

    @property
    def waits(self) -> WaitsWriter:
        """Who waits for whom."""
        return self._waits

    @property
    def windows(self) -> WindowsWriter:
        """Maintenance and reservations ahead."""
        return self._windows

    @property
    def learned(self) -> LearnedWriter:
        """What was learned of the work that comes."""
        return self._learned

    @property
    def reservations(self) -> ReservationsWriter:
        """What is kept for queued jobs."""
        return self._reservations

    @property
    def attempts(self) -> AttemptsWriter:
        """Attempts, placements and ranks."""
        return self._attempts

    @property
    def fleet(self) -> FleetWriter:
        """Sites, nodes and sessions."""
        return self._fleet

    @property
    def tenancy(self) -> TenancyWriter:
        """The tenant tree and the policy."""
        return self._tenancy

    @property
    def usage(self) -> UsageWriter:
        """What attempts that are over have used."""
        return self._usage

    @property
    def outbox(self) -> OutboxWriter:
        """What is desired of sites."""
        return self._outbox

    @property
    def audit(self) -> AuditWriter:
        """The append-only log."""
        return self._audit

    @property
    def checkpoints(self) -> CheckpointsWriter:
        """Signed heads of the log."""
        return self._checkpoints

    @property
    def certificates(self) -> CertificatesWriter:
        """What was certified of jobs that are over."""
        return self._certificates

    @property
    def identity(self) -> IdentityWriter:
        """Join tokens and revocations."""
        return self._identity

    @property
    def idempotency(self) -> IdempotencyWriter:
        """Answers of earlier requests."""
        return self._idempotency

    def ledger(self) -> Ledger:
        """What is used and queued; kept in step, so this costs nothing."""
        return self._scratch.memo.ledger

    def declared_revision(self) -> int | None:
        """As for a snapshot."""
        scratch = self._scratch
        return None if scratch.declared_changed else scratch.last(DECLARED_COUNTER)

    def changes_made(self) -> int:
        """How many changes this transaction has told the change log of."""
        return len(self._scratch.changes)

    def jobs_changed(self, since: int) -> Iterator[JobId]:
        """The jobs of those changes, without the first `since`: the rows of these, of their
        attempts and of what is desired of them may be others than they were then."""
        return jobs_among(self._scratch.changes[since:])

    def news(self) -> News:
        """What it changed; ask when it is committed."""
        return self._scratch.news()

    def book(self) -> Book | None:
        """What budgets have left, counting what this transaction did; None: there are none."""
        memo, tree = self._scratch.memo, self._tenancy.tree()
        if not tree.has_budgets:
            return None
        if memo.book is None:
            memo.book = Book(tree, self._usage.for_budgets(tree))
            for use in self._attempts.live_uses():
                limit_ms = self._jobs.job_class(use.class_id).time_limit_bucket_ms
                cost_gpu_ms = gpu_ms(use.gpu_milli, limit_ms)
                memo.book.hold(use.tenant, use.gpu_class, cost_gpu_ms, use.placed_at_ms)
            self._scratch.undo.append(self._forget_book)
        return memo.book

    def _forget_book(self) -> None:
        self._scratch.memo.book = None

    @contextmanager
    def savepoint(self) -> Generator[None]:
        """What happens inside is undone, in the database and in memory, when it raises."""
        mark = self._scratch.mark()
        link = self._scratch.link
        begun = link.begin_savepoint()
        try:
            yield
        except BaseException:
            link.end_savepoint(begun, undo=True)
            self._scratch.roll_back(mark)
            raise
        link.end_savepoint(begun, undo=False)


class ReadStore:
    """A store that is only read: snapshots, nothing else. For the planner child, among others."""

    def __init__(self, url: str | Path) -> None:
        self.url = url_of(url)
        self._readers: Engine = reading_engine(self.url)
        # A class never changes: whoever follows the store gets the same object every time.
        self._classes: dict[int, JobClass] = {}

    def open(self) -> None:
        """Checks that the database is one that this program reads."""
        with self._readers.begin() as connection:
            migrations.assert_current(connection)

    @contextmanager
    def read(self) -> Generator[Snapshot]:
        """A snapshot; close it soon, because the log of writes cannot shrink past it."""
        with self._readers.connect() as connection, connection.begin():
            yield Snapshot(Link(connection), Memo(classes=self._classes))

    def close(self) -> None:
        """Closes every connection."""
        self._readers.dispose()


class Store(ReadStore):
    """A store that is written. Opening it takes the lease; who held it is refused from then on."""

    def __init__(self, url: str | Path, *, salts: SaltSource, codec: JobIdCodec) -> None:
        super().__init__(url)
        self._salts = salts
        self._codec = codec
        self._memo: Memo | None = None
        self._writer: Engine = writing_engine(self.url)
        self.epoch = 0

    def open(self, beyond: int = 0) -> None:
        """Brings the schema up to date and becomes the leader, of an epoch later than `beyond` even
        if the store knows of none such. Raises `StoreFailed`."""
        with self._failures(), self._writer.begin() as connection:
            migrations.bring_up_to_date(connection)
            self.epoch = lease.take(connection, beyond)
        self._memo = None  # Whoever led in between has changed what it remembers.

    @contextmanager
    def transaction(self) -> Generator[Txn]:
        """Everything inside is committed, durably, when it ends; nothing of it when it raises.

        Raises `Refused(NOT_LEADER)` when another scheduler has taken over, `StoreFailed` when the
        database fails.
        """
        assert self.epoch, "open the store first"
        with self._failures(), self._writer.begin() as connection:
            lease.assert_leader(connection, self.epoch)
            if self._memo is None:
                self._memo = Memo(ledger=derive(connection))
            scratch = Scratch(Link(connection), self._memo)
            beginning = scratch.mark()
            try:
                yield Txn(scratch, self.epoch, self._codec)
                scratch.link.send()
                peaks = write_leaves(connection, scratch.leaves, self._salts, self._memo.peaks)
                write_changes(scratch)
                scratch.save_counters()
            except BaseException:
                scratch.roll_back(beginning)
                raise
        # Only now: what failed to be committed was never given out.
        self._memo.counters.update(scratch.counters)
        self._memo.peaks = peaks
        with self._failures():
            bound_log(self._writer)

    @contextmanager
    def _failures(self) -> Generator[None]:
        try:
            yield
        except SQLAlchemyError as failure:
            # Whether it committed may be unknown: what memory holds is read again.
            self._memo = None
            raise StoreFailed(str(failure.__cause__ or failure)) from failure

    def close(self) -> None:
        """Closes every connection. The lease stays ours until somebody takes it."""
        self._writer.dispose()
        super().close()
