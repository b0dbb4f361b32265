"""Bundles on their way in and out: received into a file, checked whole, then stored at once.

Nothing is kept of an upload that ends early, is too large, is not what its digest says or is not a
bundle: until the last check it lies in a file without a name.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from scheduler.api import bundles
from scheduler.api.errors import unavailable
from scheduler.model.ids import TenantPath, organisation_of
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid
from scheduler.store.blobs import Blobs, refuse_bad_announcement
from sovapi.v1 import jobs_pb2
from sovshared.limits import CHUNK_BYTES_MAX

UPLOADS_MAX = 8
"""Uploads received at the same time; each may take 256 MiB of disk."""
UPLOADS_OF_ORGANISATION_MAX = 4
"""Of these, what one organisation may have: its slow uploads must not keep others out."""
UPLOAD_S_MAX = 1_800
"""How long one upload may take: a chunk a minute would go on for ever."""
CHUNK_S_MAX = 60
"""How long a client may stay silent in the middle of an upload."""
COPY_BYTES = 1 << 20
RETRY_AFTER_MS = 2_000

_log = logging.getLogger(__name__)


class Uploads:
    """Receives bundles into a directory of our own, and hands out stored ones."""

    def __init__(self, blobs: Blobs, directory: Path, *, now_ms: Callable[[], int]) -> None:
        self._blobs = blobs
        self._directory = directory
        self._now_ms = now_ms
        self._open: Counter[TenantPath] = Counter()

    async def receive(
        self,
        tenant: TenantPath,
        start: jobs_pb2.UploadStart,
        rest: AsyncIterator[jobs_pb2.UploadRequest],
    ) -> bool:
        """Stores what follows `start` for `tenant`; whether it was there already."""
        refuse_bad_announcement(start.digest, start.size_bytes)
        if await asyncio.to_thread(self._blobs.has, tenant, start.digest):
            return True
        owner = organisation_of(tenant)
        self._refuse_too_many(owner)
        self._open[owner] += 1
        try:
            with tempfile.TemporaryFile(dir=self._directory) as file:
                digest = await self._spool(file, start.size_bytes, rest)
                if f"sha256:{digest}" != start.digest:
                    found = f"found content of sha256:{digest}, allowed what digest says"
                    raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "chunk"))
                return await asyncio.to_thread(self._keep, tenant, start, file)
        finally:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]

    async def _spool(
        self, file: BinaryIO, size_bytes: int, rest: AsyncIterator[jobs_pb2.UploadRequest]
    ) -> str:
        try:
            async with asyncio.timeout(UPLOAD_S_MAX):
                return await _spool(file, size_bytes, rest)
        except TimeoutError:
            late = f"the bundle was not received in {UPLOAD_S_MAX} s"
            raise Refused(Code.UNAVAILABLE, Reason.UNAVAILABLE, late) from None
        except OSError as error:
            _log.warning("a bundle could not be received: %s", error)
            full = "there is no room to receive a bundle now; nothing was kept"
            raise unavailable(full, RETRY_AFTER_MS) from error

    async def send(self, tenant: TenantPath, digest: str) -> AsyncGenerator[bytes, None]:
        """A stored bundle in pieces that fit a message."""
        pieces = self._blobs.read(tenant, digest)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            for at in range(0, len(piece), CHUNK_BYTES_MAX):
                yield piece[at : at + CHUNK_BYTES_MAX]

    async def size_bytes(self, tenant: TenantPath, digest: str) -> int | None:
        """The size of a stored bundle; None when the tenant has none such."""
        return await asyncio.to_thread(self._blobs.size_bytes, tenant, digest)

    def _refuse_too_many(self, owner: TenantPath) -> None:
        for found, allowed, whose in (
            (self._open.total(), UPLOADS_MAX, ""),
            (self._open[owner], UPLOADS_OF_ORGANISATION_MAX, f" of {owner}"),
        ):
            if found >= allowed:
                raise Refused(
                    Code.RESOURCE_EXHAUSTED,
                    Reason.RESOURCE_EXHAUSTED,
                    f"{allowed} bundles{whose} are being received; try again soon",
                    retry_after_ms=RETRY_AFTER_MS,
                )

    def _keep(self, tenant: TenantPath, start: jobs_pb2.UploadStart, file: BinaryIO) -> bool:
        file.seek(0)
        bundles.check(file)
        file.seek(0)
        return self._blobs.put(
            tenant, start.digest, start.size_bytes, _pieces(file), self._now_ms()
        )


async def _spool(
    file: BinaryIO, size_bytes: int, rest: AsyncIterator[jobs_pb2.UploadRequest]
) -> str:
    """Writes the chunks to `file`, no more than was announced; their SHA-256."""
    digest = hashlib.sha256()
    received = 0
    while (message := await _next(rest)) is not None:
        if message.WhichOneof("part") != "chunk" or not message.chunk:
            found = "found something else, allowed chunks after the first message"
            raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "part"))
        received += len(message.chunk)
        if received > size_bytes:
            found = f"found more than the {size_bytes} bytes that were announced"
            raise invalid(Denial(Reason.TOO_LARGE, found, "size_bytes"))
        digest.update(message.chunk)
        await asyncio.to_thread(file.write, message.chunk)
    if received != size_bytes:
        found = f"found {received} bytes, allowed the {size_bytes} that were announced"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "size_bytes"))
    return digest.hexdigest()


async def _next(rest: AsyncIterator[jobs_pb2.UploadRequest]) -> jobs_pb2.UploadRequest | None:
    try:
        async with asyncio.timeout(CHUNK_S_MAX):
            return await anext(rest, None)
    except TimeoutError:
        raise Refused(
            Code.UNAVAILABLE, Reason.UNAVAILABLE, f"nothing was received for {CHUNK_S_MAX} s"
        ) from None


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(COPY_BYTES):
        yield piece
