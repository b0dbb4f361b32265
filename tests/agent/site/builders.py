"""Short words for what a site is told and sees."""

from agent.site.state import Memory, NodeView, Observed, Verdict
from sovapi.v1 import common_pb2 as common
from sovapi.v1 import jobs_pb2 as jobs
from sovapi.v1 import sitelink_pb2 as sitelink
from sovapi.v1.jobs_pb2 import RankStatus, ResidencyRequirement
from sovapi.v1.sitelink_pb2 import Desired, DesiredAttempt, Launch, PlacedNode

RUN, STOP, FORGET = (
    sitelink.DESIRED_ACTION_RUN,
    sitelink.DESIRED_ACTION_STOP,
    sitelink.DESIRED_ACTION_FORGET,
)
GB = ResidencyRequirement(
    jurisdictions=["GB"],
    tier=common.TIER_OFFICIAL,
    min_assurance=common.ASSURANCE_DECLARED,
)
BOOT = "boot-a"


class Generous:
    """Grants that are always there: what a test is not about."""

    def refuse_row(self, row: DesiredAttempt, held: int) -> Verdict | None:
        del row, held
        return None

    def refuse_start(self, key: str, launch: Launch) -> Verdict | None:
        del key, launch
        return None


def launch(*slots: str, tasks: int = 1, leased: bool = False) -> Launch:
    """A launch with one GPU of each of these nodes."""
    return Launch(
        command=["true"],
        nodes=[PlacedNode(slot=slot, gpu_indices=[0]) for slot in slots or ("n01", "n02")],
        tasks_per_node=tasks,
        gpus_per_node=1,
        stop_grace_ms=5_000,
        leased=leased,
        residency=GB,
        min_isolation=common.ISOLATION_NONE,
    )


def row(
    action: sitelink.DesiredAction = RUN,
    *,
    job: str = "job-a",
    generation: int = 1,
    what: Launch | None = None,
    grace_ms: int = 7_000,
) -> DesiredAttempt:
    """A row of the outbox."""
    return DesiredAttempt(
        job_id=job,
        attempt=1,
        generation=generation,
        action=action,
        stop_grace_ms=grace_ms,
        launch=None if action == FORGET else what or launch(),
    )


def desired(*rows: DesiredAttempt, to: int = 1, since: int = 0, epoch: int = 1) -> Desired:
    """The control plane's word."""
    return Desired(epoch=epoch, from_generation=since, to_generation=to, attempts=rows)


def in_parts(*parts: tuple[DesiredAttempt, ...], to: int = 1) -> list[Desired]:
    """A word from 0 that comes in these parts."""
    total = sum(map(len, parts))
    return [Desired(epoch=1, to_generation=to, attempts=part, rows_total=total) for part in parts]


def prepared(rank: int = 0) -> RankStatus:
    """A rank whose room is made."""
    return RankStatus(rank=rank, phase=jobs.RANK_PHASE_PREPARED)


def running(rank: int = 0) -> RankStatus:
    """A rank that runs."""
    return RankStatus(rank=rank, phase=jobs.RANK_PHASE_RUNNING)


def over(
    rank: int = 0,
    cause: jobs.RankCause = jobs.RANK_CAUSE_EXIT,
    code: int | None = None,
    signal: int = 0,
) -> RankStatus:
    """A rank that is over; by a clean exit unless told otherwise."""
    if cause == jobs.RANK_CAUSE_EXIT and code is None and not signal:
        code = 0
    return RankStatus(
        rank=rank, phase=jobs.RANK_PHASE_OVER, cause=cause, exit_code=code, signal=signal
    )


def node(
    *ranks: RankStatus,
    key: str = "job-a.1",
    known: bool = True,
    boot: str = BOOT,
    dead_ms: int | None = 0,
) -> NodeView:
    """A node with these ranks in its spool."""
    return NodeView(boot, known, {f"{key}.{rank.rank}": rank for rank in ranks}, dead_ms)


def seen(
    n01: NodeView | None = None,
    n02: NodeView | None = None,
    *,
    reserved: bool = True,
    launched: bool = True,
    **more: object,
) -> Observed:
    """Two nodes, and an attempt `job-a.1` that was launched on both in boot `boot-a`."""
    boots = {"n01": BOOT, "n02": BOOT} if launched else {}
    facts: dict[str, object] = {
        "generation": 1,
        "age_ms": 60_000,
        "nodes": {"n01": n01 or node(), "n02": n02 or node()},
        "reservations": frozenset({"job-a.1"} if reserved else ()),
        "memory": {"job-a.1": Memory(boots=boots)},
    }
    return Observed(**{**facts, **more})  # type: ignore[arg-type]
