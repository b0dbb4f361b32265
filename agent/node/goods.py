"""What jobs left on this node, for the tenant's download: checkpoints, and the site's store.

Files are named and read a stretch at a time, and nothing is remembered between two questions. The
folders are a tenant's and we are root: no link is followed, and what is no plain file is left out.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from agent.node.data_store import FOLDERS_DEEP_MAX, PLAINLY, Store, StoreError, opened_below
from sovapi.v1.jobs_pb2 import DownloadFile
from sovapi.v1.nodelink_pb2 import (
    Goods,
    GoodsChunk,
    GoodsPage,
    ListGoods,
    NodeMessage,
    ReadGoods,
    SiteOrder,
)
from sovshared.limits import CHUNK_BYTES_MAX

PAGE_FILES_MAX = 1_000
READERS = 2
"""Threads that read goods: a file system that hangs holds these up, and nothing else."""
FOLDER_ENTRIES_MAX = 100_000
"""Entries of one folder; one that has more is not listed."""

_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class GoodsMissing(Exception):
    """There is nothing of that name here; the message says what."""


@dataclass(slots=True)
class _Page:
    """What was found so far, from `begin_at` on, in order of the parts of the paths."""

    begin_at: tuple[str, ...]
    files: list[DownloadFile]
    left_out: int = 0

    def is_before(self, path: tuple[str, ...]) -> bool:
        """Whether a file, or all that a folder holds, comes before what is asked for."""
        return path < self.begin_at[: len(path)]

    def add(self, path: tuple[str, ...], found: os.stat_result) -> None:
        """Takes a file in."""
        self.files.append(_told("/".join(path), found))


class GoodsShelf:
    """Where a node's goods lie: `checkpoints` has a folder for each job, `store` is the site's
    store of datasets as this node has it mounted, `kept` that of checkpoints (empty: none)."""

    def __init__(self, checkpoints: Path, store: str, kept: str = "") -> None:
        self._checkpoints = checkpoints
        self._store = store
        self._kept = kept
        self._readers = ThreadPoolExecutor(READERS, "goods")
        self._serving: set[asyncio.Task[None]] = set()

    def serve(self, order: SiteOrder, say: Callable[[NodeMessage], None]) -> None:
        """Answers an order about goods, by and by."""
        task = asyncio.create_task(self._serve(order, say))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, order: SiteOrder, say: Callable[[NodeMessage], None]) -> None:
        def answer() -> NodeMessage:
            if order.WhichOneof("message") == "list_goods":
                return NodeMessage(goods_page=self.page(order.list_goods))
            return NodeMessage(goods_chunk=self.chunk(order.read_goods))

        say(await asyncio.get_running_loop().run_in_executor(self._readers, answer))

    def page(self, asked: ListGoods) -> GoodsPage:
        """A page of files, by the parts of their paths."""
        limit = min(max(asked.max_files, 1), PAGE_FILES_MAX)
        page = _Page(tuple(asked.begin_at.split("/")) if asked.begin_at else (), [])
        try:
            root = self._root(asked.goods)
            below = tuple(filter(None, asked.below.split("/")))
            with opened_below(root, asked.below) as entry:
                for _ in _walk(entry, below, page):
                    if len(page.files) > limit:
                        break
        except (GoodsMissing, OSError) as error:
            return GoodsPage(request=asked.request, refused=_why(error))
        return GoodsPage(
            request=asked.request,
            files=page.files[:limit],
            next=page.files[limit].path if len(page.files) > limit else "",
            left_out=page.left_out,
        )

    def chunk(self, asked: ReadGoods) -> GoodsChunk:
        """A stretch of a file, with what the file is at that moment."""
        length = min(max(asked.max_bytes, 0), CHUNK_BYTES_MAX)
        try:
            with opened_below(self._root(asked.goods), asked.path) as entry:
                found = os.fstat(entry)
                data = os.pread(entry, length, max(asked.offset, 0))
        except (GoodsMissing, OSError) as error:
            return GoodsChunk(request=asked.request, refused=_why(error))
        return GoodsChunk(request=asked.request, chunk=data, file=_told(asked.path, found))

    def _root(self, goods: Goods) -> Path:
        if not goods.dataset:
            if not _JOB_ID.fullmatch(goods.job_id):
                raise GoodsMissing(f"found job {goods.job_id[:80]!r}, allowed a job's id")
            return self._checkpoints_of(goods.job_id)
        if not self._store:
            raise GoodsMissing("this node has no store of datasets")
        try:
            return Store(Path(self._store)).found(goods.dataset, goods.version)
        except StoreError as error:
            raise GoodsMissing(str(error)) from error

    def _checkpoints_of(self, job: str) -> Path:
        """The job's own directory, or the store's where that has them sealed, or this node none."""
        own, kept = self._checkpoints / job, Path(self._kept) / job
        if not self._kept or not kept.is_dir():
            return own
        return kept if any(kept.glob("*/*.sealed")) or not own.is_dir() else own


def _walk(entry: int, path: tuple[str, ...], page: _Page) -> Iterator[None]:
    """Takes what is open as `entry` and lies at `path` into the page, a file at a time."""
    found = os.fstat(entry)
    if stat.S_ISREG(found.st_mode):
        page.add(path, found)
        yield
    elif not stat.S_ISDIR(found.st_mode) or len(path) > FOLDERS_DEEP_MAX:
        page.left_out += 1
    else:
        for name in _names(entry):
            inner = (*path, name)
            if page.is_before(inner):
                continue
            try:
                name.encode()
                below = os.open(name, PLAINLY, dir_fd=entry)
            except (UnicodeEncodeError, OSError):
                page.left_out += 1  # A link, a name that cannot travel, or gone meanwhile.
                continue
            try:
                yield from _walk(below, inner, page)
            finally:
                os.close(below)


def _names(folder: int) -> list[str]:
    """The names in a folder, in the order in which they are told."""
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > FOLDER_ENTRIES_MAX:
                raise GoodsMissing(f"a folder has more than {FOLDER_ENTRIES_MAX} entries")
    return sorted(names)


def _told(path: str, found: os.stat_result) -> DownloadFile:
    modified_ms = found.st_mtime_ns // 1_000_000
    return DownloadFile(path=path, size_bytes=found.st_size, modified_ms=modified_ms)


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else str(error)) or "it cannot be read"
