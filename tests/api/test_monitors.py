"""What monitors read of a real control plane, and that nobody else does."""

import json
import ssl
from collections.abc import AsyncIterator

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from scheduler.model.reasons import Reason
from scheduler.runtime.figures import NOT_PLANNED
from sovapi.v1 import (
    common_pb2,
    fleet_pb2,
    fleet_pb2_grpc,
    identity_pb2,
    identity_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    sitelink_pb2,
)
from sovshared import spiffe
from sovshared.spiffe import Name
from tests.api import world
from tests.api.control_plane import ControlPlane
from tests.api.world import OLGA, WAIT_S, FakeSite
from tests.shared import https

PROM = spiffe.parse_path("/monitor/prom")


@pytest.fixture
async def london(control_plane: ControlPlane) -> AsyncIterator[FakeSite]:
    """The world's site, connected, with two nodes that can be scraped."""
    async with control_plane.channel_as(OLGA) as olga:
        await world.declare(olga)
    site = FakeSite(control_plane)
    await site.connect(metrics_address="10.1.0.1:9445")
    site.report(nodes=2)
    site.say(
        report=sitelink_pb2.SiteReport(
            epoch=site.epoch,
            generation=site.generation,
            nodes=[
                sitelink_pb2.NodeReport(
                    slot="n01",
                    boot_id="boot-0",
                    gpu_uuids=["GPU-0"],
                    health=common_pb2.HEALTH_DEGRADED,
                    runtime_alive=True,
                    agent_connected=True,
                    metrics_address="10.1.0.2:9445",
                )
            ],
        )
    )
    yield site
    await site.close()


async def read(control_plane: ControlPlane, path: str, name: Name = PROM) -> https.Answer:
    return await https.get(control_plane.metrics_port, path, control_plane.identity(name))


async def samples(control_plane: ControlPlane) -> dict[str, float]:
    """Every sample by its name and its labels' values, in the order of the labels' names."""
    answer = await read(control_plane, "/metrics")
    assert answer.status == 200
    return {
        " ".join([sample.name, *(value for _, value in sorted(sample.labels.items()))]): (
            sample.value
        )
        for family in text_string_to_metric_families(answer.body)
        for sample in family.samples
    }


async def test_metrics_say_what_there_is(control_plane: ControlPlane, london: FakeSite) -> None:
    found = await samples(control_plane)
    while found.get(f"sov_site_nodes degraded {world.LONDON}") != 1:
        found = await samples(control_plane)  # The census is a few seconds old at most.
    assert found[f"sov_site_nodes ok {world.LONDON}"] == 1
    assert found[f"sov_site_nodes_expected {world.LONDON}"] == 2
    assert found[f"sov_site_connected {world.LONDON}"] == 1
    assert found[f"sov_site_connected {world.NARVIK}"] == 0
    assert found[f"sov_site_gpus_installed H100 {world.LONDON}"] == 8
    assert found[f"sov_tenant_gpus_limit H100 {world.RADIOLOGY}"] == 8
    assert found["sov_audit_leaves"] > 0
    for certificate in ("control-plane", "root"):
        end = found[f"sov_certificate_not_after_timestamp_seconds {certificate}"]
        assert end > found["sov_scheduler_last_cycle_timestamp_seconds"]
    assert found["sov_writer_batch_requests_count"] > 0
    assert found["process_resident_memory_bytes"] > 0


async def test_what_a_site_draws_is_shown_to_monitors_and_operators(
    control_plane: ControlPlane, london: FakeSite
) -> None:
    drawn = sitelink_pb2.SitePower(gpu_watts=5_600, nodes=2)
    london.say(heartbeat=sitelink_pb2.Heartbeat(sequence=1, power=drawn))
    found = await samples(control_plane)
    while f"sov_site_power_watts {world.LONDON}" not in found:
        found = await samples(control_plane)
    assert found[f"sov_site_power_watts {world.LONDON}"] == 5_600
    assert found[f"sov_site_power_nodes {world.LONDON}"] == 2
    assert f"sov_site_power_watts {world.NARVIK}" not in found
    async with control_plane.channel_as(OLGA) as olga:
        stub = fleet_pb2_grpc.FleetServiceStub(olga)
        listed = await stub.ListSites(fleet_pb2.ListSitesRequest(), timeout=WAIT_S)
        summed = await stub.Overview(fleet_pb2.OverviewRequest(), timeout=WAIT_S)
    for sites in (listed.sites, [each.site for each in summed.sites]):
        power = {s.id: (s.gpu_power_w, s.gpu_power_nodes) for s in sites if s.gpu_power_nodes}
        assert power == {world.LONDON: (5_600, 2)}


