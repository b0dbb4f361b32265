"""Submissions on their way to the writer: those that wait go together, and each is answered alone.

The simple equivalent posts each to the writer by itself. That costs a hand-over between threads, a
savepoint and a look for its key each; here they are shared by all that came while the writer was
busy. Callers take turns, a message each: whoever sends thousands at once does not keep those
waiting who send one. Owned by the event loop.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scheduler.control.admission import Asked, Submission
from scheduler.control.control import Control
from scheduler.model.identity import Principal
from scheduler.model.reasons import Code, Reason, Refused
from scheduler.runtime.writer import Writer
from scheduler.store.store import Txn

WAITING_MAX = 20_000
"""Submissions that may wait; beyond it callers are told to come back."""
FEW_MAX = 256
"""Submissions of one caller that are few."""
ROOM_FOR_FEW = 5_000
"""How many more may wait of callers of whom few do: those who send many leave them room."""
TOGETHER_MAX = 1_000
"""Submissions in one request to the writer. One message of a stream may hold as many."""
UNDER_WAY_MAX = 2
"""Requests at the writer: one that it works on, and the next, so that it never waits for us."""
NEXT_MIN = 256
"""Submissions that are worth a commit of their own while the writer works on others: every commit
costs a look at what changed, and a plan. Fewer wait for each other."""
GATHER_STEP_MS = 2
GATHER_MS_MAX = 10
"""When a commit is done and others wait already, more of them are under way to us: they are waited
for while each step brings some, because a commit costs a millisecond of a core whatever it holds.
Whoever comes when nobody else does never waits for this."""
RETRY_AFTER_MS = 1_000

Outcome = Submission | Refused
Outcomes = list[Outcome]


@dataclass(frozen=True, slots=True)
class _Ticket:
    """What one caller asked for at once, and whom to tell."""

    principal: Principal
    asked: Sequence[Asked]
    answer: asyncio.Future[Outcomes]


@dataclass(slots=True)
class _Line:
    """What waits of one caller."""

    tickets: deque[_Ticket] = field(default_factory=lambda: deque[_Ticket]())
    submissions: int = 0


class Intake:
    """Has submissions decided and committed."""

    def __init__(
        self,
        control: Control,
        writer: Writer,
        *,
        now_ms: Callable[[], int],
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self._control = control
        self._writer = writer
        self._now_ms = now_ms
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        """Of each caller who waits, by name; first whose turn it is."""
        self._waiting = 0
        self._waiting_max = waiting_max
        self._under_way: set[asyncio.Task[None]] = set()
        self._called = False
        self._gathering = False

    def post(self, principal: Principal, asked: Sequence[Asked]) -> asyncio.Future[Outcomes]:
        """Queues submissions; the outcomes, in order, come after their commit.

        Who cancels the future before its turn has asked for nothing.

        Raises:
            Refused: RESOURCE_EXHAUSTED when too much is waiting.
        """
        assert 0 < len(asked) <= TOGETHER_MAX, f"{len(asked)} submissions at once"
        line = self._lines.get(principal.path)
        mine = len(asked) + (line.submissions if line is not None else 0)
        room = self._waiting_max + (ROOM_FOR_FEW if mine <= FEW_MAX else 0)
        if self._waiting + len(asked) > room:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                Reason.RESOURCE_EXHAUSTED,
                f"found {self._waiting} submissions that wait to be written and {mine} of yours,"
                f" allowed {room}",
                retry_after_ms=RETRY_AFTER_MS,
            )
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outcomes] = loop.create_future()
        if line is None:
            line = self._lines[principal.path] = _Line()
        line.tickets.append(_Ticket(principal, asked, answer))
        line.submissions += len(asked)
        self._waiting += len(asked)
        if not self._called and self._is_due():
            self._called = True
            loop.call_soon(self._send)  # Whatever else comes in this turn of the loop goes along.
        return answer

    def _send(self) -> None:
        """Hands over what waits, as far as the writer is to have it now."""
        self._called = False
        while self._lines and self._is_due():
            if tickets := self._take():
                task = asyncio.create_task(self._decide(tickets))
                self._under_way.add(task)
                task.add_done_callback(self._sent)

    def _is_due(self) -> bool:
        """Whether what waits is to go to the writer now."""
        under_way = len(self._under_way)
        if self._waiting >= NEXT_MIN:
            return under_way < UNDER_WAY_MAX
        return not under_way and not self._gathering

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.result()  # A bug of ours: nothing that the writer says is raised there.
        if self._lines and not self._under_way and not self._gathering:
            self._gathering = True
            loop = asyncio.get_running_loop()
            self._gather(loop, loop.time() + GATHER_MS_MAX / 1_000, 0)
        else:
            self._send()

    def _gather(self, loop: asyncio.AbstractEventLoop, until: float, seen: int) -> None:
        """Hands over what waits once that does not grow any more; `seen`: how much it was."""
        if seen < self._waiting < NEXT_MIN and loop.time() < until:
            loop.call_later(GATHER_STEP_MS / 1_000, self._gather, loop, until, self._waiting)
            return
        self._gathering = False
        self._send()

    def _take(self) -> list[_Ticket]:
        """The next ticket of each caller in turn, as many as go together; a caller's own follow one
        another."""
        taken: dict[str, list[_Ticket]] = {}
        count = 0
        while self._lines:
            caller, line = next(iter(self._lines.items()))
            ticket = line.tickets[0]
            if count + len(ticket.asked) > TOGETHER_MAX:
                break
            line.tickets.popleft()
            line.submissions -= len(ticket.asked)
            self._waiting -= len(ticket.asked)
            if line.tickets:
                self._lines.move_to_end(caller)
            else:
                del self._lines[caller]
            if not ticket.answer.cancelled():
                taken.setdefault(caller, []).append(ticket)
                count += len(ticket.asked)
        return [ticket for mine in taken.values() for ticket in mine]

    async def _decide(self, tickets: Sequence[_Ticket]) -> None:
        """Has the writer decide on `tickets`; when a bug is in one of them, on each alone."""
        try:
            found = await self._written(tickets)
        except Refused as refused:
            _fail(tickets, refused)
        except Exception as failure:
            if len(tickets) == 1:
                _fail(tickets, failure)
                return
            for ticket in tickets:
                await self._decide((ticket,))
        else:
            for ticket, outcomes in zip(tickets, found, strict=True):
                if not ticket.answer.done():
                    ticket.answer.set_result(outcomes)

    async def _written(self, tickets: Sequence[_Ticket]) -> list[Outcomes]:
        now_ms = self._now_ms()

        def decide(txn: Txn) -> list[Outcomes]:
            outcomes: list[Outcomes] = []
            for principal, mine in itertools.groupby(tickets, key=lambda t: t.principal):
                many = list(mine)
                asked = [one for ticket in many for one in ticket.asked]
                decided = iter(self._control.submit_each(txn, principal, asked, now_ms))
                outcomes += [list(itertools.islice(decided, len(t.asked))) for t in many]
            return outcomes

        return await self._writer.write(decide)


def _fail(tickets: Sequence[_Ticket], failure: Exception) -> None:
    for ticket in tickets:
        if not ticket.answer.done():
            ticket.answer.set_exception(failure)
