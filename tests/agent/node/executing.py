"""Ranks as a driver asks for them, granted as the control plane grants them."""

from __future__ import annotations

import base64

from agent.node.asked import RankSpec
from agent.node.clock import wall_ms
from agent.node.executor import Executor
from agent.node.facts import NodeFacts
from sovapi.v1.sitelink_pb2 import PlacedNode
from tests.agent.node.rig import LEVELS, Site
from tests.shared.granting import Granting

KEY = "job-a.1.0"
GRANTING = Granting()


def facts_at(site: Site) -> NodeFacts:
    """What the executor of a spool knows of its node."""
    return NodeFacts(
        site="exch-a",
        slot="n01",
        trust=str(GRANTING.trust(site.root / "trust.pem")),
        spool=str(site.spool.root),
        address="127.0.0.1",
        runtime_dir="/opt/absent",
        checkpoint_root=str(site.root / "checkpoints"),
        level=LEVELS[-1],
    )


def spec(text: str = "env | sort", **more: object) -> RankSpec:
    made: RankSpec = {
        "job_id": "job-a",
        "attempt": 1,
        "rank": 0,
        "local_rank": 0,
        "node_rank": 0,
        "world_size": 2,
        "local_world_size": 1,
        "num_nodes": 2,
        "gpus_per_node": 2,
        "gpu_milli": 1000,
        "mig_profile": "",
        "gpus": [3],
        "visible_gpus": [5, 3],
        "master_address": "127.0.0.9",
        "master_port": 20_009,
        "argv": ["/bin/sh", "-c", text],
        "env": {},
        "bundle_digest": None,
        "image": "",
        "isolation": LEVELS[-1],
        "grace_ms": 1000,
        "lease_until_ms": None,
        "time_limit_ms": None,
        "signal_before_end": None,
        "egress": [],
        "nodes": [],
        "ray": False,
        "grant": "",
        "inputs": [],
        "outputs": [],
        "keys": {"secrets": {}, "sealed": {}, "ticket": ""},
    }
    made.update(more)  # type: ignore[typeddict-item]
    return made


def granted(node: NodeFacts, key: str, what: RankSpec, *, now_ms: int | None = None) -> RankSpec:
    """`what` as the control plane granted it to this node."""
    token = GRANTING.rank(
        wall_ms() if now_ms is None else now_ms,
        key=key.rpartition(".")[0],
        argv=what["argv"],
        env=what["env"],
        bundle=what["bundle_digest"] or "",
        image=what["image"],
        egress=what["egress"],
        secrets=what["keys"]["secrets"],
        place=PlacedNode(slot=node.slot, gpu_indices=range(8)),
        site=node.site,
        inputs=what["inputs"],
        outputs=what["outputs"],
    )
    made = what.copy()
    made["grant"] = base64.b64encode(token).decode()
    return made


def start(executor: Executor, key: str, what: RankSpec) -> dict[str, object]:
    """As a driver starts it, with a grant."""
    return executor.start(key, granted(executor.node, key, what))
