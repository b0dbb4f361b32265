"""The placement score: what fits well costs little, and what is left over can be used."""

from __future__ import annotations

import random  # noqa: TID251 (drawn from a stated seed)
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.cutting import GPU_MILLI, SCALE, values
from scheduler.core.packing import Capacity, NodeState, Packing
from scheduler.model.ids import GpuClass
from scheduler.model.plan import MixEntry

T4, H100 = GpuClass("T4"), GpuClass("H100")
GIB = 1 << 30
sizes = st.integers(1, 20).map(lambda n: n * 50)
demands = st.dictionaries(sizes, st.integers(1, 500), min_size=1, max_size=8)


def entry(
    milli: int, *, cpu: int = 4000, weight: int = 1, classes: tuple[GpuClass, ...] = ()
) -> MixEntry:
    return MixEntry(cpu, GIB, 1, milli, classes, weight)


def node(*free: int, cpu: int = 96_000, gpu_class: GpuClass = T4) -> NodeState:
    return NodeState(gpu_class, cpu, 64 * GIB, tuple(sorted(free)))


def test_what_is_asked_for_leaves_nothing_of_what_it_fills() -> None:
    worth = values({500: 10, 1000: 10}, gpus=20)
    assert worth[500] == 500 * SCALE
    assert worth[1000] == 1000 * SCALE
    assert worth[499] == 0


def test_a_leftover_that_nothing_fits_is_worth_nothing() -> None:
    worth = values({800: 100}, gpus=100)
    assert worth[799] == 0
    assert worth[800] == worth[1000] == 800 * SCALE


def test_without_demand_or_without_gpus_nothing_is_worth_anything() -> None:
    assert not any(values({}, gpus=10))
    assert not any(values({500: 1}, gpus=0))


@given(demands)
def test_the_worth_grows_with_the_leftover_and_never_passes_it(demand: dict[int, int]) -> None:
    worth = values(demand, gpus=100)
    assert worth[0] == 0
    assert all(low <= high for low, high in pairwise(worth))
    # Half a thousandth of a GPU-milli a request: the prices are rounded.
    assert all(value <= room * SCALE + GPU_MILLI for room, value in enumerate(worth))


@given(demands)
def test_two_leftovers_are_worth_no_more_than_one_of_their_size(demand: dict[int, int]) -> None:
    worth = values(demand, gpus=100)
    for left, right in product(range(0, GPU_MILLI + 1, 50), repeat=2):
        if left + right <= GPU_MILLI:
            assert worth[left] + worth[right] <= worth[left + right]


def test_the_order_in_which_the_mix_is_told_decides_nothing() -> None:
    mix = [entry(milli, cpu=cpu) for milli in (160, 470, 810, 1000) for cpu in (2000, 9000)]
    shuffled = list(mix)
    random.Random(7).shuffle(shuffled)
    one, other = Packing(mix, Capacity({T4: 64_000})), Packing(shuffled, Capacity({T4: 64_000}))
    states = [
        node(a, b, 1000, cpu=cpu) for a in (0, 160, 530) for b in (190, 1000) for cpu in (0, 9)
    ]
    assert [one.score(state) for state in states] == [other.score(state) for state in states]


def test_a_share_goes_where_it_leaves_what_others_can_use() -> None:
    packing = Packing([entry(470), entry(530)], Capacity({T4: 64_000}))
    started = node(470, 1000)
    fills = packing.score(node(0, 1000)) - packing.score(started)
    breaks = packing.score(node(470, 530)) - packing.score(started)
    assert fills < breaks


def test_gpus_without_cpu_cost() -> None:
    packing = Packing([entry(1000, cpu=10_000)], Capacity({T4: 64_000}))
    assert packing.score(node(1000, 1000, cpu=0)) > packing.score(node(1000, 1000, cpu=18_000))
    assert packing.score(node(1000, 1000, cpu=18_000)) == packing.score(
        node(1000, 1000, cpu=90_000)
    )


def test_memory_that_nothing_fits_in_is_fragmentation() -> None:
    packing = Packing([entry(1000)], Capacity({T4: 64_000}))
    cramped = NodeState(T4, 96_000, GIB - 1, (1000,))
    assert packing.score(cramped) - packing.score(node(1000)) == 100 * SCALE


def test_a_wanted_class_is_kept_for_those_who_name_it() -> None:
    mix = [entry(1000, weight=5), entry(1000, weight=5, classes=(H100,))]
    packing = Packing(mix, Capacity({T4: 32_000, H100: 32_000}))
    on_t4 = packing.score(node(0)) - packing.score(node(1000))
    on_h100 = packing.score(node(0, gpu_class=H100)) - packing.score(node(1000, gpu_class=H100))
    assert on_t4 < on_h100


def test_nobody_who_names_no_class_presses_on_any() -> None:
    packing = Packing([entry(1000), entry(500)], Capacity({T4: 32_000, H100: 8_000}))
    assert packing.score(node(1000)) == packing.score(node(1000, gpu_class=H100))


@pytest.mark.parametrize("state", [node(), node(0, 0), node(0, cpu=0)])
def test_a_full_node_scores_nothing(state: NodeState) -> None:
    assert Packing([entry(500)], Capacity({T4: 8_000})).score(state) == 0


def test_an_empty_mix_has_no_opinion_but_that_nothing_is_of_use() -> None:
    packing = Packing([], Capacity({T4: 8_000}))
    assert packing.score(node(1000)) > packing.score(node(500)) > packing.score(node(0))
