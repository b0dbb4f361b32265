"""The small parts: GPU choice, sharing, domains, recovery."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.asks import Shape
from scheduler.core.layout import Layout, bits
from scheduler.core.occupancy import Occupant, joinable_views, may_join, views_of
from scheduler.core.recovery import (
    LAPSE_AFTER_MS,
    Gone,
    fenced,
    lapsed_leases,
    over_with,
    rebooted,
    struck_by,
)
from scheduler.core.scoring import choose_gpus
from scheduler.core.topology import compact, tightest
from scheduler.model.fleet import CpuArch, Interconnect
from scheduler.model.ids import JobId, NodeId, SiteId, TenantPath
from scheduler.model.job import Job, JobState, OnPartition, TopologyLevel
from scheduler.model.reasons import Reason
from scheduler.model.residency import NodeSharing
from tests.core.builders import node, spec
from tests.core.test_lifecycle import job


@pytest.mark.parametrize(
    ("free", "count", "want"),
    [
        pytest.param(0b1111_1111, 1, 0b1, id="the first of an empty node"),
        pytest.param(0b1111_1110, 1, 0b10, id="the partner of one in use"),
        pytest.param(0b1111_1110, 2, 0b1100, id="a whole pair, in the half that is broken"),
        pytest.param(0b1111_1100, 4, 0b1111_0000, id="a whole half"),
        pytest.param(0b0111_0111, 3, 0b0111, id="three in one half"),
        pytest.param(0b0101_0101, 2, 0b0101, id="two in one half when no pair is whole"),
        pytest.param(0b1001_1001, 4, 0b1001_1001, id="what there is"),
        pytest.param(0b1111, 0, 0, id="none for a CPU job"),
    ],
)
def test_gpus_are_chosen_close_together(free: int, count: int, want: int) -> None:
    assert choose_gpus(free, count) == want


@given(st.integers(0, (1 << 64) - 1), st.integers(0, 64))
def test_the_gpus_chosen_are_free_and_as_many_as_asked(free: int, count: int) -> None:
    if count > free.bit_count():
        return
    chosen = choose_gpus(free, count)
    assert chosen & ~free == 0
    assert chosen.bit_count() == count


SHAPE = Shape(1, 0, 0, CpuArch.ANY, Interconnect.ANY)
organisations = st.sampled_from([TenantPath("a"), TenantPath("b")])
sharings = st.sampled_from(list(NodeSharing))
occupants = st.lists(st.tuples(sharings, organisations), max_size=3).map(
    lambda pairs: [
        Occupant(JobId(n), 1 << n, SHAPE, sharing, organisation, 0)
        for n, (sharing, organisation) in enumerate(pairs)
    ]
)


@given(sharings, organisations, occupants)
def test_views_say_what_the_sharing_rule_says(
    sharing: NodeSharing, organisation: TenantPath, beside: list[Occupant]
) -> None:
    lawful = all(
        may_join(o.sharing, o.organisation, [p for p in beside if p is not o]) for o in beside
    )
    if not lawful:
        return  # Such a node cannot come about.
    seen = set(views_of(beside)) & set(joinable_views(sharing, organisation))
    want = sharing is not NodeSharing.UNSPECIFIED and may_join(sharing, organisation, beside)
    assert bool(seen) == want


def layout() -> Layout:
    return Layout(
        node("london", f"{pod}{leaf}{n}", pod=pod, leaf=leaf)
        for pod in "pq"
        for leaf in "xyz"
        for n in range(4)
    )


def pick_lowest(nodes: int, count: int) -> int:
    return sum(1 << at for at in list(bits(nodes))[:count])


@given(st.integers(0, (1 << 24) - 1), st.integers(2, 24), st.sampled_from(list(TopologyLevel)[2:]))
def test_a_gang_gets_its_nodes_in_the_closest_domain_or_none(
    nodes: int, count: int, loosest: TopologyLevel
) -> None:
    of = layout()
    found = tightest(of, nodes, count, loosest)
    fitting = [
        (level, (nodes & domain).bit_count())
        for level in TopologyLevel
        if TopologyLevel.NVLINK <= level <= loosest
        for domain in of.domains[level]
        if (nodes & domain).bit_count() >= count
    ]
    if found is None:
        assert fitting == []
        return
    level, domain = found
    assert (level, domain.bit_count()) == min(fitting)
    chosen = compact(of, domain, count, level, pick_lowest)
    assert chosen.bit_count() == count
    assert chosen & ~nodes == 0


def test_a_large_gang_takes_whole_leaves_before_pieces() -> None:
    of = layout()
    everything = of.all & ~0b1  # One node of the first leaf is taken.
    level, domain = tightest(of, everything, 8, TopologyLevel.SITE) or (None, 0)
    assert level is TopologyLevel.POD
    chosen = compact(of, domain, 8, TopologyLevel.POD, pick_lowest)
    assert [(chosen & leaf).bit_count() for leaf in of.domains[TopologyLevel.LEAF]] == [
        0, 4, 4, 0, 0, 0,
    ]  # fmt: skip


LEASED = replace(job(), spec=spec(on_partition=OnPartition.REQUEUE))
LONDON = SiteId("london")
N1, N2 = NodeId("london/n1"), NodeId("london/n2")


@pytest.mark.parametrize(
    ("of", "silent_ms", "over"),
    [
        pytest.param(LEASED, LAPSE_AFTER_MS + 1, True, id="a lease lapses after its whole time"),
        pytest.param(LEASED, LAPSE_AFTER_MS, False, id="and not before"),
        pytest.param(LEASED, None, False, id="a site whose silence is not known is waited for"),
        pytest.param(job(), 1 << 60, False, id="work without a lease is waited for, however long"),
        pytest.param(replace(LEASED, state=JobState.QUEUED), 1 << 60, False,
                     id="what is queued holds no lease"),
        pytest.param(replace(LEASED, state=JobState.LOST), LAPSE_AFTER_MS + 1, True,
                     id="what was lost lapses"),
        pytest.param(replace(LEASED, spec=None), 1 << 60, False,
                     id="an erased spec is not presumed to be leased"),
    ],
)  # fmt: skip
def test_leases_lapse(of: Job, silent_ms: int | None, over: bool) -> None:
    silence = {} if silent_ms is None else {LONDON: silent_ms}
    found = lapsed_leases([of], silence)
    assert [each.reason for each in found] == ([Reason.LEASE_LAPSED] if over else [])


def test_an_attempt_is_over_when_all_its_nodes_are_gone() -> None:
    gone = {N1: fenced(N1, "operator/eve")}
    assert over_with([job()], gone) == ()
    assert struck_by([job()], gone) == (job().attempts[-1].key,)
    proof = rebooted(N2, "old", "new")
    assert isinstance(proof, Gone)
    (over,) = over_with([job()], {**gone, N2: proof})
    assert (over.key, over.reason) == (job().attempts[-1].key, Reason.OPERATOR_FENCE)
    assert struck_by([job()], {**gone, N2: proof}) == ()
    assert over_with([job(JobState.SUCCEEDED)], {**gone, N2: proof}) == ()


@pytest.mark.parametrize(("old", "new"), [("", "b"), ("b", ""), ("b", "b")])
def test_a_boot_that_was_not_seen_to_change_proves_nothing(old: str, new: str) -> None:
    assert rebooted(N1, old, new) is None
