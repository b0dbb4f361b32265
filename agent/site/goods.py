"""A tenant's download: what a job left at this site, from the nodes through a tunnel.

Paths begin with what they are of: `checkpoints/...`, as they lie on one node, and
`outputs/<dataset>/...`, from the site's store, which any node reads. Files come in the order of the
parts of their paths, so that one that broke off is gone on with. Nothing is kept here: a stretch is
read when the one before it was taken.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from hashlib import sha256

from agent.site.tunnels import NodeAway, NotServed, OneWay, Place, Spools, slot_of
from sovapi.v1.jobs_pb2 import DownloadEnd, DownloadFile, DownloadResponse
from sovapi.v1.nodelink_pb2 import Goods, GoodsPage, ListGoods, ReadGoods
from sovapi.v1.sitelink_pb2 import OpenTunnel, TunnelUp

FILES_MAX = 200_000
"""Of one download; who has more names a folder."""
PAGE_FILES = 500
READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class _Shelf:
    """Goods of one kind, the node that reads them, and what of them is asked for."""

    prefix: str
    goods: Goods
    slot: str
    below: str
    begin_at: str

    def told(self, path: str) -> str:
        """A file's path as the tenant sees it."""
        return f"{self.prefix}/{path}"


class GoodsStream(OneWay):
    """One tenant's download."""

    def __init__(self, spools: Spools, place: Place, opening: OpenTunnel) -> None:
        self._spools = spools
        self._place = place
        self._opening = opening
        self._asked = opening.download

    async def open(self) -> AsyncGenerator[TunnelUp, None]:
        """What to send up the tunnel; NotServed when nothing that is asked for is here."""
        shelves: list[_Shelf] = []
        path = self._asked.path[:200]
        refused = f"{path or 'this job'}: nothing of it is kept at this site"
        for prefix, goods in self._kinds():
            inner = _below(self._asked.path, prefix)
            begins = _from(self._asked.begin_at, prefix)
            if inner is None or begins is None:
                continue
            found = await self._shelf(_Shelf(prefix, goods, "", inner, begins))
            if isinstance(found, _Shelf):
                shelves.append(found)
            elif self._asked.path:
                refused = f"{path}: {found}"
        if not shelves:
            raise NotServed("NOT_FOUND", refused)
        return self._messages(shelves)

    def _kinds(self) -> list[tuple[str, Goods]]:
        """All that there could be, by what paths begin with."""
        kinds = [("checkpoints", Goods(job_id=self._opening.job_id))]
        for output in self._opening.outputs:
            goods = Goods(dataset=output.dataset, version=output.digest.rpartition(":")[2])
            kinds.append((f"outputs/{output.dataset}", goods))
        return sorted(kinds, key=lambda kind: kind[0].split("/"))

    async def _shelf(self, wanted: _Shelf) -> _Shelf | str:
        """The same with a node that has it, or why none has; NotServed while none can be asked."""
        attempt = f"{self._opening.job_id}.{self._opening.attempt}"
        first = await slot_of(self._spools, self._place, attempt, self._asked.rank)
        why = ""
        asked = ListGoods(goods=wanted.goods, below=wanted.below, max_files=1)
        for slot in dict.fromkeys((*([first] if first else ()), *self._spools.slots())):
            try:
                page = await self._spools.list_goods(slot, asked)
            except NodeAway:
                continue
            if not page.refused:
                return _Shelf(wanted.prefix, wanted.goods, slot, wanted.below, wanted.begin_at)
            why = page.refused
        if not why:
            raise NotServed("UNAVAILABLE", "no node of the site can be asked now")
        return why

    async def _messages(self, shelves: list[_Shelf]) -> AsyncGenerator[TunnelUp, None]:
        yield TunnelUp(tunnel_id=self._opening.tunnel_id)
        files = left_out = 0
        for shelf in shelves:
            begin_at: str = shelf.begin_at
            while True:
                page = await self._page(shelf, begin_at)
                left_out += page.left_out
                for file in page.files:
                    files += 1
                    if files > FILES_MAX:
                        raise NodeAway(f"more than {FILES_MAX} files: name a folder")
                    async for response in self._file(shelf, file):
                        yield TunnelUp(download=response)
                if not (begin_at := page.next):
                    break
        end = DownloadEnd(files=files, left_out=left_out)
        yield TunnelUp(download=DownloadResponse(end=end))

    async def _page(self, shelf: _Shelf, begin_at: str) -> GoodsPage:
        asked = ListGoods(
            goods=shelf.goods, below=shelf.below, begin_at=begin_at, max_files=PAGE_FILES
        )
        page = await self._spools.list_goods(shelf.slot, asked)
        if page.refused:
            raise NodeAway(page.refused)
        return page

    async def _file(
        self, shelf: _Shelf, file: DownloadFile
    ) -> AsyncGenerator[DownloadResponse, None]:
        """A file. What the tenant has of it already is read for the digest, and not sent."""
        path = shelf.told(file.path)
        told = DownloadFile(path=path, size_bytes=file.size_bytes, modified_ms=file.modified_ms)
        yield DownloadResponse(file=told)
        if self._asked.listing:
            return
        skipped = self._asked.offset if path == self._asked.begin_at else 0
        digest, offset = sha256(), 0
        while offset < file.size_bytes:
            asked = ReadGoods(
                goods=shelf.goods, path=file.path, offset=offset, max_bytes=READ_BYTES
            )
            part = await self._spools.read_goods(shelf.slot, asked)
            if part.refused or not part.chunk or part.file != file:
                raise NodeAway(f"{file.path}: {part.refused or 'it changed meanwhile'}")
            digest.update(part.chunk)
            offset += len(part.chunk)
            if fresh := part.chunk[max(0, len(part.chunk) - max(0, offset - skipped)) :]:
                yield DownloadResponse(chunk=fresh)
        yield DownloadResponse(digest=digest.hexdigest())


def _below(path: str, prefix: str) -> str | None:
    """What is asked for of goods with this prefix: a path in them, empty for all; None: nothing."""
    if not path or prefix == path or prefix.startswith(f"{path}/"):
        return ""
    return path.removeprefix(f"{prefix}/") if path.startswith(f"{prefix}/") else None


def _from(begin_at: str, prefix: str) -> str | None:
    """The file to begin with in goods with this prefix, empty for the first; None: they are all
    before it."""
    if begin_at.startswith(f"{prefix}/"):
        return begin_at.removeprefix(f"{prefix}/")
    return "" if prefix.split("/") >= begin_at.split("/") or not begin_at else None
