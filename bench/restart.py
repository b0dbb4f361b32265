"""From process start to the first placement, with a full queue and a full fleet in the store; and
what both processes then hold of memory (`python -m bench memory`).

A new process opens the store, which makes it the leader, starts the production planner process,
has it plan one job while its own first transaction sums up what is used, and commits the plan.
Yardstick, in the same run: the same interpreter starting and reading every queued row with sqlite3
alone.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from bench.record import Result
from bench.stored import fill, opened, postgresql_database, running, sqlite_database
from bench.worlds import NOW_MS
from scheduler.model.plan import PlanBudget
from scheduler.runtime.planner_process import PlannerProcess
from scheduler.store.apply import apply_plan
from scheduler.store.store import Store

RUNS = 5
QUEUED, RUNNING = 1_000_000, 100_000
LATER_MS = NOW_MS + 1_000
READ_ALL = """
import sqlite3, sys
columns = "class_id, id, submitted_at_ms, next_attempt, not_before_ms"
query = f"SELECT {columns} FROM jobs WHERE state = 1"
print(len(sqlite3.connect(sys.argv[1]).execute(query).fetchall()))
"""


def run(data: Path | None) -> Result:
    """The bench. `data`: a directory with a topology of the reference fleet's form."""
    with _loaded(data) as url:
        found = [_restart(url) for _ in range(RUNS)]
        alone_s = statistics.median(_alone_s(url) for _ in range(RUNS))
    seconds = statistics.median(seconds for seconds, _ in found)
    figures: dict[str, int | float] = {"seconds": round(seconds, 2)}
    with postgresql_database() as server:
        if server is not None:
            _load(server, data)
            other = [_restart(server)[0] for _ in range(RUNS)]
            figures["postgresql_seconds"] = round(statistics.median(other), 2)
    return Result(
        bench="restart",
        figures=figures,
        yardstick={"sqlite_seconds": round(alone_s, 2)},
        ratios={"sqlite_to_restart": round(alone_s / seconds, 3)},
        runs=RUNS,
    )


def run_memory(data: Path | None) -> Result:
    """Resident memory of the process that leads and of its planner, after a restart and a plan."""
    with _loaded(data) as url:
        found = [_restart(url)[1] for _ in range(RUNS)]
    ids_mib = QUEUED * 8 / (1 << 20)
    both = statistics.median(writer + planner for writer, planner in found)
    return Result(
        bench="memory",
        figures={
            "rss_mib": round(both, 1),
            "writer_rss_mib": round(statistics.median(writer for writer, _ in found), 1),
            "planner_rss_mib": round(statistics.median(planner for _, planner in found), 1),
        },
        yardstick={"queued_ids_mib": round(ids_mib, 1)},
        ratios={"ids_to_rss": round(ids_mib / both, 4)},
        runs=RUNS,
    )


@contextmanager
def _loaded(data: Path | None) -> Generator[str]:
    with sqlite_database() as url:
        _load(url, data)
        yield url


def _load(url: str, data: Path | None) -> None:
    store = opened(url)
    fill(store, data, QUEUED)
    running(store, RUNNING)
    store.close()


def _restart(url: str) -> tuple[float, tuple[float, float]]:
    """Seconds until a job is placed, and MiB of the writing process and of the planner."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "bench.restart", url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    placed_s, writer_mib, planner_mib = map(float, done.stdout.split())
    return placed_s - began, (writer_mib, planner_mib)


def _alone_s(url: str) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-c", READ_ALL, url.removeprefix("sqlite:///")]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


async def _first_placement(store: Store, url: str) -> tuple[float, float, float]:
    """When the first job was placed, and what both processes hold then."""
    planner = PlannerProcess(url, restarted=lambda: None)
    planning = asyncio.create_task(planner.plan(LATER_MS, PlanBudget(placements_max=1)))
    await asyncio.to_thread(_tick, store)
    made = await planning
    with store.transaction() as txn, txn.savepoint():
        assert len(apply_plan(txn, made.plan, LATER_MS).kept) == 1, "nothing was placed"
    placed_s = time.perf_counter()
    assert planner.pid is not None
    sizes = _rss_mib(os.getpid()), _rss_mib(planner.pid)
    await planner.close()
    return placed_s, *sizes


def _tick(store: Store) -> None:
    """The first transaction of a new leader, which sums up what is used: while the planner loads,
    as in earnest."""
    with store.transaction() as txn:
        txn.ledger()


def _rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def main() -> None:
    """The process that is started anew: `python -m bench.restart URL`."""
    url = sys.argv[1]
    store = opened(url)
    found = asyncio.run(_first_placement(store, url))
    store.close()
    sys.stdout.write(" ".join(str(value) for value in found) + "\n")


if __name__ == "__main__":
    main()
