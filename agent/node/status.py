"""What a node knows of a rank, and how that stands in the spool's documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, cast

from agent.node.spool_files import Document, number, number_or_none


class Phase(StrEnum):
    """Where a rank is in its life. ABSENT: this spool has never seen the key."""

    ABSENT = "absent"
    PREPARED = "prepared"
    STARTING = "starting"
    RUNNING = "running"
    OVER = "over"


class Cause(StrEnum):
    """Why a rank is over."""

    EXIT = "exit"
    STOP = "stop"
    FENCE = "fence"
    LEASE = "lease"
    TIME_LIMIT = "time_limit"
    NEVER_STARTED = "never_started"
    LOST = "lost"
    INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True, slots=True)
class Egress:
    """What a rank's network let out. `uses`: connections, bytes sent and bytes received, for each
    destination in the order of the job's list.
    """

    denied: int
    uses: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """Files of a rank that are in the site's store now."""

    dataset: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RankStatus:
    """What a node knows of one rank.

    Of `exit_code` and `signal` at most one is set: a rank either exits or is ended by a signal.
    Boot times count milliseconds of this node's CLOCK_BOOTTIME in boot `boot_id`; wall times are
    for people. `orphaned`: the shim is gone but processes of the rank are left (level `none` only).
    """

    key: str
    phase: Phase
    exit_code: int | None = None
    signal: int | None = None
    cause: Cause | None = None
    detail: str = ""
    started_boot_ms: int | None = None
    started_wall_ms: int | None = None
    ended_boot_ms: int | None = None
    ended_wall_ms: int | None = None
    boot_id: str = ""
    log_bytes: int = 0
    orphaned: bool = False
    archived: bool = False
    egress: Egress | None = None  # Once it is over; None: its node's network was its own.
    outputs: tuple[Output, ...] = ()


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """Where the ranks of a gang may meet, if this rank leads."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class LogPart:
    """A stretch of a log: `data` begins at `offset`; the whole has `total_bytes` so far."""

    offset: int
    data: bytes
    total_bytes: int


def begun(key: str, started: Document) -> RankStatus:
    """A rank that started and whose end nobody has seen."""
    if not started:
        return RankStatus(key, Phase.STARTING)
    return RankStatus(
        key,
        Phase.RUNNING,
        started_boot_ms=number_or_none(started.get("started_boot_ms")),
        started_wall_ms=number_or_none(started.get("started_wall_ms")),
        boot_id=str(started.get("boot_id", "")),
    )


def ended(key: str, record: Document) -> RankStatus:
    """A rank whose end was recorded."""
    return RankStatus(
        key=key,
        phase=Phase.OVER,
        exit_code=number_or_none(record.get("code")),
        signal=number_or_none(record.get("signal")),
        cause=Cause(str(record["cause"])),
        detail=str(record.get("detail", "")),
        started_boot_ms=number_or_none(record.get("started_boot_ms")),
        started_wall_ms=number_or_none(record.get("started_wall_ms")),
        ended_boot_ms=number_or_none(record.get("ended_boot_ms")),
        ended_wall_ms=number_or_none(record.get("ended_wall_ms")),
        boot_id=str(record.get("boot_id", "")),
        egress=_egress_of(record.get("egress")),
    )


def _egress_of(found: object) -> Egress | None:
    if not isinstance(found, dict):
        return None
    record = cast("Mapping[str, Any]", found)
    uses = tuple((int(c), int(s), int(r)) for c, s, r in record.get("uses", ()))
    return Egress(int(record["denied"]), uses)


def outputs_of(document: Document) -> tuple[Output, ...]:
    """What a rank left in the site's store, as its shim wrote it down."""
    rows = cast("list[Document]", document.get("outputs", []))
    return tuple(
        Output(str(row["dataset"]), str(row["digest"]), number(row["size_bytes"])) for row in rows
    )


def record_of(status: RankStatus) -> Document:
    """The exit record that says what `status` says."""
    names = (
        "signal",
        "detail",
        "started_boot_ms",
        "started_wall_ms",
        "ended_boot_ms",
        "ended_wall_ms",
        "boot_id",
    )
    record: Document = {name: getattr(status, name) for name in names}
    if status.egress is not None:
        record["egress"] = asdict(status.egress)
    return {**record, "code": status.exit_code, "cause": str(status.cause)}
