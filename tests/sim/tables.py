"""The control plane's tables as they are on disk, read with plain SQL of our own.

The store's readers are part of what is checked, so the checkers do not use them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

STATES = (
    "UNSPECIFIED", "QUEUED", "PLACED", "STARTING", "RUNNING", "PREEMPTING", "CANCELLING", "LOST",
    "SUCCEEDED", "FAILED", "CANCELLED",
)  # fmt: skip
OVER = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
HOLDING = frozenset({"PLACED", "STARTING", "RUNNING", "PREEMPTING", "CANCELLING", "LOST"})


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job."""

    id: int
    tenant: str
    state: str
    attempts: int
    reason: str
    message: str
    exit_code: int | None
    name: str = ""
    service: int | None = None
    """Of a replica: whose it is."""
    wanted: int | None = None
    """Of a service: how many replicas it is to have."""
    cancel_requested: bool = False
    not_before_wall_ms: int = 0


@dataclass(slots=True)
class AttemptRow:
    """An attempt, with the GPUs it was given on each node."""

    job: int
    attempt: int
    site: str
    state: str
    live: bool
    gpu_class: str
    gpu_milli: int
    placed_wall_ms: int
    nodes: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything that the checkers look at, of one instant."""

    jobs: Mapping[int, JobRow]
    attempts: tuple[AttemptRow, ...]
    outbox: int

    def holding(self) -> list[AttemptRow]:
        """Attempts whose job is in a state that holds nodes, and that are its last."""
        last: dict[int, AttemptRow] = {}
        for attempt in self.attempts:
            if attempt.job not in last or attempt.attempt > last[attempt.job].attempt:
                last[attempt.job] = attempt
        return [a for job, a in sorted(last.items()) if self.jobs[job].state in HOLDING]


class Reader:
    """A second connection to the store's file."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self._version = -1

    def close(self) -> None:
        """Done."""
        self._connection.close()

    def read(self) -> Tables:
        """The tables now."""
        jobs = {
            row[0]: JobRow(
                row[0],
                row[1],
                STATES[int(row[2])],
                row[3] - 1,
                row[4] or "",
                row[5],
                row[6],
                row[7],
                row[8],
                row[9],
                bool(row[10]),
                row[11],
            )
            for row in self._rows(
                "SELECT id, tenant, state, next_attempt, reason, message, exit_code, name,"
                " array_id, replicas, cancel_requested, not_before_ms"
                " FROM jobs JOIN job_particulars USING (id)"
            )
        }
        attempts = {
            (row[0], row[1]): AttemptRow(
                row[0], row[1], row[2], STATES[int(row[3])], bool(row[4]), row[5], row[6], row[7]
            )
            for row in self._rows(
                "SELECT job, attempt, site, state, live, gpu_class, gpu_milli, placed_at_ms"
                " FROM attempts"
            )
        }
        for job, attempt, node, mask in self._rows(
            "SELECT job, attempt, node, gpu_mask FROM placements"
        ):
            attempts[job, attempt].nodes[node] = mask
        outbox = self._rows("SELECT count(*) FROM outbox")[0][0]
        return Tables(jobs, tuple(attempts[key] for key in sorted(attempts)), outbox)

    def changed(self) -> bool:
        """Whether anything was committed since the last time this was asked."""
        version = self._rows("PRAGMA data_version")[0][0]
        before, self._version = self._version, version
        return version != before

    def moves(self) -> list[tuple[str, str, str]]:
        """Every move of a job that the audit log tells of, in order."""
        found: list[tuple[str, str, str]] = []
        for kind, text in self._rows("SELECT kind, body FROM audit ORDER BY leaf_index"):
            body: dict[str, Any] = json.loads(text)
            if kind == "job_moved":
                found.append((body["job"], body["from"], body["to"]))
            elif kind == "attempt_placed":
                found.append((body["job"], "QUEUED", "PLACED"))
        return found

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        return cast("list[tuple[Any, ...]]", self._connection.execute(query).fetchall())
