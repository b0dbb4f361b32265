"""Windows of time: which nodes work may not use now, because it would still be there in one.

Simple equivalent: for each node, look at every window of its site. Departure: the nodes of a window
are a bit set, so a site's answer is a few ORs; it is made once a plan.
"""

from __future__ import annotations

from collections.abc import Mapping

from scheduler.core.index import SiteIndex
from scheduler.model.fleet import Site
from scheduler.model.ids import SiteId, TenantPath
from scheduler.model.window import Window

EVERY_NODE = -1
"""The bit set that has every node, those to come too."""


class Windows:
    """The windows of a fleet, by site."""

    def __init__(self) -> None:
        self.by_id: dict[str, Window] = {}
        self._at: dict[SiteId, tuple[Window, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self.by_id)

    def put(self, name: str, window: Window | None) -> None:
        """The window of this name is now as said; None: there is none."""
        before = self.by_id.pop(name, None)
        if window is not None:
            self.by_id[name] = window
        for site in {w.site for w in (before, window) if w is not None}:
            here = (w for w in self.by_id.values() if w.site == site)
            self._at[site] = tuple(sorted(here, key=lambda w: (w.starts_at_ms, w.id)))

    def at(self, site: SiteId) -> tuple[Window, ...]:
        """Those of a site, by their beginning."""
        return self._at.get(site, ())

    def next_edge_ms(self, now_ms: int) -> int | None:
        """When the next window begins or ends: what is barred may change then."""
        edges = (ms for w in self.by_id.values() for ms in (w.starts_at_ms, w.ends_at_ms))
        return min((ms for ms in edges if ms > now_ms), default=None)


class Bars:
    """What the windows bar during one plan. Their bit sets are made once."""

    def __init__(self, windows: Windows, now_ms: int) -> None:
        self._windows = windows
        self._now_ms = now_ms
        self._masks: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._windows)

    def against(self, site: Site, index: SiteIndex, tenant: TenantPath, until_ms: int) -> int:
        """The nodes of a site that work of `tenant`, started now, may not use until `until_ms`."""
        mask = 0
        for window in self._windows.at(site.id):
            if window.bars(tenant, self._now_ms, until_ms):
                if window.id not in self._masks:
                    self._masks[window.id] = mask_of(window, index)
                mask |= self._masks[window.id]
        return mask


def mask_of(window: Window, index: SiteIndex) -> int:
    """The nodes of a window as bits."""
    if not window.nodes:
        return EVERY_NODE
    wanted = frozenset(window.nodes)
    return sum(1 << at for at, record in enumerate(index.records) if record.node.id in wanted)


def clashes(window: Window, others: Mapping[str, Window]) -> tuple[Window, ...]:
    """The windows that have a node and a moment in common with `window`, by name."""
    return tuple(
        other
        for name, other in sorted(others.items())
        if name != window.id
        and other.site == window.site
        and other.starts_at_ms < window.ends_at_ms
        and window.starts_at_ms < other.ends_at_ms
        and (not other.nodes or not window.nodes or set(other.nodes) & set(window.nodes))
    )
