"""Takes the checkpoints of jobs that are over out of where they are kept: the folder in which ranks
write them on this node, and the site's store (`checkpoint_store.py`). Both are alike:

    ROOT/<job id>            what is kept of a job
    ROOT/.over-<job id>      that of a job that is over, while it is being removed

Only the control plane knows that a job is over: a spool knows ranks, a site attempts, and a job
whose last attempt has ended may wait to go on, or be at another site by now. So the node asks it,
through its site agent, about the jobs that it finds there, and is told which are over, and
for how long. Nothing is remembered between two questions: a question or an answer that is lost is
asked again, and several nodes may ask, and remove, the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sovapi.v1.nodelink_pb2 import NodeMessage
from sovapi.v1.sitelink_pb2 import JobsOver, StoredJobs
from sovshared.limits import STORED_JOBS_MAX

EVERY_S = 600.0
"""From one question to the next."""
ANSWER_S_MAX = 300.0
"""For an answer: a site asks for one node with each heartbeat."""
REMOVED = ".over-"

_JOB_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How long what a job left is kept once it is over, and of how much in the whole store; of
    more, what has been over for longest goes first. Jobs that may go on are never touched."""

    keep_ms: int
    bytes_max: int


class BoundedStore:
    """What is kept below `root`, within its limits. It need not be there yet."""

    def __init__(self, root: Path, limits: StoreLimits) -> None:
        self._root = root
        self._limits = limits

    def expire(self, over: Mapping[str, int]) -> list[str]:
        """Removes what the limits ask for of jobs that are over, each for so many ms; which."""
        self._finish()
        if not over:
            return []
        found = {job: _bytes_of(self._root / job) for job in self.jobs()}
        excess = sum(found.values()) - self._limits.bytes_max
        removed: list[str] = []
        for job in sorted(over.keys() & found.keys(), key=lambda job: (-over[job], job)):
            if over[job] < self._limits.keep_ms and excess <= 0:
                break
            excess -= found[job]
            if self._remove(job):
                removed.append(job)
        if excess > 0:
            _log.warning("checkpoints in %s are %d bytes above their limit", self._root, excess)
        return removed

    def jobs(self) -> list[str]:
        """Of which jobs something is kept."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._root) as entries:
            return [
                entry.name
                for entry in entries
                if _JOB_ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
        return []

    def _remove(self, job: str) -> bool:
        """Out of the store in one step, then file by file: a node that goes down half way leaves no
        half of a checkpoint under the job's name. Whether it was we who did it."""
        aside = self._root / f"{REMOVED}{job}"
        try:
            (self._root / job).rename(aside)
        except OSError as error:  # Another node was first, or has not finished an older one.
            _log.info("the checkpoints of %s were not removed: %s", job, error)
            return False
        shutil.rmtree(aside, ignore_errors=True)
        _log.info("the checkpoints of %s, which is over, were removed", job)
        return True

    def _finish(self) -> None:
        """Removes what a node that went down left of it."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._root) as entries:
            for entry in entries:
                if entry.name.startswith(REMOVED):
                    shutil.rmtree(entry.path, ignore_errors=True)


class StoreExpiry:
    """Keeps several stores within their limits: one question is about the jobs of all of them."""

    def __init__(self, *stores: BoundedStore) -> None:
        self.stores = stores
        self._asked_up_to = ""
        self._answer: asyncio.Queue[JobsOver] = asyncio.Queue(1)

    async def run(self, say: Callable[[NodeMessage], None]) -> None:
        """Asks, and removes what it may, for ever. A file system that hangs delays nothing else."""
        while True:
            over: dict[str, int] = {}
            try:
                if jobs := await asyncio.to_thread(self.next_jobs):
                    say(NodeMessage(stored_jobs=StoredJobs(job_ids=jobs)))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(ANSWER_S_MAX):
                            answer = await self._answer.get()
                            over = {job.job_id: job.ended_ago_ms for job in answer.jobs}
                for store in self.stores:
                    await asyncio.to_thread(store.expire, over)
            except OSError as error:
                _log.warning("checkpoints could not be looked through: %s", error)
            await asyncio.sleep(EVERY_S)

    def told(self, answer: JobsOver) -> None:
        """Which of the jobs that were asked about are over."""
        with contextlib.suppress(asyncio.QueueFull):
            self._answer.put_nowait(answer)

    def next_jobs(self) -> list[str]:
        """The jobs to ask about: of more than fit into one question, others each time."""
        jobs = sorted({job for store in self.stores for job in store.jobs()})
        later = [job for job in jobs if job > self._asked_up_to] or jobs
        asked = later[:STORED_JOBS_MAX]
        self._asked_up_to = asked[-1] if len(later) > len(asked) else ""
        return asked


def _bytes_of(folder: Path) -> int:
    """What the files below it hold; what goes away meanwhile holds nothing."""
    held = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                held += os.lstat(os.path.join(place, name)).st_size
    return held
