"""Which word of the control plane counts, and what it changes in the journal. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from agent.site.state import Journal, Memory, Verdict, attempt_key
from sovapi.v1 import sitelink_pb2 as sitelink
from sovapi.v1.sitelink_pb2 import Desired, DesiredAttempt, Launch

ATTEMPTS_MAX = 8192  # Rows of one site; more than a site of 2,000 nodes can run.
RANKS_MAX = 65_536
PARTS_BYTES_MAX = 256 * 1024 * 1024  # Of one word; more than a journal can hold.
UNDESIRED_GRACE_MS = 10_000

_JOB = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_SLOT = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")

Refuse = Callable[[DesiredAttempt], Verdict | None]


class TooMuch(Exception):
    """A word has more rows, or bytes, than a site takes."""


class Parts:
    """Gathers a word from 0 that comes in parts: until every row is there, it counts for nothing.

    Parts may be lost, doubled or late, and sent again cut differently. Rows of one epoch up to one
    generation are the same each time; were some dropped meanwhile, the total says so.
    """

    def __init__(self) -> None:
        self._of = (0, 0)
        self._total = 0
        self._rows: dict[str, DesiredAttempt] = {}

    def clear(self) -> None:
        """Nothing is gathered any more."""
        self._of, self._total, self._rows = (0, 0), 0, {}

    def add(self, part: Desired) -> Desired | None:
        """The whole word, once this was all that it lacked. Raises TooMuch."""
        of = (part.epoch, part.to_generation)
        if of < self._of or part.from_generation != 0:
            return None  # Of an older word than the one that is being gathered.
        if (of, part.rows_total) != (self._of, self._total):
            self._of, self._total, self._rows = of, part.rows_total, {}
        self._rows |= {attempt_key(row.job_id, row.attempt): row for row in part.attempts}
        found_bytes = sum(row.ByteSize() for row in self._rows.values())
        if self._total > 2 * ATTEMPTS_MAX or found_bytes > PARTS_BYTES_MAX:
            self.clear()
            raise TooMuch(
                f"desired: found {part.rows_total} rows or more than {found_bytes} bytes, "
                f"allowed {2 * ATTEMPTS_MAX} and {PARTS_BYTES_MAX}"
            )
        if len(self._rows) < self._total:
            return None
        rows = [self._rows[key] for key in sorted(self._rows)]
        self.clear()
        return Desired(epoch=of[0], from_generation=0, to_generation=of[1], attempts=rows)


def follows(journal: Journal, desired: Desired) -> bool:
    """Whether `desired` follows on what the journal holds. Everything else is old, or too early."""
    return (
        desired.epoch >= journal.epoch
        and desired.from_generation <= journal.generation < desired.to_generation
    )


def accepts(journal: Journal, desired: Desired) -> bool:
    """Whether `desired` follows on what the journal holds, and can be taken."""
    return (
        follows(journal, desired)
        and all(_JOB.fullmatch(row.job_id) and row.attempt >= 0 for row in desired.attempts)
        and _rows_after(journal, desired) <= 2 * ATTEMPTS_MAX
    )


def _rows_after(journal: Journal, desired: Desired) -> int:
    told = {attempt_key(row.job_id, row.attempt) for row in desired.attempts}
    return len(journal.rows.keys() | told)


def accept(journal: Journal, desired: Desired, refuse: Refuse) -> Journal:
    """The journal with `desired` in it. `refuse` judges each row that is new and to run.

    The launch that an attempt came with stays its launch: nothing starts under another. A row that
    a full snapshot leaves out is not desired: what was to run is to stop, and its launch is kept,
    for it says which ranks there may be.
    """
    assert accepts(journal, desired)
    rows, memory = dict(journal.rows), dict(journal.memory)
    told = {attempt_key(row.job_id, row.attempt): row for row in desired.attempts}
    if desired.from_generation == 0:
        for key in sorted(rows.keys() - told.keys()):
            rows[key] = _no_longer_desired(rows[key])
    for key in sorted(told):
        row, known = told[key], rows.get(key)
        if known is not None and known.generation >= row.generation:
            continue
        kept = _with_launch(row, known)
        if kept.action == sitelink.DESIRED_ACTION_UNSPECIFIED:
            continue
        rows[key] = kept
        anew = known is None or known.action == sitelink.DESIRED_ACTION_FORGET
        if anew and kept.action != sitelink.DESIRED_ACTION_FORGET:
            verdict = faults(kept.launch) or (
                refuse(kept) if kept.action == sitelink.DESIRED_ACTION_RUN else None
            )
            before = memory.get(key, Memory(unsure=known is not None or journal.generation == 0))
            memory[key] = replace(before, verdict=verdict or before.verdict)
    return Journal(desired.epoch, desired.to_generation, rows, memory)


def faults(launch: Launch) -> Verdict | None:
    """What makes a launch impossible to carry out anywhere."""
    found = ""
    if not launch.nodes or not launch.command:
        found = "launch: found no nodes or no command, allowed at least one of each"
    elif len(launch.nodes) * max(1, launch.tasks_per_node) > RANKS_MAX:
        found = f"launch: found more than {RANKS_MAX} ranks"
    elif bad := sorted(n.slot for n in launch.nodes if not _SLOT.fullmatch(n.slot)):
        found = f"launch.nodes.slot: found {bad[0][:80]!r}, allowed a slot's name"
    elif len({node.slot for node in launch.nodes}) != len(launch.nodes):
        found = "launch.nodes: found one slot twice, allowed each once"
    if not found:
        return None
    return Verdict(sitelink.ATTEMPT_PHASE_FAILED_TO_START, "INVALID_ARGUMENT", found)


def running_rows(rows: Mapping[str, DesiredAttempt]) -> frozenset[str]:
    """The attempts that are to run."""
    return frozenset(key for key, row in rows.items() if row.action == sitelink.DESIRED_ACTION_RUN)


def _no_longer_desired(row: DesiredAttempt) -> DesiredAttempt:
    if row.action == sitelink.DESIRED_ACTION_FORGET:
        return row
    changed = DesiredAttempt()
    changed.CopyFrom(row)
    changed.action = sitelink.DESIRED_ACTION_STOP
    changed.stop_grace_ms = UNDESIRED_GRACE_MS
    changed.stop_reason = "UNDESIRED"
    return changed


def _with_launch(row: DesiredAttempt, known: DesiredAttempt | None) -> DesiredAttempt:
    if known is None or row.action == sitelink.DESIRED_ACTION_FORGET:
        return row
    if not known.HasField("launch") and row.HasField("launch"):
        return row
    kept = DesiredAttempt()
    kept.CopyFrom(row)
    kept.launch.CopyFrom(known.launch)
    return kept
