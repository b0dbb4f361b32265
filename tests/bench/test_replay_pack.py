"""Packing on nodes small enough to work out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.policies.phi import Phi
from bench.policies.reference import BestFit, Fgd
from bench.replay_pack import Policy, Replay, Token, replay
from bench.traces import PackNode, PackRequest, PackTrace

GIB = 1 << 30


def trace(kinds: list[PackRequest], pods: list[int], *nodes: PackNode) -> PackTrace:
    return PackTrace(nodes, tuple(kinds), tuple(pods), {"all": np.arange(len(pods))})


def node(name: str, gpus: int, model: str = "T4", cpu: int = 64_000) -> PackNode:
    return PackNode(name, cpu, 64 * GIB, gpus, model)


def share(milli: int, *models: str, cpu: int = 1000) -> PackRequest:
    return PackRequest(cpu, GIB, 1, milli, models)


def whole(gpus: int) -> PackRequest:
    return PackRequest(1000, GIB, gpus, 1000, ())


def where(token: Token | None) -> tuple[int, tuple[int, ...]] | None:
    return None if token is None else (token.node, token.gpus)


POLICIES = [Phi, Fgd, BestFit]


@pytest.mark.parametrize("make", POLICIES)
def test_a_share_joins_the_gpu_in_use(make: type[Phi]) -> None:
    world = trace([share(400), share(600)], [0, 1], node("a", 2), node("b", 2))
    here = Replay(world, make(world))
    assert where(here.place(0)) == (0, (0,))
    assert where(here.place(1)) == (0, (0,))
    assert here.fleet.free[0].tolist()[:2] == [0, 1000]


@pytest.mark.parametrize("make", POLICIES)
def test_what_does_not_fit_is_dropped_and_counted(make: type[Phi]) -> None:
    world = trace([whole(2), share(500)], [0, 0, 1], node("a", 2), node("b", 1))
    found = replay(world, world.orders["all"], Replay(world, make(world)), departures=False)
    assert (found.rejected, found.churned_pct) == (1, None)
    assert found.final_pct == pytest.approx(100 - 2500 / 30)


@pytest.mark.parametrize("make", POLICIES)
@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(share(500, "H100"), id="a model that no node has"),
        pytest.param(share(500, cpu=65_000), id="more CPU than there is"),
        pytest.param(PackRequest(1000, 65 * GIB, 1, 500, ()), id="more memory than there is"),
        pytest.param(whole(3), id="more GPUs than a node has"),
    ],
)
def test_every_dimension_must_fit(make: type[Phi], request_: PackRequest) -> None:
    world = trace([request_], [0], node("a", 2))
    assert Replay(world, make(world)).place(0) is None


def test_a_node_that_changed_is_scored_anew() -> None:
    world = trace([share(600), share(400)], [0, 1], node("a", 1), node("b", 1))
    here = Replay(world, BestFit(world))
    _, second, third = here.place(0), here.place(0), here.place(0)
    assert (where(second), third) == ((1, (0,)), None)
    assert second is not None
    here.leave(second)
    assert where(here.place(0)) == (1, (0,))


@pytest.mark.parametrize("make", POLICIES)
def test_half_of_the_placed_leave_and_all_come_again(make: type[Phi]) -> None:
    world = trace([share(600), whole(1)], [0, 0, 1], node("a", 2))
    # Two shares fill two GPUs by more than half; the earlier leaves, and a share takes its place.
    found = replay(world, world.orders["all"], Replay(world, make(world)))
    assert found.churned_pct == pytest.approx(40)


def test_the_policies_are_policies() -> None:
    world = trace([share(600)], [0], node("a", 1))
    made: list[Policy] = [make(world) for make in POLICIES]
    assert len(made) == len(POLICIES)


def test_this_directory_has_no_trace_of_anybody() -> None:
    """The project holds loaders; what they load is somebody else's."""
    root = Path(__file__).resolve().parents[2]
    assert not [path for path in (root / "bench").rglob("*") if path.suffix in (".gz", ".npz")]
