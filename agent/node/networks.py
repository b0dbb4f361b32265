"""Which network a rank is in, and what leads out of it.

Own: one that it has alone, or shares with its attempt's other ranks on the node and, by an overlay,
on other nodes. Shared: its node's, where the node isolates nothing, or not all nodes of the attempt
can make an overlay.
"""

from __future__ import annotations

import os

from agent.node import overlay
from agent.node.asked import RankSpec
from agent.node.launcher import Nursery
from agent.node.network import OWN, SHARED, write_hosts
from agent.node.spool import Spool
from agent.node.status import Rendezvous

MEETING_PORT = 29_500
"""Where rank 0 of a network of its own is found, unless a door of that network has this port:
torchrun's own."""


def has_own(spec: RankSpec) -> bool:
    """Whether the rank is in another network than its node's."""
    return spec["isolation"] != "none" and (spec["num_nodes"] == 1 or bool(spec["nodes"]))


def rendezvous(spec: RankSpec) -> Rendezvous | None:
    """Where rank 0 is for this one. In a network of their own all ranks know it; None where its
    node must offer a port, and has not.
    """
    if has_own(spec):
        doors = {destination.rpartition(":")[2] for destination in spec["egress"]}
        port = next(at for at in range(MEETING_PORT, 1 << 16) if str(at) not in doors)
        alone = spec["num_nodes"] == 1
        return Rendezvous(overlay.LOOPBACK if alone else overlay.address_of(0), port)
    if spec["master_address"] is None or spec["master_port"] is None:
        return None
    return Rendezvous(spec["master_address"], spec["master_port"])


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
        number = overlay.number_of(folder.name)
        meeting = {"nodes": spec["nodes"], "node_rank": spec["node_rank"], "number": number}
    if spec["local_world_size"] == 1 and not spec["egress"]:
        write_hosts(str(spool.home(key) / "hosts"), overlay.names(meeting))
        return {"network": OWN, "overlay": meeting, "hosts": "hosts"}
    plan = {"egress": spec["egress"], "ranks": spec["local_world_size"], "overlay": meeting}
    nursery.run_gate(folder, plan)
    place = os.path.relpath(folder, spool.home(key))
    return {"network": OWN, "gate": f"{place}/gate", "hosts": f"{place}/hosts"}
