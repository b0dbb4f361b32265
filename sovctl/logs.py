"""A job's log as one stream, over broken connections and from one attempt to the next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import grpc

from sovapi.v1 import jobs_pb2
from sovctl.link import STREAM_TIMEOUT_MS, Link
from sovctl.results import AttemptInfo, JobInfo
from sovctl.rpc_errors import sov_error

RECONNECTS_MAX = 20
"""In a row, without a byte between them: about a minute and a half."""

WaitFor = Callable[[Callable[[JobInfo], bool]], Awaitable[JobInfo]]
"""The job as soon as something holds of it."""


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of one rank's output; `offset` is that of its first byte in the rank's log."""

    attempt: int
    rank: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class LogsWanted:
    """Which part of a job's logs. `rank` None means all; `attempt` 0 means the latest."""

    job_id: str
    rank: int | None = 0
    follow: bool = False
    since_ms: int = 0
    attempt: int = 0


def _has_output(attempt: AttemptInfo | None) -> bool:
    """Whether anything of the attempt may have written."""
    return attempt is not None and (
        attempt.started_at_ms is not None or any(rank.started_at_ms for rank in attempt.ranks)
    )


class LogReader:
    """Reads what was asked for exactly once, however often the stream breaks."""

    def __init__(self, link: Link, wanted: LogsWanted, wait_for: WaitFor) -> None:
        self._link = link
        self._wanted = wanted
        self._wait_for = wait_for
        self._read_to: dict[tuple[int, int], int] = {}

    async def chunks(self) -> AsyncIterator[LogChunk]:
        """All of it; with `follow` until the job is over."""
        if not self._wanted.follow or self._wanted.attempt:
            async for chunk in self._attempt(self._wanted.attempt):
                yield chunk
            return
        done = 0
        while True:
            job = await self._wait_for(lambda job, done=done: job.is_over or _is_new(job, done))
            if not _is_new(job, done):
                return
            assert job.attempt is not None
            done = job.attempt.number
            async for chunk in self._attempt(done):
                yield chunk

    async def _attempt(self, attempt: int) -> AsyncIterator[LogChunk]:
        """One attempt's log, opened again where it broke off."""
        failures = 0
        while True:
            call = self._link.jobs.Logs(self._request(attempt), timeout=STREAM_TIMEOUT_MS / 1000)
            try:
                async for message in call:
                    chunk = self._unread(message)
                    if chunk is not None:
                        failures = 0
                        yield chunk
                return
            except grpc.aio.AioRpcError as error:
                code = error.code()
                if code is grpc.StatusCode.UNAVAILABLE:
                    failures += 1
                elif code is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise sov_error(error, self._link.endpoint) from None
                # Without following, a site that is away is an answer, and soon.
                if failures > (RECONNECTS_MAX if self._wanted.follow else 2):
                    raise sov_error(error, self._link.endpoint) from None
            finally:
                call.cancel()
            await self._link.pause(max(failures, 1))

    def _request(self, attempt: int) -> jobs_pb2.LogsRequest:
        wanted = self._wanted
        rank = wanted.rank or 0
        # One offset cannot stand for all ranks: those are read again and cut to what is new.
        offset = 0 if wanted.rank is None else self._read_to.get((attempt, rank), 0)
        return jobs_pb2.LogsRequest(
            id=wanted.job_id,
            rank=rank,
            all_ranks=wanted.rank is None,
            follow=wanted.follow,
            attempt=attempt,
            offset=offset,
            since_ms=wanted.since_ms,
        )

    def _unread(self, message: jobs_pb2.LogsResponse) -> LogChunk | None:
        key = (message.attempt, message.rank)
        known_to = self._read_to.get(key, message.offset)
        fresh = message.chunk[max(known_to - message.offset, 0) :]
        if not fresh:
            return None
        offset = max(known_to, message.offset)
        self._read_to[key] = offset + len(fresh)
        return LogChunk(message.attempt, message.rank, offset, fresh)


def _is_new(job: JobInfo, done: int) -> bool:
    """Whether the latest attempt has output and was not read yet."""
    return job.attempt is not None and job.attempt.number > done and _has_output(job.attempt)
