"""What the control plane does by itself: plan after changes, look at the clock, and stop when told.

All loops run under one task group: one that dies takes the others, and so the process, with it, and
whoever supervises the process starts a sound one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scheduler.control.control import Control
from scheduler.model.plan import Blocked, JobClass, Plan, PlanBudget, Underway
from scheduler.model.reasons import Reason, Refused
from scheduler.runtime.planner_process import PlannerLost, PlannerProcess
from scheduler.runtime.planner_talk import Planned
from scheduler.runtime.reader import Reader
from scheduler.runtime.sites import Sites
from scheduler.runtime.telemetry import Metrics
from scheduler.runtime.writer import Writer
from scheduler.store.apply import Applied
from scheduler.store.backfill import Backfill

TICK_MS = 1_000
REPLAN_MS = 2_000
"""While jobs wait, a plan is made this often although nothing changed: back-offs and facts end with
time alone."""
BUDGET = PlanBudget(placements_max=1_000)
"""Of one plan. More at once cost the database less each, but nobody else writes meanwhile: so many
take some fifty milliseconds, and while they do the next plan is made."""
AHEAD_PLACEMENTS_MIN = 100
"""While at least so many placements are committed, the next plan is made; fewer are committed
sooner than planned on."""
EMPTY_REST_MS = 25
EMPTY_REST_MS_MAX = 100
"""After a plan that does nothing, what changes meanwhile is planned together; the more such plans
in a row, the longer. For callers who submit one job each to a full fleet there would else be a plan
a commit, on a core they need."""
PLANNER_RETRY_MS = 500
BACKFILL_MS = 250
"""Between copies from the store's log while there are commits: a page that changes all the time is
copied so often and no oftener."""
STORE_RETRY_MS = 1_000

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Waiting:
    """Why each class of queued jobs waits, as of the newest plan: its decisive reason. For those
    who ask after a job, on any thread."""

    blocked: dict[JobClass, Blocked] = field(default_factory=lambda: {})

    def learn(self, planned: Planned) -> None:
        """Another plan was made."""
        blocked = {} if planned.anew else self.blocked
        for job_class in planned.freed:
            blocked.pop(job_class, None)
        for found in planned.blocked:
            blocked[found.job_class] = found
        self.blocked = blocked


@dataclass(frozen=True, slots=True)
class Cogs:
    """What the loops turn."""

    control: Control
    writer: Writer
    reader: Reader
    planner: PlannerProcess
    sites: Sites[Any]
    metrics: Metrics
    now_ms: Callable[[], int]


@dataclass(frozen=True, slots=True)
class _HandedOver:
    """A plan that the writer has."""

    plan: Plan
    at_ms: int
    """As of when it is committed."""
    applied: asyncio.Task[None]
    """Ends when it is."""

    def is_worth_presuming(self) -> bool:
        """Whether the next plan is to be made meanwhile."""
        many = len(self.plan.placements) >= AHEAD_PLACEMENTS_MIN
        return many and self.plan.only_places() and not self.applied.done()


class Planning:
    """Plans whenever something changed, and has each plan applied.

    Equivalent to: plan, have that committed, and again. Departure: while the writer commits a plan,
    the next one is made, as if all of it were committed (`following`), and one only: it is handed
    over when it is known what became of the one before, whatever that was. Planner and writer are
    two processes, and so work side by side.
    """

    def __init__(self, cogs: Cogs, budget: PlanBudget) -> None:
        self._cogs = cogs
        self._budget = budget
        self._changed = asyncio.Event()
        self.waiting = Waiting()
        self.planned = False
        self._may_grow = False
        self._unplanned_since_ms: int | None = None
        self._planning_since_ms: int | None = None
        self._handed_over: _HandedOver | None = None

    def changed(self) -> None:
        """Something was committed that a plan may depend on."""
        if self._unplanned_since_ms is None:
            self._unplanned_since_ms = self._cogs.now_ms()
        self._changed.set()

    def current_until_ms(self) -> int:
        """Until when the newest plan knew of everything: now, unless changes wait for a plan."""
        waiting = (self._planning_since_ms, self._unplanned_since_ms)
        return min((since for since in waiting if since is not None), default=self._cogs.now_ms())

    async def plan_forever(self) -> None:
        """Plan, hand over, and again."""
        empty = 0
        try:
            while True:
                await self._wait()
                try:
                    empty = 0 if await self._plan_once() else empty + 1
                    await asyncio.sleep(rest_ms(empty) / 1000)
                except PlannerLost:
                    _log.warning("the planner process died; another one is started")
                    self._changed.set()
                    await asyncio.sleep(PLANNER_RETRY_MS / 1000)
                except Refused as refused:
                    _go_on_if_store_was_away(refused)
                    self._changed.set()
                    await asyncio.sleep(STORE_RETRY_MS / 1000)
        finally:
            if self._handed_over is not None:
                self._handed_over.applied.cancel()

    async def _wait(self) -> None:
        """Until something changed; or, while jobs wait or may grow, for a while."""
        try:
            async with asyncio.timeout(
                REPLAN_MS / 1000 if self.waiting.blocked or self._may_grow else None
            ):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    async def _plan_once(self) -> bool:
        """Whether there was anything to do."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if self._planning_since_ms is None:  # Else the planner died over an earlier one.
            self._planning_since_ms = self._unplanned_since_ms
        self._unplanned_since_ms = None
        planned = await self._planned()
        self._planning_since_ms = None
        metrics = self._cogs.metrics
        metrics.plans.inc()
        metrics.plan_seconds.observe(loop.time() - began)
        self.waiting.learn(planned)
        self.planned = True
        plan = planned.plan
        self._may_grow = plan.may_grow
        if plan.is_empty():
            return False
        await self._applied()
        self._hand_over(plan)
        return True

    async def _planned(self) -> Planned:
        """The next plan: on top of the one that the writer has, where that can be."""
        cogs, before = self._cogs, self._handed_over
        if before is not None and before.is_worth_presuming():
            underway = Underway(before.plan.number, before.at_ms)
            found = await cogs.planner.plan_ahead(cogs.now_ms(), self._budget, underway)
            if isinstance(found, Planned):
                return found
        await self._applied()
        return await cogs.planner.plan(cogs.now_ms(), self._budget)

    async def _applied(self) -> None:
        """What was handed over is committed, or never will be. Raises what the writer refused."""
        before, self._handed_over = self._handed_over, None
        if before is not None:
            await before.applied

    def _hand_over(self, plan: Plan) -> None:
        now_ms = self._cogs.now_ms()
        applied = asyncio.create_task(self._apply(plan, now_ms))
        self._handed_over = _HandedOver(plan, now_ms, applied)
        if len(plan.placements) >= self._budget.placements_max:
            self._changed.set()  # There may be more to place, whether anything changes or not.

    async def _apply(self, plan: Plan, now_ms: int) -> None:
        cogs = self._cogs
        try:
            applied: Applied = await cogs.writer.write_own(
                lambda txn: cogs.control.apply_plan(txn, plan, now_ms)
            )
        except Exception:
            self._changed.set()  # So that it is heard of.
            raise
        cogs.metrics.placements.labels("kept").inc(len(applied.kept))
        cogs.metrics.placements.labels("stale").inc(len(applied.stale))
        for stale in applied.stale:
            _log.info("a placement no longer held: %s", stale.denial.detail)
        if applied.stale:
            self._changed.set()


