"""Jobs: the narrow rows, their specs, and the classes they are interned under."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import cast

from sqlalchemy import func, select, update

from scheduler.model.ids import JobId, TenantPath
from scheduler.model.job import Attempt, Job, JobSpec, JobState
from scheduler.model.plan import JobClass
from scheduler.store.attempts import AttemptsReader
from scheduler.store.bulk import IDS, How, Statement, inserting
from scheduler.store.codec import decode, encode
from scheduler.store.job_rows import (
    ADD,
    ADD_PARTICULARS,
    JOB,
    JOBS_BY_ID,
    PLACE,
    SAVE,
    STANDINGS,
    Lines,
    arrived,
    changing,
    constant,
    lined,
    row_of,
)
from scheduler.store.link import Link
from scheduler.store.records import Arrival, JobRow, JobStanding, Kept
from scheduler.store.schema import JOB_CLASSES, JOBS, PARTICULARS, QUEUED, SPECS
from scheduler.store.scratch import (
    CLASS_COUNTER,
    JOB_COUNTER,
    SPEC_COUNTER,
    ChangeKind,
    Memo,
    Placed,
    Scratch,
)
from scheduler.store.tasks import TasksReader
from scheduler.store.waits import WaitsReader
from scheduler.wire.spec import spec_digest, spec_from_bytes, spec_to_bytes

PAGE_MAX = 1_000
"""Most jobs that one page of a list holds."""
CLASSES_CACHED_MAX = 50_000
"""Decoded classes kept in memory; past it they are all dropped and read again."""
SPECS_REMEMBERED_MAX = 10_000
"""Digests of specs kept in memory, so that those who submit the same again share it; past it they
are all dropped."""


_CLASSES = Statement(JOB_CLASSES, f"SELECT id, body FROM job_classes WHERE id IN {IDS}")


_KEEP_SPEC = inserting(SPECS, How.NEW, ("number", "body"))
_SPECS = Statement(
    SPECS, f"SELECT number, body FROM specs WHERE body IS NOT NULL AND number IN {IDS}"
)


class JobsReader(TasksReader):
    """Finds jobs."""

    def __init__(self, link: Link, memo: Memo) -> None:
        super().__init__(link)
        self._memo = memo
        self._attempts = AttemptsReader(link)
        self._waits = WaitsReader(link)

    def row(self, job: JobId) -> JobRow | None:
        """The narrow row."""
        found = self._link.execute(JOB.where(JOBS.c.id == job)).first()
        return None if found is None else row_of(found)

    def rows(self, jobs: Iterable[JobId]) -> dict[JobId, JobRow]:
        """The narrow rows of those of `jobs` that exist."""
        found = self._link.among(JOBS_BY_ID, sorted(set(jobs)))
        return {row[0]: row_of(row) for row in found}

    def standings(self, jobs: Iterable[JobId]) -> dict[JobId, JobStanding]:
        """What decides whether those of `jobs` that exist may be placed."""
        found = self._link.among(STANDINGS, sorted(set(jobs)))
        return {row[0]: JobStanding._make(row) for row in found}

    def get(self, job: JobId, *, with_spec: bool = True) -> Job | None:
        """The whole job with its attempts."""
        row = self.row(job)
        if row is None:
            return None
        return self.whole((row,), with_spec=with_spec)[0]

    def whole(
        self,
        rows: Sequence[JobRow],
        *,
        with_spec: bool,
        attempts: Mapping[JobId, tuple[Attempt, ...]] | None = None,
    ) -> tuple[Job, ...]:
        """Jobs with their attempts, in the order of `rows`. `attempts`: where they were read."""
        if attempts is None:
            attempts = self._attempts.of_jobs(row.id for row in rows)
        specs = self.specs({row.spec_number for row in rows}) if with_spec else {}
        counts = self.task_counts([row for row in rows if row.tasks])
        waiting = [row.id for row in rows if row.held and row.state is JobState.QUEUED]
        waits = self._waits.of_jobs(waiting)
        classes = self.job_classes(row.class_id for row in rows)
        return tuple(
            Job(
                id=row.id,
                tenant=row.tenant,
                owner=row.owner,
                name=row.name,
                state=row.state,
                spec=specs.get(row.spec_number),
                spec_digest=row.spec_digest,
                submitted_at_ms=row.submitted_at_ms,
                attempts=attempts.get(row.id, ()),
                reason=row.reason,
                message=row.message,
                ended_at_ms=row.ended_at_ms,
                exit_code=row.exit_code,
                cancel_requested=row.cancel_requested,
                not_before_ms=row.not_before_ms,
                held=row.held,
                array_id=row.array_id,
                task=row.task,
                tasks=counts.get(row.id),
                waits_for=waits.get(row.id, ()),
                effective=classes[row.class_id].residency.if_raised(),
            )
            for row in rows
        )

    def page(
        self,
        under: TenantPath | None,
        *,
        states: frozenset[JobState],
        before: JobId | None,
        limit: int,
        lines: Lines = Lines.EVERY,
        array: JobId | None = None,
    ) -> tuple[JobRow, ...]:
        """Jobs of a node of the tree and all below it, newest first; all tenants' when None.

        Of the tasks of `array` only, when it is given.
        """
        assert 0 < limit <= PAGE_MAX, f"a page has at most {PAGE_MAX} jobs, {limit} asked for"
        query = JOB.order_by(JOBS.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(JOBS.c.id < before)
        if states:
            query = query.where(JOBS.c.state.in_(sorted(int(s) for s in states)))
        query = lined(query, lines, array)
        if under is None:
            return tuple(row_of(r) for r in self._link.execute(query))
        # One walk along the index per tenant, merged: never a sort of all that a tenant has.
        walks = [
            [row_of(r) for r in self._link.execute(query.where(JOBS.c.tenant == tenant))]
            for tenant in self.tenants_with_jobs(under)
        ]
        newest_first = merge(*walks, key=lambda row: -row.id)
        return tuple(islice(newest_first, limit))

    def tenants_with_jobs(self, under: TenantPath) -> tuple[TenantPath, ...]:
        """Those at `under` or below it that ever had a job."""
        found: list[TenantPath] = []
        at_self = select(JOBS.c.id).where(JOBS.c.tenant == under).limit(1)
        if self._link.execute(at_self).first() is not None:
            found.append(under)
        # "0" follows "/": the range holds what is below `under` and nothing else.
        low, high = f"{under}/", f"{under}0"
        while True:
            below = select(func.min(JOBS.c.tenant)).where(JOBS.c.tenant > low, JOBS.c.tenant < high)
            tenant = self._link.execute(below).scalar()
            if tenant is None:
                return tuple(found)
            found.append(TenantPath(tenant))
            low = tenant

    def open_by_name(self, under: TenantPath, name: str, limit: int) -> tuple[JobRow, ...]:
        """Jobs called `name` that are not over yet."""
        found: list[JobRow] = []
        for tenant in self.tenants_with_jobs(under):
            query = JOB.where(
                JOBS.c.tenant == tenant,
                JOBS.c.state < int(JobState.SUCCEEDED),
                PARTICULARS.c.name == name,
                JOBS.c.array_id.is_(None),
            )
            found.extend(row_of(r) for r in self._link.execute(query.limit(limit)))
        return tuple(found[:limit])

    def open_by_state(self) -> dict[JobState, int]:
        """How many jobs that are not over are in each state."""
        waiting = self._link.execute(select(func.count()).select_from(JOBS).where(QUEUED)).scalar()
        found = Counter({JobState.QUEUED: int(waiting or 0)})
        for use in self._attempts.live_by_site():
            found[use.state] += use.attempts
        return {state: jobs for state, jobs in sorted(found.items()) if jobs}

    def queued_by_class(self) -> tuple[tuple[JobClass, int], ...]:
        """How many jobs of each class wait for a place."""
        query = select(JOBS.c.class_id, func.count())
        query = query.where(QUEUED, JOBS.c.held.is_(False))
        query = query.group_by(JOBS.c.class_id).order_by(JOBS.c.class_id)
        rows = self._link.execute(query).all()
        return tuple((self.job_class(class_id), int(jobs)) for class_id, jobs in rows)

    def spec(self, number: int) -> JobSpec | None:
        """The spec of this number; None when it was erased."""
        return self.specs({number}).get(number)

    def specs(self, numbers: Iterable[int]) -> dict[int, JobSpec]:
        """Those of the specs that are still there."""
        found = self._link.among(_SPECS, sorted(set(numbers)))
        return {number: spec_from_bytes(body) for number, body in found}

    def job_class(self, class_id: int) -> JobClass:
        """An interned class."""
        known = self._memo.classes.get(class_id)
        return known if known is not None else self.job_classes((class_id,))[class_id]

    def job_classes(self, class_ids: Iterable[int]) -> dict[int, JobClass]:
        """The interned classes of these numbers."""
        memo = self._memo.classes
        found = {class_id: memo.get(class_id) for class_id in dict.fromkeys(class_ids)}
        missing = sorted(class_id for class_id, known in found.items() if known is None)
        if len(memo) + len(missing) > CLASSES_CACHED_MAX:
            memo.clear()
        for class_id, body in self._link.among(_CLASSES, missing):
            found[class_id] = memo.setdefault(class_id, decode(JobClass, body))
        return cast(dict[int, JobClass], found)


class JobsWriter(JobsReader):
    """Adds and changes jobs; keeps the ledger of queued ones and tells the change log."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.link, scratch.memo)
        self._scratch = scratch

    def take_id(self, skipping: int = 0) -> JobId:
        """An id that no job and no refused submission ever had, nor the `skipping` ones before."""
        return JobId(self._scratch.take(JOB_COUNTER, skipping + 1) + skipping)

    def put_spec(self, spec: JobSpec) -> Kept:
        """Keeps a spec."""
        body = spec_to_bytes(spec)
        digest = spec_digest(body)
        (number,) = self.put_specs(((digest, body),))
        return Kept(digest, number)

    def put_specs(self, specs: Sequence[tuple[str, bytes]]) -> list[int]:
        """Keeps specs whose digests and stored forms are at hand; the number of each.

        One that came lately is kept once. That is not promised: it spares room, and to find every
        older one by its digest would cost each job more than it spares.
        """
        known = self._memo.spec_numbers
        if len(known) + len(specs) > SPECS_REMEMBERED_MAX:
            known.clear()
        fresh = {digest: body for digest, body in specs if digest not in known}
        if fresh:
            first = self._scratch.take(SPEC_COUNTER, len(fresh))
            numbers = range(first, first + len(fresh))
            self._link.do(_KEEP_SPEC, *zip(numbers, fresh.values(), strict=True))
            known.update(zip(fresh, numbers, strict=True))

            def forget() -> None:
                for digest in fresh:
                    known.pop(digest, None)

            self._scratch.undo.append(forget)
        return [known[digest] for digest, _ in specs]

    def erase_spec(self, number: int) -> None:
        """Removes the content of a spec; the digests of its jobs stay."""
        self._memo.spec_numbers.clear()
        self._link.execute(update(SPECS).where(SPECS.c.number == number).values(body=None))

    def intern(self, job_class: JobClass) -> int:
        """The number of a class."""
        memo = self._memo
        # Most come as the object that came before: that spares a hash of all that is in it.
        same = memo.class_numbers.get(id(job_class))
        if same is not None and same[0] is job_class:
            return same[1]
        known = memo.class_ids.get(job_class)
        if known is not None:
            if len(memo.class_numbers) >= CLASSES_CACHED_MAX:
                memo.class_numbers.clear()
            memo.class_numbers[id(job_class)] = job_class, known
            return known
        body = encode(job_class)
        query = select(JOB_CLASSES.c.id).where(JOB_CLASSES.c.body == body)
        number = self._link.execute_around(query).scalar()
        if number is None:
            number = self._scratch.take(CLASS_COUNTER)
            self._link.add(JOB_CLASSES, {"id": number, "body": body})

            def forget(number: int = number) -> None:
                memo.class_ids.pop(job_class, None)
                memo.classes.pop(number, None)
                memo.class_numbers.clear()

            self._scratch.undo.append(forget)
        if len(memo.class_ids) >= CLASSES_CACHED_MAX:
            self._link.send()
            memo.class_ids.clear()
            memo.class_numbers.clear()
        memo.class_ids[job_class] = number
        memo.classes[number] = job_class
        return number

    def add(self, row: JobRow) -> None:
        """A new job, queued."""
        assert row.state is JobState.QUEUED, f"a new job is queued, not {row.state.name}"
        self._link.do(ADD, (*constant(row), *changing(row)))
        self._link.do(
            ADD_PARTICULARS, (row.id, row.owner, row.name, row.spec_digest, row.spec_number)
        )
        self._shift_queue(row.tenant, 1)
        self._scratch.changed(ChangeKind.JOB, str(row.id))

    def add_all(self, owner: str, arrivals: Sequence[Arrival], now_ms: int) -> None:
        """As `add`, with their specifications: plain jobs of one owner, many at once."""
        numbers = self.put_specs([(a.spec_digest, a.spec_body) for a in arrivals])
        self._link.do(ADD, *arrived(arrivals, now_ms))
        told = zip(arrivals, numbers, strict=True)
        self._link.do(ADD_PARTICULARS, *((a.id, owner, a.name, a.spec_digest, n) for a, n in told))
        for tenant, jobs in Counter(a.tenant for a in arrivals).items():
            self._shift_queue(tenant, jobs)
        self._scratch.changes += [(ChangeKind.JOB, str(a.id)) for a in arrivals]

    def save(self, before: JobRow, after: JobRow) -> None:
        """`before`, just read in this transaction, becomes `after`."""
        assert before.id == after.id
        assert before.tenant == after.tenant
        self._link.do(SAVE, (*changing(after), after.id, int(before.state)))
        queued = (after.state is JobState.QUEUED) - (before.state is JobState.QUEUED)
        self._shift_queue(after.tenant, queued)
        self._scratch.changed(ChangeKind.JOB, str(after.id))

    def touch(self, job: JobId) -> None:
        """Something that people see of `job` is another than before, though its row is not."""
        self._scratch.changed(ChangeKind.JOB, str(job))

    def save_placed(self, placed: Placed, jobs_by_tenant: Mapping[TenantPath, int]) -> None:
        """Queued jobs whose next attempt was just placed, many at once."""
        if placed.jobs:
            self._link.do(PLACE, *((job,) for job in placed.jobs))
            self._scratch.changed(ChangeKind.PLACED, placed.key())
        for tenant, count in jobs_by_tenant.items():
            self._shift_queue(tenant, -count)

    def _shift_queue(self, tenant: TenantPath, jobs: int) -> None:
        if jobs:
            ledger = self._memo.ledger
            ledger.add_queued(tenant, jobs)
            self._scratch.undo.append(lambda: ledger.add_queued(tenant, -jobs))
