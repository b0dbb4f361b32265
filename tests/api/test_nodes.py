"""What `ListNodes` says of a node: what decides whether work may start there, not only its word."""

from __future__ import annotations

import pytest

from scheduler.api.fleet import node_health
from scheduler.model.fleet import Health, Isolation, NodeReport
from scheduler.model.ids import NodeId


def report(*, connected: bool = True, alive: bool = True, health: Health = Health.OK) -> NodeReport:
    return NodeReport(
        node=NodeId("exch-a/n01"),
        boot_id="boot",
        gpus=4,
        health=health,
        health_detail="as it says",
        isolation=Isolation.UID,
        telemetry="simulated",
        runtime_alive=alive,
        agent_connected=connected,
    )


@pytest.mark.parametrize(
    ("said", "shown", "why"),
    [
        pytest.param(None, Health.UNKNOWN, "never heard of", id="never heard of"),
        pytest.param(report(), Health.OK, "as it says", id="all well"),
        pytest.param(
            report(health=Health.DEGRADED), Health.DEGRADED, "as it says", id="its own word"
        ),
        pytest.param(
            report(connected=False), Health.UNKNOWN, "its agent is away", id="its agent is away"
        ),
        pytest.param(
            report(alive=False), Health.FAILED, "Ray does not answer for it", id="no raylet"
        ),
    ],
)
def test_a_node_that_takes_no_work_is_not_shown_as_well(
    said: NodeReport | None, shown: Health, why: str
) -> None:
    assert node_health(said) == (shown, why)
    assert (shown is Health.OK) == (said is not None and said.ready())
