"""What a job left at its site, fetched into a directory: over broken connections, and checked.

A file grows under a hidden name that tells which version it is a part of, and gets its own when it
is whole and its digest is the site's: so a download that broke off is gone on with, by this process
or a later one, and no half file is ever seen. What is there already, by size and time, is kept. An
output is a version of a dataset, and its digest was reported when the job ended: it is checked too.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import grpc

from sovapi.v1 import jobs_pb2
from sovctl.errors import InternalError, InvalidArgumentError, UnavailableError
from sovctl.link import STREAM_TIMEOUT_MS, Connected, Link
from sovctl.logs import RECONNECTS_MAX
from sovctl.rpc_errors import sov_error
from sovctl.sealed import key_at, open_checkpoint

SEALED_SUFFIX = ".sealed"
FILES_MAX = 200_000
"""Of one download; a folder is asked for where there are more."""


@dataclass(frozen=True, slots=True)
class LeftFile:
    """A file that a job left. Its path begins with `outputs/<dataset>/` or `checkpoints/`."""

    path: str
    size_bytes: int
    modified_ms: int


@dataclass(frozen=True, slots=True)
class Left:
    """What a job left. `left_out` counts what is no plain file, or has a name that cannot travel;
    `digests` has that of each output's version, as it was reported when the job ended."""

    files: tuple[LeftFile, ...]
    left_out: int
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What is in `directory` now: fetched by this call, or kept because it was there. `verified`
    are the outputs whose digest is the one that the job's site reported, `opened` the tars of what
    came sealed, opened beside it where the context has the tenant's key."""

    directory: Path
    fetched: tuple[LeftFile, ...]
    kept: tuple[LeftFile, ...]
    left_out: int
    verified: tuple[str, ...]
    opened: tuple[Path, ...] = ()


class AsyncDownloadCalls(Connected):
    """The calls about what jobs left."""

    async def left_files(
        self, job: str, path: str = "", *, rank: int = 0, attempt: int = 0
    ) -> Left:
        """Which files a job that is over left at its site, below `path`; of checkpoints, those on
        the node of `rank`.

        Raises:
            NotFoundError: Nothing of it is kept there.
            RefusedError: The job is not over.
        """
        asked = jobs_pb2.DownloadRequest(
            id=job, path=path.strip("/"), rank=rank, attempt=attempt, listing=True
        )
        files: list[LeftFile] = []
        end = None
        tries = 0
        while end is None:
            try:
                async for response in _answers(self.link, asked):
                    if response.HasField("file") and len(files) < FILES_MAX:
                        files.append(_left_file(response.file))
                    if response.HasField("end"):
                        end = response.end
            except UnavailableError:
                tries += 1
                if tries > RECONNECTS_MAX:
                    raise
                files = []
                await self.link.pause(tries)
        found = await self.link.call(self.link.jobs.Get, jobs_pb2.GetJobRequest(id=job))
        digests = {
            output.dataset: output.digest
            for tried in found.attempts[-1:]
            for each in tried.ranks
            for output in each.outputs
        }
        return Left(tuple(files), end.left_out, digests)

    async def download(
        self,
        job: str,
        directory: str | Path,
        path: str = "",
        *,
        rank: int = 0,
        attempt: int = 0,
    ) -> Downloaded:
        """Fetches what a job that is over left at its site into `directory`.

        Raises:
            NotFoundError: Nothing of it is kept there.
            RefusedError: The job is not over.
            UnavailableError: The site stayed away; the same call goes on where this one ended.
            InternalError: Something is not what its digest says; it is not kept.
        """
        left = await self.left_files(job, path, rank=rank, attempt=attempt)
        asked = jobs_pb2.DownloadRequest(id=job, path=path.strip("/"), rank=rank, attempt=attempt)
        done = await _Fetching(self.link, asked, Path(directory), left).run()
        return replace(done, opened=await self._opened(job, done))

    async def _opened(self, job: str, done: Downloaded) -> tuple[Path, ...]:
        """Tars of what came sealed and is ours to open."""
        sealed = [
            _place(done.directory, file)
            for file in (*done.fetched, *done.kept)
            if file.path.startswith("checkpoints/") and file.path.endswith(SEALED_SUFFIX)
        ]
        if not sealed or not self.key_service:
            return ()
        found = await self.link.call(self.link.jobs.Get, jobs_pb2.GetJobRequest(id=job))
        key = key_at(self.key_service)
        return tuple(open_checkpoint(path, found.spec, found.id, key) for path in sorted(sealed))


