"""The part of the synchronous client about what jobs left at their sites."""

from __future__ import annotations

from pathlib import Path

from sovctl.async_client import AsyncClient
from sovctl.downloads import Downloaded, Left
from sovctl.event_loop import EventLoop


class DownloadCalls:
    """Calls about what jobs left, each until its answer is there."""

    _loop: EventLoop
    _client: AsyncClient

    def left_files(self, job: str, path: str = "", *, rank: int = 0, attempt: int = 0) -> Left:
        """Which files a job that is over left; as `AsyncClient.left_files`."""
        return self._loop.run(self._client.left_files(job, path, rank=rank, attempt=attempt))

    def download(
        self,
        job: str,
        directory: str | Path,
        path: str = "",
        *,
        rank: int = 0,
        attempt: int = 0,
    ) -> Downloaded:
        """Fetches what a job that is over left; as `AsyncClient.download`."""
        return self._loop.run(
            self._client.download(job, directory, path, rank=rank, attempt=attempt)
        )
