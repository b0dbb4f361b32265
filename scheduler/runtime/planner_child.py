"""The planner's own process: follows the change log of a read-only store, and answers one question
at a time over a pipe. Its only other door is the store's, and that one opens inwards. When nobody
asks, it may have estimates computed by a copy of itself (`estimating`).

Run as `python -m scheduler.runtime.planner_child URL FD`; it ends when the pipe does.
"""

from __future__ import annotations

import gc
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait

from scheduler.control.following import Following
from scheduler.core.explain import explain, forecast
from scheduler.model.plan import Blocked, Explanation, Plan
from scheduler.model.reasons import Refused
from scheduler.model.whatif import WhatIf
from scheduler.runtime.estimating import Estimating
from scheduler.runtime.planner_talk import (
    Answered,
    Asked,
    AskWhatIf,
    Broken,
    ExplainJob,
    Forecast,
    MakePlan,
    NotAhead,
    Planned,
    Question,
    RefusedAnswer,
)
from scheduler.runtime.what_if import what_if
from scheduler.store.history import used_percent
from scheduler.store.store import ReadStore

RESTS_MAX = 10_000
"""Questions after which garbage is looked for among everything, and not in what is new alone."""

NOT_WAITING = Explanation("the job does not wait for a place", (), (), (), queue_position=-1)
"""Positions count who goes before: this job has none."""


class Follower(Following):
    """The planner's state, and what is estimated from it."""

    def __init__(self, store: ReadStore) -> None:
        super().__init__(store)
        self.estimating = Estimating()
        self._rested = 0

    def _begin(self) -> None:
        gc.unfreeze()
        super()._begin()
        gc.collect()  # Before there is much to look at: all that is loaded lives.

    def catch_up(self, underway: int | None = None) -> None:
        """As it is; what a first reading made is not looked at for garbage."""
        before = self.state
        super().catch_up(underway)
        if self.state is not before:
            self._rested = 0
            gc.freeze()

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

    def answer(self, question: Question) -> Plan | NotAhead | Explanation | WhatIf:
        """The answer, from the newest committed state."""
        match question:
            case AskWhatIf():
                with self.store.read() as snapshot:
                    return what_if(snapshot, question.other, question.now_ms)
            case MakePlan(now_ms, budget, number, underway):
                return self.plan(now_ms, budget, number, underway) or NotAhead()
            case ExplainJob():
                self.catch_up()
                queued = self.state.queued.find(question.job, question.job_class)
                if queued is None:
                    return NOT_WAITING
                found = explain(self.state, queued, question.now_ms)
                return self.estimating.of_job(self.state, found, queued, question.now_ms)
            case Forecast():
                self.catch_up()
                found = forecast(self.state, question.job_class, question.now_ms)
                return self.estimating.of_class(
                    self.state, found, question.job_class, question.now_ms
                )

    def look_ahead(self, now_ms: int, closed: Sequence[Connection] = ()) -> None:
        """Has estimates computed aside, if somebody asked for some that are not kept.

        `closed`: what the process that computes them has no use for.
        """
        if self.estimating.is_asked(self.state):
            with self.store.read() as snapshot:
                percent = used_percent(snapshot)
            self.estimating.begin(self.state, now_ms, percent, closed)


def told(plan: Plan) -> Planned:
    """`plan` as it travels: of a class that waits, its decisive reason is enough."""
    return Planned(
        plan=replace(plan, blocked=(), emptied=()),
        blocked=tuple(Blocked(each.job_class, each.denials[:1]) for each in plan.blocked),
        freed=plan.emptied,
        anew=plan.anew,
    )


def serve(follower: Follower, pipe: Connection) -> None:
    """Answers until the other end is closed; looks ahead when nobody waits for an answer."""
    now_ms = 0
    while True:
        if not pipe.poll():
            follower.look_ahead(now_ms, (pipe,))
        ready = wait([pipe, *follower.estimating.waits_for()])
        if pipe not in ready:
            follower.estimating.collect()
            continue
        try:
            asked: Asked = pipe.recv()
            now_ms = asked.question.now_ms
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
        follower = Follower(store)
        try:
            serve(follower, pipe)
        finally:
            follower.estimating.close()


if __name__ == "__main__":
    main()
