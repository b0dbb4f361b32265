"""The spool of a node: where its ranks are recorded, and every read and write of it but the shim's
own.

One directory a rank, `<spool>/<job>.<attempt>.<rank>/`:

| name | what |
|---|---|
| `prepare.json` | the rendezvous address and port offered for this rank, where it needs one |
| `gate` | a symbolic link whose text is `start` or `stop`: made once, whole, never changed |
| `spec.json` | what the shim runs (0600) |
| `ctl` | datagram socket of the shim, which orders go to; only one shim can ever bind it |
| `started.json` | shim and init by pid and start time, the boot id: made before the rank may run |
| `exit.durable`, `exit.json` | the end: first durable under one name, then visible as the other |
| `log` | what the rank wrote, bounded (limits in `rank_record.py`) |
| `log.times` | when its parts came (`log_times.py`) |
| `work/` | the rank's working directory, its own user's |

Beside them: `archive/<key>/` (log and exit record of what is forgotten), `gpu/<index>.lock`,
`uid/<uid>` (a symbolic link naming the job that holds this uid), `claims/` (room for the records of
starts, made ahead; `claims.py`), `net/<job>.<attempt>/` (the plan and the socket of the gate that
the attempt's ranks share; `gate.py`), `overlay.json` (the port of all overlays here).

A key runs at most once, ever. Three swaps see to it; whoever loses one stands back: the gate
(start, or given up before), the bind of `ctl` (one shim among several) and the making of
`started.json` (run, or given up just before). A rank is over only when its end is recorded, or when
it can be shown that nothing of it runs and nothing can start.

That a rank was started is durable before it may run, and found again after a power cut with
whatever else of it is needed: a node that goes down earlier has run nothing, and nobody was told
otherwise.

Nothing here blocks on a rank: `stop` tells and returns, and is repeated until the status says OVER.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import shutil
from collections.abc import Generator, Iterator, Mapping, Set
from dataclasses import replace
from pathlib import Path

from agent.node import claims, log_times
from agent.node.clock import boot_id, boot_ms, wall_ms
from agent.node.rank_record import sync_folder
from agent.node.spool_files import (
    Document,
    SpoolError,
    gate_of,
    kept_by_someone,
    kill_survivors,
    listening,
    number,
    publish_once,
    put,
    put_once,
    read_document,
    remove,
    send_order,
    size_bytes,
    survivors,
)
from agent.node.status import (
    Cause,
    LogPart,
    Phase,
    RankStatus,
    Rendezvous,
    begun,
    ended,
    outputs_of,
    record_of,
)

KEYS_MAX = 4096  # Live ranks on one node.
LOG_READ_BYTES_MAX = 1024 * 1024
ARCHIVE_LOG_BYTES_MAX = 8 * 1024 * 1024 * 1024  # Oldest logs go first; the exit records stay.
ARCHIVE_RECORDS_MAX = 20_000  # A record keeps its key from ever starting again.
NETWORKS = "net"
UID_FIRST, UID_LAST = 200_000, 259_999

GIVEN_UP = "given up before it ran"
_KEY = re.compile(r"([a-z0-9][a-z0-9-]{0,63})\.(\d{1,9})\.(\d{1,6})")
_ARCHIVED_NAMES = frozenset({"log", log_times.NAME, "exit.json"})


@functools.lru_cache(KEYS_MAX)
def job_of(key: str) -> str:
    """The job a rank key belongs to. A malformed key is a SpoolError: it would become a path."""
    match = _KEY.fullmatch(key)
    if match is None:
        raise SpoolError(f"rank key {key!r}: want <job>.<attempt>.<rank>")
    return match[1]


class Spool:
    """One node's spool. Any number of processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root = root.resolve()  # What lies below is found without asking again.
        self.rooms = root / claims.FOLDER
        for folder in (
            *(root, root / "archive", root / "gpu", root / "uid"),
            *(self.rooms, root / NETWORKS),
        ):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        root.chmod(0o711)  # A rank must reach its own work directory, and list nothing.

    def home(self, key: str) -> Path:
        """The directory of a live rank."""
        job_of(key)
        return self.root / key

    # Claiming and starting.

    def make_room(self, key: str) -> None:
        """Make room for a rank."""
        home = self.home(key)
        if not home.exists() and sum(1 for _ in self._live_keys()) >= KEYS_MAX:
            raise SpoolError(f"the spool already holds {KEYS_MAX} ranks")
        home.mkdir(mode=0o711, exist_ok=True)
        home.chmod(0o711)
        if (
            self.root / "archive" / key
        ).exists():  # After mkdir, so that archiving cannot slip between.
            with contextlib.suppress(OSError):
                home.rmdir()
            raise SpoolError(f"rank {key} is archived: it is over and never runs again")
        (home / "work").mkdir(mode=0o700, exist_ok=True)

    def prepare(self, key: str, offer: Rendezvous) -> Rendezvous:
        """Make room for a rank that may lead others. The first offer stands: preparing again
        returns it.
        """
        self.make_room(key)
        home = self.home(key)
        offered = {"address": offer.address, "port": offer.port}
        put_once(home, "prepare.json", offered)
        made = read_document(home / "prepare.json")
        if "port" not in made:  # The node went down as it was written.
            put(home, "prepare.json", offered)
            made = read_document(home / "prepare.json")
        return Rendezvous(str(made["address"]), number(made["port"]))

    def network(self, key: str) -> Path:
        """The folder of the network that the ranks of this one's attempt share here."""
        job_of(key)
        return self.root / NETWORKS / key.rpartition(".")[0]

    def ports(self) -> frozenset[int]:
        """Rendezvous ports offered to ranks that are still here."""
        offers = (read_document(self.root / key / "prepare.json") for key in self._live_keys())
        return frozenset(number(offer["port"]) for offer in offers if "port" in offer)

    def write_spec(self, key: str, spec: Mapping[str, object]) -> None:
        """Put down what the shim shall run; once the gate stands, what was put down first
        stands.
        """
        home = self.home(key)
        if not gate_of(home):
            put(home, "spec.json", spec)

    def open_gate(self, key: str, way: str = "start") -> bool:
        """Take the key's gate for `start` or `stop`. True when it stands that way, now or
        before.
        """
        home = self.home(key)
        with contextlib.suppress(FileExistsError):
            os.symlink(way, home / "gate")
            if way == "stop":  # Whoever starts makes started.json durable, and this name with it.
                sync_folder(home)
        return gate_of(home) == way

    def gate(self, key: str) -> str:
        """How the key's gate stands, `start` or `stop`; empty: it does not yet."""
        return gate_of(self.home(key))

    @contextlib.contextmanager
    def starting(self, key: str) -> Generator[None]:
        """Alone in starting a key: two executors must not fill one work directory at once."""
        with open(self.home(key) / "start.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def settle(self) -> None:
        """Put right what the node's last going down left; see `claims.py`."""
        claims.settle(self.root)

    # Looking.

    def known(self) -> tuple[RankStatus, ...]:
        """Every live (not archived) rank, by key."""
        found = (self.status(key) for key in self._live_keys())
        return tuple(status for status in found if status.phase is not Phase.ABSENT)

    def status(self, key: str) -> RankStatus:
        """What is known of one rank, archived ones included."""
        home = self.home(key)
        if not home.exists():
            record = read_document(self.root / "archive" / key / "exit.json")
            if not record:
                return RankStatus(key, Phase.ABSENT)
            archived = self.root / "archive" / key
            return replace(
                ended(key, record), archived=True, log_bytes=size_bytes(archived / "log")
            )
        return replace(self._live_status(key, home), log_bytes=size_bytes(home / "log"))

    def _live_status(self, key: str, home: Path) -> RankStatus:
        if record := read_document(home / "exit.json"):
            return self._ended(key, record, home)
        alive = listening(home)  # Before the documents: what a dead shim wrote is all there.
        gate = gate_of(home)
        if gate == "stop":
            return RankStatus(key, Phase.OVER, cause=Cause.NEVER_STARTED, detail=GIVEN_UP)
        if not gate:
            return RankStatus(key, Phase.PREPARED)
        started = read_document(home / "started.json")
        if started.get("given_up"):
            return RankStatus(key, Phase.OVER, cause=Cause.NEVER_STARTED, detail=GIVEN_UP)
        base = begun(key, started)
        if alive or (started and kept_by_someone(started)):
            return base
        if record := read_document(home / "exit.json") or read_document(home / "exit.durable"):
            return self._ended(key, record, home)
        if not started:  # Its shim died before it could start anything: `stop` gives the key up.
            return base
        if base.boot_id == boot_id() and any(True for _ in survivors(home)):
            return replace(
                base, orphaned=True, detail="the shim is gone; processes of the rank are left"
            )
        why = "the node was started anew" if base.boot_id != boot_id() else "shim and init are gone"
        return replace(
            base, phase=Phase.OVER, cause=Cause.LOST, detail=f"{why}; no exit was recorded"
        )

    @staticmethod
    def _ended(key: str, record: Document, home: Path) -> RankStatus:
        status = ended(key, record)
        if not record.get("outputs"):
            return status
        return replace(status, outputs=outputs_of(read_document(home / "outputs.json")))

    def read_log(self, key: str, offset: int, max_bytes: int, since_ms: int = 0) -> LogPart:
        """Part of a rank's log, live or archived: from `offset` on, or from where it may be younger
        than `since_ms` (UTC), if that is later. A rank without a log has an empty one.
        """
        job_of(key)
        if offset < 0 or max_bytes < 0:
            raise SpoolError(f"log offset {offset} and length {max_bytes}: want 0 or more")
        for folder in (self.root / key, self.root / "archive" / key):
            with (
                contextlib.suppress(FileNotFoundError, NotADirectoryError),
                open(folder / "log", "rb") as file,
            ):
                if since_ms > 0:
                    marks = log_times.marks_of(folder)
                    offset = max(offset, log_times.offset_since(file.fileno(), marks, since_ms))
                total = os.fstat(file.fileno()).st_size
                return LogPart(
                    offset,
                    os.pread(file.fileno(), min(max_bytes, LOG_READ_BYTES_MAX), offset),
                    total,
                )
        return LogPart(offset, b"", 0)

    # Orders.

    def renew(self, key: str, lease_until_ms: int) -> bool:
        """Tell the shim its lease runs until then (this node's CLOCK_BOOTTIME). False: nobody
        listens.
        """
        return send_order(self.home(key), {"op": "lease", "until_ms": lease_until_ms})

    def stop(self, key: str, grace_ms: int, cause: Cause = Cause.STOP) -> RankStatus:
        """Stop a rank, or give its key up if nothing ran; repeat until the status says OVER.

        An unknown key is given up too, so that a start still under way finds it taken. TERM now,
        SIGKILL of everything after `grace_ms`; a second stop may only shorten the grace.
        """
        home = self.home(key)
        if self.status(key).phase is Phase.OVER:
            return self.status(key)
        home.mkdir(mode=0o711, exist_ok=True)
        order: Document = {"op": "stop", "grace_ms": grace_ms, "cause": str(cause)}
        if self.open_gate(key, "stop"):
            self._give_up(key)
        elif not send_order(home, order):
            publish_once(home, "started.json", {"given_up": True})
            if read_document(home / "started.json").get("given_up"):
                self._give_up(key)  # We won: a shim still on its way will find it and stand back.
            elif not send_order(home, order) and self.status(key).orphaned:
                kill_survivors(home)
        return self.status(key)

    def _give_up(self, key: str) -> None:
        end: Document = {
            "ended_boot_ms": boot_ms(),
            "ended_wall_ms": wall_ms(),
            "boot_id": boot_id(),
        }
        cause: Document = {"cause": str(Cause.NEVER_STARTED), "detail": GIVEN_UP}
        publish_once(self.home(key), "exit.json", {"code": None, "signal": None, **cause, **end})

    # Forgetting.

    def archive(self, key: str) -> None:
        """Keep only log and record of a rank that is over; give its uid back with its job's last
        rank.
        """
        home, kept = self.home(key), self.root / "archive" / key
        if home.exists() and not kept.exists():
            status = self.status(key)
            if status.phase is not Phase.OVER:
                raise SpoolError(f"rank {key} is {status.phase}: only what is over can be archived")
            publish_once(home, "exit.json", record_of(status))
            os.rename(home, kept)  # One step: a key is always in one place or the other.
            sync_folder(kept.parent)
        for name in sorted(os.listdir(kept)) if kept.exists() else ():
            if name not in _ARCHIVED_NAMES:
                remove(kept / name)
        attempt = key.rpartition(".")[0]
        if not any(other.rpartition(".")[0] == attempt for other in self._live_keys()):
            remove(self.network(key))
        job = job_of(key)
        if not any(job_of(other) == job for other in self._live_keys()):
            self._release_uid(job)

    def enforce_retention(
        self, log_bytes_max: int = ARCHIVE_LOG_BYTES_MAX, records_max: int = ARCHIVE_RECORDS_MAX
    ) -> None:
        """Drop the oldest archived logs over the one limit and the oldest records over the other,
        and what killed shims left.
        """
        self.settle()
        folders = [self.root / "archive" / name for name in os.listdir(self.root / "archive")]
        newest = sorted(folders, key=lambda folder: (-folder.stat().st_mtime_ns, folder.name))
        kept_bytes = 0
        for position, folder in enumerate(newest):
            kept_bytes += size_bytes(folder / "log")
            if position >= records_max:
                shutil.rmtree(folder, ignore_errors=True)
            elif kept_bytes > log_bytes_max:
                times = folder.stat().st_atime_ns, folder.stat().st_mtime_ns
                for name in ("log", log_times.NAME):
                    (folder / name).unlink(missing_ok=True)
                os.utime(folder, ns=times)

    # Users.

    def uid_for(
        self,
        job: str,
        preferred: int,
        *,
        avoid: Set[int] = frozenset(),
        first: int = UID_FIRST,
        last: int = UID_LAST,
    ) -> int:
        """The uid of a job on this node, the same until its last rank is archived.

        Begins at `preferred` (derived from the job, so that nodes agree) and takes the next free
        one that is not to be avoided; the making of the link is the swap.
        """
        folder, span = self.root / "uid", last - first + 1
        held = {os.readlink(folder / name): int(name) for name in os.listdir(folder)}
        if job in held and first <= held[job] <= last:
            return held[job]
        for step in range(span):
            uid = first + (preferred - first + step) % span
            if uid in avoid:
                continue
            with contextlib.suppress(FileExistsError):
                os.symlink(job, folder / str(uid))
                return uid
            if os.readlink(folder / str(uid)) == job:
                return uid
        raise SpoolError(f"all {span} uids from {first} to {last} are taken")

    def _release_uid(self, job: str) -> None:
        for name in sorted(os.listdir(self.root / "uid")):
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(self.root / "uid" / name) == job:
                    os.unlink(self.root / "uid" / name)

    def _live_keys(self) -> Iterator[str]:
        return (name for name in sorted(os.listdir(self.root)) if _KEY.fullmatch(name))
