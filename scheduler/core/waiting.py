"""Queued jobs in classes: jobs that are alike wait in one line, and what blocks one blocks all.

A line holds ids, and when each was submitted, as plain 64-bit numbers: a million queued jobs are 16
MB. Ids are given in the order of commits, so the order of ids is the order of age.

Classes that ask the same of the fleet, by whatever tenant and priority, share a *signature*: where
it may go is asked once, and when one finds no room none does.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, MutableSequence
from dataclasses import replace
from typing import cast

from scheduler.core.answers import Answer
from scheduler.core.asks import Ask, ask_of
from scheduler.core.occupancy import View, alone_views, joinable_views
from scheduler.core.ranking import Ranking, Rooms
from scheduler.model.ids import GpuClass, JobId, TenantPath
from scheduler.model.plan import JobClass, QueuedJob
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import NodeSharing, Requirement

SPENT_MAX = 4_096
"""Places at the front of a line that may be empty before it is moved up."""


_FIRST = (1, 0)
"""The attempt and the back-off of a job that was never placed."""


class Signature:
    """What classes ask of the fleet, tenant and turn aside."""

    __slots__ = (
        "alone", "answer", "ask", "busy", "milli", "rankings", "residency", "told",
        "users", "views", "wider",
    )  # fmt: skip

    def __init__(self, ask: Ask, residency: Requirement) -> None:
        self.ask = ask
        self.residency = residency
        self.views: tuple[View, ...] = joinable_views(ask.sharing, ask.organisation)
        self.alone: tuple[View, ...] = alone_views(ask.sharing, ask.organisation)
        # What sites answered, until the fleet's facts change; see `answers`.
        self.answer: Answer | None = None
        # No room was found, whatever is held for others, and none has come since.
        self.busy = False
        # What it is told while no node has room, by the answer that it has.
        self.told: tuple[Answer, tuple[Denial, ...]] | None = None
        self.users = 0
        self.rankings: dict[GpuClass, Ranking] = {}
        # What a job is charged, unless that depends on the nodes it gets: None.
        alone = ask.sharing is NodeSharing.NONE
        self.milli = None if alone else ask.nodes * ask.shape.gpu_milli()
        # An elastic job with more nodes than the least, the widest first.
        self.wider: tuple[Signature, ...] = tuple(
            Signature(replace(ask, nodes=nodes, nodes_max=0), residency)
            for nodes in reversed(ask.widths()[1:])
        )

    def full(self, answer: Answer) -> tuple[Denial, ...]:
        """That no node of `answer` has room, and what rules out other sites."""
        known = self.told
        if known is None or known[0] is not answer:
            ask = self.ask
            units = ask.shape.units() if ask.shape.profile else f"{ask.shape.gpus} GPU(s)"
            room = f"{ask.nodes} node(s) with {units} each"
            detail = f"{room} are not free together at any site that may hold the work"
            known = self.told = answer, (Denial(Reason.NODES_BUSY, detail), *answer.denials)
        return known[1]

    def ranking(self, rooms: Rooms, gpu_class: GpuClass) -> Ranking:
        """The rooms of `gpu_class` that can hold a part of it, the best first."""
        known = self.rankings.get(gpu_class)
        if known is None or known.stamp != rooms.stamp:
            known = self.rankings[gpu_class] = rooms.ranking(gpu_class, self.ask.shape)
        return known


class Waiting:
    """One class and its queued jobs, oldest first."""

    __slots__ = (
        "ask",
        "denials",
        "ids",
        "job_class",
        "odd",
        "signature",
        "spent",
        "submitted_at_ms",
        "tenants",
        "used",
    )  # fmt: skip

    def __init__(self, job_class: JobClass, signature: Signature | None = None) -> None:
        self.job_class = job_class
        self.signature = signature or Signature(ask_of(job_class), job_class.residency)
        self.ask: Ask = self.signature.ask
        self.ids = cast("MutableSequence[JobId]", array("q"))
        self.submitted_at_ms = array("q")
        # The line begins here: what was before has left.
        self.spent = 0
        # Jobs with more than an age: a later attempt, or a back-off.
        self.odd: dict[JobId, tuple[int, int]] = {}
        # Why the last plan that looked at it found no place, and whose limits it met.
        self.denials: tuple[Denial, ...] = ()
        self.tenants: tuple[TenantPath, ...] = ()
        # What its tenant and everything above it use, as the state holds it; see `fleet`.
        self.used: tuple[dict[GpuClass, int], ...] = ()

    def __len__(self) -> int:
        return len(self.ids) - self.spent

    def add(self, job: QueuedJob) -> None:
        """Puts `job` in its place in the line; one that is there already is as told now."""
        at = self.find(job.id)
        if at is None:
            at = bisect_left(self.ids, job.id, self.spent)
            self.ids.insert(at, job.id)
            self.submitted_at_ms.insert(at, job.submitted_at_ms)
        else:
            self.submitted_at_ms[at] = job.submitted_at_ms
            self.odd.pop(job.id, None)
        if job.next_attempt != 1 or job.not_before_ms:
            self.odd[job.id] = job.next_attempt, job.not_before_ms

    def load(self, ids: array[int], submitted_at_ms: array[int]) -> None:
        """Puts many fresh jobs in line at once, ascending."""
        if self.ids and ids and ids[0] <= self.ids[-1]:
            for job, at_ms in zip(ids, submitted_at_ms, strict=True):
                self.add(QueuedJob(JobId(job), self.job_class, at_ms, next_attempt=1))
            return
        self.ids.extend(cast("Iterable[JobId]", ids))
        self.submitted_at_ms.extend(submitted_at_ms)

    def remove(self, job: JobId) -> bool:
        """Takes `job` out of the line; whether it was there."""
        at = self.find(job)
        if at is None:
            return False
        self.drop(at)
        return True

    def drop(self, at: int) -> None:
        """Takes the job at a place of the line out of it."""
        if self.odd:
            self.odd.pop(self.ids[at], None)
        if at == self.spent:
            self.spent += 1
            if self.spent >= SPENT_MAX and self.spent * 2 > len(self.ids):
                del self.ids[: self.spent], self.submitted_at_ms[: self.spent]
                self.spent = 0
        else:
            del self.ids[at], self.submitted_at_ms[at]

    def find(self, job: JobId) -> int | None:
        """The place of `job` in the line, None when it is not there."""
        at = bisect_left(self.ids, job, self.spent)
        return at if at < len(self.ids) and self.ids[at] == job else None

    def before(self, job: JobId) -> int:
        """How many of the line are older than `job`."""
        return bisect_left(self.ids, job, self.spent) - self.spent

    def submitted_by(self, at_ms: int) -> int:
        """How many of the line were submitted at `at_ms` or before."""
        return bisect_right(self.submitted_at_ms, at_ms, self.spent) - self.spent

    def job(self, at: int) -> QueuedJob:
        """The job at a place of the line."""
        job = self.ids[at]
        attempt, not_before_ms = self.odd.get(job, _FIRST)
        return QueuedJob(job, self.job_class, self.submitted_at_ms[at], attempt, not_before_ms)

    def attempt(self, at: int) -> int:
        """Which attempt is the next of the job at a place of the line."""
        return self.odd.get(self.ids[at], _FIRST)[0] if self.odd else 1

    def next_ready(self, start: int, now_ms: int) -> int:
        """The place of the first job from place `start` on that is not backing off.

        The end of the line, `len(ids)`, when there is none.
        """
        if not self.odd:
            return start
        at = start
        while at < len(self.ids) and self.odd.get(self.ids[at], _FIRST)[1] > now_ms:
            at += 1
        return at

    def wakes_at_ms(self) -> int:
        """When the first of those that back off may go."""
        return min(not_before_ms for _, not_before_ms in self.odd.values())

    def in_line(self) -> Iterator[QueuedJob]:
        """The jobs, oldest first."""
        return (self.job(at) for at in range(self.spent, len(self.ids)))


def loaded(pairs: Iterable[tuple[int, int]]) -> tuple[array[int], array[int]]:
    """Ids and submission times as `Waiting.load` takes them."""
    ids, times = array("q"), array("q")
    for job, at_ms in pairs:
        ids.append(job)
        times.append(at_ms)
    return ids, times
