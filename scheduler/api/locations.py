"""LocationService: tells landmarks whom to measure, and takes what they state."""

from __future__ import annotations

from scheduler.api import calls
from scheduler.api.desk import Desk
from scheduler.api.server import Methods
from scheduler.control.knowing import learn
from scheduler.core.residency import country_of
from scheduler.model.ids import NodeId, site_of, slot_of
from scheduler.model.reasons import Denial, Reason, invalid
from scheduler.model.residency import NodeFact
from scheduler.runtime.locations import Locations
from scheduler.store.store import Snapshot
from sovapi.v1 import location_pb2
from sovshared import spiffe

STATEMENTS_MAX = 1_000
"""Of one report."""


class LocationService:
    """Serves landmarks."""

    def __init__(self, desk: Desk, locations: Locations) -> None:
        self._desk = desk
        self._locations = locations

    def methods(self) -> Methods:
        """What this serves."""
        return {
            "LocationService/Targets": self.targets,
            "LocationService/Report": self.report,
        }

    async def targets(
        self, _request: location_pb2.LocationTargetsRequest
    ) -> location_pb2.LocationTargetsResponse:
        """Every node that answers landmarks."""
        return location_pb2.LocationTargetsResponse(
            targets=[
                location_pb2.LocationTarget(
                    agent=spiffe.node_agent(site_of(one.node), slot_of(one.node)).path,
                    address=one.address,
                    public_key=one.public_key,
                )
                for one in self._locations.targets()
            ]
        )

    async def report(
        self, request: location_pb2.ReportLocationsRequest
    ) -> location_pb2.ReportLocationsResponse:
        """Takes what the calling landmark measured. What follows is a fact about each node."""
        if len(request.statements) > STATEMENTS_MAX:
            found = f"found {len(request.statements)}, allowed {STATEMENTS_MAX}"
            raise invalid(Denial(Reason.TOO_LARGE, found, "statements"))
        landmark = spiffe.parse_path(calls.principal().path).user
        now_ms = self._desk.now_ms()
        nodes = sorted(
            {self._locations.report(landmark, one, now_ms) for one in request.statements}
        )
        facts = await self._desk.reader.read(lambda read: self._facts(read, nodes, now_ms))
        await self._desk.writer.write(
            lambda txn: [learn(txn, node, fact, now_ms) for node, fact in facts]
        )
        return location_pb2.ReportLocationsResponse()

    def _facts(
        self, read: Snapshot, nodes: list[NodeId], now_ms: int
    ) -> list[tuple[NodeId, NodeFact]]:
        """What follows for these nodes."""
        found: list[tuple[NodeId, NodeFact]] = []
        for node in nodes:
            site = read.fleet.site(site_of(node))
            if site is None:
                continue
            fact = self._locations.fact(node, country_of(site), now_ms)
            if fact is not None:
                found.append((node, fact))
        return found
