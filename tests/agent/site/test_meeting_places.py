"""Whether an attempt's nodes join their networks is one decision for all of them."""

from __future__ import annotations

from typing import Any

import pytest

from agent.node.asked import Hello
from agent.site.launch_order import Rank, starts_at_once
from agent.site.rank_specs import meeting_places


def rank(number: int, node_rank: int, local_rank: int) -> Rank:
    order: dict[str, Any] = {"rank": number, "node_rank": node_rank, "local_rank": local_rank}
    return Rank(f"job-a.1.{number}", f"n{node_rank}", order)


def hello(node: int, port: int | None = 20_000) -> Hello:
    return {"address": f"10.0.0.{node}", "overlay_port": port}


RANKS = [rank(0, 0, 0), rank(1, 0, 1), rank(2, 1, 0), rank(3, 1, 1)]


def test_nodes_meet_where_each_is_found_by_node_rank() -> None:
    hellos = {"n1": hello(1), "n0": hello(0, 20_007), "n2": hello(2)}
    assert meeting_places(RANKS, hellos) == [("10.0.0.0", 20_007), ("10.0.0.1", 20_000)]


@pytest.mark.parametrize("hellos", [{"n0": hello(0), "n1": hello(1, None)}, {"n0": hello(0)}, {}])
def test_they_do_not_if_one_of_them_cannot_or_has_not_said(hellos: dict[str, Hello]) -> None:
    assert meeting_places(RANKS, hellos) == []


def test_a_node_that_is_alone_meets_nobody() -> None:
    assert meeting_places(RANKS[:2], {"n0": hello(0)}) == []


AT_ONCE: dict[str, Any] = {
    "ranks": RANKS,
    "isolation": "uid",
    "leased": False,
    "bundle_digest": None,
}


@pytest.mark.parametrize(
    ("change", "at_once"),
    [
        pytest.param({}, True, id="a gang whose ranks have networks of their own"),
        pytest.param({"isolation": "none"}, False, id="one that meets in its nodes' network"),
        pytest.param({"isolation": "none", "ranks": RANKS[:1]}, True, id="a rank that is alone"),
        pytest.param({"leased": True}, False, id="a lease, which counts from an answer"),
        pytest.param({"bundle_digest": "0" * 64}, False, id="a bundle, which may have to travel"),
    ],
)
def test_what_needs_nothing_asked_starts_at_once(change: dict[str, Any], at_once: bool) -> None:
    assert starts_at_once({**AT_ONCE, **change}) is at_once
