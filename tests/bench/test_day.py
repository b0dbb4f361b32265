"""A day of a small fleet through the real control plane, and the queue beside it."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from random import Random  # noqa: TID251 (drawn from a stated seed)
from typing import cast

from bench import day
from bench.day_kinds import SHARE_MILLI, kind_of
from bench.day_queue import skip_ahead, unbound
from bench.day_world import FILL_MS, HOUR_MS, REPAIR_MS, Arrival, Day, Outage, drawn
from bench.worlds import shape_from
from scheduler.core.admission_rules import value_faults
from scheduler.model.ids import GpuClass
from scheduler.model.job import JobArray, JobKind, Resources

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
    made = skip_ahead(drawn(folder, shape, 1, 1000), 30_000, FILL_MS, FILL_MS + 3_600_000)
    assert len(made.waits_ms) == 68
    assert made.used_gpu_ms <= PODS * LEAVES * NODES * 8 * 3_600_000
    assert min(wait for _, wait in made.waits_ms) >= 0


def alone(tmp_path: Path, gpus: int, **spec: object) -> tuple[Day, Arrival]:
    """A day of one job, of an hour, that comes when the day begins; it may go anywhere."""
    folder = little(tmp_path)
    day = unbound(drawn(folder, shape_from(folder), 2, 1000))
    job = next(each for each in day.arrivals if not each.initial)
    resources = Resources(nodes=1, gpus_per_node=gpus)
    plain: dict[str, object] = {"resources": resources, "array": None, "service": None}
    wanted = replace(job.spec, **{**plain, **spec})  # type: ignore[arg-type]
    job = replace(job, at_ms=FILL_MS, gpus=gpus, runs_ms=HOUR_MS, spec=wanted, tasks=1)
    return replace(day, arrivals=(job,)), job


def used_gpu_hours(day: Day) -> float:
    made = skip_ahead(day, 30_000, FILL_MS, FILL_MS + 2 * HOUR_MS)
    return made.used_gpu_ms / HOUR_MS


def test_the_queue_keeps_to_law_models_and_power_caps(tmp_path: Path) -> None:
    day, job = alone(tmp_path, 8)
    assert used_gpu_hours(day) == 8
    abroad = replace(job.spec.residency, jurisdictions=("FR",))
    lawless = replace(job, spec=replace(job.spec, residency=abroad))
    assert used_gpu_hours(replace(day, arrivals=(lawless,))) == 0
    other = replace(job.spec.resources, gpu_classes=(GpuClass("A100"),))
    unknown = replace(job, spec=replace(job.spec, resources=other))
    assert used_gpu_hours(replace(day, arrivals=(unknown,))) == 0
    dark = tuple((replace(site, power_cap_w=1), nodes) for site, nodes in day.sites)
    assert used_gpu_hours(replace(day, sites=dark)) == 0


def test_the_queue_gives_elastic_work_what_there_is_and_the_time_that_it_takes(
    tmp_path: Path,
) -> None:
    day, job = alone(tmp_path, 8)
    elastic = replace(job.spec.resources, nodes=2, max_nodes=4)
    job = replace(job, gpus=32, spec=replace(job.spec, resources=elastic))
    day = replace(day, arrivals=(replace(job, runs_ms=HOUR_MS // 4),))
    assert used_gpu_hours(day) == 8
    small = replace(day, sites=((day.sites[0][0], day.sites[0][1][:3]),))
    assert used_gpu_hours(small) == 8
    assert used_gpu_hours(replace(small, arrivals=(replace(job, runs_ms=HOUR_MS),))) == 32


def test_the_queue_has_two_shares_of_a_gpu_and_each_task_of_an_array(tmp_path: Path) -> None:
    day, job = alone(tmp_path, 1, array=JobArray(2, 2))
    share = replace(job.spec.resources, gpu_share_milli=500)
    job = replace(job, tasks=2, gpus=1, spec=replace(job.spec, resources=share))
    node = replace(day.sites[0][1][0], gpus=1)
    day = replace(day, sites=((day.sites[0][0], (node,)),), arrivals=(job, job))
    assert used_gpu_hours(day) == 2
    made = skip_ahead(day, 30_000, FILL_MS, FILL_MS + 2 * HOUR_MS)
    assert made.waits_ms == ((1, 0), (1, HOUR_MS))


def test_kinds_are_drawn_and_their_work_is_that_of_the_trace(tmp_path: Path) -> None:
    _, job = alone(tmp_path, 1)
    gang = replace(job.spec, resources=replace(job.spec.resources, nodes=64, gpus_per_node=8))
    draw = Random(1)
    singles = [kind_of(job.spec, HOUR_MS, draw) for _ in range(4_000)]
    assert {spec.array is not None for spec, _, _ in singles} == {True, False}
    assert {spec.resources.gpu_share_milli for spec, _, _ in singles} == {SHARE_MILLI, 1000}
    assert any(spec.kind is JobKind.SERVICE for spec, _, _ in singles)
    assert all(runs * tasks == HOUR_MS for spec, runs, tasks in singles if spec.service is None)
    gangs = [kind_of(gang, HOUR_MS, draw) for _ in range(400)]
    elastic = [spec for spec, _, _ in gangs if spec.resources.max_nodes]
    assert 20 < len(elastic) < 80
    assert {(s.resources.nodes, s.resources.max_nodes) for s in elastic} == {(16, 64)}
    assert all(not list(value_faults(spec)) for spec, _, _ in (*singles, *gangs))


def test_a_node_that_fails_costs_the_queue_what_was_not_saved(tmp_path: Path) -> None:
    day, job = alone(tmp_path, 8)
    day = replace(day, sites=((day.sites[0][0], day.sites[0][1][:1]),))
    fails = Outage(FILL_MS + job.saves_every_ms + 60_000, day.sites[0][1][0])
    made = skip_ahead(
        replace(day, outages=(fails,)), 30_000, FILL_MS, FILL_MS + 2 * HOUR_MS + REPAIR_MS
    )
    assert made.used_gpu_ms == 8 * (HOUR_MS + 60_000)
