"""A simulated Ray cell: the way in of `agent/site/executor.py`, with everything that may go wrong.

Reserve, prepare all, start all, each step a call that takes its time and may be late; the site's
driver, the raylets, or all of Ray may die at any of them. A call that has left is carried out
whoever asked for it is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from agent.site.executor import LaunchResult
from agent.site.state import Rank
from tests.sim.clock import BootClock, Life, Loop
from tests.sim.node import SimNode
from tests.sim.seeds import Dice
from tests.sim.spool import RankSpec, SpoolRefused
from tests.sim.trace import Trace

CALL_MS_MAX = 60
LATE_CALL_MS_MAX = 40_000
RETRY_MS = 2_000
STEP_MS_MAX = 20_000
RESERVE_MS = 10_000

Done: TypeAlias = Callable[[LaunchResult], None]


@dataclass(frozen=True, slots=True)
class Order:
    """One attempt to launch; `lease_ms` is counted from `given_ms`."""

    key: str
    ranks: tuple[Rank, ...]
    spec: Callable[[Rank, int | None], RankSpec]
    given_ms: int
    lease_ms: int | None

    @property
    def at_once(self) -> bool:
        """Whether its nodes make room for it as they start it: one without a lease."""
        return self.lease_ms is None


@dataclass(slots=True)
class _Launch:
    order: Order
    done: Done
    driver: Life
    step: str = "prepare"
    deadline_ms: int = 0
    missing: dict[str, Rank] = field(default_factory=dict[str, Rank])
    leases: dict[str, int] = field(default_factory=dict[str, int])
    finished: bool = False


class RayCell:
    """Ray at one site: placement groups, raylets, and one driver at a time."""

    def __init__(
        self,
        site: str,
        nodes: Mapping[str, SimNode],
        *,
        loop: Loop,
        clock: BootClock,
        dice: Dice,
        trace: Trace,
    ) -> None:
        self.site = site
        self.nodes = nodes
        self.groups: dict[str, tuple[Rank, ...]] = {}
        self.head_up = True
        self.late_per_mille = 0
        self.fail_per_mille = 0
        self.released: Callable[[str], None] = lambda key: None
        self._loop = loop
        self._clock = clock
        self._dice = dice
        self._trace = trace

    # Faults.

    def lose_everything(self) -> None:
        """kill -9 of every Ray process of the site; ranks live on under their shims."""
        self._trace.note(self.site, "loses Ray")
        self.groups.clear()
        self.head_up = False
        for slot in sorted(self.nodes):
            self.nodes[slot].stop_raylet()

    def restore(self) -> None:
        """Ray is started again, empty."""
        self.head_up = True
        for slot in sorted(self.nodes):
            self.nodes[slot].start_raylet()

    # The port.

    def launch(self, order: Order, driver: Life, done: Done) -> None:
        """See `agent.site.executor.Executor.launch`."""
        launch = _Launch(order, done, driver)
        self._loop.after(self._call_ms(), lambda: self._reserve(launch), driver)

    def reserve(self, key: str, ranks: tuple[Rank, ...], driver: Life, done: Done) -> None:
        """Hold an attempt's nodes ahead of its launch."""

        def hold() -> None:
            failed = not self.head_up or self._dice.chance(self.fail_per_mille)
            if key in self.groups or failed or self._no_room(ranks):
                done(LaunchResult(key, ok=key in self.groups, retryable=True))
                return
            self.groups[key] = ranks
            done(LaunchResult(key, ok=True))

        self._loop.after(self._call_ms(), hold, driver)

    def release(self, key: str, driver: Life, done: Done) -> None:
        """Give a reservation back."""

        def remove() -> None:
            if self.head_up:
                if self.groups.pop(key, None) is not None:
                    self.released(key)
                done(LaunchResult(key, ok=True))
            else:
                done(LaunchResult(key, ok=False, detail="Ray is away", retryable=True))

        self._loop.after(self._call_ms(), remove, driver)

    def reservations(self) -> frozenset[str] | None:
        """Attempts that hold nodes; None when nobody can say."""
        return frozenset(self.groups) if self.head_up else None

    def alive(self) -> frozenset[str] | None:
        """Slots whose raylet answers."""
        if not self.head_up:
            return None
        return frozenset(slot for slot, node in self.nodes.items() if node.raylet_up)

    # The steps of a launch.

    def _call_ms(self) -> int:
        if self._dice.chance(self.late_per_mille):
            return self._dice.between(CALL_MS_MAX, LATE_CALL_MS_MAX)
        return self._dice.between(1, CALL_MS_MAX)

    def _fail(self, launch: _Launch, detail: str, *, retryable: bool) -> None:
        if not launch.finished:
            launch.finished = True
            launch.done(
                LaunchResult(launch.order.key, ok=False, detail=detail, retryable=retryable)
            )

    def _reserve(self, launch: _Launch) -> None:
        order = launch.order
        if not self.head_up:
            self._fail(launch, "no driver", retryable=True)
            return
        if order.key not in self.groups:
            if (why := self._no_room(order.ranks)) or self._dice.chance(self.fail_per_mille):
                self._loop.after(
                    RESERVE_MS,
                    lambda: self._fail(launch, why or "a fault", retryable=True),
                    launch.driver,
                )
                return
            self.groups[order.key] = order.ranks
        self._begin(launch, "start" if order.at_once else "prepare")

    def _no_room(self, ranks: tuple[Rank, ...]) -> str:
        wanted: dict[str, int] = {}
        for group in (*self.groups.values(), ranks):
            for rank in group:
                wanted[rank.slot] = wanted.get(rank.slot, 0) + len(rank.gpus)
        for slot in sorted({rank.slot for rank in ranks}):
            node = self.nodes.get(slot)
            if node is None or not node.raylet_up:
                return f"{slot} is away"
            if wanted[slot] > node.shape.gpus:
                return f"{slot} is busy"
        return ""

    def _begin(self, launch: _Launch, step: str) -> None:
        launch.step = step
        launch.deadline_ms = self._loop.now_ms + STEP_MS_MAX
        launch.missing = {rank.key: rank for rank in launch.order.ranks}
        self._ask(launch)

    def _ask(self, launch: _Launch) -> None:
        """Call every executor that has not answered; again after a while, as it may have run."""
        if launch.finished:
            return
        if self._loop.now_ms > launch.deadline_ms:
            self._fail(launch, f"{launch.step} was not answered", retryable=True)
            return
        for key in sorted(launch.missing):
            rank, step = launch.missing[key], launch.step
            lease = launch.leases.get(key)
            spec = launch.order.spec(rank, lease) if step == "start" else None
            self._loop.after(self._call_ms(), lambda r=rank, s=spec: self._call(launch, r, s))
        self._loop.after(RETRY_MS, lambda: self._ask(launch), launch.driver)

    def _call(self, launch: _Launch, rank: Rank, spec: RankSpec | None) -> None:
        """A call arrives at a node's executor, whatever has become of the caller."""
        node = self.nodes[rank.slot]
        if not node.raylet_up:
            return
        refused, answer = _executed(node, launch.order, rank, spec)
        boot_ms = node.clock.now_ms

        def answered() -> None:
            if launch.finished or rank.key not in launch.missing:
                return
            if (launch.step == "start") is (spec is None):
                return
            if refused or answer == "given_up":
                self._fail(launch, refused or "given up before it ran", retryable=False)
                return
            if launch.order.lease_ms is not None and spec is None:
                left_ms = launch.order.given_ms + launch.order.lease_ms - self._clock.now_ms
                launch.leases[rank.key] = boot_ms + left_ms
            del launch.missing[rank.key]
            if not launch.missing:
                self._step_over(launch)

        self._loop.after(self._dice.between(1, CALL_MS_MAX), answered, launch.driver)

    def _step_over(self, launch: _Launch) -> None:
        if launch.step == "prepare":
            self._begin(launch, "start")
        else:
            launch.finished = True
            launch.done(LaunchResult(launch.order.key, ok=True))


def _executed(node: SimNode, order: Order, rank: Rank, spec: RankSpec | None) -> tuple[str, str]:
    """What a node's executor refuses, or answers, when it is to prepare or to start a rank."""
    try:
        if spec is None or order.at_once:
            node.spool.prepare(rank.key)
        return "", node.spool.start(rank.key, spec) if spec is not None else ""
    except SpoolRefused as error:
        return str(error), ""
