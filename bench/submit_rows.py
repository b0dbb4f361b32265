"""What the least program would do that keeps a submission before it answers: the rows, no more.

The tables and indices of the control plane, its statements, and rows as large as its own, written
by one thread that takes whatever waits. Nobody is authenticated, nothing is judged, no key is
looked up, and no hash made.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scheduler.model.ids import JobId, TenantPath
from scheduler.store.bulk import Statement, inserting
from scheduler.store.dialect import url_of, writing_engine
from scheduler.store.job_rows import ADD, ADD_PARTICULARS, arrived
from scheduler.store.records import Arrival
from scheduler.store.schema import AUDIT, CHANGES, IDEMPOTENCY, METADATA, SPECS
from scheduler.store.scratch import ChangeKind
from sovapi.v1 import jobs_pb2

TOGETHER_MAX = 1_000
"""Jobs of one commit, as of the control plane's."""
CLASSES = 2_000
OWNER = "/tenant/bench/user/ada"
AT_MS = 1_760_000_000_000
DIGEST = f"sha256:{'0' * 64}"
LEAF = "x" * 215
"""As long as what the audit log tells of a job of the bench."""
SALT, HASH = bytes(16), bytes(32)
ADD_SPEC, ADD_LEAF = inserting(SPECS), inserting(AUDIT)
ADD_KEY, ADD_CHANGE = inserting(IDEMPOTENCY), inserting(CHANGES)


class _Message(NamedTuple):
    """Requests that came together, and whom to tell that they are kept."""

    requests: Sequence[jobs_pb2.SubmitRequest]
    kept: asyncio.Future[None]


class Rows:
    """A new database in `file`, and the thread that writes it for the running event loop."""

    def __init__(self, file: Path) -> None:
        self._engine = writing_engine(url_of(file))
        with self._engine.begin() as connection:
            METADATA.create_all(connection)
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        threading.Thread(target=self._write_forever, daemon=True, name="rows").start()

    def keep(self, requests: Sequence[jobs_pb2.SubmitRequest]) -> asyncio.Future[None]:
        """Done once all of them are on disk."""
        kept: asyncio.Future[None] = self._loop.create_future()
        self._waiting.put(_Message(requests, kept))
        return kept

    def _write_forever(self) -> None:
        while True:
            messages = [self._waiting.get()]
            jobs = len(messages[0].requests)
            while jobs < TOGETHER_MAX and not self._waiting.empty():
                messages.append(self._waiting.get())
                jobs += len(messages[-1].requests)
            self._write([request for message in messages for request in message.requests])
            self._loop.call_soon_threadsafe(_tell, messages)

    def _write(self, requests: Sequence[jobs_pb2.SubmitRequest]) -> None:
        numbered = [(next(self._numbers), request) for request in requests]
        jobs = [
            Arrival(JobId(n), n % CLASSES, TenantPath(r.spec.project), r.spec.name, False, "", b"")
            for n, r in numbered
        ]
        rows: list[tuple[Statement, list[tuple[object, ...]]]] = [
            (ADD, [*arrived(jobs, AT_MS)]),
            (ADD_PARTICULARS, [(job.id, OWNER, job.name, DIGEST, job.id) for job in jobs]),
            (ADD_SPEC, [(n, r.spec.SerializeToString()) for n, r in numbered]),
            (ADD_KEY, [(OWNER, r.idempotency_key, DIGEST, n, AT_MS) for n, r in numbered]),
            (
                ADD_LEAF,
                [(j.id, "job_submitted", j.tenant, j.id, AT_MS, LEAF, SALT, HASH) for j in jobs],
            ),
            (ADD_CHANGE, [(job.id, int(ChangeKind.JOB), str(job.id)) for job in jobs]),
        ]
        with self._engine.begin() as connection:
            for statement, values in rows:
                statement.many(connection, values)


def _tell(messages: Sequence[_Message]) -> None:
    for message in messages:
        if not message.kept.done():
            message.kept.set_result(None)
