"""Windows of time: what operators declare, and what they are shown."""

from __future__ import annotations

from scheduler.model.ids import GpuClass, NodeId, SiteId, TenantPath, site_of
from scheduler.model.window import Window, WindowAsked, WindowKind
from scheduler.wire.enums import known, number
from sovapi.v1 import fleet_pb2


def window_to_proto(window: Window) -> fleet_pb2.MaintenanceWindow:
    """A window as it is shown: its nodes by name, what was asked for no more."""
    return fleet_pb2.MaintenanceWindow(
        id=window.id,
        target=window.nodes[0] if len(window.nodes) == 1 else window.site,
        from_ms=window.starts_at_ms,
        to_ms=window.ends_at_ms,
        reason=window.reason,
        kind=number(fleet_pb2.WindowKind, window.kind),
        nodes=window.nodes,
        tenant=window.tenant,
        count=len(window.nodes),
        added_by=window.added_by,
        begun=window.begun,
    )


def window_from_proto(message: fleet_pb2.MaintenanceWindow, now_ms: int) -> WindowAsked:
    """A window as it is asked for. It begins now where it does not say when."""
    target = message.target
    nodes = tuple(NodeId(node) for node in message.nodes)
    window = Window(
        id=message.id,
        kind=known(WindowKind, message.kind),
        site=site_of(NodeId(target)) if "/" in target else SiteId(target),
        nodes=(NodeId(target), *nodes) if "/" in target else nodes,
        starts_at_ms=message.from_ms or now_ms,
        ends_at_ms=message.to_ms,
        reason=message.reason,
        added_by="",
        tenant=TenantPath(message.tenant),
    )
    return WindowAsked(window, message.count, GpuClass(message.gpu_class))
