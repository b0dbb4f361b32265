"""Live attempts that might be ended for others, and what each would lose.

Kept by the state as attempts come, change and go. In one line a tenant, GPU class and priority,
those with least to lose first, as far as time alone tells: what was lost is weighed by GPUs later.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from scheduler.core.quota import Usage, charge
from scheduler.model.ids import GpuClass, JobId, TenantPath
from scheduler.model.job import JobState, Priority
from scheduler.model.plan import LiveAttempt

MAY_BE_ENDED = frozenset({JobState.PLACED, JobState.STARTING, JobState.RUNNING})
"""States that a preemption can follow on. What is lost to sight cannot be asked to end."""

LEAVING = frozenset({JobState.PREEMPTING, JobState.CANCELLING})
"""States in which an attempt is on its way out already."""

LineKey = tuple[GpuClass, Priority]
Line = list[tuple[int, JobId]]


class Evictable:
    """Who may be asked to leave, and what each priority uses."""

    def __init__(self) -> None:
        self.lines: dict[TenantPath, dict[LineKey, Line]] = {}
        self.leaving: dict[JobId, LiveAttempt] = {}
        self.used_at: dict[Priority, Usage] = {Priority.HIGH: {}, Priority.NORMAL: {}}
        """Of what is in use, the part of each priority but the lowest."""

    def add(self, live: LiveAttempt) -> None:
        """An attempt holds nodes."""
        self._charge(live, live.placement.gpu_milli)
        if live.state in LEAVING:
            self.leaving[live.placement.key.job] = live
        if may_be_asked(live):
            lines = self.lines.setdefault(live.tenant, {})
            insort(lines.setdefault(_key(live), []), _place(live))

    def remove(self, live: LiveAttempt) -> None:
        """The attempt that was added so does not any more."""
        self._charge(live, -live.placement.gpu_milli)
        self.leaving.pop(live.placement.key.job, None)
        if not may_be_asked(live):
            return
        lines, key = self.lines[live.tenant], _key(live)
        line = lines[key]
        at = bisect_left(line, _place(live))
        assert line[at] == _place(live), "a live attempt is in its line"
        del line[at]
        if not line:
            del lines[key]
            if not lines:
                del self.lines[live.tenant]

    def jobs(self, tenant: TenantPath, key: LineKey) -> Iterator[JobId]:
        """The jobs of one line, those with the newest checkpoint or start first."""
        return (job for _, job in self.lines.get(tenant, {}).get(key, ()))

    def _charge(self, live: LiveAttempt, milli: int) -> None:
        usage = self.used_at.get(live.job_class.priority)
        if usage is not None:
            charge(usage, live.tenant, live.placement.gpu_class, milli)


def may_be_asked(live: LiveAttempt) -> bool:
    """Whether its tenant lets it be preempted, and it is in a state for it."""
    return live.job_class.preemptible and live.state in MAY_BE_ENDED


def ripe_at_ms(live: LiveAttempt) -> int:
    """From when on it may be preempted: it has a right to its least runtime.

    One that did not start yet has all of it before it.
    """
    least_ms = live.job_class.min_runtime_ms
    if not least_ms:
        return 0
    return (live.started_at_ms or live.placed_at_ms) + least_ms


def saved_at_ms(live: LiveAttempt) -> int:
    """Up to when its work is safe: its newest checkpoint, or when it began."""
    return max(live.checkpoint_at_ms, live.started_at_ms or live.placed_at_ms)


def lost_gpu_ms(live: LiveAttempt, now_ms: int) -> int:
    """The work that ending it now destroys, in GPU-milliseconds. None, before it started."""
    if live.state is not JobState.RUNNING:
        return 0
    return live.placement.gpu_milli * max(0, now_ms - saved_at_ms(live)) // 1000


def _key(live: LiveAttempt) -> LineKey:
    return live.placement.gpu_class, live.job_class.priority


def _place(live: LiveAttempt) -> tuple[int, JobId]:
    return -saved_at_ms(live), live.placement.key.job
