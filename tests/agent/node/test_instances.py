"""MIG instances on a node: how they are numbered, and that a rank sees its own and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.node import instances
from agent.node.collectors.readings import Gpu, MigDevice
from agent.node.executor import Executor, ExecutorError
from agent.node.instances import Names, logical, name_of, placed
from tests.agent.node.executing import KEY, facts_at, spec, start
from tests.agent.node.rig import Site

CUT = placed(
    [
        Gpu(1, "GPU-1", mig=(MigDevice("3g.40gb", "MIG-c"),)),
        Gpu(0, "GPU-0", mig=(MigDevice("3g.40gb", "MIG-b"), MigDevice("1g.10gb", "MIG-a"))),
    ]
)

GIVEN: dict[str, object] = {
    "gpus": [3],
    "visible_gpus": [3],
    "gpu_milli": 428,
    "mig_profile": "3g.40gb",
}


def test_they_are_numbered_behind_the_gpus_by_gpu_and_profile(tmp_path: Path) -> None:
    Names(tmp_path).write(2, CUT)
    assert [name_of(tmp_path, 2, "1g.10gb"), name_of(tmp_path, 3, "3g.40gb")] == ["MIG-a", "MIG-b"]
    assert name_of(tmp_path, 4, "3g.40gb") == "MIG-c"


@pytest.mark.parametrize(
    ("unit", "profile", "told"),
    [(2, "3g.40gb", "is a 1g.10gb"), (5, "3g.40gb", "is no MIG"), (0, "1g.10gb", "is no MIG")],
)
def test_another_one_than_was_granted_is_not_given(
    tmp_path: Path, unit: int, profile: str, told: str
) -> None:
    Names(tmp_path).write(2, CUT)
    with pytest.raises(LookupError, match=told):
        name_of(tmp_path, unit, profile)


def test_names_of_another_boot_are_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(tmp_path).write(2, CUT)
    monkeypatch.setattr(instances, "boot_id", lambda: "another")
    with pytest.raises(LookupError, match="since it was started"):
        name_of(tmp_path, 2, "1g.10gb")


def test_a_node_without_instances_leaves_no_file(tmp_path: Path) -> None:
    Names(tmp_path).write(8, ())
    assert list(tmp_path.iterdir()) == []


def test_names_go_when_the_instances_are_gone(tmp_path: Path) -> None:
    names = Names(tmp_path)
    names.write(2, CUT)
    names.write(2, ())
    with pytest.raises(LookupError):
        name_of(tmp_path, 2, "1g.10gb")


def test_logical_ones_are_written_short() -> None:
    made = logical("1:1x3g.40gb,0:2x1g.10gb", "s", "n")
    assert [(gpu, device.profile) for gpu, device in made] == [
        (0, "1g.10gb"), (0, "1g.10gb"), (1, "3g.40gb"),
    ]  # fmt: skip
    assert len({device.uuid for _, device in made}) == 3
    for wrong in ("0", "0:1g.10gb", "0:x1g.10gb", "0:99x1g.10gb"):
        with pytest.raises(ValueError, match="allowed"):
            logical(wrong, "s", "n")


def test_a_rank_sees_its_instance_and_no_gpu(site: Site) -> None:
    executor = Executor(facts_at(site))
    Names(executor.spool.root).write(2, CUT)
    tell = 'echo "$CUDA_VISIBLE_DEVICES $NVIDIA_VISIBLE_DEVICES $SOV_GPU_MILLI"'
    executor.prepare(KEY)
    start(executor, KEY, spec(tell, **GIVEN))
    site.end(KEY)
    assert site.log(KEY) == "MIG-b MIG-b 428\n"


def test_a_rank_whose_instance_is_not_there_does_not_start(site: Site) -> None:
    executor = Executor(facts_at(site))
    executor.prepare(KEY)
    with pytest.raises(ExecutorError, match="is no MIG instance"):
        start(executor, KEY, spec("true", **GIVEN))
