"""What a site agent tells monitors of itself."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from agent.site import exporter
from agent.site.machine import Standing
from sovapi.v1 import common_pb2 as common
from sovapi.v1 import sitelink_pb2 as sitelink
from sovapi.v1.sitelink_pb2 import NodeReport
from tests.shared.ca import TestCa


def test_the_page_counts_sessions_attempts_and_nodes() -> None:
    standing = Standing(
        connected=True,
        attempts={sitelink.ATTEMPT_PHASE_RUNNING: 3},
        nodes={
            "n01": NodeReport(health=common.HEALTH_OK, runtime_alive=True, agent_connected=True),
            "n02": NodeReport(health=common.HEALTH_FAILED, agent_connected=True),
        },
    )
    facts = TestCa().control_plane().facts()
    page = exporter.page(
        "exch-a", "1.0", standing, facts, lambda: None, {"GRANT_STALE": 2}
    ).decode()
    found = {
        (sample.name, sample.labels.get("phase", "")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.labels["site"] == "exch-a"
    }
    assert found["sov_site_session_up", ""] == 1
    assert found["sov_site_driver_up", ""] == 0
    assert found["sov_site_attempts", "running"] == 3
    assert found["sov_site_attempts", "lost"] == 0
    assert found["sov_site_nodes_known", ""] == 2
    assert found["sov_site_nodes_agents_connected", ""] == 2
    assert found["sov_site_nodes_executors_up", ""] == 1
    assert found["sov_site_nodes_healthy", ""] == 1
    assert 'sov_site_grants_refused_total{site="exch-a",kind="stale"} 2' in page
    assert 'sov_site_grants_refused_total{site="exch-a",kind="forged"} 0' in page
    assert found["sov_certificate_lifetime_seconds", ""] > 0
