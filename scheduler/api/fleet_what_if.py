"""The part of FleetService that asks what another fleet would mean."""

from __future__ import annotations

from scheduler.api.desk import Desk
from scheduler.api.server import Methods
from scheduler.api.tenant_answers import outcome_to_proto
from scheduler.control import declare
from scheduler.control.declare import Declaration
from scheduler.model.ids import SiteId
from scheduler.model.reasons import Denial, Reason, invalid
from scheduler.model.whatif import OtherFleet
from scheduler.runtime.planner_process import PlannerProcess
from scheduler.store.store import Snapshot
from scheduler.wire.fleet import site_from_proto
from sovapi.v1 import fleet_pb2

WITHOUT_MAX = 10_000
"""Sites that are left out in one question: as many as may be declared."""


class FleetWhatIf:
    """Serves operators."""

    def __init__(self, desk: Desk, planner: PlannerProcess) -> None:
        self._desk = desk
        self._planner = planner

    def methods(self) -> Methods:
        """What this serves."""
        return {"FleetService/WhatIf": self.what_if}

    async def what_if(self, request: fleet_pb2.FleetWhatIfRequest) -> fleet_pb2.FleetWhatIfResponse:
        """What the queue would do with another fleet, beside what it does."""
        desk = self._desk
        _check(request)
        asked = tuple(site_from_proto(site) for site in request.sites)
        lost = [SiteId(site) for site in request.without_sites]

        def look(snapshot: Snapshot) -> tuple[tuple[Declaration, ...], tuple[str, ...]]:
            fleet = declare.declared_without(snapshot, lost) if lost else asked
            declare.check_fleet(fleet, desk.now_ms())
            return fleet, declare.fleet_difference(declare.declared(snapshot), fleet)

        fleet, changes = await desk.reader.read(look)
        found = await self._planner.what_if(OtherFleet(fleet), desk.now_ms())
        return fleet_pb2.FleetWhatIfResponse(
            now=outcome_to_proto(found.now, desk.codec),
            then=outcome_to_proto(found.then, desk.codec),
            changes=changes,
            displaced=[
                fleet_pb2.Displaced(
                    tenant=each.tenant,
                    gpu_class=each.gpu_class,
                    held_milli=each.held_milli,
                    placed_milli=each.placed_milli,
                )
                for each in found.displaced
            ],
            nodes_assumed=found.nodes_assumed,
        )


def _check(request: fleet_pb2.FleetWhatIfRequest) -> None:
    lost = len(request.without_sites)
    if bool(request.sites) == bool(lost):
        found = "found both" if lost else "found neither"
        raise invalid(
            Denial(Reason.INVALID_ARGUMENT, f"{found}, allowed sites or without_sites", "sites")
        )
    if lost > WITHOUT_MAX:
        found = f"found {lost}, allowed {WITHOUT_MAX}"
        raise invalid(Denial(Reason.TOO_LARGE, found, "without_sites"))
