"""The nouns of a site agent: what is desired of it, what it remembers, sees, and should do.

Rows, rank statuses and reports are the wire's own messages, so that no second set of nouns has to
be kept equal to them; they are never changed after they arrived. An attempt's key is
"<job id>.<attempt>", a rank's "<job id>.<attempt>.<rank>".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from sovapi.v1.jobs_pb2 import RankCause, RankStatus
from sovapi.v1.sitelink_pb2 import AttemptPhase, AttemptReport, DesiredAttempt, Launch

RUNTIME_GRACE_MS = 60_000  # Unless the site says otherwise.


@dataclass(frozen=True, slots=True)
class Rank:
    """One process of an attempt: where it belongs and what it holds."""

    key: str
    number: int
    slot: str
    node_rank: int
    local_rank: int
    gpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why an attempt will not run here. Final, and reported once nothing of it can run."""

    phase: AttemptPhase
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Memory:
    """What must not be forgotten of an attempt, whatever crashes.

    `boots`: the boot id of each of its nodes when it was first launched; empty: never launched.
    `unsure`: its row came to an empty journal, so an agent before this one may have launched it.
    """

    boots: Mapping[str, str] = field(default_factory=dict[str, str])
    unsure: bool = False
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Journal:
    """What the site agent keeps on disk: all it has accepted, and what it remembers of it."""

    epoch: int = 0
    generation: int = 0
    rows: Mapping[str, DesiredAttempt] = field(default_factory=dict[str, DesiredAttempt])
    memory: Mapping[str, Memory] = field(default_factory=dict[str, Memory])


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as its agent and Ray tell of it.

    `known`: its agent is connected and has told its whole spool in this boot; otherwise `ranks` is
    what was last heard. `runtime_dead_ms`: for how long its raylet has been dead; 0: it answers;
    None: nobody knows.
    """

    boot_id: str = ""
    known: bool = False
    ranks: Mapping[str, RankStatus] = field(default_factory=dict[str, RankStatus])
    runtime_dead_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How starting an attempt goes, since this agent began or the attempt was accepted."""

    waiting_ms: int = 0
    tries: int = 0
    may_try: bool = True  # The pause after the last failure is over, and a lease can be given.
    failure: Verdict | None = None  # Of the last try.
    retryable: bool = True


@dataclass(frozen=True, slots=True)
class Observed:
    """All that reconcile looks at besides what is desired.

    `reservations`: attempts that hold a placement group; None: Ray does not answer.
    `runtime_grace_ms`: a node whose raylet is dead for longer is fenced.
    """

    generation: int
    age_ms: int = 0
    nodes: Mapping[str, NodeView] = field(default_factory=dict[str, NodeView])
    reservations: frozenset[str] | None = None
    launching: frozenset[str] = frozenset()
    memory: Mapping[str, Memory] = field(default_factory=dict[str, Memory])
    progress: Mapping[str, Progress] = field(default_factory=dict[str, Progress])
    runtime_grace_ms: int = RUNTIME_GRACE_MS


@dataclass(frozen=True, slots=True, order=True)
class StopRank:
    """End a rank, or see to it that it never starts."""

    slot: str
    key: str
    grace_ms: int
    cause: RankCause


@dataclass(frozen=True, slots=True, order=True)
class GiveUp:
    """Starting has failed for good: remember the verdict, then stop what there is."""

    key: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, order=True)
class Release:
    """Give an attempt's placement group back."""

    key: str


@dataclass(frozen=True, slots=True, order=True)
class Archive:
    """Keep of a rank only its log and its record."""

    slot: str
    key: str


@dataclass(frozen=True, slots=True, order=True)
class Drop:
    """Nothing is left of a forgotten attempt: its row may go."""

    key: str


@dataclass(frozen=True, slots=True, order=True)
class Start:
    """Launch an attempt, or finish or renew a launch that was cut off. `begins`: some of its ranks
    have not begun; otherwise it only takes a lost reservation again."""

    key: str
    begins: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """What to say of an attempt."""

    key: str
    report: AttemptReport


Action: TypeAlias = StopRank | GiveUp | Release | Archive | Drop | Start | Report
ORDER: tuple[type[Action], ...] = (StopRank, GiveUp, Release, Archive, Drop, Start, Report)
"""Stop first: a start may need what a stop frees."""


def attempt_key(job_id: str, attempt: int) -> str:
    """The key of an attempt."""
    return f"{job_id}.{attempt}"


def attempt_of(rank_key: str) -> str:
    """The attempt that a rank belongs to."""
    return rank_key.rpartition(".")[0]


def ranks_of(key: str, launch: Launch) -> tuple[Rank, ...]:
    """Every rank of an attempt, in order. A node's GPUs are divided among its ranks, in order."""
    tasks = max(1, launch.tasks_per_node)
    ranks: list[Rank] = []
    for node_rank, node in enumerate(launch.nodes):
        gpus = tuple(node.gpu_indices)
        for local_rank in range(tasks):
            share = gpus[local_rank * len(gpus) // tasks : (local_rank + 1) * len(gpus) // tasks]
            number = node_rank * tasks + local_rank
            ranks.append(Rank(f"{key}.{number}", number, node.slot, node_rank, local_rank, share))
    return tuple(ranks)
