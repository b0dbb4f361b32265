"""A GPU is used whole by one rank, or in parts that are no more than it is."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.node import gpu_shares
from agent.node.gpu_shares import MPS_PIPES, limits, lock_gpus


@pytest.fixture(autouse=True)
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank's home, and no waiting for a GPU that nobody lets go of."""
    home = tmp_path / "rank"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setattr(gpu_shares, "WAIT_MS", 0)


def taken(gpu: int, milli: int) -> list[int] | None:
    try:
        return lock_gpus({"gpus": [gpu], "gpu_milli": milli})
    except OSError:
        return None


def let_go(locks: list[int]) -> None:
    for fd in locks:
        os.close(fd)


def test_whole_gpus_exclude_one_another_and_every_share() -> None:
    whole = taken(0, 1000)
    assert whole is not None
    assert taken(0, 1000) is None
    assert taken(0, 1) is None
    assert taken(1, 1000) is not None
    let_go(whole)
    share = taken(0, 1)
    assert share is not None
    assert taken(0, 1000) is None
    let_go(share)
    assert taken(0, 1000) is not None


def test_a_spec_from_before_shares_is_for_whole_gpus() -> None:
    assert lock_gpus({"gpus": [0]})
    assert taken(0, 1) is None


def test_a_rank_without_gpus_holds_nothing() -> None:
    assert lock_gpus({"gpus": [], "gpu_milli": 1000}) == []


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.one_of(st.sampled_from([100, 250, 333, 500, 999]), st.just(-1)), min_size=1, max_size=20
    )
)
def test_shares_come_to_no_more_than_a_gpu_however_they_come_and_go(steps: list[int]) -> None:
    """-1: the oldest goes."""
    held: list[tuple[int, list[int]]] = []
    for step in steps:
        if step == -1:
            if held:
                let_go(held.pop(0)[1])
            continue
        fits = sum(milli for milli, _ in held) + step <= 1000
        locks = taken(7, step)
        assert (locks is not None) is fits
        if locks is not None:
            held.append((step, locks))
    for _, locks in held:
        let_go(locks)


def test_a_share_is_told_to_the_job_and_enforced_only_where_mps_runs() -> None:
    assert limits(1000, {MPS_PIPES: "pipes"}) == {"SOV_GPU_MILLI": 1000}
    assert limits(250, {}) == {"SOV_GPU_MILLI": 250}
    assert limits(255, {MPS_PIPES: "pipes"}) == {
        "SOV_GPU_MILLI": 255,
        MPS_PIPES: "pipes",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": 25,
    }
    assert limits(5, {MPS_PIPES: "pipes"})["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == 1
