"""A span of time for which nodes are taken out of the common pool."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from scheduler.model.ids import GpuClass, NodeId, SiteId, TenantPath


class WindowKind(IntEnum):
    """What the nodes are taken out for."""

    UNSPECIFIED = 0
    MAINTENANCE = 1
    """Nothing runs there."""
    RESERVED = 2
    """Only the work of one node of the tenant tree, and of those below it, runs there."""


@dataclass(frozen=True, slots=True)
class Window:
    """From `starts_at_ms` until before `ends_at_ms` the nodes are for nobody, or for `tenant`.

    No nodes named: all of the site, those declared later too. `begun` once the work that may not
    be there was told to leave.
    """

    id: str
    kind: WindowKind
    site: SiteId
    nodes: tuple[NodeId, ...]
    starts_at_ms: int
    ends_at_ms: int
    reason: str
    added_by: str
    tenant: TenantPath
    begun: bool = False

    def covers(self, node: NodeId) -> bool:
        """Whether `node`, which is at the window's site, is one of its nodes."""
        return not self.nodes or node in self.nodes

    def admits(self, tenant: TenantPath) -> bool:
        """Whether work of `tenant` may run there meanwhile."""
        own = self.tenant
        return self.kind is WindowKind.RESERVED and (
            tenant == own or tenant.startswith(f"{own}/")
        )  # fmt: skip

    def bars(self, tenant: TenantPath, from_ms: int, until_ms: int) -> bool:
        """Whether work of `tenant` may not be there from `from_ms` until `until_ms`."""
        overlaps = self.starts_at_ms < until_ms and from_ms < self.ends_at_ms
        return overlaps and not self.admits(tenant)


@dataclass(frozen=True, slots=True)
class WindowAsked:
    """A window as it is asked for. Nodes are named, or so many of a class are to be chosen."""

    window: Window
    count: int
    gpu_class: GpuClass
