"""Landmarks are told whom to measure, and what they state becomes a verdict that operators see."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.landmark.daemon import Daemon
from agent.landmark.prober import Landmark, Sources, Target
from agent.node.clock import boot_ms, wall_ms
from agent.node.responder import Responder
from scheduler.api import locations_file
from scheduler.api.state_files import Declarations
from scheduler.core.location import Located
from scheduler.model.ids import NodeId
from scheduler.model.reasons import Refused
from scheduler.model.residency import Assurance
from scheduler.runtime.locations import MEASUREMENT_LIFE_MS, Locations
from sovapi.v1 import audit_pb2, audit_pb2_grpc, fleet_pb2, fleet_pb2_grpc, location_pb2
from sovapi.v1.location_pb2_grpc import LocationServiceStub
from sovshared import landmarks, pki, signing, spiffe
from sovshared.landmarks import Observation
from tests.api.control_plane import ControlPlane
from tests.api.world import LONDON, OLGA, WAIT_S

NODE = f"{LONDON}/n01"
AGENT = spiffe.node_agent(LONDON, "n01").path
NODE_KEY = signing.signer_of(Ed25519PrivateKey.generate())
PLACES = (
    Landmark("docklands", "operator-a", 51_510_000, 0),
    Landmark("slough", "operator-b", 51_510_000, -600_000),
    Landmark("reading", "operator-c", 51_450_000, -970_000),
)
KEYS = {place.name: signing.signer_of(Ed25519PrivateKey.generate()) for place in PLACES}
NEAR_US = {"docklands": 341, "slough": 65, "reading": 237}
"""What the landmarks hear of a node in Slough that answers in 60 us."""


def declared(address: str = "127.0.0.1:9") -> dict[str, object]:
    return {
        "landmarks": [
            {
                "name": place.name,
                "operator": place.operator,
                "latitude": place.latitude_udeg / 1_000_000,
                "longitude": place.longitude_udeg / 1_000_000,
                "key": KEYS[place.name].public_key.hex(),
            }
            for place in PLACES
        ],
        "sites": [{"site": LONDON, "latitude": 51.51, "longitude": -0.6}],
        "nodes": [{"node": NODE, "address": address, "key": NODE_KEY.public_key.hex()}],
    }


def observation(place: Landmark, at_ms: int) -> Observation:
    return Observation(
        agent=AGENT, agent_key=NODE_KEY.public_key.hex(), answered=40, at_ms=at_ms,
        landmark=place.name, latitude_udeg=place.latitude_udeg,
        longitude_udeg=place.longitude_udeg, nonces_sha256="0" * 64, operator=place.operator,
        probes=48, rtt_min_us=NEAR_US[place.name],
    )  # fmt: skip


def statement(seen: Observation) -> bytes:
    return landmarks.stated(seen, KEYS[seen.landmark])


@pytest.fixture
def locations(tmp_path: Path) -> Locations:
    file = tmp_path / "locations.yaml"
    file.write_text(yaml.safe_dump(declared()))
    return Locations(Declarations(file, locations_file.load))


NOW_MS = 1_800_000_000_000


def test_answers_are_worth_something_for_ten_minutes(locations: Locations) -> None:
    assert locations.fact(NodeId(NODE), "GB", NOW_MS) is None, "no landmark was answered"
    for place in PLACES:
        locations.report(place.name, statement(observation(place, NOW_MS)), NOW_MS)
    found = locations.fact(NodeId(NODE), "GB", NOW_MS + 1_000)
    assert found is not None
    assert (found.values, found.assurance) == (("PROVED_IN", "GB"), Assurance.MEASURED)
    assert (found.observed_at_ms, found.expires_at_ms) == (NOW_MS, NOW_MS + MEASUREMENT_LIFE_MS)
    assert [(h.landmark, h.rtt_min_us) for h in found.heard] == [
        ("slough", 65), ("reading", 237), ("docklands", 341)
    ]  # fmt: skip
    assert found.evidence_digest.startswith("sha256:")
    assert locations.fact(NodeId(NODE), "GB", NOW_MS + MEASUREMENT_LIFE_MS + 1) is None
    assert locations.fact(NodeId("exch-b/n01"), "GB", NOW_MS) is None, "nobody measures it"


def test_two_milliseconds_more_prove_nothing_and_another_place_refutes(
    locations: Locations,
) -> None:
    for place in PLACES:
        slow = replace(observation(place, NOW_MS), rtt_min_us=NEAR_US[place.name] + 2_000)
        locations.report(place.name, statement(slow), NOW_MS)
    found = locations.fact(NodeId(NODE), "GB", NOW_MS)
    assert found is not None
    assert (found.values[0], found.assurance) == ("UNPROVED", Assurance.DECLARED)
    soon = replace(observation(PLACES[0], NOW_MS + 1), rtt_min_us=50)
    locations.report("docklands", statement(soon), NOW_MS + 1)
    found = locations.fact(NodeId(NODE), "GB", NOW_MS + 1)
    assert found is not None
    assert found.refutes()
    assert found.expires_at_ms is None
    assert "docklands" in found.detail


SLOUGH = observation(PLACES[1], NOW_MS)
STRANGER = signing.signer_of(Ed25519PrivateKey.generate())


@pytest.mark.parametrize(
    ("landmark", "stated", "why"),
    [
        pytest.param("paris", statement(SLOUGH), "not declared", id="nobody's"),
        pytest.param("docklands", statement(SLOUGH), "signature", id="another landmark's"),
        pytest.param("slough", landmarks.stated(SLOUGH, STRANGER), "signature", id="forged"),
        pytest.param(
            "slough", statement(replace(SLOUGH, latitude_udeg=1)), "position", id="moved"
        ),
        pytest.param(
            "slough", statement(replace(SLOUGH, operator="operator-a")), "operator-a",
            id="another operator's",
        ),
        pytest.param(
            "slough", statement(replace(SLOUGH, at_ms=NOW_MS - 300_000)), "at_ms", id="old"
        ),
        pytest.param(
            "slough", statement(replace(SLOUGH, agent="/site/x/node/y")), "nobody declared",
            id="of a node that nobody declared",
        ),
        pytest.param(
            "slough", statement(replace(SLOUGH, agent_key="0" * 64)), "agent_key",
            id="of another key",
        ),
    ],
)  # fmt: skip
def test_what_is_no_landmarks_own_fresh_word_counts_for_nothing(
    locations: Locations, landmark: str, stated: bytes, why: str
) -> None:
    with pytest.raises(Refused, match=why):
        locations.report(landmark, stated, NOW_MS)


def test_a_statement_counts_once(locations: Locations) -> None:
    locations.report("slough", statement(SLOUGH), NOW_MS)
    with pytest.raises(Refused, match="allowed later"):
        locations.report("slough", statement(SLOUGH), NOW_MS + 1)


def test_a_file_with_faults_names_them_and_leaves_what_was(tmp_path: Path) -> None:
    file = tmp_path / "locations.yaml"
    file.write_text(yaml.safe_dump(declared()))
    kept = Declarations(file, locations_file.load)
    file.write_text("nodes: [{node: nowhere, address: here, key: x}]\nother: 1\n")
    assert NodeId(NODE) in kept().nodes
    with pytest.raises(pki.PkiInvalid) as faults:
        locations_file.load(file)
    for field in ("nodes.0.node", "nodes.0.address", "nodes.0.key", "other"):
        assert field in str(faults.value)
    file.unlink()
    assert not kept().nodes


def daemon(control_plane: ControlPlane, place: Landmark) -> Daemon:
    def in_order(targets: Sequence[Target]) -> Sequence[Target]:
        return targets

    return Daemon(
        landmark=place,
        signer=KEYS[place.name],
        dial=lambda: control_plane.channel_as(spiffe.landmark(place.name)),
        sources=Sources(os.urandom, time.monotonic_ns, wall_ms),
        shuffled=in_order,
        every_s=1,
        probes=16,
    )


async def test_landmarks_measure_a_node_and_operators_see_where_it_is(
    control_plane: ControlPlane, ada: grpc.aio.Channel
) -> None:
    del ada  # The world is declared.
    file = control_plane.directory / "state" / "locations.yaml"
    with Responder(("127.0.0.1", 0), AGENT, NODE_KEY, boot_ms) as responder:
        # Without the site's place: all stand on this machine, and a refuted node stays closed.
        whole: dict[str, object] = {**declared(f"127.0.0.1:{responder.port}"), "sites": []}
        file.write_text(yaml.safe_dump(whole))
        for place in PLACES:
            assert await daemon(control_plane, place).round() == 1
    async with control_plane.channel_as(OLGA) as olga:
        fleet = fleet_pb2_grpc.FleetServiceStub(olga)
        listed = await fleet.ListNodes(fleet_pb2.ListNodesRequest(site=LONDON), timeout=WAIT_S)
        by_id = {node.id: node for node in listed.nodes}
        # What follows from their answers is another test's.
        assert by_id[NODE].location.verdict in set(Located)
        assert by_id[NODE].location.country == "GB"
        assert by_id[NODE].location.bound_m > 0
        [fact] = by_id[NODE].facts
        assert (fact.fact.key, fact.fact.asserted_by) == ("location", "landmarks")
        assert {hearing.landmark for hearing in fact.heard} <= {place.name for place in PLACES}
        assert not by_id[f"{LONDON}/n02"].HasField("location")
    async with control_plane.channel_as(spiffe.landmark("slough")) as slough:
        stub = LocationServiceStub(slough)
        report = location_pb2.ReportLocationsRequest(statements=[b"made up"])
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Report(report, timeout=WAIT_S)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    async with control_plane.channel_as(spiffe.parse_path("/auditor/ann")) as ann:
        audit = audit_pb2_grpc.AuditServiceStub(ann)
        leaves = await audit.ListLeaves(audit_pb2.ListLeavesRequest(), timeout=WAIT_S)
        assert any(b"node_located" in leaf.SerializeToString() for leaf in leaves.leaves)
    file.unlink()
