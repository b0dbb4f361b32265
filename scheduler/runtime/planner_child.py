"""The planner's own process: follows the change log of a read-only store, and answers one question
at a time over a pipe. Its only other door is the store's, and that one opens inwards.

Run as `python -m scheduler.runtime.planner_child URL FD`; it ends when the pipe does.
"""

from __future__ import annotations

import gc
import signal
import sys
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection

from scheduler.core.estimates import estimate
from scheduler.core.explain import explain, forecast, last_in_line
from scheduler.core.fleet import FleetState
from scheduler.core.planner import plan
from scheduler.model.plan import Blocked, Explanation, Plan, QueuedJob
from scheduler.model.reasons import Refused
from scheduler.model.whatif import WhatIf
from scheduler.runtime.planner_talk import (
    Answered,
    Asked,
    AskWhatIf,
    Broken,
    ExplainJob,
    Forecast,
    MakePlan,
    Planned,
    Question,
    RefusedAnswer,
)
from scheduler.runtime.what_if import what_if
from scheduler.store.changes import ChangesTrimmed
from scheduler.store.history import used_percent
from scheduler.store.store import ReadStore

CHANGES_MAX = 50_000
"""Further behind than this, starting anew is cheaper than following."""

RESTS_MAX = 10_000
"""Questions after which garbage is looked for among everything, and not in what is new alone."""

NOT_WAITING = Explanation("the job does not wait for a place", (), (), (), queue_position=-1)
"""Positions count who goes before: this job has none."""


class Follower:
    """The planner's state, kept in step with the store."""

    def __init__(self, store: ReadStore) -> None:
        self._store = store
        self.state = FleetState()
        self._loaded = False
        self._rested = 0

    def catch_up(self) -> None:
        """Applies what was committed since the last time."""
        with self._store.read() as snapshot:
            if self._loaded:
                try:
                    feed = snapshot.changes.since(self.state.sequence, CHANGES_MAX)
                except ChangesTrimmed:
                    self._loaded = False
                else:
                    self.state.apply_all(feed.sequence, feed.changes)
                    return
            gc.unfreeze()
            self.state = FleetState()
            sequence, changes = snapshot.changes.load_all()
            self.state.apply_all(sequence, changes)
            self._loaded = True
        self._rested = 0
        self.rest()

    def rest(self) -> None:
        """Between two questions: collects what the last one left, once; see `main`.

        What lives now lives long, so the collector need not look at it again and again. The rare
        cycle of objects that becomes garbage later is found when everything is looked at anew.
        """
        self._rested += 1
        if self._rested > RESTS_MAX:
            self._rested = 0
            gc.unfreeze()
        gc.collect()
        gc.freeze()

    def answer(self, question: Question) -> Plan | Explanation | WhatIf:
        """The answer, from the newest committed state."""
        if isinstance(question, AskWhatIf):
            with self._store.read() as snapshot:
                return what_if(snapshot, question.tenants, question.now_ms)
        self.catch_up()
        match question:
            case MakePlan():
                return plan(self.state, question.now_ms, question.budget)
            case ExplainJob():
                queued = self.state.queued.find(question.job, question.job_class)
                if queued is None:
                    return NOT_WAITING
                answer = explain(self.state, queued, question.now_ms)
                return self._timed(answer, queued, question.now_ms)
            case Forecast():
                answer = forecast(self.state, question.job_class, question.now_ms)
                asked = last_in_line(question.job_class, question.now_ms)
                return self._timed(answer, asked, question.now_ms)

    def _timed(self, told: Explanation, job: QueuedJob, now_ms: int) -> Explanation:
        """The explanation with an estimate of the start, where any site may hold the job."""
        if not any(site.permitted for site in told.sites):
            return told
        with self._store.read() as snapshot:
            percent = used_percent(snapshot)
        found = estimate(self.state, job, now_ms, percent)
        return replace(told, estimated_start_ms=found.start_ms, estimated_start_p90_ms=found.p90_ms)


def told(plan: Plan) -> Planned:
    """`plan` as it travels: of a class that waits, its decisive reason is enough."""
    return Planned(
        plan=replace(plan, blocked=(), emptied=()),
        blocked=tuple(Blocked(each.job_class, each.denials[:1]) for each in plan.blocked),
        freed=plan.emptied,
        anew=plan.anew,
    )


def serve(follower: Follower, pipe: Connection) -> None:
    """Answers until the other end is closed."""
    while True:
        try:
            asked: Asked = pipe.recv()
        except EOFError:
            return
        try:
            found = follower.answer(asked.question)
            answer = told(found) if isinstance(found, Plan) else found
        except Refused as refused:
            parts = (refused.code, refused.reason, refused.message, refused.denials)
            answer = RefusedAnswer(parts, refused.retry_after_ms)
        except Exception:
            answer = Broken(traceback.format_exc())
        try:
            pipe.send(Answered(asked.number, answer))
        except BrokenPipeError:
            return
        follower.rest()


def main() -> None:
    """Serves until the parent is gone."""
    # The parent decides when this process ends, also when a terminal or systemd tells all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    url, handle = sys.argv[1], int(sys.argv[2])
    store = ReadStore(url)
    store.open()
    # In the middle of a plan the collector would find nothing, and look at everything for it.
    gc.disable()
    with Connection(handle) as pipe:
        serve(Follower(store), pipe)


if __name__ == "__main__":
    main()
