"""Whether an attempt's nodes join their networks is one decision for all of them."""

from __future__ import annotations

from typing import Any

from agent.node.asked import Prepared
from agent.site.launch_order import Rank
from agent.site.rank_specs import meeting_places


def rank(number: int, node_rank: int, local_rank: int) -> Rank:
    order: dict[str, Any] = {"rank": number, "node_rank": node_rank, "local_rank": local_rank}
    return Rank(f"job-a.1.{number}", f"n{node_rank}", order)


def answer(port: int, overlay: bool = True) -> Prepared:
    return {
        "address": "10.0.0.1",
        "port": port,
        "has_bundle": True,
        "boot_ms": 1,
        "overlay": overlay,
    }


RANKS = [rank(0, 0, 0), rank(1, 0, 1), rank(2, 1, 0), rank(3, 1, 1)]


def test_nodes_meet_where_their_first_ranks_were_offered_a_port() -> None:
    answers = {each.key: answer(20_000 + n) for n, each in enumerate(RANKS)}
    assert meeting_places(RANKS, answers) == [("10.0.0.1", 20_000), ("10.0.0.1", 20_002)]


def test_they_do_not_if_one_of_them_cannot() -> None:
    answers = {each.key: answer(20_000 + n, overlay=n < 2) for n, each in enumerate(RANKS)}
    assert meeting_places(RANKS, answers) == []


def test_a_node_that_is_alone_meets_nobody() -> None:
    answers = {each.key: answer(20_000) for each in RANKS[:2]}
    assert meeting_places(RANKS[:2], answers) == []
