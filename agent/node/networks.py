"""Which network a rank is in, and what leads out of it.

Own: one that it has alone, or shares with its attempt's other ranks on the node and, by an overlay,
on other nodes. Shared: its node's, where the node isolates nothing, or not all nodes of the attempt
can make an overlay.
"""

from __future__ import annotations

import os
import zlib

from agent.node import overlay
from agent.node.asked import RankSpec
from agent.node.launcher import Nursery
from agent.node.network import OWN, SHARED, write_hosts
from agent.node.spool import Spool

OVERLAY_NUMBERS = 1 << 24


def has_own(spec: RankSpec) -> bool:
    """Whether the rank is in another network than its node's."""
    return spec["isolation"] != "none" and (spec["num_nodes"] == 1 or bool(spec["nodes"]))


def master_address(spec: RankSpec) -> str:
    """Where rank 0 is for this one."""
    if not has_own(spec):
        return spec["master_address"] or overlay.LOOPBACK
    return overlay.LOOPBACK if spec["num_nodes"] == 1 else overlay.address_of(0)


def own_address(spec: RankSpec, node_address: str) -> str:
    """Where the attempt's other ranks reach this one."""
    if not has_own(spec):
        return node_address
    return overlay.LOOPBACK if spec["num_nodes"] == 1 else overlay.address_of(spec["node_rank"])


def network_of(spool: Spool, key: str, spec: RankSpec, nursery: Nursery) -> dict[str, object]:
    """What the shim is told of it. A network that is shared with others, or leads somewhere, is a
    gate's, which then stands; GateFailed if it cannot. One of a rank alone is its shim's, which
    joins it to those of the other nodes.
    """
    if not has_own(spec):
        return {"network": SHARED}
    if spec["world_size"] == 1 and not spec["egress"]:
        return {"network": OWN}
    folder = spool.network(key)
    meeting: overlay.Meeting | None = None
    if spec["num_nodes"] > 1:
        number = zlib.crc32(folder.name.encode()) % OVERLAY_NUMBERS
        meeting = {"nodes": spec["nodes"], "node_rank": spec["node_rank"], "number": number}
    if spec["local_world_size"] == 1 and not spec["egress"]:
        write_hosts(str(spool.home(key) / "hosts"), overlay.names(meeting))
        return {"network": OWN, "overlay": meeting, "hosts": "hosts"}
    plan = {"egress": spec["egress"], "ranks": spec["local_world_size"], "overlay": meeting}
    nursery.run_gate(folder, plan)
    place = os.path.relpath(folder, spool.home(key))
    return {"network": OWN, "gate": f"{place}/gate", "hosts": f"{place}/hosts"}
