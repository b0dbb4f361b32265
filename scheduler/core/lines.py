"""The queue: every class that has jobs, its line, and the signature that it shares with others.

As a mapping it holds the jobs that wait, by id. That is for those who compare and explain: a line
knows its jobs, but a job's line is searched for, unless its class is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from scheduler.core.alarm import Alarm
from scheduler.core.asks import Ask, ask_of
from scheduler.core.quota import ALL_CLASSES, Usage, lineage
from scheduler.core.ranks import with_less_service
from scheduler.core.waiting import Signature, Waiting
from scheduler.model.ids import GpuClass, JobId, TenantPath
from scheduler.model.job import JobState, Placement
from scheduler.model.plan import JobClass, LiveAttempt, QueuedJob
from scheduler.model.residency import Requirement
from scheduler.model.topology import Apart

ASKS_MAX = 100_000
"""Classes in which nobody waits whose asks are remembered."""
ABSENT_MAX = 10_000
"""Classes in which nobody waits that are remembered, so that a search by value is spared."""
HOLDERS_MAX = 1_000
"""Jobs with a reservation whose lines are remembered."""


class Lines(Mapping[JobId, QueuedJob]):
    """The lines of all classes. `alarm` is told of classes that come and go."""

    def __init__(self, usage: Usage, alarm: Alarm) -> None:
        self.classes: dict[JobClass, Waiting] = {}
        # How many classes at a tenant or below it can use a GPU class; "*": any of them.
        self.wanted: dict[TenantPath, dict[GpuClass, int]] = {}
        self.of_tenant: dict[TenantPath, dict[Waiting, None]] = {}
        self._usage = usage
        self._alarm = alarm
        self._signatures: dict[tuple[Ask, Requirement], Signature] = {}
        self._by_object: dict[int, Waiting] = {}
        # Classes, by the `id` of the very object, in which nobody waits: no line is to be found.
        self._absent: dict[int, JobClass] = {}
        self._holders: dict[JobId, Waiting] = {}
        # By the `id` of the very object: a hash of a class costs more than its ask.
        self._asks: dict[int, tuple[JobClass, Ask]] = {}

    def __getitem__(self, job: JobId) -> QueuedJob:
        found = self.find(job)
        if found is None:
            raise KeyError(job)
        return found

    def __iter__(self) -> Iterator[JobId]:
        return (job.id for job in self.in_line())

    def __len__(self) -> int:
        return sum(len(line) for line in self.classes.values())

    def in_line(self) -> Iterator[QueuedJob]:
        """Every job that waits, class by class, each class oldest first."""
        return (job for waiting in self.classes.values() for job in waiting.in_line())

    def find(self, job: JobId, job_class: JobClass | None = None) -> QueuedJob | None:
        """A job that waits, None when it does not; its class spares a search."""
        known = self.classes.get(job_class) if job_class is not None else None
        if known is None or known.find(job) is None:
            known = self.line_of(job)
        at = known.find(job) if known is not None else None
        return known.job(at) if known is not None and at is not None else None

    def line_of(self, job: JobId) -> Waiting | None:
        """The class in which `job` waits, None when it does not. Remembered."""
        known = self._holders.get(job)
        if known is not None and known.find(job) is not None:
            return known
        found = next(iter(self._with(job, None)), None)
        if found is not None:
            self.remember(job, found)
        return found

    def remember(self, job: JobId, waiting: Waiting) -> None:
        """`job` waits in this line: it need not be searched for."""
        if len(self._holders) > HOLDERS_MAX:
            self._holders.clear()
        self._holders[job] = waiting

    def ask_for(self, job_class: JobClass) -> Ask:
        """What a class asks for, whether any of it waits or not. Remembered."""
        known = self._by_object.get(id(job_class))
        if known is not None and known.job_class is job_class:
            return known.ask
        same = self._asks.get(id(job_class))
        if same is not None and same[0] is job_class:
            return same[1]
        if len(self._asks) > ASKS_MAX:
            self._asks.clear()
        self._asks[id(job_class)] = job_class, ask_of(job_class)
        return self._asks[id(job_class)][1]

    def line(self, job_class: JobClass) -> Waiting:
        """The line of `job_class`; an empty one if nobody waits. A new class is awake."""
        waiting = self._by_object.get(id(job_class))
        if waiting is not None and waiting.job_class is job_class:
            return waiting
        waiting = self.classes.get(job_class)
        if waiting is None:
            waiting = Waiting(job_class, self._signature(job_class))
            waiting.signature.users += 1
            waiting.used = tuple(
                self._usage.setdefault(path, {}) for path in lineage(job_class.tenant)
            )
            self._want(waiting, 1)
            self.classes[job_class] = waiting
            self._absent.clear()
            self.of_tenant.setdefault(job_class.tenant, {})[waiting] = None
            self._by_object[id(job_class)] = waiting
            self._alarm.awake[waiting] = None
        return waiting

    def passing(self, job_class: JobClass) -> Waiting:
        """The line of `job_class`, or one that leaves no trace when nobody waits in it."""
        known = self.classes.get(job_class)
        if known is not None:
            return known
        ask = ask_of(job_class)
        signature = self._signatures.get((ask, job_class.residency))
        return Waiting(job_class, signature or Signature(ask, job_class.residency))

    def leave_former(self, job: JobId, job_class: JobClass) -> None:
        """`job`, of `job_class` by now, waits no more where it waited as of another class."""
        if job_class.residency.data_sites is not None:
            self.remove(job, None)  # A label may have moved it from any line.
        for lesser in with_less_service(job_class):
            self.remove(job, lesser)

    def remove(self, job: JobId, job_class: JobClass | None) -> None:
        """`job` does not wait any more, if it did; its class spares a search."""
        for waiting in self._with(job, job_class):
            waiting.remove(job)
            if not len(waiting):
                self._forget(waiting)

    def start(self, placement: Placement, waiting: Waiting, placed_at_ms: int) -> LiveAttempt:
        """A job that is in this line was placed: it does not wait any more."""
        at, of = waiting.find(placement.key.job), waiting.job_class
        assert at is not None, "what is planned waits until it is told to be live"
        submitted_ms = waiting.submitted_at_ms[at]
        waiting.drop(at)
        if not len(waiting):
            self._forget(waiting)
        placed = JobState.PLACED
        return LiveAttempt(placement, of.tenant, of, placed, placed_at_ms, 0, 0, submitted_ms)

    def wake_apart(self, tenant: TenantPath, apart: Apart | None) -> None:
        """A replica left: others of its service may go where it was."""
        if apart is None:
            return
        for waiting in self.of_tenant.get(tenant, ()):
            if waiting.ask.apart == apart and waiting in self._alarm.asleep:
                self._alarm.wake(waiting)

    def _with(self, job: JobId, job_class: JobClass | None) -> list[Waiting]:
        """The lines that `job` is in: one where its class is told, else all are looked at."""
        if job_class is None:
            return [line for line in self.classes.values() if line.find(job) is not None]
        known = self._by_object.get(id(job_class))
        if known is None or known.job_class is not job_class:
            if self._absent.get(id(job_class)) is job_class:
                return []
            known = self.classes.get(job_class)
            if known is None:
                if len(self._absent) >= ABSENT_MAX:
                    self._absent.clear()
                self._absent[id(job_class)] = job_class
        return [known] if known is not None and known.find(job) is not None else []

    def _signature(self, job_class: JobClass) -> Signature:
        ask = ask_of(job_class)
        key = (ask, job_class.residency)
        signature = self._signatures.get(key)
        if signature is None:
            signature = self._signatures[key] = Signature(ask, job_class.residency)
        return signature

    def _want(self, waiting: Waiting, change: int) -> None:
        for path in lineage(waiting.job_class.tenant):
            counts = self.wanted.setdefault(path, {})
            for name in waiting.ask.gpu_classes or (ALL_CLASSES,):
                counts[name] = counts.get(name, 0) + change
                if not counts[name]:
                    del counts[name]

    def _forget(self, waiting: Waiting) -> None:
        signature = waiting.signature
        del self.classes[waiting.job_class]
        of_tenant = self.of_tenant[waiting.job_class.tenant]
        del of_tenant[waiting]
        if not of_tenant:
            del self.of_tenant[waiting.job_class.tenant]
        self._by_object.pop(id(waiting.job_class), None)
        self._alarm.forget(waiting)
        self._want(waiting, -1)
        signature.users -= 1
        if not signature.users:
            self._signatures.pop((signature.ask, signature.residency), None)
