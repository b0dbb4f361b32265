"""Grants for launches that go to a Ray driver without a control plane before it."""

from __future__ import annotations

import base64
from collections import defaultdict
from dataclasses import replace

from agent.node.clock import wall_ms
from agent.site.executor import LaunchOrder
from sovapi.v1.sitelink_pb2 import Launch, PlacedNode
from tests.shared.granting import Granting

SITE = "exch-a"
GRANTING = Granting()


def granted(order: LaunchOrder) -> LaunchOrder:
    """`order`, with a grant of what it asks for on the nodes that it names."""
    gpus: defaultdict[str, set[int]] = defaultdict(set)
    for rank in order.ranks:
        gpus[rank.node] |= set(rank.gpus)
    launch = Launch(
        command=order.argv,
        env=dict(order.env),
        bundle_digest=order.bundle_digest or "",
        nodes=[PlacedNode(slot=slot, gpu_indices=sorted(gpus[slot])) for slot in sorted(gpus)],
    )
    token = GRANTING.launch(launch, wall_ms(), key=order.key, site=SITE).grant
    return replace(order, grant=base64.b64encode(token).decode())
