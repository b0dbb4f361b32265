"""The part of FleetService that is about windows of time."""

from __future__ import annotations

from scheduler.api import calls, pages
from scheduler.api.desk import Desk
from scheduler.api.server import Methods
from scheduler.model.window import WindowKind
from scheduler.wire.enums import known
from scheduler.wire.windows import window_from_proto, window_to_proto
from sovapi.v1 import fleet_pb2

WINDOWS_KIND = "windows"


class WindowCalls:
    """Serves operators."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def methods(self) -> Methods:
        """What this serves."""
        return {
            "FleetService/AddMaintenance": self.add,
            "FleetService/ListMaintenance": self.list,
            "FleetService/RemoveMaintenance": self.remove,
        }

    async def add(
        self, request: fleet_pb2.AddMaintenanceRequest
    ) -> fleet_pb2.AddMaintenanceResponse:
        """Takes nodes out of the common pool for a time."""
        desk, principal, now_ms = self._desk, calls.principal(), self._desk.now_ms()
        asked = window_from_proto(request.window, now_ms)
        window = await desk.writer.write(
            lambda txn: desk.control.add_window(txn, principal, asked, now_ms)
        )
        return fleet_pb2.AddMaintenanceResponse(window=window_to_proto(window))

    async def list(
        self, request: fleet_pb2.ListMaintenanceRequest
    ) -> fleet_pb2.ListMaintenanceResponse:
        """Windows, by name."""
        desk, kind = self._desk, known(WindowKind, request.kind)
        found = await desk.reader.read(lambda snapshot: desk.control.windows(snapshot, kind))
        windows = sorted(found, key=lambda window: window.id)
        names = [window.id for window in windows]
        page, token = pages.page_by_name(windows, names, WINDOWS_KIND, request.page)
        return fleet_pb2.ListMaintenanceResponse(
            windows=[window_to_proto(window) for window in page], next_page_token=token
        )

    async def remove(
        self, request: fleet_pb2.RemoveMaintenanceRequest
    ) -> fleet_pb2.RemoveMaintenanceResponse:
        """Calls a window off, or ends it now."""
        desk, principal, now_ms = self._desk, calls.principal(), self._desk.now_ms()
        await desk.writer.write(
            lambda txn: desk.control.remove_window(
                txn, principal, request.id, request.reason, now_ms
            )
        )
        return fleet_pb2.RemoveMaintenanceResponse()
