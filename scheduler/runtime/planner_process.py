"""The planner's child process, from outside: asked one question at a time, restarted when it dies.

A planner thread beside the event loop would stall every call; a child does not. It holds nothing
that the store does not, so when it dies another one is started and reads everything again.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import cast

from scheduler.model.ids import JobId
from scheduler.model.plan import Explanation, JobClass, PlanBudget, Underway
from scheduler.model.reasons import Code, Reason, Refused
from scheduler.model.whatif import Other, WhatIf
from scheduler.runtime.planner_talk import (
    Answer,
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

PLAN_S_MAX = 300
"""A child that plans for longer hangs: it is ended and another one started. The first plan after a
start reads the whole store."""
EXPLAIN_S_MAX = 30
WHAT_IF_S_MAX = 240
"""Both trees' states are read from the store anew."""
QUESTIONS_MAX = 64
"""Questions that may wait; beyond it callers are told to come back."""
STOP_S_MAX = 5
RETRY_AFTER_MS = 2_000

_log = logging.getLogger(__name__)


class PlannerLost(Exception):
    """The child died or hung before it answered."""


class PlannerProcess:
    """One child at a time. All talk with it is on one thread, so answers cannot be mixed up."""

    def __init__(self, url: str, *, restarted: Callable[[], None]) -> None:
        self._url = url
        self._restarted = restarted
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="planner")
        self._numbers = itertools.count(1)
        self._plans = itertools.count(1)
        self._waiting = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        child = self._child
        return child.pid if child is not None else None

    async def plan(self, now_ms: int, budget: PlanBudget) -> Planned:
        """What to place now, from the newest committed state. Raises PlannerLost."""
        asked = MakePlan(now_ms, budget, next(self._plans))
        return cast("Planned", await self._ask(asked, PLAN_S_MAX))

    async def plan_ahead(
        self, now_ms: int, budget: PlanBudget, underway: Underway
    ) -> Planned | NotAhead:
        """As `plan`, as if all that is `underway` were committed. Raises PlannerLost."""
        asked = MakePlan(now_ms, budget, next(self._plans), underway)
        return cast("Planned | NotAhead", await self._ask(asked, PLAN_S_MAX))

    async def explain(
        self, job: JobId, now_ms: int, job_class: JobClass | None = None
    ) -> Explanation:
        """Why a job waits; its class spares a search."""
        return await self._explain(ExplainJob(now_ms, job, job_class))

    async def forecast(self, job_class: JobClass, now_ms: int) -> Explanation:
        """What would become of a job of this class, were it queued now."""
        return await self._explain(Forecast(now_ms, job_class))

    async def what_if(self, other: Other, now_ms: int) -> WhatIf:
        """What the queue would do under another tree, or with another fleet."""
        return cast("WhatIf", await self._answer(AskWhatIf(now_ms, other), WHAT_IF_S_MAX))

    async def close(self) -> None:
        """Ends the child."""
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._end)
        self._thread.shutdown()

    async def _explain(self, question: Question) -> Explanation:
        return cast("Explanation", await self._answer(question, EXPLAIN_S_MAX))

    async def _answer(self, question: Question, seconds_max: float) -> Answer:
        try:
            return await self._ask(question, seconds_max)
        except PlannerLost as error:
            raise Refused(
                Code.UNAVAILABLE,
                Reason.UNAVAILABLE,
                "the planner is starting; nothing can be explained just now",
                retry_after_ms=RETRY_AFTER_MS,
            ) from error

    async def _ask(self, question: Question, seconds_max: float) -> Answer:
        if self._waiting >= QUESTIONS_MAX:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                Reason.RESOURCE_EXHAUSTED,
                f"more than {QUESTIONS_MAX} questions wait for the planner",
                retry_after_ms=RETRY_AFTER_MS,
            )
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._talk, question, seconds_max)
        finally:
            self._waiting -= 1

    def _talk(self, question: Question, seconds_max: float) -> Answer:
        """On the planner's thread: asks and waits."""
        if self._closed:
            raise PlannerLost("the control plane is stopping")
        pipe = self._pipe or self._start()
        number = next(self._numbers)
        try:
            pipe.send(Asked(number, question))
            while True:
                if not pipe.poll(seconds_max):
                    self._give_up(question, seconds_max)
                answered: Answered = pipe.recv()
                if answered.number == number:
                    return _unwrapped(answered)
                # An answer that nobody waits for any more.
        except (EOFError, OSError) as error:
            self._end()
            self._restarted()
            raise PlannerLost("the planner process died") from error

    def _give_up(self, question: Question, seconds_max: float) -> None:
        if not isinstance(question, MakePlan):
            raise Refused(
                Code.UNAVAILABLE,
                Reason.UNAVAILABLE,
                f"no answer of the planner within {seconds_max:.0f} s",
                retry_after_ms=RETRY_AFTER_MS,
            )
        _log.error("a plan took more than %d s: the planner process is ended", PLAN_S_MAX)
        raise EOFError

    def _start(self) -> Connection:
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "scheduler.runtime.planner_child",
                    self._url,
                    str(theirs.fileno()),
                ],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
            )
        self._pipe = Connection(ours.detach())
        return self._pipe

    def _end(self) -> None:
        pipe, child = self._pipe, self._child
        self._pipe = self._child = None
        if pipe is not None:
            pipe.close()
        if child is None:
            return
        try:
            child.wait(STOP_S_MAX if self._closed else 0)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _unwrapped(answered: Answered) -> Answer:
    match answered.answer:
        case RefusedAnswer(parts, retry_after_ms):
            raise Refused(*parts, retry_after_ms=retry_after_ms)
        case Broken(text):
            raise RuntimeError(f"the planner failed:\n{text}")
        case Planned() | NotAhead() | Explanation() | WhatIf() as answer:
            return answer
