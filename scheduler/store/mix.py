"""What is usually asked for, as plans learned it: one row, replaced now and then."""

from __future__ import annotations

from sqlalchemy import select

from scheduler.model.plan import MixChanged
from scheduler.store.codec import decode, encode
from scheduler.store.link import Link
from scheduler.store.schema import META
from scheduler.store.scratch import ChangeKind, Scratch

MIX_KEY = "usual_requests"


class MixReader:
    """Finds the mix."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def get(self) -> MixChanged:
        """The newest; an empty one while nothing was learned."""
        query = select(META.c.value).where(META.c.name == MIX_KEY)
        body = self._link.execute(query).scalar()
        return MixChanged() if body is None else decode(MixChanged, body)


class MixWriter(MixReader):
    """Changes the mix and tells the change log."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.link)
        self._scratch = scratch

    def put(self, mix: MixChanged) -> None:
        """From now on this is what is usually asked for."""
        self._link.upsert(META, [{"name": MIX_KEY, "value": encode(mix)}])
        self._scratch.changed(ChangeKind.MIX, MIX_KEY)
