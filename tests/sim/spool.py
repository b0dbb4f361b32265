"""A simulated node's spool and the shims that keep its ranks: the rules of `agent/node/spool.py`.

A key runs at most once: the gate (start, or given up before), the shim's socket (one shim among
several) and the making of the start record are swaps, and whoever loses one stands back. What is
written down outlives everything; what runs, dies with its shim or with the node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sovapi.v1 import jobs_pb2 as jobs
from tests.sim.clock import BootClock, Life, Loop
from tests.sim.ledger import Ledger, Run
from tests.sim.scripts import Script
from tests.sim.seeds import Dice

SHIM_START_MS_MAX = 120
SIGKILL = 9


class SpoolRefused(Exception):
    """The spool will not have it; final."""


@dataclass(frozen=True, slots=True)
class RankSpec:
    """What a shim is to run."""

    script: Script
    world: int
    gpus: tuple[int, ...]
    lease_until_boot_ms: int | None
    time_limit_ms: int
    grace_ms: int
    ordered_ms: int


@dataclass(frozen=True, slots=True)
class Exit:
    """The record of an end."""

    cause: jobs.RankCause
    code: int | None = None
    signal: int = 0
    at_ms: int = 0


@dataclass(slots=True)
class Entry:
    """One rank's directory."""

    gate: str = ""
    spec: RankSpec | None = None
    bound: bool = False
    given_up: bool = False
    run: Run | None = None
    shim: Life = field(default_factory=lambda: Life(alive=False))
    exit: Exit | None = None
    lease_until_boot_ms: int | None = None
    ending: jobs.RankCause | None = None  # Why it was told to end.
    kill_at_boot_ms: int | None = None


