"""Queued to placed, durable: planner, writer, audit and outbox, on a database on disk.

As in earnest: the loop that plans (`runtime.loop.Planning`), the planner in its own process, the
writer in its thread. While the writer holds one plan against the tables and commits it, the planner
makes the next. The leader has learned its fleet, as it does in its first half minute, and has named
the jobs when they were submitted.

`jobs_per_s` and `wall_jobs_per_s`: per second of a core, of both processes together, and by the
clock. `writer_us` and `planner_us`: what a placement takes of a core in the process that writes,
with all that its loop does, and in the planner's. On two free cores the slower of both is the pace.

Yardstick, in the same run: the same statements with the same rows in the same batches, done by
sqlite3 alone on a copy of the file as it was, set up alike, with nothing in between.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import shutil
import sqlite3
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from bench.heard import heard_by
from bench.record import Result
from bench.stored import CODEC, fill_shape, opened, postgresql_database, sqlite_database
from bench.worlds import NOW_MS, Shape, shape_from
from scheduler.control.control import Control
from scheduler.model.plan import Plan, PlanBudget
from scheduler.runtime.loop import BUDGET, Cogs, Planning
from scheduler.runtime.planner_process import PlannerProcess
from scheduler.runtime.reader import Reader
from scheduler.runtime.sites import Sites
from scheduler.runtime.telemetry import Metrics
from scheduler.runtime.writer import Writer
from scheduler.store.apply import Applied
from scheduler.store.dialect import SQLITE_WRITING
from scheduler.store.store import Store, Txn
from tests.shared.granting import Granting

WARM_BATCHES = 2
"""Not counted: with the first the planner begins, with the second both work side by side."""
LATER_MS = NOW_MS + 1_000

Write = tuple[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Size:
    """On how much it is measured."""

    shape: Shape
    jobs: int = 100_000
    runs: int = 5
    batches_a_run: int = 7
    batch: int = BUDGET.placements_max

    def batches(self) -> int:
        """How many plans are committed."""
        return WARM_BATCHES + self.runs * self.batches_a_run


@dataclass(slots=True)
class _Recorder:
    """What reaches the database, batch by batch."""

    batches: list[list[Write]] = field(default_factory=lambda: [])

    def heard(self, text: str, rows: Sequence[Any]) -> None:
        """A statement is about to be executed with each of `rows`."""
        if self.batches and text.startswith(("INSERT", "UPDATE", "DELETE")):
            self.batches[-1].append((text, rows))


@dataclass(frozen=True, slots=True)
class _Moment:
    """After a commit: how many are placed, and the clock's and both processes' seconds."""

    placed: int
    wall_s: float
    writer_s: float
    planner_s: float


@dataclass(frozen=True, slots=True)
class _Rates:
    """Seconds for a placement, run by run: by the clock, and of each process; what was written."""

    wall_s: list[float]
    writer_s: list[float]
    planner_s: list[float]
    batches: list[list[Write]]


def run(data: Path | None) -> Result:
    """The bench. `data`: a directory with a topology of the reference fleet's form."""
    return measure(Size(shape_from(data)))


def measure(size: Size) -> Result:
    """The bench, on so much."""
    with sqlite_database() as url:
        file = Path(url.removeprefix("sqlite:///"))
        copy = file.with_name("copy.db")
        with_queue = opened(url)
        fill_shape(with_queue, size.shape, size.jobs)
        with_queue.close()
        shutil.copy(file, copy)
        found = _place(url, size)
        alone_cpu_s, alone_wall_s = _alone(copy, found.batches, size)
    wall_s, writer_s = statistics.median(found.wall_s), statistics.median(found.writer_s)
    planner_s = statistics.median(found.planner_s)
    figures: dict[str, int | float] = {
        "jobs_per_s": round(1 / (writer_s + planner_s)),
        "wall_jobs_per_s": round(1 / wall_s),
        "writer_us": round(writer_s * 1e6, 1),
        "planner_us": round(planner_s * 1e6, 1),
    }
    with postgresql_database() as server:
        if server is not None:
            store = opened(server)
            fill_shape(store, size.shape, size.jobs)
            store.close()
            # The server's own share of a core is not in it: by the clock is what counts there.
            other_s = statistics.median(_place(server, size).wall_s)
            figures["postgresql_wall_jobs_per_s"] = round(1 / other_s)
    return Result(
        bench="place",
        figures=figures,
        yardstick={
            "sqlite_jobs_per_s": round(1 / alone_cpu_s),
            "sqlite_wall_jobs_per_s": round(1 / alone_wall_s),
        },
        ratios={
            "ratio_to_sqlite": round(alone_cpu_s / (writer_s + planner_s), 3),
            "slower_ratio_to_sqlite": round(alone_cpu_s / max(writer_s, planner_s), 3),
            "wall_ratio_to_sqlite": round(alone_wall_s / wall_s, 3),
        },
        runs=size.runs,
    )


