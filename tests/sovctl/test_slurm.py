"""Slurm scripts: what carries over, and what is refused by name."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from sovctl import JobSpec, SpecError
from sovctl.faults import check
from sovctl.slurm import is_batch_script, parse_batch_script

SCRIPT = b"""#!/bin/bash
#SBATCH --job-name=train --nodes=2
#SBATCH -n8 --gpus-per-node h100:4
#SBATCH -c 4 -t 1-12:30
#SBATCH --mem=64G   # per node
#SBATCH --account=trust-a/radiology
#SBATCH --output=%j.out
#SBATCH --signal=B:USR1@300 --exclusive --no-requeue
#SBATCH --dependency=afterok:job-1:job-2

echo start
srun python train.py
#SBATCH --nodes=99
"""


def test_a_script_becomes_a_job() -> None:
    script = parse_batch_script(SCRIPT, "train.sh")
    spec = check(JobSpec, script.content, "train.sh")
    assert (spec.name, spec.project) == ("train", "trust-a/radiology")
    assert (spec.resources.nodes, spec.resources.gpus_per_node) == (2, 4)
    assert (spec.resources.tasks_per_node, spec.resources.cpus_per_node) == (4, 16)
    assert spec.resources.gpu == ("H100",)
    assert spec.resources.memory_per_node == 64 << 30
    assert str(spec.time_limit) == "1 day, 12:30:00"
    assert spec.residency.node_sharing == "none"
    assert spec.retries.hardware == 0
    assert spec.signal_before_end is not None
    assert [d.job for d in spec.depends_on] == ["job-1", "job-2"]
    assert [n for n in script.notices if "--output" in n]


def test_the_script_runs_with_a_plain_srun() -> None:
    content = parse_batch_script(b"#!/bin/sh\necho one\nsrun echo two\n", "s").content
    ran = subprocess.run(content["command"], capture_output=True, text=True, check=True)
    assert ran.stdout == "one\ntwo\n"


def test_a_task_of_an_array_finds_slurms_names_for_its_number() -> None:
    script = (
        b"#!/bin/sh\n#SBATCH --array=0-9\necho $SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_TASK_COUNT\n"
    )
    command = parse_batch_script(script, "s").content["command"]
    env = {"SOV_ARRAY_INDEX": "7", "SOV_ARRAY_COUNT": "10", "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert ran.stdout == "7 of 10\n"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param("--partition=gpu", "--partition", id="a partition"),
        pytest.param("-p gpu", "--partition", id="a partition in short"),
        pytest.param("--mem-per-gpu=8G", "--mem-per-gpu", id="unknown here"),
        pytest.param("--nodes=two", "a whole number", id="no number"),
        pytest.param("--time=soon", "minutes", id="no time"),
        pytest.param("--array=1-10:2", "counted from 0", id="an array with gaps"),
        pytest.param("--export=ALL", "NONE", id="this shell's environment"),
        pytest.param("--nodes", "a value", id="no value"),
        pytest.param("--nodes=2 --ntasks=3", "multiple of --nodes", id="an uneven total"),
        pytest.param('--job-name="x', "balanced quotes", id="an open quote"),
        pytest.param("--gres=fpga:1", "gpu:COUNT", id="another resource"),
    ],
)
def test_what_has_no_counterpart_is_refused(line: str, told: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_batch_script(f"#!/bin/sh\n#SBATCH {line}\ntrue\n".encode(), "s.sh")
    assert told in str([(d.subject, d.detail) for d in caught.value.details])


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("30", 1800), ("30:15", 1815), ("2:00:00", 7200), ("1-0", 86400), ("1-2:03:04", 93784)],
)
def test_times(written: str, seconds: int) -> None:
    script = parse_batch_script(f"#!/bin/sh\n#SBATCH -t {written}\ntrue\n".encode(), "s")
    assert script.content["time_limit"] == f"{seconds}s"


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("--gres=gpu:h100:8", {"gpus_per_node": 8, "gpu": ["H100"]}),
        ("--gres=gpu:2", {"gpus_per_node": 2}),
        ("-N 2 -G 8", {"nodes": 2, "gpus_per_node": 4}),
        ("--ntasks-per-node=8", {"tasks_per_node": 8, "gpus_per_node": 0}),
    ],
)
def test_shapes(line: str, want: dict[str, Any]) -> None:
    script = parse_batch_script(f"#!/bin/sh\n#SBATCH {line}\ntrue\n".encode(), "s")
    assert script.content["resources"] == want


def test_yaml_is_no_script() -> None:
    assert not is_batch_script(b"name: x\ncommand: '#SBATCH'\n")
    assert is_batch_script(b"# comment\n#SBATCH -N 1\n")