class SimSpool:
    """One node's spool. `changed` is called with a key whenever its status may have changed."""

    def __init__(
        self, site: str, slot: str, *, loop: Loop, clock: BootClock, ledger: Ledger, dice: Dice
    ) -> None:
        self.site = site
        self.slot = slot
        self.boot_id = ""
        self.entries: dict[str, Entry] = {}
        self.archived: dict[str, Exit] = {}
        self.recalled: set[str] = set()
        self.changed: Callable[[str], None] = lambda key: None
        self._loop = loop
        self._clock = clock
        self._ledger = ledger
        self._dice = dice
        self._shims: list[Life] = []

    # The way in: what the node's executor calls.

    def prepare(self, key: str) -> None:
        """Make room for a rank."""
        if key in self.archived:
            raise SpoolRefused(f"rank {key} is archived: it is over and never runs again")
        if key not in self.entries:
            self.entries[key] = Entry()
            self.changed(key)

    def start(self, key: str, spec: RankSpec) -> str:
        """Start a prepared rank; "given_up" when its gate was taken before."""
        entry = self.entries.get(key)
        if entry is None:
            raise SpoolRefused(f"rank {key} was not prepared here")
        if entry.exit is not None:
            return "given_up" if entry.exit.cause == jobs.RANK_CAUSE_NEVER_STARTED else "over"
        if not entry.gate:
            lease = spec.lease_until_boot_ms
            if lease is not None and lease <= self._clock.now_ms:
                raise SpoolRefused(f"rank {key}: its lease lapsed before it was started")
            entry.spec, entry.gate = spec, "start"
            self.changed(key)
        if entry.gate == "start" and entry.run is None:
            shim = Life()  # Several may be on their way; one will bind.
            self._shims.append(shim)
            delay_ms = self._dice.between(1, SHIM_START_MS_MAX)
            self._loop.after(delay_ms, lambda: self._shim_begins(key, entry, shim), shim)
        return "started"

    def boot(self, boot_id: str) -> None:
        """The node starts: nothing of before runs, everything written is still there."""
        self.boot_id = boot_id
        self._shims = []

    def crash(self) -> None:
        """The node stops: every process ends, no record is written."""
        for shim in self._shims:
            shim.end()
        for key in sorted(self.entries):
            run = self.entries[key].run
            if run is not None and run.ended_ms is None:
                self._end_run(run, None, SIGKILL, "node")

    def kill_shim(self, key: str) -> bool:
        """kill -9 of a rank's shim: the kernel ends the rank, nobody writes a record."""
        entry = self.entries.get(key)
        if entry is None or entry.run is None or entry.run.ended_ms is not None:
            return False
        entry.shim.end()
        self._end_run(entry.run, None, SIGKILL, "shim")
        self.changed(key)
        return True

    # The way out: what the node agent calls.

    def stop(self, key: str, grace_ms: int, cause: jobs.RankCause) -> None:
        """Stop a rank, or see to it that it never starts. May be repeated."""
        if key in self.archived:
            self.recalled.add(key)  # Asked for again: told again, until it is archived again.
            self.changed(key)
            return
        entry = self.entries.setdefault(key, Entry())
        if self.status(key).phase == jobs.RANK_PHASE_OVER:
            return
        if not entry.gate:
            entry.gate = "stop"
            entry.exit = Exit(jobs.RANK_CAUSE_NEVER_STARTED, at_ms=self._loop.wall_ms)
        elif entry.run is None:
            entry.given_up = True
            entry.exit = Exit(jobs.RANK_CAUSE_NEVER_STARTED, at_ms=self._loop.wall_ms)
        else:
            self._tell_end(key, entry, cause, grace_ms)
        self.changed(key)

    def renew(self, key: str, lease_until_boot_ms: int) -> None:
        """A lease now runs until then, if that is later."""
        entry = self.entries.get(key)
        if entry is not None and entry.lease_until_boot_ms is not None:
            entry.lease_until_boot_ms = max(entry.lease_until_boot_ms, lease_until_boot_ms)

    def archive(self, key: str) -> bool:
        """Keep only the record of a rank that is over; whether it is in the archive now."""
        entry = self.entries.get(key)
        if entry is None:
            self.recalled.discard(key)
            return key in self.archived
        if self.status(key).phase != jobs.RANK_PHASE_OVER:
            return False
        self.archived[key] = entry.exit or Exit(jobs.RANK_CAUSE_LOST, at_ms=self._loop.wall_ms)
        del self.entries[key]
        return True

    def told(self) -> list[str]:
        """The keys that the node agent tells of."""
        return sorted(self.entries.keys() | self.recalled)

    def live_leased(self) -> Iterable[tuple[str, Entry]]:
        """Ranks that run under a lease."""
        for key in sorted(self.entries):
            entry = self.entries[key]
            running = entry.run is not None and entry.run.ended_ms is None
            if running and entry.lease_until_boot_ms is not None:
                yield key, entry

    def status(self, key: str) -> jobs.RankStatus:
        """What the spool knows of a rank."""
        entry = self.entries.get(key) or Entry(gate="stop", exit=self.archived[key])
        run = entry.run
        told = jobs.RankStatus(rank=int(key.rpartition(".")[2]), node=self.slot)
        if run is not None:
            told.started_at_ms = self._loop.wall_ms - self._loop.now_ms + run.started_ms
        if entry.exit is not None:
            told.phase, told.cause = jobs.RANK_PHASE_OVER, entry.exit.cause
            told.signal, told.ended_at_ms = entry.exit.signal, entry.exit.at_ms
            if entry.exit.code is not None:
                told.exit_code = entry.exit.code
        elif not entry.gate:
            told.phase = jobs.RANK_PHASE_PREPARED
        elif run is None:
            told.phase = jobs.RANK_PHASE_STARTING
        elif entry.shim.alive:
            told.phase = jobs.RANK_PHASE_RUNNING
        else:
            told.phase, told.cause = jobs.RANK_PHASE_OVER, jobs.RANK_CAUSE_LOST
            told.detail = "shim and init are gone; no exit was recorded"
        return told

    # A shim.

    def _shim_begins(self, key: str, entry: Entry, shim: Life) -> None:
        spec = entry.spec
        if entry.bound or entry.given_up or self.entries.get(key) is not entry or spec is None:
            return
        entry.bound, entry.shim = True, shim
        if any(set(spec.gpus) & set(other.gpus) for other in self._running_here()):
            # A lock per GPU: the last line of defence. The checkers see that it is never needed.
            self._ledger.gpu_conflicts.append(key)
            entry.exit = Exit(jobs.RANK_CAUSE_INFRASTRUCTURE, at_ms=self._loop.wall_ms)
            self.changed(key)
            return
        job, attempt, rank = key.rsplit(".", 2)
        now_ms = self._loop.now_ms
        entry.run = self._ledger.begin(
            Run(job, int(attempt), int(rank), spec.world, self.site, self.slot, spec.gpus,
                spec.ordered_ms, now_ms)
        )  # fmt: skip
        entry.lease_until_boot_ms = spec.lease_until_boot_ms
        code, signal = spec.script.end(int(attempt), int(rank))
        self._loop.after(
            spec.script.runs_ms, lambda: self._left_alone(key, entry, code, signal), shim
        )
        self._loop.after(
            spec.time_limit_ms,
            lambda: self._tell_end(key, entry, jobs.RANK_CAUSE_TIME_LIMIT, spec.grace_ms),
            shim,
        )
        self._watch_lease(key, entry)
        self.changed(key)

    def _running_here(self) -> list[Run]:
        runs = (entry.run for entry in self.entries.values())
        return [run for run in runs if run is not None and run.ended_ms is None]

    def _left_alone(self, key: str, entry: Entry, code: int | None, signal: int) -> None:
        if not entry.ending:
            self._finish(key, entry, Exit(jobs.RANK_CAUSE_EXIT, code, signal))

    def _watch_lease(self, key: str, entry: Entry) -> None:
        until_ms = entry.lease_until_boot_ms
        if until_ms is None or entry.spec is None:
            return
        left_ms = self._clock.until(until_ms)
        if left_ms == 0:
            self._tell_end(key, entry, jobs.RANK_CAUSE_LEASE, entry.spec.grace_ms)
        else:
            self._loop.after(left_ms, lambda: self._watch_lease(key, entry), entry.shim)

    def _tell_end(self, key: str, entry: Entry, cause: jobs.RankCause, grace_ms: int) -> None:
        """SIGTERM now, SIGKILL after the grace; the first cause stands, a grace only shrinks."""
        if entry.run is None or entry.run.ended_ms is not None or entry.spec is None:
            return
        kill_at_ms = self._clock.now_ms + grace_ms
        if not entry.ending:
            entry.ending = cause
            script = entry.spec.script
            if script.term_ms >= 0:
                done = Exit(cause, script.term_code)
                self._loop.after(script.term_ms, lambda: self._finish(key, entry, done), entry.shim)
        if entry.kill_at_boot_ms is None or kill_at_ms < entry.kill_at_boot_ms:
            entry.kill_at_boot_ms = kill_at_ms
            killed = Exit(entry.ending, None, SIGKILL)
            self._loop.after(grace_ms, lambda: self._finish(key, entry, killed), entry.shim)

    def _finish(self, key: str, entry: Entry, record: Exit) -> None:
        if entry.exit is not None or entry.run is None:
            return
        why = jobs.RankCause.Name(record.cause).removeprefix("RANK_CAUSE_").lower()
        self._end_run(entry.run, record.code, record.signal, why)
        entry.exit = Exit(record.cause, record.code, record.signal, self._loop.wall_ms)
        entry.shim.end()
        self.changed(key)

    def _end_run(self, run: Run, code: int | None, signal: int, why: str) -> None:
        run.ended_ms, run.exit_code, run.signal = self._loop.now_ms, code, signal
        run.why = why
