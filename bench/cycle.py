"""One turn of the control plane after another, on a full fleet with a queue of a million.

Between two plans 1 % of the fleet is freed: what meets its time limit ends, so that reservations
and backfill have something to work with, and for the rest jobs end at random. A turn is: the sites
report these ends, 600 jobs are submitted, the planner follows the change log and plans, the plan
travels as it does between the two processes, and the writer commits it durably, on a database on
disk. All of it is done by the production pieces with production settings, one after the other;
minutes between turns pass in virtual time.

`planner_*`: CPU-milliseconds of one plan; `follow_*`: of following the change log before it.
`turn_*`: the whole turn by the clock, `turn_cpu_*` its share of a core. The first turns, in which
classes that nothing is known of are looked at for the first time, are not counted.

Yardstick, in the same run: as many picks from bit sets in plain Python as a turn places jobs.
"""

from __future__ import annotations

import gc
import heapq
import pickle
import random  # noqa: TID251 (drawn from a stated seed)
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from bench.busy import SEED, TURN_MS, Kind, Size, fill
from bench.plan import bit_set_picks_per_cpu_s
from bench.record import Result, median
from bench.stored import CODEC, opened, sqlite_database
from bench.worlds import NOW_MS, shape_from
from scheduler.control.admission import Asked, Rejected
from scheduler.control.control import Control
from scheduler.control.reports import Heard
from scheduler.core.planner import plan
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import AttemptKey, JobId, SiteId
from scheduler.model.job import JobState, RankCause, RankPhase, RankStatus
from scheduler.model.plan import LiveAttempt
from scheduler.model.reasons import Refused
from scheduler.model.sitelink import AttemptPhase, AttemptReport, SiteReport
from scheduler.runtime.planner_child import Follower, told
from scheduler.runtime.writer import Writer
from scheduler.store.store import ReadStore, Store, Txn
from scheduler.wire.written import written
from tests.shared.granting import Granting

TURNS, WARM_TURNS = 150, 10
SUBMITTED_A_TURN, BATCH = 600, 10
FREED_PERCENT = 1
YARDSTICK_RUNS = 5

T = TypeVar("T")


def run(data: Path | None) -> Result:
    """The bench. `data`: a directory with a topology of the reference fleet's form."""
    return measure(Size(shape_from(data)), TURNS)


