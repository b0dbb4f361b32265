"""Loaders say what is wrong with a trace: file, field, found, allowed, several faults at once."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from bench import traces
from bench.traces import BadTrace, PackRequest

JOBS = "job_id,gpus,submit_s,duration_s,restart_overhead_s\n"
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def pack_folder(folder: Path, pods: str, order: list[int]) -> Path:
    write(folder / "nodes.csv.gz", "node,cpu_milli,memory_mib,gpu,model\nn2,9,8,2,T4\nn1,7,6,0,\n")
    write(folder / "pods_own.csv.gz", PODS + pods)
    np.savez(folder / "orders_own.npz", first=np.array(order))
    return folder


def test_a_directory_that_is_not_there_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match="--data DIR"):
        traces.directory(tmp_path / "nowhere")


def test_the_environment_names_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(traces.ENVIRONMENT, str(tmp_path))
    assert traces.directory(None) == tmp_path
    assert traces.directory(tmp_path.parent) == tmp_path.parent


def test_jobs_come_in_submission_order(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv.gz", JOBS + "0,1,9.5,60,5\n1,16,0,7.25,6\n")
    jobs = traces.job_trace(path)
    assert [(job.id, job.gpus, job.submit_s, job.restart_s) for job in jobs] == [
        (1, 16, 0.0, 6.0),
        (0, 1, 9.5, 5.0),
    ]


def test_every_fault_is_told_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", JOBS + "0,0,1,1,1\n1,1,-2,1,1\n2,1,1,long,1\n3,1,1,1,1\n")
    with pytest.raises(BadTrace) as caught:
        traces.job_trace(path)
    assert [fault.split(": ", 1)[1] for fault in caught.value.faults] == [
        "gpus: found '0', allowed from 1",
        "submit_s: found '-2', allowed from 0",
        "duration_s: found 'long', allowed from 0",
    ]
    assert caught.value.faults[0].startswith(f"{path}:2: ")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "job_id,gpus,submit_s\n0,1,2\n")
    with pytest.raises(
        BadTrace, match="column duration_s is missing, found job_id, gpus, submit_s"
    ):
        traces.job_trace(path)


def test_pods_are_counted_by_kind(tmp_path: Path) -> None:
    pods = "a,5,1,1,500,T4|A10\nb,5,1,0,0,\nc,5,1,1,500,A10|T4\n"
    trace = traces.pack_trace(pack_folder(tmp_path, pods, [0, 2, 1, 0]), "own")
    assert [node.name for node in trace.nodes] == ["n1", "n2"]
    assert trace.kinds == (
        PackRequest(5, 1 << 20, 0, 0, ()),
        PackRequest(5, 1 << 20, 1, 500, ("A10", "T4")),
    )
    assert trace.pods == (1, 0, 1)
    assert traces.pack_names(tmp_path) == ("own",)


@pytest.mark.parametrize(
    ("pods", "order", "fault"),
    [
        ("a,5,1,2,500,\n", [0], "gpu_milli: found 500 on 2 GPUs, allowed 1000"),
        ("a,5,1,1,1500,\n", [0], "gpu_milli: found 1500, allowed up to 1000"),
        ("a,5,1,1,500,\n", [0, 1], "first: rows 0..1, allowed 0..0"),
    ],
)
def test_a_packing_trace_that_cannot_be(
    tmp_path: Path, pods: str, order: list[int], fault: str
) -> None:
    folder = pack_folder(tmp_path, pods, order)
    with pytest.raises(BadTrace) as caught:
        traces.pack_trace(folder, "own")
    assert caught.value.faults[0].endswith(fault)


def test_a_cluster_says_all_that_it_lacks(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", '{"nodes": 0}')
    with pytest.raises(BadTrace) as caught:
        traces.cluster(path)
    assert len(caught.value.faults) == 2


def test_a_data_set_is_a_folder_or_the_directory_itself(tmp_path: Path) -> None:
    assert traces.folder(tmp_path, "set") == tmp_path
    (tmp_path / "set").mkdir()
    assert traces.folder(tmp_path, "set") == tmp_path / "set"


def test_a_file_is_found_by_its_ending_when_it_is_the_only_one(tmp_path: Path) -> None:
    mine = write(tmp_path / "my_jobs.csv", JOBS)
    assert traces.only(tmp_path, "*jobs.csv") == mine
    write(tmp_path / "your_jobs.csv", JOBS)
    with pytest.raises(BadTrace, match="2 files are named"):
        traces.only(tmp_path, "*jobs.csv")


def test_what_nobody_published_is_not_missed(tmp_path: Path) -> None:
    assert traces.published(tmp_path / "published.csv", ("trace",), "mean") == {}
