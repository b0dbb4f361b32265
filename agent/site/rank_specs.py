"""What the executors of an attempt's nodes are told of each of its ranks. No Ray here."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from agent.node.asked import Hello, Prepared, RankSpec
from agent.site.launch_order import Rank


def rank_specs(
    order: Mapping[str, Any],
    ranks: Sequence[Rank],
    nodes: Sequence[tuple[str, int]],
    prepared: Mapping[str, tuple[Prepared, int]],
) -> dict[str, RankSpec]:
    """What the executors need to start each rank, by its key. `nodes`: as `meeting_places` says.
    `prepared`: the answer about each rank, and our boot time when it had come; empty for what
    starts at once.
    """
    leader = prepared[ranks[0].key][0] if prepared else None
    warn, local_world = order["signal_before_end"], Counter(rank.node for rank in ranks)
    visible: dict[str, list[int]] = defaultdict(list)
    for rank in ranks:
        visible[rank.node] += rank.order["gpus"]

    def spec(rank: Rank) -> RankSpec:
        return {
            "job_id": order["job_id"],
            "attempt": order["attempt"],
            "rank": rank.order["rank"],
            "local_rank": rank.order["local_rank"],
            "node_rank": rank.order["node_rank"],
            "world_size": len(ranks),
            "local_world_size": local_world[rank.node],
            "num_nodes": order["num_nodes"],
            "gpus_per_node": order["gpus_per_node"],
            "gpu_milli": order["gpu_milli"],
            "mig_profile": order["mig_profile"],
            "gpus": list(rank.order["gpus"]),
            "visible_gpus": visible[rank.node],
            "master_address": leader and leader["address"],
            "master_port": leader and leader["port"],
            "argv": list(order["argv"]),
            "env": dict(order["env"]),
            "bundle_digest": order["bundle_digest"],
            "image": order["image"],
            "isolation": order["isolation"],
            "grace_ms": order["grace_ms"],
            "lease_until_ms": _lease_until_ms(order, *prepared[rank.key]) if prepared else None,
            "time_limit_ms": order["time_limit_ms"],
            "signal_before_end": (warn[0], warn[1]) if warn else None,
            "egress": list(order["egress"]),
            "nodes": list(nodes),
            "ray": order["ray"],
            "grant": order["grant"],
            "inputs": [list(one) for one in order["inputs"]],
            "outputs": [list(one) for one in order["outputs"]],
            "keys": order["keys"],
        }

    return {rank.key: spec(rank) for rank in ranks}


def meeting_places(ranks: Sequence[Rank], hellos: Mapping[str, Hello]) -> list[tuple[str, int]]:
    """Where the nodes reach one another for this attempt, by node rank; nowhere, if one of them
    cannot be part of that, or is alone. `hellos`: what each node said of itself.
    """
    nodes = dict(sorted((rank.order["node_rank"], rank.node) for rank in ranks))
    found = [
        (hello["address"], hello["overlay_port"])
        for hello in map(hellos.get, nodes.values())
        if hello
    ]
    places = [(address, port) for address, port in found if port is not None]
    return places if len(places) == len(nodes) > 1 else []


def _lease_until_ms(order: Mapping[str, Any], answer: Prepared, answered_ms: int) -> int | None:
    """Until when a rank may run unless its lease is renewed, by its node's clock, which was read
    before its answer came: counted so, the lease is never longer.
    """
    if not order["leased"] or order["lease_ms"] is None:
        return None
    return answer["boot_ms"] + int(order["given_boot_ms"]) + int(order["lease_ms"]) - answered_ms