def measure(size: Size, turns: int) -> Result:
    """So many turns on a fleet and a queue of this size."""
    with sqlite_database() as url:
        store = opened(url)
        try:
            found = fill(store, size)
            with _Nation(store, found) as nation:
                for _ in range(WARM_TURNS):
                    nation.turn()
                spent = [nation.turn() for _ in range(turns)]
        finally:
            store.close()
    placed = statistics.median(turn.placed for turn in spent)
    picks_per_s = median(bit_set_picks_per_cpu_s, YARDSTICK_RUNS)
    picks_ms = 1000 * placed / picks_per_s
    figures: dict[str, int | float] = {}
    for name in ("planner_ms", "follow_ms", "turn_ms", "turn_cpu_ms"):
        values = [getattr(turn, name) for turn in spent]
        short = name.removesuffix("_ms")
        figures[f"{short}_p50_ms"] = round(statistics.median(values), 1)
        figures[f"{short}_p99_ms"] = round(percentile(values, 99), 1)
    figures["placements_a_turn"] = round(placed)
    figures["reservations"] = round(statistics.median(turn.reserved for turn in spent))
    return Result(
        bench="cycle",
        figures=figures,
        yardstick={"bit_set_picks_per_cpu_s": round(picks_per_s)},
        ratios={
            "bit_sets_to_planner_p50": round(picks_ms / figures["planner_p50_ms"], 4),
            "bit_sets_to_planner_p99": round(picks_ms / figures["planner_p99_ms"], 4),
            "bit_sets_to_turn_cpu_p50": round(picks_ms / figures["turn_cpu_p50_ms"], 4),
        },
        runs=turns,
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest of `values` that so many percent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def travelled(answer: T) -> T:
    """What arrives of an answer at the other end of the planner's pipe."""
    return cast("T", pickle.loads(pickle.dumps(answer)))  # noqa: S301 (our own bytes)


@dataclass(frozen=True, slots=True)
class _Spent:
    """What one turn took, and what came of it."""

    planner_ms: float
    follow_ms: float
    turn_ms: float
    turn_cpu_ms: float
    placed: int
    reserved: int


@dataclass(slots=True)
class _Running:
    """What runs, for drawing from it: `at` finds a job in `jobs`, `due` who meets a limit when."""

    jobs: list[JobId] = field(default_factory=lambda: [])
    at: dict[JobId, int] = field(default_factory=lambda: {})
    due: list[tuple[int, JobId]] = field(default_factory=lambda: [])

    def add(self, live: LiveAttempt) -> None:
        """It holds nodes from now on."""
        job = live.placement.key.job
        self.at[job] = len(self.jobs)
        self.jobs.append(job)
        until_ms = live.placed_at_ms + live.job_class.time_limit_bucket_ms
        heapq.heappush(self.due, (until_ms, job))

    def remove(self, job: JobId) -> None:
        """It does not any more."""
        at, last = self.at.pop(job), self.jobs.pop()
        if last != job:
            self.jobs[at], self.at[last] = last, at


class _Nation:
    """The control plane's pieces, and who plays the sites and the tenants."""

    def __init__(self, store: Store, kinds: Sequence[Kind]) -> None:
        self._draw = random.Random(SEED)
        self._kinds = [(_principal(kind), written(kind.spec)) for kind in kinds]
        self._store = store
        self._now_ms = NOW_MS
        self._control = Control(
            codec=CODEC,
            epoch=store.epoch,
            has_bundle=lambda _tenant, _digest: True,
            granter=Granting().granter,
        )
        self._writer = Writer(store, committed=lambda _: None, ended=lambda _error: None)
        self._follower = Follower(ReadStore(store.url))
        self._running = _Running()
        # Placed, and not known to the planner yet.
        self._fresh: list[JobId] = []
        self._plans = 0

    def __enter__(self) -> _Nation:
        self._writer.start()
        self._follower.catch_up()
        for live in self._follower.state.live.values():
            self._running.add(live)
        gpus = sum(record.node.gpus for record in self._follower.state.nodes.values())
        self._freed_milli_min = gpus * 1000 * FREED_PERCENT // 100
        gc.disable()
        self._follower.rest()
        return self

    def __exit__(self, *_: object) -> None:
        gc.enable()
        gc.unfreeze()
        self._writer.close()

    def turn(self) -> _Spent:
        """One turn; the sites' and the tenants' part of it is made ready before."""
        self._now_ms += TURN_MS
        ended = list(self._ending())
        reports = list(self._reports(ended))
        asked = [self._submission() for _ in range(SUBMITTED_A_TURN // BATCH)]
        began, began_cpu = time.perf_counter(), time.process_time()
        self._commit(reports, asked)
        follows = time.process_time()
        self._follower.catch_up()
        plans = time.process_time()
        self._plans += 1
        made = plan(self._follower.state, self._now_ms, number=self._plans)
        planned = time.process_time()
        plain = travelled(told(made)).plan
        now_ms = self._now_ms
        applied = self._writer.post(lambda txn: self._control.apply_plan(txn, plain, now_ms))
        kept = applied.result().kept
        assert not applied.result().stale, f"nothing changed, yet {applied.result().stale[0]}"
        spent = _Spent(
            planner_ms=1000 * (planned - plans),
            follow_ms=1000 * (plans - follows),
            turn_ms=1000 * (time.perf_counter() - began),
            turn_cpu_ms=1000 * (time.process_time() - began_cpu),
            placed=len(kept),
            reserved=len(self._follower.state.reservations),
        )
        for live in ended:
            self._running.remove(live.placement.key.job)
        self._fresh += [placement.key.job for placement in kept]
        self._follower.rest()
        return spent

    def _ending(self) -> Iterator[LiveAttempt]:
        """Who ends in this turn: at their limits or as they are asked to, and some at random."""
        live, running = self._follower.state.live, self._running
        fresh, self._fresh = self._fresh, []
        for job in fresh:
            if job in live:
                running.add(live[job])
            else:
                self._fresh.append(job)
        freed_milli = 0
        ending = {job for job, each in live.items() if each.state is JobState.PREEMPTING}
        while running.due and running.due[0][0] <= self._now_ms:
            _, job = heapq.heappop(running.due)
            if job in running.at:
                ending.add(job)
        for job in sorted(ending):
            freed_milli += live[job].placement.gpu_milli
        while freed_milli < self._freed_milli_min:
            job = self._draw.choice(running.jobs)
            if job not in ending:
                ending.add(job)
                freed_milli += live[job].placement.gpu_milli
        return (live[job] for job in sorted(ending))

    def _reports(self, ended: Sequence[LiveAttempt]) -> Iterator[tuple[SiteId, SiteReport]]:
        """What the sites say of it, each in one message."""
        by_site: defaultdict[SiteId, list[AttemptReport]] = defaultdict(list)
        for live in ended:
            cause = RankCause.STOP if live.state is JobState.PREEMPTING else RankCause.EXIT
            ranks = tuple(
                RankStatus(rank, part.node, RankPhase.OVER, exit_code=0, cause=cause)
                for rank, part in enumerate(live.placement.nodes)
            )
            key: AttemptKey = live.placement.key
            report = AttemptReport(key, AttemptPhase.ENDED, ranks)
            by_site[live.placement.site].append(report)
        with self._store.read() as view:
            for site in sorted(by_site):
                held = view.fleet.contact(site).generation
                attempts = tuple(by_site[site])
                yield site, SiteReport(self._store.epoch, held, attempts, (), full=False)

    def _submission(self) -> tuple[Principal, list[Asked]]:
        principal, asked = self._draw.choice(self._kinds)
        return principal, [Asked(asked, "")] * BATCH

    def _commit(
        self,
        reports: Sequence[tuple[SiteId, SiteReport]],
        asked: Sequence[tuple[Principal, list[Asked]]],
    ) -> None:
        """What sites and tenants send, by the writer, until it is durable."""
        control, post, now_ms = self._control, self._writer.post, self._now_ms
        together: list[Future[Any]] = [
            self._writer.post_together(self._take_reports, told) for told in reports
        ]
        queued = [
            post(lambda txn, who=who, many=many: control.submit_each(txn, who, many, now_ms))
            for who, many in asked
        ]
        for future in together:
            future.result()
        for future in queued:
            for found in future.result():
                assert not isinstance(found, Refused | Rejected), found

    def _take_reports(
        self, txn: Txn, told: Sequence[tuple[SiteId, SiteReport]]
    ) -> Sequence[Heard | Refused]:
        return self._control.site_reports(txn, told, self._now_ms)


def _principal(kind: Kind) -> Principal:
    tenant = kind.spec.project
    return Principal(f"/tenant/{tenant}/user/bench", Role.TENANT, tenant)
