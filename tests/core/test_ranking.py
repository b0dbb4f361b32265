"""Where a job goes: the least growth of the placement score, by a mix that is learned."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.asks import ask_of, cpu_milli_on, memory_bytes_on
from scheduler.core.fleet import FleetState
from scheduler.core.invariants import derived
from scheduler.core.mix import JOBS_MIN, LEARN_EVERY_MS
from scheduler.core.packing import NodeState, Packing, capacity_of
from scheduler.core.planner import plan
from scheduler.core.rooms import STEPS_MIN
from scheduler.core.waking import forget_rooms
from scheduler.model.ids import JobId, NodeId
from scheduler.model.plan import JobClass, MixChanged, MixEntry, Plan
from scheduler.model.residency import NodeSharing
from tests.core.builders import (
    A100,
    GIB,
    H100,
    NOW_MS,
    commit,
    fleet_of,
    gone,
    job_class,
    node,
    queued,
)
from tests.core.test_properties import walk
from tests.core.worlds import Step, starts, steps

CPU_MILLI = 64_000
STEP_MILLI = CPU_MILLI // STEPS_MIN


def share_of(milli: int, cpu_milli: int) -> JobClass:
    """A share of one GPU, with CPU in whole steps of a node's."""
    plain = job_class(sharing=NodeSharing.ANY, cpu_milli=cpu_milli, memory_bytes=GIB)
    return replace(
        plain, resources=replace(plain.resources, gpus_per_node=1, gpu_share_milli=milli)
    )


def entry(milli: int, cpu_milli: int, *, gpus: int = 1, weight: int = 1) -> MixEntry:
    return MixEntry(cpu_milli, GIB, gpus, milli, (), weight)


def one(made: Plan) -> NodeId:
    (placement,) = made.placements
    return placement.nodes[0].node


def left_on(fleet: FleetState, name: NodeId) -> NodeState:
    record = fleet.nodes[name]
    free = [milli for milli, _ in record.left.partial] + [1000] * record.left.free
    return NodeState(
        record.node.gpu_class, record.left.cpu_milli, record.left.memory_bytes, tuple(free)
    )


def least_growth(fleet: FleetState, packing: Packing, of: JobClass) -> int:
    """By looking at every node and every GPU of it."""
    ask, growths = ask_of(of), list[int]()
    for name, record in fleet.nodes.items():
        before = left_on(fleet, name)
        cpu_milli = before.cpu_milli - cpu_milli_on(ask.shape, record.node)
        memory_bytes = before.memory_bytes - memory_bytes_on(ask.shape, record.node)
        if cpu_milli < 0 or memory_bytes < 0:
            continue
        for milli in {each for each in before.free_gpu_milli if each >= ask.shape.share_milli}:
            rest = list(before.free_gpu_milli)
            rest.remove(milli)
            rest.append(milli - ask.shape.share_milli)
            after = NodeState(
                before.gpu_class,
                cpu_milli,
                memory_bytes,
                tuple(sorted(each for each in rest if each)),
            )
            growths.append(packing.score(after) - packing.score(before))
    return min(growths)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([200, 250, 400, 500, 700, 1000]), st.integers(1, 8)),
        min_size=1,
        max_size=25,
    )
)
def test_each_job_goes_where_the_score_grows_least(asked: list[tuple[int, int]]) -> None:
    nodes = [
        node("london", f"n{at}", gpus=(2, 4)[at % 2], gpu_class=(A100, H100)[at % 2])
        for at in range(6)
    ]
    mix = tuple(entry(milli, steps * STEP_MILLI) for milli, steps in asked)
    fleet = fleet_of(MixChanged(mix, NOW_MS), nodes=nodes)
    packing = Packing(mix, capacity_of(nodes))
    for number, (milli, count) in enumerate(asked, start=1):
        of = share_of(milli, count * STEP_MILLI)
        fleet.apply(queued(number, of))
        before = {name: left_on(fleet, name) for name in fleet.nodes}
        made = plan(fleet, NOW_MS)
        if not made.placements:
            fleet.apply(gone(number))
            continue
        least, name = least_growth(fleet, packing, of), one(made)
        commit(fleet, made)
        after = {name: left_on(fleet, name) for name in fleet.nodes}
        assert [each for each in before if before[each] != after[each]] == [name]
        assert packing.score(after[name]) - packing.score(before[name]) == least


