"""What a site agent tells Prometheus of itself: few series, made when asked from what it knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from agent.site.machine import Standing
from sovapi.v1 import common_pb2 as common
from sovapi.v1 import sitelink_pb2 as sitelink
from sovshared.grants import KINDS
from sovshared.metrics_page import MetricsPage
from sovshared.pki import CertificateFacts


def page(
    site: str,
    version: str,
    standing: Standing,
    certificate: CertificateFacts,
    driver: Callable[[], int | None],
    refusals: Mapping[str, int],
) -> bytes:
    """The page of now. `driver`: the pid of the Ray driver, if one runs. `refusals`: placements
    that were refused for want of a grant, by what was wrong with it."""
    told = MetricsPage({"site": site})
    told.family("sov_site_agent_info", "gauge", "This agent", [({"version": version}, 1)])
    told.family(
        "sov_certificate_not_after_timestamp_seconds",
        "gauge",
        "When the agent's certificate ends",
        [({}, certificate.not_after_ms // 1000)],
    )
    told.family(
        "sov_certificate_lifetime_seconds",
        "gauge",
        "Its whole life",
        [({}, (certificate.not_after_ms - certificate.not_before_ms) // 1000)],
    )
    told.family(
        "sov_site_session_up",
        "gauge",
        "The session with the control plane is open",
        [({}, int(standing.connected))],
    )
    told.family(
        "sov_site_driver_up", "gauge", "The Ray driver runs", [({}, int(driver() is not None))]
    )
    told.family(
        "sov_site_attempts",
        "gauge",
        "Attempts by phase",
        [
            ({"phase": name.removeprefix("ATTEMPT_PHASE_").lower()}, standing.attempts.get(v, 0))
            for name, v in _phases()
        ],
    )
    told.family(
        "sov_site_grants_refused_total",
        "counter",
        "Placements refused because of their grant, by what was wrong with it",
        [({"kind": kind.removeprefix("GRANT_").lower()}, refusals.get(kind, 0)) for kind in KINDS],
    )
    nodes = standing.nodes.values()
    counted = (
        ("known", "Nodes heard of", len(nodes)),
        ("agents_connected", "Whose agent is connected", sum(n.agent_connected for n in nodes)),
        ("executors_up", "Whose executor answers", sum(n.runtime_alive for n in nodes)),
        ("healthy", "That are well", sum(n.health == common.HEALTH_OK for n in nodes)),
    )
    for name, text, value in counted:
        told.family(f"sov_site_nodes_{name}", "gauge", text, [({}, value)])
    return told.text()


def _phases() -> list[tuple[str, sitelink.AttemptPhase]]:
    values = sitelink.AttemptPhase.items()
    return [(name, cast("sitelink.AttemptPhase", v)) for name, v in values if v]