async def test_jobs_that_wait_are_counted_by_their_reason(control_plane: ControlPlane) -> None:
    async with control_plane.channel_as(OLGA) as olga, control_plane.channel_as(world.MAX) as max_:
        await world.declare(olga)
        more = world.spec("two", project=world.FORECAST, nodes=1, gpus_per_node=4)
        jobs = [await world.submit(max_, more) for _ in range(2)]
        found = await samples(control_plane)
        while not any(name.startswith("sov_jobs_waiting") for name in found):
            found = await samples(control_plane)
        stub = jobs_pb2_grpc.JobServiceStub(max_)
        for job in jobs:
            await stub.Cancel(jobs_pb2.CancelJobRequest(id=job.id), timeout=WAIT_S)
    assert found["sov_jobs queued"] >= 1
    assert found[f"sov_tenant_pending_gpus * {world.FORECAST}"] >= 4
    reasons = {n.split()[1] for n in found if n.startswith("sov_jobs_waiting")}
    assert reasons <= {reason.value for reason in Reason} | {NOT_PLANNED}


async def test_a_refused_call_is_counted_by_its_reason(control_plane: ControlPlane) -> None:
    key = f"sov_api_refusals_total {Reason.PERMISSION_DENIED.value}"
    before = (await samples(control_plane)).get(key, 0)
    async with control_plane.channel_as(world.ADA) as ada:
        stub = identity_pb2_grpc.IdentityServiceStub(ada)
        request = identity_pb2.RevokeRequest(name="/operator/olga", reason="mine now")
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Revoke(request, timeout=WAIT_S)
    assert (await samples(control_plane))[key] == before + 1


async def test_denied_egress_is_counted_by_its_site_and_once(control_plane: ControlPlane) -> None:
    key = f"sov_egress_denied_total {world.LONDON}"
    site = FakeSite(control_plane)
    async with control_plane.channel_as(OLGA) as olga, control_plane.channel_as(world.ADA) as ada:
        await world.declare(olga)
        await site.connect()
        site.report(nodes=2)
        job = await world.submit(ada, world.spec("curious"))
        row = await site.desires(job.id, sitelink_pb2.DESIRED_ACTION_RUN)
        before = (await samples(control_plane)).get(key, 0)
        over = world.ended(row)
        over.ranks[0].egress.denied = 4
        site.report(over, over)
        site.report(over)
        await site.desires(job.id, sitelink_pb2.DESIRED_ACTION_FORGET)
        site.report()
        while (found := await samples(control_plane)).get(key, 0) == before:
            pass  # Counted once it is committed, which is a little later than told.
    await site.close()
    assert found[key] == before + 4
    told = [name for name in found if name.startswith("sov_egress_denied")]
    assert all(name.count(" ") == 1 for name in told)  # A site, and nothing of where to.


async def test_agents_are_discovered_with_the_labels_that_were_declared(
    control_plane: ControlPlane, london: FakeSite
) -> None:
    wanted = [
        {"targets": ["10.1.0.1:9445"], "labels": {"site": world.LONDON, "role": "site"}},
        {
            "targets": ["10.1.0.2:9445"],
            "labels": {"site": world.LONDON, "slot": "n01", "role": "node"},
        },
    ]
    answer = await read(control_plane, "/sd/agents")
    while json.loads(answer.body) != wanted:
        answer = await read(control_plane, "/sd/agents")
    assert answer.headers["content-type"] == "application/json"


async def test_only_monitors_read(control_plane: ControlPlane) -> None:
    for name in (OLGA, world.ADA, spiffe.site_agent("x"), spiffe.node_agent("x", "n")):
        for path in ("/metrics", "/sd/agents"):
            assert (await read(control_plane, path, name)).status == 403
    trust = control_plane.ca.trust_pem
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await https.get(control_plane.metrics_port, "/metrics", None, trust_pem=trust)


async def test_a_revoked_monitor_reads_no_more(control_plane: ControlPlane) -> None:
    identity = control_plane.identity(spiffe.parse_path("/monitor/gone"))
    assert (await https.get(control_plane.metrics_port, "/metrics", identity)).status == 200
    async with control_plane.channel_as(OLGA) as olga:
        request = identity_pb2.RevokeRequest(name="/monitor/gone", reason="sold")
        await identity_pb2_grpc.IdentityServiceStub(olga).Revoke(request, timeout=WAIT_S)
    assert (await https.get(control_plane.metrics_port, "/metrics", identity)).status == 403
