"""Every row of the table of adoption, and the rules around it."""

import pytest

from agent.site.reconcile import START_PATIENCE_MS, START_TRIES_MAX, reconcile
from agent.site.state import (
    RUNTIME_GRACE_MS,
    Action,
    Archive,
    Drop,
    GiveUp,
    Memory,
    Observed,
    Progress,
    Release,
    Report,
    Start,
    StopRank,
    Verdict,
)
from sovapi.v1 import jobs_pb2 as jobs
from sovapi.v1 import sitelink_pb2 as sitelink
from sovapi.v1.sitelink_pb2 import DesiredAttempt
from tests.agent.site.builders import (
    BOOT,
    FORGET,
    STOP,
    launch,
    node,
    over,
    prepared,
    row,
    running,
    seen,
)

KEY = "job-a.1"
TAKE_AGAIN = Start(KEY, begins=False)
START, RELEASE, DROP = Start(KEY), Release(KEY), Drop(KEY)
ACCEPTED = sitelink.ATTEMPT_PHASE_ACCEPTED
STARTING = sitelink.ATTEMPT_PHASE_STARTING
RUNNING = sitelink.ATTEMPT_PHASE_RUNNING
STOPPING = sitelink.ATTEMPT_PHASE_STOPPING
ENDED = sitelink.ATTEMPT_PHASE_ENDED
LOST = sitelink.ATTEMPT_PHASE_LOST
FAILED = sitelink.ATTEMPT_PHASE_FAILED_TO_START
REFUSED = sitelink.ATTEMPT_PHASE_REFUSED
NO_START = Verdict(FAILED, "START_FAILED", "no such image")
DEAD = RUNTIME_GRACE_MS + 1


def stop(
    rank: int, grace_ms: int = 5_000, cause: jobs.RankCause = jobs.RANK_CAUSE_STOP
) -> StopRank:
    return StopRank(f"n0{rank + 1}", f"{KEY}.{rank}", grace_ms, cause)


def lost(rank: int) -> jobs.RankStatus:
    return over(rank, jobs.RANK_CAUSE_LOST)


def given_up(rank: int) -> jobs.RankStatus:
    return over(rank, jobs.RANK_CAUSE_NEVER_STARTED)


def decide(what: DesiredAttempt | None, observed: Observed) -> tuple[list[Action], int | None]:
    """The actions without reports, and the phase reported of the attempt."""
    actions = reconcile({KEY: what} if what is not None else {}, observed)
    phases = [a.report.phase for a in actions if isinstance(a, Report) and a.key == KEY]
    assert len(phases) <= 1
    return [a for a in actions if not isinstance(a, Report)], phases[0] if phases else None


def waiting(ms: int = 0, **more: object) -> dict[str, Progress]:
    return {KEY: Progress(waiting_ms=ms, **more)}  # type: ignore[arg-type]


UNREACHABLE = node(known=False)

