"""Windows of time: kept until they are over, or removed."""

from __future__ import annotations

from sqlalchemy import delete, select

from scheduler.model.ids import SiteId
from scheduler.model.window import Window
from scheduler.store.codec import decode, encode
from scheduler.store.link import Link
from scheduler.store.schema_time import WINDOWS
from scheduler.store.scratch import WINDOW_COUNTER, ChangeKind, Scratch


class WindowsReader:
    """Finds windows."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def all(self, site: SiteId | None = None) -> tuple[Window, ...]:
        """All of them, or a site's, by their beginning."""
        query = select(WINDOWS.c.body).order_by(WINDOWS.c.starts_at_ms, WINDOWS.c.id)
        if site is not None:
            query = query.where(WINDOWS.c.site == site)
        return tuple(decode(Window, body) for body in self._link.execute(query).scalars())

    def get(self, name: str) -> Window | None:
        """The window of this name."""
        query = select(WINDOWS.c.body).where(WINDOWS.c.id == name)
        body = self._link.execute(query).scalar()
        return None if body is None else decode(Window, body)

    def due(self, now_ms: int) -> tuple[Window, ...]:
        """Those that have begun and were not seen to, and those that are over."""
        begins = (WINDOWS.c.starts_at_ms <= now_ms) & WINDOWS.c.begun.is_(False)
        query = select(WINDOWS.c.body).where(begins | (WINDOWS.c.ends_at_ms <= now_ms))
        bodies = self._link.execute(query.order_by(WINDOWS.c.id)).scalars()
        return tuple(decode(Window, body) for body in bodies)


class WindowsWriter(WindowsReader):
    """Changes windows and tells the change log."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.link)
        self._scratch = scratch

    def take_name(self) -> str:
        """A name that no window was ever given."""
        return f"window-{self._scratch.take(WINDOW_COUNTER)}"

    def put(self, window: Window) -> None:
        """Adds a window, or changes it."""
        row = {
            "id": window.id,
            "site": window.site,
            "starts_at_ms": window.starts_at_ms,
            "ends_at_ms": window.ends_at_ms,
            "begun": window.begun,
            "body": encode(window),
        }
        self._link.upsert(WINDOWS, [row])
        self._scratch.changed(ChangeKind.WINDOW, window.id)

    def remove(self, name: str) -> None:
        """There is no such window any more."""
        self._link.execute(delete(WINDOWS).where(WINDOWS.c.id == name))
        self._scratch.changed(ChangeKind.WINDOW, name)
