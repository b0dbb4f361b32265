"""Queued to placed, durable: planner, writer, audit and outbox, on a database on disk.

The production planner follows the store's change log, plans a batch, the writer holds it against
the tables and commits it, and the planner follows again: one after the other, in this process.

Yardstick, in the same run: the same statements with the same rows in the same batches, done by
sqlite3 alone on a copy of the file as it was, set up alike, with nothing in between. Rates are per
second on a core, so that a busy machine counts for both alike; `wall_` ones are by the clock.
"""

from __future__ import annotations

import gc
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
from bench.stored import fill, opened, postgresql_database, sqlite_database
from bench.worlds import NOW_MS
from scheduler.core.planner import plan
from scheduler.model.plan import PlanBudget
from scheduler.runtime.planner_child import Follower
from scheduler.store.apply import apply_plan
from scheduler.store.dialect import SQLITE_WRITING
from scheduler.store.store import ReadStore, Store

RUNS, BATCHES_A_RUN, BATCH = 5, 8, 1_000
JOBS = 100_000
LATER_MS = NOW_MS + 1_000

Write = tuple[str, Sequence[Any]]


@dataclass(slots=True)
class _Recorder:
    """What reaches the database, batch by batch."""

    batches: list[list[Write]] = field(default_factory=lambda: [])

    def heard(self, text: str, rows: Sequence[Any]) -> None:
        """A statement is about to be executed with each of `rows`."""
        if self.batches and text.startswith(("INSERT", "UPDATE", "DELETE")):
            self.batches[-1].append((text, rows))


@dataclass(frozen=True, slots=True)
class _Rates:
    """Jobs per second on a core and by the clock, run by run; and what was written."""

    cpu: list[float]
    wall: list[float]
    planner_share: float
    batches: list[list[Write]]


def run(data: Path | None) -> Result:
    """The bench. `data`: a directory with a topology of the reference fleet's form."""
    with sqlite_database() as url:
        file = Path(url.removeprefix("sqlite:///"))
        copy = file.with_name("copy.db")
        with_queue = opened(url)
        fill(with_queue, data, JOBS)
        with_queue.close()
        shutil.copy(file, copy)
        found = _place(url)
        alone = _alone(copy, found.batches)
    figures: dict[str, int | float] = {
        "jobs_per_s": round(statistics.median(found.cpu)),
        "wall_jobs_per_s": round(statistics.median(found.wall)),
        "planner_share": round(found.planner_share, 2),
    }
    with postgresql_database() as server:
        if server is not None:
            store = opened(server)
            fill(store, data, JOBS)
            store.close()
            other = _place(server)
            # The server's own share of a core is not in it: by the clock is what counts there.
            figures["postgresql_wall_jobs_per_s"] = round(statistics.median(other.wall))
    return Result(
        bench="place",
        figures=figures,
        yardstick={"sqlite_jobs_per_s": round(statistics.median(alone))},
        ratios={
            "ratio_to_sqlite": round(statistics.median(found.cpu) / statistics.median(alone), 3)
        },
        runs=RUNS,
    )


def _place(url: str) -> _Rates:
    recorder = _Recorder()
    listener = heard_by(recorder.heard)
    event.listen(Engine, "do_connect", listener)
    store = opened(url)
    follower = Follower(ReadStore(store.url))
    follower.catch_up()
    gc.collect()
    gc.freeze()
    gc.disable()
    cpu: list[float] = []
    wall: list[float] = []
    planner_s = all_s = 0.0
    try:
        for _ in range(RUNS):
            began_cpu, began_wall, placed = time.process_time(), time.perf_counter(), 0
            for _ in range(BATCHES_A_RUN):
                recorder.batches.append([])
                kept, planned_s = _turn(store, follower, len(recorder.batches))
                placed += kept
                planner_s += planned_s
            spent = time.process_time() - began_cpu
            all_s += spent
            cpu.append(placed / spent)
            wall.append(placed / (time.perf_counter() - began_wall))
            gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()
        event.remove(Engine, "do_connect", listener)
        store.close()
    return _Rates(cpu, wall, planner_s / all_s, recorder.batches)


def _turn(store: Store, follower: Follower, number: int) -> tuple[int, float]:
    """Plans, commits and follows; how many were placed, and the planner's CPU-seconds."""
    began = time.process_time()
    made = plan(follower.state, LATER_MS, PlanBudget(placements_max=BATCH), number)
    planned = time.process_time()
    with store.transaction() as txn, txn.savepoint():
        applied = apply_plan(txn, made, LATER_MS)
    assert not applied.stale, f"nothing changed meanwhile, yet {applied.stale[0]}"
    committed = time.process_time()
    follower.catch_up()
    return len(applied.kept), planned - began + time.process_time() - committed


def _alone(file: Path, batches: Sequence[Sequence[Write]]) -> list[float]:
    """Jobs per CPU-second, when sqlite3 alone writes what was written."""
    connection = sqlite3.connect(file, isolation_level=None)
    for pragma in SQLITE_WRITING:
        connection.execute(pragma)
    rates: list[float] = []
    for n in range(0, len(batches), BATCHES_A_RUN):
        began, placed = time.process_time(), 0
        for batch in batches[n : n + BATCHES_A_RUN]:
            connection.execute("BEGIN IMMEDIATE")
            for text, rows in batch:
                connection.executemany(text, rows)
                if text.startswith("INSERT INTO attempts "):
                    # Of a statement for many rows at once, each is a row of the table's columns.
                    placed += len(rows) * text.count("(?")
            connection.execute("COMMIT")
        rates.append(placed / (time.process_time() - began))
    connection.close()
    return rates