CASES = [
    # The table of adoption: reservation, spool, what to do.
    pytest.param(
        row(), seen(node(running(0)), node(running(1))), [], RUNNING,
        id="reserved and alive: adopted",
    ),
    pytest.param(
        row(), seen(node(over(0)), node(over(1))), [RELEASE], ENDED,
        id="reserved and all over: reported, reservation given back",
    ),
    pytest.param(
        row(), seen(), [START], ACCEPTED,
        id="reserved, key unknown, still desired: started",
    ),
    pytest.param(
        None, seen(memory={}), [RELEASE], None,
        id="reserved, key unknown, not desired: reservation given back",
    ),
    pytest.param(
        row(), seen(node(prepared(0)), node(running(1))), [START], STARTING,
        id="reserved, one rank prepared and not started: the launch is finished",
    ),
    pytest.param(
        row(), seen(node(prepared(0)), node(running(1)), progress=waiting(START_PATIENCE_MS + 1)),
        [GiveUp(KEY, "START_FAILED", "not started after 180 s")], STARTING,
        id="reserved, prepared for too long: given up",
    ),
    pytest.param(
        row(),
        seen(node(prepared(0)), node(running(1)), memory={KEY: Memory(verdict=NO_START)}),
        [stop(0), stop(1)], STOPPING,
        id="given up with a rank alive: that key is given up, the other rank stopped",
    ),
    pytest.param(
        row(), seen(node(running(0)), node(running(1)), reserved=False), [TAKE_AGAIN], RUNNING,
        id="reservation lost and alive: reserved again under the same name",
    ),
    pytest.param(
        row(), seen(node(lost(0)), node(running(1))), [stop(1)], STOPPING,
        id="a rank lost: the others are stopped",
    ),
    pytest.param(
        row(), seen(node(running(0)), UNREACHABLE), [], STARTING,
        id="a node out of reach: nothing is concluded",
    ),
    pytest.param(
        row(), seen(node(running(0)), node(running(1), known=False)), [], RUNNING,
        id="a node out of reach that was last seen running its rank: adopted",
    ),
    pytest.param(
        row(), seen(node(running(0)), UNREACHABLE, progress=waiting(START_PATIENCE_MS * 9)),
        [], STARTING,
        id="a node out of reach is waited for, however long",
    ),
    # How attempts end.
    pytest.param(
        row(), seen(node(over(0, code=3)), node(running(1))), [stop(1)], STOPPING,
        id="a rank failed: the others are stopped",
    ),
    pytest.param(
        row(), seen(node(over(0, signal=9)), node(running(1))), [stop(1)], STOPPING,
        id="a rank ended by a signal: the others are stopped",
    ),
    pytest.param(
        row(), seen(node(over(0)), node(running(1))), [], RUNNING,
        id="a rank that is done leaves the others alone",
    ),
    pytest.param(
        row(), seen(node(over(0, code=3)), UNREACHABLE), [], STOPPING,
        id="a rank failed and a node is out of reach: no end is reported",
    ),
    pytest.param(
        row(), seen(node(over(0, code=1)), node(lost(1))), [RELEASE], LOST,
        id="a lost rank outweighs the failure it caused",
    ),
    pytest.param(
        row(), seen(node(running(0)), node(boot="boot-b")), [stop(0), stop(1)], STOPPING,
        id="a node started anew with an empty spool: its key is given up, the others stopped",
    ),
    pytest.param(
        row(), seen(node(over(0, jobs.RANK_CAUSE_STOP)), node(given_up(1), boot="boot-b")),
        [RELEASE], LOST,
        id="all over after a node was started anew: lost",
    ),
    # Dead raylets.
    pytest.param(
        row(), seen(node(running(0)), node(running(1), dead_ms=RUNTIME_GRACE_MS)), [], RUNNING,
        id="a raylet dead within its grace: nothing is done",
    ),
    pytest.param(
        row(), seen(node(running(0)), node(running(1), dead_ms=DEAD)),
        [stop(0), stop(1, cause=jobs.RANK_CAUSE_FENCE)], STOPPING,
        id="a raylet dead beyond its grace: its rank is fenced, the others stopped",
    ),
    pytest.param(
        row(), seen(node(running(0)), node(running(1), dead_ms=2_001), runtime_grace_ms=2_000),
        [stop(0), stop(1, cause=jobs.RANK_CAUSE_FENCE)], STOPPING,
        id="a raylet dead beyond a grace that the site shortened: fenced as well",
    ),
    pytest.param(
        row(), seen(node(running(0)), node(running(1), dead_ms=None)), [], RUNNING,
        id="nobody can say whether raylets live: nothing is done",
    ),
    pytest.param(
        row(), seen(node(running(0)), node(running(1), dead_ms=DEAD, known=False)), [], RUNNING,
        id="raylet and node agent both silent: nothing is concluded",
    ),
    pytest.param(
        row(),
        seen(node(over(0, jobs.RANK_CAUSE_STOP)), node(over(1, jobs.RANK_CAUSE_FENCE))),
        [RELEASE], LOST,
        id="fenced and all confirmed over: lost",
    ),
    pytest.param(
        row(), seen(node(over(0)), node(over(1), dead_ms=DEAD)), [RELEASE], ENDED,
        id="what had ended before its raylet died has ended",
    ),
    # Starting.
    pytest.param(
        row(), seen(launched=False, reserved=False), [START], ACCEPTED,
        id="new work is started",
    ),
    pytest.param(
        row(), seen(launching=frozenset({KEY})), [], STARTING,
        id="a launch under way is not repeated",
    ),
    pytest.param(
        row(), seen(launched=False, reservations=None), [], ACCEPTED,
        id="nothing starts before Ray's reservations are known",
    ),
    pytest.param(
        row(), seen(None, UNREACHABLE, launched=False), [], ACCEPTED,
        id="nothing starts before the spools of all its nodes are known",
    ),
    pytest.param(
        row(), seen(None, node(dead_ms=5), launched=False), [], ACCEPTED,
        id="nothing starts on a node whose raylet does not answer",
    ),
    pytest.param(
        row(), seen(progress=waiting(may_try=False)), [], ACCEPTED,
        id="nothing starts during the pause after a failure",
    ),
    pytest.param(
        row(), seen(progress=waiting(failure=NO_START, tries=2)), [START], ACCEPTED,
        id="a failed launch that may succeed later is repeated",
    ),
    pytest.param(
        row(), seen(progress=waiting(failure=NO_START, tries=START_TRIES_MAX)),
        [GiveUp(KEY, "START_FAILED", "no such image")], ACCEPTED,
        id="a launch that failed too often is given up",
    ),
    pytest.param(
        row(), seen(progress=waiting(failure=NO_START, retryable=False)),
        [GiveUp(KEY, "START_FAILED", "no such image")], ACCEPTED,
        id="a launch that cannot succeed is given up at once",
    ),
    pytest.param(
        row(),
        seen(node(running(0)), node(running(1)), reserved=False,
             progress=waiting(failure=NO_START, retryable=False, may_try=False)),
        [], RUNNING,
        id="a reservation that cannot be had again does not end what runs",
    ),
    pytest.param(
        row(), seen(None, UNREACHABLE, launched=False, progress=waiting(START_PATIENCE_MS + 1)),
        [GiveUp(KEY, "START_FAILED", "not started after 180 s")], ACCEPTED,
        id="what was never launched is given up when a node stays out of reach",
    ),
    pytest.param(
        row(), seen(UNREACHABLE, UNREACHABLE, launched=False,
                    memory={KEY: Memory(verdict=Verdict(REFUSED, "GUARD_REFUSED", "in NO"))}),
        [RELEASE], REFUSED,
        id="refused before any launch: reported at once, whatever can be reached",
    ),
    pytest.param(
        row(), seen(memory={KEY: Memory({"n01": BOOT}, verdict=NO_START)}),
        [stop(0), stop(1)], STOPPING,
        id="given up after a launch: no report before every key is given up in its spool",
    ),
    pytest.param(
        row(),
        seen(node(given_up(0)), node(given_up(1)),
             memory={KEY: Memory({"n01": BOOT}, verdict=NO_START)}),
        [RELEASE], FAILED,
        id="every key given up: failed to start",
    ),
    # Stopping.
    pytest.param(
        row(STOP), seen(node(running(0)), node(running(1))),
        [stop(0, 7_000), stop(1, 7_000)], STOPPING,
        id="to stop: every rank is stopped with the grace that was asked for",
    ),
    pytest.param(
        row(STOP), seen(node(over(0)), node(over(1, jobs.RANK_CAUSE_STOP))), [RELEASE], ENDED,
        id="stopped: ended",
    ),
    pytest.param(
        row(STOP), seen(launched=False, reserved=False), [], ENDED,
        id="to stop and certainly never launched: ended at once",
    ),
    pytest.param(
        row(STOP), seen(UNREACHABLE, UNREACHABLE, launched=False, reserved=False), [], ENDED,
        id="to stop, never launched, its nodes out of reach: ended at once",
    ),
    pytest.param(
        row(STOP), seen(), [stop(0, 7_000), stop(1, 7_000)], STOPPING,
        id="to stop while a launch may be on its way: its keys are given up",
    ),
    pytest.param(
        row(STOP), seen(memory={KEY: Memory(unsure=True)}),
        [stop(0, 7_000), stop(1, 7_000)], STOPPING,
        id="to stop after the journal was lost: its keys are given up",
    ),
    pytest.param(
        row(STOP), seen(node(given_up(0)), node(given_up(1)), launching=frozenset({KEY})),
        [], ENDED,
        id="a reservation is not given back while a launch might make it again",
    ),
    # Forgetting.
    pytest.param(
        row(FORGET), seen(node(over(0)), node(over(1))),
        [RELEASE, Archive("n01", f"{KEY}.0"), Archive("n02", f"{KEY}.1")], None,
        id="forgotten: archived",
    ),
    pytest.param(
        row(FORGET), seen(node(running(0))),
        [stop(0, 10_000, jobs.RANK_CAUSE_FENCE)], None,
        id="forgotten and alive against all expectation: fenced",
    ),
    pytest.param(
        row(FORGET), seen(reserved=False), [DROP], None,
        id="forgotten and nothing left: dropped",
    ),
    pytest.param(
        row(FORGET), seen(reserved=False, launching=frozenset({KEY})), [], None,
        id="forgotten while a launch is under way: kept until that has ended",
    ),
    # What nobody desires.
    pytest.param(
        None, seen(node(running(0)), memory={}), [stop(0, 10_000)], STOPPING,
        id="alive and not desired: stopped and reported",
    ),
    pytest.param(
        None, seen(node(running(0)), memory={}, generation=0), [], None,
        id="an empty journal stops nothing: it does not know what is desired",
    ),
    pytest.param(
        None, seen(node(over(0)), memory={}), [RELEASE], ENDED,
        id="over and not desired: reported until told to forget it",
    ),
    pytest.param(
        None, seen(node(over(0)), UNREACHABLE, memory={}), [], STOPPING,
        id="over here, not desired, a node out of reach: no end is reported",
    ),
    pytest.param(
        row(STOP, what=launch("n01")), seen(node(over(0)), node(running(1))),
        [StopRank("n02", f"{KEY}.1", 7_000, jobs.RANK_CAUSE_STOP)], STOPPING,
        id="a rank its launch does not know of counts as well",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("what", "observed", "want", "phase"), CASES)
def test_a_site_does_what_the_table_says(
    what: DesiredAttempt | None, observed: Observed, want: list[Action], phase: int | None
) -> None:
    assert decide(what, observed) == (want, phase)


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        pytest.param(seen(node(over(0)), node(lost(1))), "RANK_LOST", id="its shim died"),
        pytest.param(
            seen(node(over(0)), node(lost(1), boot="boot-b")), "NODE_LOST", id="its node restarted"
        ),
        pytest.param(
            seen(node(over(0)), node(over(1, jobs.RANK_CAUSE_FENCE))),
            "NODE_RUNTIME_LOST",
            id="its raylet died",
        ),
    ],
)
def test_a_loss_says_how_it_came(observed: Observed, reason: str) -> None:
    (report,) = [a.report for a in reconcile({KEY: row()}, observed) if isinstance(a, Report)]
    assert (report.phase, report.reason) == (LOST, reason)