class _Counting(Control):
    """The control plane; counts what it places, and begins a batch of `recorder` with each plan."""

    recorder: _Recorder
    placed = 0

    def apply_plan(self, txn: Txn, plan: Plan, now_ms: int) -> Applied:
        self.recorder.batches.append([])
        applied = super().apply_plan(txn, plan, now_ms)
        assert not applied.stale, f"nothing else happened, yet {applied.stale[0]}"
        self.placed += len(applied.kept)
        return applied


def _place(url: str, size: Size) -> _Rates:
    recorder = _Recorder()
    listener = heard_by(recorder.heard)
    event.listen(Engine, "do_connect", listener)
    store = opened(url)
    control = _Counting(
        codec=CODEC,
        epoch=store.epoch,
        has_bundle=lambda _tenant, _digest: True,
        granter=Granting().granter,
    )
    control.recorder = recorder
    with store.transaction() as txn:
        while txn.mirror.learn():
            pass
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        moments = asyncio.run(_placing(store, control, size))
    finally:
        gc.enable()
        gc.unfreeze()
        event.remove(Engine, "do_connect", listener)
        store.close()
    counted = moments[WARM_BATCHES - 1 :: size.batches_a_run]
    spans = [
        (
            (after.wall_s - before.wall_s) / (after.placed - before.placed),
            (after.writer_s - before.writer_s) / (after.placed - before.placed),
            (after.planner_s - before.planner_s) / (after.placed - before.placed),
        )
        for before, after in itertools.pairwise(counted)
    ]
    wall_s, writer_s, planner_s = (list(line) for line in zip(*spans, strict=True))
    return _Rates(wall_s, writer_s, planner_s, recorder.batches)


async def _placing(store: Store, control: _Counting, size: Size) -> list[_Moment]:
    """Plans and commits until enough is placed; after each commit, where we are."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    planner = PlannerProcess(store.url, restarted=lambda: None)
    moments: list[_Moment] = []
    enough = size.batches()

    def committed(_news: object) -> None:
        if len(moments) == enough:  # One more was under way when that was enough.
            return
        assert planner.pid is not None, "somebody made the plan"
        clocks = time.perf_counter(), time.process_time(), _cpu_s(planner.pid)
        moments.append(_Moment(control.placed, *clocks))
        loop.call_soon_threadsafe(planning.changed)
        if len(moments) == enough:
            loop.call_soon_threadsafe(done.set)

    writer = Writer(store, committed=committed, ended=lambda _error: None)
    reader = Reader(store)
    cogs = Cogs(
        control=control,
        writer=writer,
        reader=reader,
        planner=planner,
        sites=Sites(lambda: LATER_MS),
        metrics=Metrics("bench"),
        now_ms=lambda: LATER_MS,
    )
    planning = Planning(cogs, PlanBudget(placements_max=size.batch))
    writer.start()
    planning.changed()
    forever = asyncio.create_task(planning.plan_forever())
    ended = asyncio.create_task(done.wait())
    await asyncio.wait({forever, ended}, return_when=asyncio.FIRST_COMPLETED)
    assert ended.done(), forever.exception()
    forever.cancel()
    await asyncio.wait({forever})
    await planner.close()
    writer.close()
    reader.close()
    return moments


def _cpu_s(pid: int) -> float:
    """What a process took of a core so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _alone(file: Path, batches: Sequence[Sequence[Write]], size: Size) -> tuple[float, float]:
    """Seconds for a placement, of a core and by the clock, when sqlite3 alone writes what was
    written: medians of the runs."""
    connection = sqlite3.connect(file, isolation_level=None)
    for pragma in SQLITE_WRITING:
        connection.execute(pragma)
    cpu_s: list[float] = []
    wall_s: list[float] = []
    _write(connection, batches[:WARM_BATCHES])
    for n in range(WARM_BATCHES, size.batches(), size.batches_a_run):
        began_cpu, began_wall = time.process_time(), time.perf_counter()
        placed = _write(connection, batches[n : n + size.batches_a_run])
        cpu_s.append((time.process_time() - began_cpu) / placed)
        wall_s.append((time.perf_counter() - began_wall) / placed)
    connection.close()
    return statistics.median(cpu_s), statistics.median(wall_s)


def _write(connection: sqlite3.Connection, batches: Sequence[Sequence[Write]]) -> int:
    """Writes batches, a transaction each; how many jobs they place."""
    placed = 0
    for batch in batches:
        connection.execute("BEGIN IMMEDIATE")
        for text, rows in batch:
            connection.executemany(text, rows)
            if text.startswith("INSERT INTO attempts "):
                # Of a statement for many rows at once, each is a row of the table's columns.
                placed += len(rows) * text.count("(?")
        connection.execute("COMMIT")
    return placed