def rest_ms(empty: int) -> int:
    """How long nothing is planned after so many plans in a row that did nothing."""
    return min(EMPTY_REST_MS * empty, EMPTY_REST_MS_MAX)


async def backfill_forever(backfill: Backfill) -> None:
    """Copies what was committed out of the store's log, so that commits need not."""
    while True:
        await asyncio.sleep(BACKFILL_MS / 1_000)
        if backfill.is_due():
            await asyncio.to_thread(backfill.copy)


async def tick_forever(cogs: Cogs) -> None:
    """Tells the control plane how late it is, and for how long each site was silent."""
    while True:
        try:
            await _tick(cogs)
        except Refused as refused:
            _go_on_if_store_was_away(refused)
        await asyncio.sleep(TICK_MS / 1000)


async def _tick(cogs: Cogs) -> None:
    known = await cogs.reader.read_own(
        lambda snapshot: tuple(entry.site.id for entry in snapshot.fleet.sites())
    )
    # A session that opens from here on says hello to the writer after this tick: no await between.
    silence_ms, present = cogs.sites.silence_ms(known), cogs.sites.connected()
    now_ms, began_boot_ms = cogs.now_ms(), cogs.sites.now_boot_ms()
    await cogs.writer.write_own(
        lambda txn: cogs.control.tick(txn, silence_ms, now_ms, present=present)
    )
    cogs.sites.led(began_boot_ms)


def _go_on_if_store_was_away(refused: Refused) -> None:
    """A database that could not be written now may be later. Any other refusal ends us, above all
    that another scheduler leads."""
    if refused.reason is not Reason.UNAVAILABLE:
        raise refused
    _log.warning("the control plane could not do its own work: %s", refused.message)