def test_a_job_that_needs_much_cpu_leaves_alone_the_node_whose_gpus_it_would_strand() -> None:
    nodes = [node("london", "n1", gpus=1, cpu_milli=16_000), node("london", "n2", gpus=4)]
    of = job_class(gpus=0, cpu_milli=12_000, sharing=NodeSharing.ANY)
    usual = MixChanged((entry(1000, 16_000),), NOW_MS)
    # Best fit alone would take the node that is left with fewer GPUs.
    assert one(plan(fleet_of(queued(1, of), nodes=nodes), NOW_MS)) == "london/n1"
    roomy = [nodes[0], replace(nodes[1], cpu_milli=128_000)]
    assert one(plan(fleet_of(usual, queued(1, of), nodes=roomy), NOW_MS)) == "london/n2"


@settings(max_examples=40, deadline=None)
@given(starts(), st.lists(steps(), max_size=20))
def test_rooms_that_are_forgotten_change_nothing(begin: list[object], history: list[Step]) -> None:
    fleet = FleetState()
    fleet.apply_all(len(begin), begin)  # type: ignore[arg-type]
    for step in history:
        walk(fleet, step)
    made = plan(fleet, NOW_MS)
    facts = derived(fleet)
    forget_rooms(fleet)
    assert derived(fleet) == facts
    assert len(fleet.rooms.all) <= len(fleet.nodes)
    again = plan(fleet, NOW_MS)
    assert (again.placements, again.reservations) == (made.placements, made.reservations)


def asked_by(count: int, of: JobClass, *, start: int = 1) -> FleetState:
    return fleet_of(*(queued(start + at, of) for at in range(count)), nodes=[node("london", "n1")])


def test_a_mix_is_learned_from_what_waits_and_runs_once_a_day() -> None:
    of = job_class(gpus=2, nodes=3)
    assert plan(asked_by(JOBS_MIN - 1, of), NOW_MS).mix is None
    fleet = asked_by(JOBS_MIN, of)
    made = plan(fleet, NOW_MS)
    assert made.mix == MixChanged((MixEntry(0, 0, 2, 1000, (), 1_000_000),), NOW_MS)
    commit(fleet, made)
    assert plan(fleet, NOW_MS + LEARN_EVERY_MS - 1).mix is None
    for number in range(1, JOBS_MIN + 1):
        fleet.apply(gone(number))
    for number in range(JOBS_MIN + 1, 2 * JOBS_MIN + 1):
        fleet.apply(queued(number, job_class(gpus=1)))
    another = plan(fleet, NOW_MS + LEARN_EVERY_MS).mix
    # What was learned before counts for half.
    assert another is not None
    assert [(each.gpus, each.weight) for each in another.mix] == [(1, 500_000), (2, 500_000)]


def test_a_mix_counts_shares_and_running_jobs_and_leaves_out_those_without_gpus() -> None:
    fleet = asked_by(JOBS_MIN, share_of(250, 1000))
    commit(fleet, plan(fleet, NOW_MS))
    assert fleet.live
    fleet.apply(queued(JobId(JOBS_MIN + 1), job_class(gpus=0)))
    fleet.apply(MixChanged())
    made = plan(fleet, NOW_MS)
    assert made.mix is not None
    assert [(each.gpu_milli, each.cpu_milli, each.weight) for each in made.mix.mix] == [
        (250, 1000, 1_000_000)
    ]
