"""When jobs are thought to start: computed aside for all at once, kept, and told from what is kept.

A walk through virtual time takes seconds, and both the planner and whoever asks should wait for
none of it. When the planner's process is idle and somebody has asked since the last change, it
forks: the copy has the state as it is at that moment, walks with what processor time nobody else
wants, sends what it found, and ends. Until then the last answer is told, or none. One copy walks
at a time, of the newest state; the planner itself is kept for the fork alone, and for no step.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from scheduler.core.estimates import Estimate, estimate, estimates, is_short, promised
from scheduler.core.explain import last_in_line
from scheduler.core.fleet import FleetState
from scheduler.model.ids import JobId
from scheduler.model.plan import Explanation, JobClass, QueuedJob

CLASSES_MAX = 8
"""Classes of jobs that are not there yet, the last asked after, that one copy walks for."""
RENEW_AFTER_MS = 60_000
"""Estimates of a state in which nothing has changed since are computed again after so long."""
KEPT_FOR_MS = 600_000
"""Estimates older than this are not told."""
WALK_S_MAX = 120
"""A copy that walks for longer is ended by its own alarm."""
NICE = 19
PR_SET_PDEATHSIG = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """Estimates of one state: of its jobs, and of classes that somebody thought of submitting."""

    at_ms: int
    sequence: int
    jobs: dict[JobId, Estimate]
    classes: dict[JobClass, Estimate]

    def serves(self, fleet: FleetState, now_ms: int) -> bool:
        """Whether it is of this very state, and not long ago."""
        return self.sequence == fleet.sequence and now_ms - self.at_ms < RENEW_AFTER_MS


class Estimating:
    """The estimates that are kept, and the copy that computes others."""

    def __init__(self) -> None:
        self._kept: Kept | None = None
        self._asked = False
        self._classes: dict[JobClass, None] = {}
        self._walker: tuple[BaseProcess, Connection] | None = None

    def of_job(
        self, fleet: FleetState, found: Explanation, job: QueuedJob, now_ms: int
    ) -> Explanation:
        """The explanation of a job that waits, with the estimate that is kept."""
        kept = self._kept
        if kept is None or not kept.serves(fleet, now_ms):
            self._asked = True
        return self._told(fleet, found, job.id, self.known(fleet, job.id, now_ms), now_ms)

    def of_class(
        self, fleet: FleetState, found: Explanation, job_class: JobClass, now_ms: int
    ) -> Explanation:
        """The same of a job that might be submitted."""
        kept = self._kept
        known = kept.classes.get(job_class) if kept is not None else None
        if kept is None or known is None or not kept.serves(fleet, now_ms):
            self._asked = True
            self._classes.pop(job_class, None)
            self._classes[job_class] = None
            while len(self._classes) > CLASSES_MAX:
                del self._classes[next(iter(self._classes))]
        last = last_in_line(job_class, now_ms).id
        return self._told(fleet, found, last, self._still(known, now_ms), now_ms)

    def known(self, fleet: FleetState, job: JobId, now_ms: int) -> Estimate:
        """What is kept of a job that waits; else when the nodes that are kept for it are free."""
        kept = self._kept.jobs.get(job) if self._kept is not None else None
        still = self._still(kept, now_ms)
        return still if still.p90_ms else promised(fleet, job, now_ms)

    def _still(self, known: Estimate | None, now_ms: int) -> Estimate:
        """What holds yet of an estimate that is kept."""
        if known is None or self._kept is None or now_ms - self._kept.at_ms > KEPT_FOR_MS:
            return Estimate()
        return known.seen_at(now_ms)

    def _told(
        self, fleet: FleetState, found: Explanation, job: JobId, known: Estimate, now_ms: int
    ) -> Explanation:
        if not any(site.permitted for site in found.sites):
            return found
        if found.would_run_at is not None and all(other == job for other in fleet.queued):
            known = Estimate(now_ms, now_ms)  # There is room, and nobody else waits for it.
        return replace(
            found, estimated_start_ms=known.start_ms, estimated_start_p90_ms=known.p90_ms
        )

    def is_asked(self, fleet: FleetState) -> bool:
        """Whether somebody asked for what is not kept, nobody computes it, and it is short."""
        if not self._asked or self._walker is not None:
            return False
        if not is_short(fleet):
            self._asked = False
            self._classes.clear()
            return False
        return True

    def begin(
        self, fleet: FleetState, now_ms: int, used_percent: int, closed: Sequence[Connection]
    ) -> None:
        """Has a copy of this process walk from `fleet`; it first lets go of `closed`."""
        fleet.settle()
        classes, self._classes, self._asked = tuple(self._classes), {}, False
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe(duplex=False)
        walk = _Walk(fleet, now_ms, used_percent, classes)
        process = context.Process(
            target=_walk, args=(walk, theirs, (*closed, ours), os.getpid()), daemon=True
        )
        with theirs:
            try:
                process.start()
            except OSError as error:
                _log.warning("no process to compute estimates in: %s", error)
                ours.close()
                return
        self._walker = process, ours

    @property
    def kept(self) -> Kept | None:
        """The newest answer of a copy; None: there is none yet."""
        return self._kept

    def waits_for(self) -> tuple[Connection, ...]:
        """What is readable when a copy has an answer, or has died."""
        return (self._walker[1],) if self._walker is not None else ()

    def collect(self) -> None:
        """Keeps what the copy found; waits for it to end."""
        if self._walker is None:
            return
        process, pipe = self._walker
        self._walker = None
        # One that died said why on standard error; who asks again has another one try.
        with pipe, suppress(EOFError, OSError):
            self._kept = pipe.recv()
        process.join()
        process.close()

    def close(self) -> None:
        """Ends the copy, if there is one."""
        if self._walker is not None:
            self._walker[0].kill()
            self.collect()


@dataclass(frozen=True, slots=True)
class _Walk:
    """What a copy is to compute."""

    fleet: FleetState
    now_ms: int
    used_percent: int
    classes: tuple[JobClass, ...]

    def found(self) -> Kept:
        fleet, now_ms, percent = self.fleet, self.now_ms, self.used_percent
        classes = {
            each: estimate(fleet, last_in_line(each, now_ms), now_ms, percent)
            for each in self.classes
        }
        jobs = estimates(fleet, now_ms, percent)
        known = {job: found for job, found in jobs.items() if found.p90_ms}
        return Kept(now_ms, fleet.sequence, known, classes)


def _walk(walk: _Walk, answer: Connection, closed: Sequence[Connection], planner: int) -> None:
    """The copy's whole life. It has the planner's open store too, and must not touch that."""
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != planner:
        return
    signal.alarm(WALK_S_MAX)
    os.nice(NICE)
    for pipe in closed:
        pipe.close()
    answer.send(walk.found())
