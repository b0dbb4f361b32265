"""Jobs that were let in, on their way into the store: plain ones many at once.

The simple equivalent writes each job's rows, leaf and key when it is let in. That is a dozen calls
for each of thousands a second; of plain jobs each table has one here for all of them. Whoever reads
or writes jobs of the same transaction otherwise settles first.
"""

from __future__ import annotations

from collections import Counter

from scheduler.control.arrays import tasks_of
from scheduler.control.follow import follow
from scheduler.core.quota import lineage
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.job import Awaited, JobState
from scheduler.model.plan import JobClass
from scheduler.store import leaves
from scheduler.store.idempotency import Remembered
from scheduler.store.records import Arrival, JobRow
from scheduler.store.store import Txn
from scheduler.wire.written import Written


class Arrivals:
    """Jobs of one caller in one transaction."""

    def __init__(self, txn: Txn, owner: str, now_ms: int) -> None:
        self._txn = txn
        self._owner = owner
        self._now_ms = now_ms
        self._jobs: list[Arrival] = []
        self._keys: dict[str, Remembered] = {}
        self.ahead: Counter[TenantPath] = Counter()
        """How many wait to be settled under each node of the tree."""

    def add(
        self, asked: Written, job_class: JobClass, waits_for: tuple[Awaited, ...], key: str
    ) -> JobId:
        """One more that was let in; under `key`, if that is not empty."""
        if asked.shared.plain:
            return self._add_plain(asked, job_class, key)
        self.settle()
        row = self._row(asked, job_class, waits_for)
        self._write(asked, row, waits_for)
        if key:
            seen = {key: Remembered(asked.digest, row.id)}
            self._txn.idempotency.put(self._owner, seen, self._now_ms)
        return row.id

    def settle(self) -> None:
        """Tells the store of all that it was not told of."""
        if not self._jobs:
            return
        self._txn.jobs.add_all(self._owner, self._jobs, self._now_ms)
        leaves.arrived(self._txn.audit, self._owner, self._jobs, self._now_ms)
        if self._keys:
            self._txn.idempotency.put(self._owner, self._keys, self._now_ms)
        self._jobs, self._keys = [], {}
        self.ahead.clear()

    def _add_plain(self, asked: Written, job_class: JobClass, key: str) -> JobId:
        job = self._txn.jobs.take_id()
        number = self._txn.jobs.intern(job_class)
        tenant, digest = asked.project, asked.digest
        leased = asked.shared.leased
        self._jobs.append(Arrival(job, number, tenant, asked.name, leased, digest, asked.body))
        for path in lineage(tenant):
            self.ahead[path] += 1
        if key:
            self._keys[key] = Remembered(digest, job)
        return job

    def _row(self, asked: Written, job_class: JobClass, waits_for: tuple[Awaited, ...]) -> JobRow:
        array, service = asked.spec.array, asked.spec.service
        tasks = tasks_of(asked.spec)
        (number,) = self._txn.jobs.put_specs(((asked.digest, asked.body),))
        return JobRow(
            id=self._txn.jobs.take_id(),
            class_id=self._txn.jobs.intern(job_class),
            tenant=asked.project,
            owner=self._owner,
            name=asked.name,
            state=JobState.QUEUED,
            submitted_at_ms=self._now_ms,
            next_attempt=1,
            spec_digest=asked.digest,
            spec_number=number,
            leased=asked.shared.leased,
            held=bool(waits_for) or tasks > 0,
            tasks=tasks,
            running_max=array.max_running if array is not None else 0,
            replicas=service.replicas if service is not None else None,
        )

    def _write(self, asked: Written, row: JobRow, waits_for: tuple[Awaited, ...]) -> None:
        txn = self._txn
        txn.jobs.add(row)
        txn.waits.add(row.id, waits_for)
        txn.tenancy.datasets.read_by(row.id, (mount.dataset for mount in asked.spec.inputs))
        leaves.submitted(txn.audit, row, waits_for)
        if row.tasks:
            follow(txn, row, self._now_ms)