class _Fetching:
    """One download: the files that are missing, in the site's order."""

    def __init__(
        self, link: Link, asked: jobs_pb2.DownloadRequest, directory: Path, left: Left
    ) -> None:
        self._link = link
        self._asked = asked
        self._directory = directory
        self._left = left
        self._missing = {file.path: file for file in left.files if not _is_there(directory, file)}

    async def run(self) -> Downloaded:
        """Until nothing is missing."""
        fetched = tuple(self._missing.values())
        failures = 0
        while self._missing:
            before = _progress(self._directory, self._missing)
            try:
                await self._fetch()
            except UnavailableError:
                if _progress(self._directory, self._missing) != before:
                    failures = 0
                failures += 1
                if failures > RECONNECTS_MAX:
                    raise
                await self._link.pause(failures)
            except OSError as error:
                raise InvalidArgumentError(f"{self._directory}: {error.strerror}") from None
        new = {file.path for file in fetched}
        kept = tuple(file for file in self._left.files if file.path not in new)
        verified = _verified(self._directory, self._left, self._asked.path)
        return Downloaded(self._directory, fetched, kept, self._left.left_out, verified)

    async def _fetch(self) -> None:
        """One stream, from the first file that is missing on."""
        first = next(iter(self._missing.values()))
        asked = jobs_pb2.DownloadRequest()
        asked.CopyFrom(self._asked)
        asked.begin_at, asked.offset = first.path, _have(self._directory, first)
        part: _Part | None = None
        try:
            async for response in _answers(self._link, asked):
                if response.HasField("file"):
                    part = self._begin(_left_file(response.file))
                elif response.HasField("end"):
                    break
                elif part is not None and response.digest:
                    part.finish(response.digest)
                    del self._missing[part.file.path]
                    part = None
                elif part is not None:
                    part.add(response.chunk)
        finally:
            if part is not None:
                part.leave()
        if first.path in self._missing:
            raise UnavailableError(f"{first.path}: the site has it no more, or another version")

    def _begin(self, file: LeftFile) -> _Part | None:
        """The part that a file's chunks go to; none, when we have it, or nobody told of it."""
        missing = self._missing.get(file.path)
        return _Part(self._directory, file) if missing == file else None


class _Part:
    """A file that is being fetched."""

    def __init__(self, directory: Path, file: LeftFile) -> None:
        self.file = file
        self._target = _place(directory, file)
        self._path = _part(directory, file)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._digest = sha256()
        self._handle = self._path.open("a+b")
        self._handle.seek(0)
        while chunk := self._handle.read(1 << 20):
            self._digest.update(chunk)

    def add(self, chunk: bytes) -> None:
        """Takes a chunk in."""
        self._digest.update(chunk)
        self._handle.write(chunk)

    def leave(self) -> None:
        """What came is kept for the next time."""
        self._handle.close()

    def finish(self, digest: str) -> None:
        """Gives it its name, if it is what the site says."""
        with self._handle as handle:
            handle.flush()
            os.fsync(handle.fileno())
        if self._digest.hexdigest() != digest:
            self._path.unlink()
            raise InternalError(f"{self.file.path}: what arrived has not the digest it should")
        at_ns = self.file.modified_ms * 1_000_000
        os.utime(self._path, ns=(at_ns, at_ns))
        self._path.replace(self._target)


async def _answers(
    link: Link, asked: jobs_pb2.DownloadRequest
) -> AsyncGenerator[jobs_pb2.DownloadResponse, None]:
    """The answers of one call; UnavailableError where it broke off before its end."""
    call: Any = link.jobs.Download(asked, timeout=STREAM_TIMEOUT_MS / 1000)
    try:
        async for response in call:
            yield response
            if response.HasField("end"):
                return
    except grpc.aio.AioRpcError as error:
        raise sov_error(error, link.endpoint) from None
    finally:
        call.cancel()
    raise UnavailableError("the site ended the download before its end")


def _left_file(file: jobs_pb2.DownloadFile) -> LeftFile:
    """A file as it was told, with a path that leads nowhere else."""
    parts = file.path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise InternalError(f"{file.path[:200]!r}: found a path that leads elsewhere")
    return LeftFile(file.path, file.size_bytes, file.modified_ms)


def _place(directory: Path, file: LeftFile) -> Path:
    return directory.joinpath(*file.path.split("/"))


def _part(directory: Path, file: LeftFile) -> Path:
    """Where a version of a file grows. Its name is short, however long the file's is."""
    version = sha256(f"{file.path}\0{file.size_bytes}\0{file.modified_ms}".encode()).hexdigest()
    return _place(directory, file).with_name(f".{version[:32]}.part")


def _have(directory: Path, file: LeftFile) -> int:
    """How much of a file is there; more than the file has is none of it."""
    part = _part(directory, file)
    with suppress(OSError):
        size_bytes = part.stat().st_size
        if size_bytes <= file.size_bytes:
            return size_bytes
        part.unlink()
    return 0


def _is_there(directory: Path, file: LeftFile) -> bool:
    try:
        found = _place(directory, file).lstat()
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns // 1_000_000) == (file.size_bytes, file.modified_ms)


def _progress(directory: Path, missing: Mapping[str, LeftFile]) -> tuple[int, int]:
    first = next(iter(missing.values()), None)
    return len(missing), 0 if first is None else _have(directory, first)


def _verified(directory: Path, left: Left, path: str) -> tuple[str, ...]:
    """The outputs that were asked for whole and are what was reported; InternalError otherwise."""
    checked: list[str] = []
    for dataset, digest in sorted(left.digests.items()):
        prefix = f"outputs/{dataset}"
        if path and path != prefix and not prefix.startswith(f"{path}/"):
            continue
        files = [file for file in left.files if file.path.startswith(f"{prefix}/")]
        if files and _digest_of(directory, prefix, files) != digest:
            raise InternalError(f"{prefix}: found other files than the job left")
        if files:
            checked.append(dataset)
    return tuple(checked)


def _digest_of(directory: Path, prefix: str, files: Sequence[LeftFile]) -> str:
    """A version's digest: SHA-256 of a line for each file, by the bytes of its path."""
    whole = sha256()
    for name, file in sorted((f.path.removeprefix(f"{prefix}/").encode(), f) for f in files):
        with _place(directory, file).open("rb") as opened:
            digest = file_digest(opened, "sha256").hexdigest()
        whole.update(f"{digest} {file.size_bytes} ".encode() + name + b"\0")
    return f"sha256:{whole.hexdigest()}"


def total_bytes(files: Iterable[LeftFile]) -> int:
    """Of all of them."""
    return sum(file.size_bytes for file in files)
