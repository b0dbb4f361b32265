"""The part of FleetService that is about what lies outside the home zone."""

from __future__ import annotations

import re
from collections.abc import Callable

from scheduler.api.desk import Desk
from scheduler.api.server import Methods
from scheduler.control import outside
from scheduler.model.login import Providers
from scheduler.model.reasons import Denial, Reason, invalid
from scheduler.wire.outside import dependency_to_proto
from sovapi.v1 import fleet_pb2

HOME_MAX = 250
"""Countries of a home zone: there are no more."""

_COUNTRY = re.compile(r"[A-Z]{2}")


class OutsideCalls:
    """Serves operators, and lets auditors look."""

    def __init__(self, desk: Desk, providers: Callable[[], Providers]) -> None:
        self._desk = desk
        self._providers = providers

    def methods(self) -> Methods:
        """What this serves."""
        return {"FleetService/ListDependencies": self.list}

    async def list(
        self, request: fleet_pb2.ListDependenciesRequest
    ) -> fleet_pb2.ListDependenciesResponse:
        """What the running system would ever contact outside the home zone."""
        home = frozenset(request.home) or outside.HOME
        if len(request.home) > HOME_MAX:
            found = f"found {len(request.home)}, allowed {HOME_MAX}"
            raise invalid(Denial(Reason.TOO_LARGE, found, "home"))
        faults = [
            Denial(Reason.INVALID_ARGUMENT, f"found {each[:64]!r}, allowed ISO alpha-2", "home")
            for each in sorted(home)
            if not _COUNTRY.fullmatch(each)
        ]
        if faults:
            raise invalid(*faults)
        providers = self._providers()
        found = await self._desk.reader.read(
            lambda snapshot: outside.listed(snapshot, providers, home)
        )
        return fleet_pb2.ListDependenciesResponse(
            dependencies=[dependency_to_proto(each) for each in found]
        )
