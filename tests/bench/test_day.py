"""A day of a small fleet through the real control plane, and the queue beside it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import cast

from bench import day
from bench.day_queue import skip_ahead
from bench.day_world import drawn
from bench.worlds import shape_from

COLUMNS = "job_id,submit_s,duration_s,gpus,tenant,initial,priority,max_level"
PODS, LEAVES, NODES = 6, 2, 3


def little(tmp_path: Path) -> Path:
    """Six sites of two leaves of three nodes; one job a minute for an hour, and a few before."""
    shape = {"pods": PODS, "leaves_per_pod": LEAVES, "nodes_per_leaf": NODES, "gpus_per_node": 8}
    (tmp_path / "dev_topology.json").write_text(json.dumps(shape))
    rows = [f"{n},0,{1800 + n},{8 * (1 + n % 2)},t0,1,1,leaf" for n in range(8)]
    rows += [
        f"{100 + n},{60 * n},{300 + 7 * n},{(1, 2, 16, 24)[n % 4]},t{n % 3},0,{n % 3},leaf"
        for n in range(60)
    ]
    (tmp_path / "dev_jobs.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")
    (tmp_path / "dev_jobs.csv.gz").write_bytes(gzipped(tmp_path / "dev_jobs.csv"))
    return tmp_path


def gzipped(path: Path) -> bytes:
    """The file as the traces are."""
    return gzip.compress(path.read_bytes())


def test_a_little_day_breaks_no_promise_and_says_what_it_was_like(tmp_path: Path) -> None:
    result = day.run(little(tmp_path), hours=1)
    figures = result.figures
    assert figures["topology_violations"] == figures["residency_violations"] == 0
    assert figures["refused"] == 0
    assert cast("int", figures["placements"]) >= cast("int", figures["jobs"]) == 68
    assert 0 < cast("float", figures["utilisation"]) <= 1
    assert 0.9 < cast("float", figures["goodput"]) <= 1


def test_the_queue_beside_it_starts_what_fits_and_passes_over_what_does_not(tmp_path: Path) -> None:
    folder = little(tmp_path)
    shape = shape_from(folder)
    made = skip_ahead(drawn(folder, shape, 1, 1000).arrivals, shape, 30_000, 3_600_000)
    assert len(made.waits_ms) == 68
    assert made.used_gpu_ms <= PODS * LEAVES * NODES * 8 * 3_600_000
    assert min(wait for _, wait in made.waits_ms) >= 0