def test_stops_come_before_starts_whatever_the_keys() -> None:
    rows = {
        "job-a.1": row(),
        "job-z.1": row(STOP, job="job-z"),
    }
    observed = seen(node(running(0), key="job-z.1"), reserved=False, launched=False)
    kinds = [type(action) for action in reconcile(rows, observed) if type(action) is not Report]
    assert kinds == [StopRank, StopRank, Start]


def test_a_node_has_no_say_in_work_that_is_not_its_own() -> None:
    """A node that lies, or is mislabelled, tells of a failed rank of somebody else's attempt."""
    desired = {KEY: row(what=launch("n01"))}
    failed, lives = over(7, code=1), running(7)
    actions = reconcile(desired, seen(node(running(0)), node(failed)))
    (said,) = [action.report for action in actions if isinstance(action, Report)]
    assert said.phase == RUNNING
    assert [rank.rank for rank in said.ranks] == [0]
    assert not [action for action in actions if isinstance(action, StopRank)]
    # One that lives is stopped, and nothing is final before it is over.
    actions = reconcile(desired, seen(node(over(0)), node(lives)))
    assert StopRank("n02", f"{KEY}.7", 10_000, jobs.RANK_CAUSE_STOP) in actions
    (said,) = [action.report for action in actions if isinstance(action, Report)]
    assert said.phase != ENDED
