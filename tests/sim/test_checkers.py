"""Each checker catches what it is there to catch, and lets pass what is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.sim import checks_ends, checks_runs, checks_tables
from tests.sim.checks_runs import Machine
from tests.sim.clock import WALL_AT_START_MS
from tests.sim.fleet import GB_LAWS, MIDNIGHT_MS, TenantPlan
from tests.sim.ledger import Ledger, Run
from tests.sim.seeds import Dice
from tests.sim.tables import AttemptRow, JobRow, Tables
from tests.sim.truth import LAWS, Grade, History, Law, Need, SiteTruth, objections
from tests.sim.workload import Ask, Shape, draw_asks

SITE = "exch-a-1"
TRUTH = SiteTruth(SITE, "GB", GB_LAWS, (("Exchange plc", "GB", 100_000),))
MACHINES = {(SITE, "n01"): Machine(2), (SITE, "n02"): Machine(2)}


def run(
    job: str = "job-a",
    attempt: int = 1,
    rank: int = 0,
    *,
    gpus: tuple[int, ...] = (0,),
    span: tuple[int, int | None] = (1_000, 2_000),
    slot: str = "n01",
    world: int = 1,
    end: tuple[str, int | None, int] = ("exit", 0, 0),
) -> Run:
    """A run of one rank."""
    why, code, signal = end
    return Run(
        job, attempt, rank, world, SITE, slot, gpus, span[0] - 10, span[0], span[1], code, signal,
        why,
    )  # fmt: skip


def ask(shape: Shape = Shape(), *, tenant: str = "trust-a/radiology", need: Need = Need()) -> Ask:  # noqa: B008
    """A submission that was accepted as job-a."""
    drawn = draw_asks(Dice(1, "test"), 1, 10)[0]
    drawn.shape, drawn.tenant, drawn.need = shape, tenant, need
    drawn.job, drawn.leased, drawn.impossible = "job-a", False, ""
    return drawn


def ledger(*runs: Run) -> Ledger:
    return Ledger(list(runs))


def history(truth: SiteTruth = TRUTH, law: Law = Law()) -> History:  # noqa: B008
    """One site and one law, since the beginning."""
    told = History()
    told.site_becomes(0, truth)
    told.law_becomes(0, law)
    return told


def job(
    state: str = "SUCCEEDED", *, attempts: int = 1, reason: str = "", code: int | None = 0
) -> JobRow:
    """The row of job 1."""
    return JobRow(1, "trust-a/radiology", state, attempts, reason, "", code)


def attempt(number: int = 1, *, live: bool = True, mask: int = 1, owner: int = 1) -> AttemptRow:
    """An attempt on one node."""
    return AttemptRow(
        owner, number, SITE, "RUNNING", live, "H100", 1000, WALL_AT_START_MS + 500,
        {f"{SITE}/n01": mask},
    )  # fmt: skip


def tables(*jobs: JobRow, attempts: tuple[AttemptRow, ...] = ()) -> Tables:
    return Tables({row.id: row for row in jobs}, attempts, 0)


PUBLIC = {1: "job-a"}
TWO_ORGANISATIONS = {"job-a": ask(), "job-b": ask(tenant="uni-b/physics")}
EXCLUSIVE = {"job-a": ask(Shape(sharing="none")), "job-b": ask()}


def oversubscribed(seen: Ledger) -> Iterator[str]:
    return checks_runs.nodes_never_oversubscribed(seen, MACHINES)


def strangers(seen: Ledger) -> Iterator[str]:
    return checks_runs.neighbours_agree(seen, TWO_ORGANISATIONS)


def intruders(seen: Ledger) -> Iterator[str]:
    return checks_runs.neighbours_agree(seen, EXCLUSIVE)


def halves(seen: Ledger) -> Iterator[str]:
    return checks_runs.gangs_start_whole_or_stop(seen, {}, 60_000)


@pytest.mark.parametrize(
    ("right", "wrong", "check"),
    [
        pytest.param(
            ledger(run(), run(rank=1, gpus=(1,))),
            ledger(run(), run(span=(5_000, 6_000))),
            checks_runs.nothing_ran_twice,
            id="a rank key that runs a second time",
        ),
        pytest.param(
            ledger(run(), run(attempt=2, span=(2_000, 3_000))),
            ledger(run(), run(attempt=2, span=(1_999, 3_000), slot="n02")),
            checks_runs.attempts_never_overlap,
            id="a second attempt while the first still lives",
        ),
        pytest.param(
            ledger(run(), run("job-b", gpus=(1,))),
            ledger(run(), run("job-b", span=(1_500, 1_600))),
            checks_runs.gpus_never_shared,
            id="a GPU under two ranks",
        ),
        pytest.param(
            ledger(),
            Ledger([], ["job-a.1.0"]),
            checks_runs.gpus_never_shared,
            id="a start that only the lock of its GPU stopped",
        ),
        pytest.param(
            ledger(run(gpus=(0, 1))),
            ledger(run(gpus=(2,))),
            oversubscribed,
            id="a GPU that the node does not have",
        ),
        pytest.param(
            ledger(run(gpus=(0, 1)), run("job-b", gpus=(0, 1), span=(2_000, 3_000))),
            ledger(run(gpus=(0, 1)), run("job-b", gpus=(0,))),
            oversubscribed,
            id="more GPUs in use than the node has",
        ),
        pytest.param(
            ledger(run(), run("job-b", gpus=(1,), slot="n02")),
            ledger(run(), run("job-b", gpus=(1,))),
            strangers,
            id="two organisations on a node that did not both opt in",
        ),
        pytest.param(
            ledger(run(), run("job-b", span=(3_000, 4_000))),
            ledger(run(), run("job-b", gpus=(1,))),
            intruders,
            id="a neighbour of a job that shares with nobody",
        ),
        pytest.param(
            ledger(run(world=2), run(rank=1, gpus=(1,), world=2)),
            ledger(run(world=2, span=(1_000, 90_000))),
            halves,
            id="half a gang that runs on",
        ),
        pytest.param(
            ledger(run()),
            ledger(run(span=(1_000, None))),
            checks_runs.nothing_runs,
            id="a process that is left at the end",
        ),
    ],
)
def test_a_checker_of_runs_catches(
    right: Ledger, wrong: Ledger, check: Callable[[Ledger], Iterator[str]]
) -> None:
    assert list(check(right)) == []
    assert list(check(wrong)) != []


def test_time_in_which_a_site_was_disturbed_does_not_count_against_a_gang() -> None:
    half = ledger(run(world=2, span=(1_000, 90_000)))
    disturbed = {SITE: [(0, 20_000), (10_000, 40_000)]}
    assert list(checks_runs.gangs_start_whole_or_stop(half, disturbed, 60_000)) == []
    assert list(checks_runs.gangs_start_whole_or_stop(half, disturbed, 49_000)) != []


@pytest.mark.parametrize(
    ("truth", "need"),
    [
        pytest.param(replace(TRUTH, country="NO"), Need(), id="another country"),
        pytest.param(replace(TRUTH, laws={**GB_LAWS, "sinks": "US"}), Need(), id="foreign sinks"),
        pytest.param(
            replace(TRUTH, parents=(("Halls Inc.", "US", 25_001),)), Need(), id="a US parent"
        ),
        pytest.param(TRUTH, Need(markings=("HEALTH",)), id="a marking it may not handle"),
        pytest.param(TRUTH, Need(tier="SECRET"), id="a tier above its own"),
        pytest.param(TRUTH, Need(countries=("FR",)), id="a country that policy does not allow"),
        pytest.param(TRUTH, Need(countries=()), id="no country at all"),
        pytest.param(
            replace(TRUTH, grades={"landlord": Grade(stated=False)}), Need(), id="a missing fact"
        ),
        pytest.param(
            replace(TRUTH, grades={"country": Grade("DECLARED")}),
            Need(assurance="AUDITED"),
            id="a fact that is too weak",
        ),
        pytest.param(
            replace(TRUTH, grades={"country": Grade(ends_ms=WALL_AT_START_MS)}),
            Need(),
            id="a fact that has expired",
        ),
    ],
)
def test_the_oracle_forbids(truth: SiteTruth, need: Need) -> None:
    assert objections(need, truth, Law(), WALL_AT_START_MS + 990) != []
    caught = checks_runs.nothing_ran_outside(
        ledger(run()), {"job-a": ask(need=need)}, history(truth), {"job-a.1": 500}
    )
    assert len(list(caught)) == 1


@pytest.mark.parametrize(
    ("truth", "need"),
    [
        pytest.param(TRUTH, Need(), id="a site that is British throughout"),
        pytest.param(
            replace(TRUTH, parents=(("Halls Inc.", "US", 25_000),)),
            Need(),
            id="a US stake that does not control",
        ),
        pytest.param(
            replace(TRUTH, parents=(("Halls Inc.", "US", 60_000),)),
            Need(tolerates=("US",)),
            id="a US parent that the work tolerates",
        ),
        pytest.param(
            replace(TRUTH, country="NO", laws=dict.fromkeys(LAWS, "NO")),
            Need(countries=("GB", "NO")),
            id="a Norwegian site for work that names Norway",
        ),
        pytest.param(
            replace(TRUTH, grades={"country": Grade(ends_ms=MIDNIGHT_MS)}),
            Need(),
            id="a fact that expires later",
        ),
    ],
)
def test_the_oracle_permits(truth: SiteTruth, need: Need) -> None:
    assert objections(need, truth, Law(), WALL_AT_START_MS) == []
    caught = checks_runs.nothing_ran_outside(
        ledger(run()), {"job-a": ask(need=need)}, history(truth), {"job-a.1": 500}
    )
    assert list(caught) == []


def test_a_run_without_a_placement_is_caught() -> None:
    caught = checks_runs.nothing_ran_outside(ledger(run()), {"job-a": ask()}, history(), {})
    assert len(list(caught)) == 1


def test_a_placement_where_nothing_permits_it_is_caught() -> None:
    abroad = {1: ask(need=Need(countries=("NO",)))}
    placed = [attempt()]
    assert len(list(checks_tables.placed_where_permitted(placed, abroad, history()))) == 1
    assert list(checks_tables.placed_where_permitted(placed, {1: ask()}, history())) == []


def test_a_placement_over_a_limit_is_caught() -> None:
    tree = {
        "trust-a": TenantPlan("trust-a", {"*": 1}),
        "trust-a/radiology": TenantPlan("trust-a/radiology", {}),
    }
    one = tables(job("RUNNING"), attempts=(attempt(),))
    other = replace(job("RUNNING"), id=2)
    two = tables(job("RUNNING"), other, attempts=(attempt(), attempt(mask=2, owner=2)))
    assert list(checks_tables.quotas_hold(one, tables(job("QUEUED")), tree)) == []
    assert len(list(checks_tables.quotas_hold(two, one, tree))) == 1
    assert list(checks_tables.quotas_hold(two, two, tree)) == []


def test_a_gpu_given_twice_is_caught() -> None:
    other = replace(job("RUNNING"), id=2)
    apart = tables(job("RUNNING"), other, attempts=(attempt(), attempt(mask=2, owner=2)))
    twice = tables(job("RUNNING"), other, attempts=(attempt(), attempt(mask=3, owner=2)))
    absent = tables(job("RUNNING"), attempts=(attempt(mask=4),))
    assert list(checks_tables.placements_fit(apart, MACHINES)) == []
    assert len(list(checks_tables.placements_fit(twice, MACHINES))) == 1
    assert len(list(checks_tables.placements_fit(absent, MACHINES))) == 1


def test_an_attempt_that_is_live_for_no_reason_is_caught() -> None:
    right = tables(job("RUNNING", attempts=2), attempts=(attempt(1, live=False), attempt(2)))
    wrong = tables(job("RUNNING", attempts=2), attempts=(attempt(1), attempt(2)))
    assert list(checks_tables.one_attempt_holds(right)) == []
    assert len(list(checks_tables.one_attempt_holds(wrong))) == 1


def test_a_gang_that_was_placed_in_part_is_caught() -> None:
    placed = tables(job("RUNNING"), attempts=(attempt(),))
    assert list(checks_tables.placed_whole(placed, {1: ask(Shape(1, 1))})) == []
    assert len(list(checks_tables.placed_whole(placed, {1: ask(Shape(2, 1))}))) == 1
    assert len(list(checks_tables.placed_whole(placed, {1: ask(Shape(1, 2))}))) == 1


@pytest.mark.parametrize(
    ("moves", "legal"),
    [
        pytest.param([("QUEUED", "PLACED"), ("PLACED", "RUNNING")], True, id="a job that starts"),
        pytest.param([("QUEUED", "RUNNING")], False, id="a job that runs and was never placed"),
        pytest.param(
            [("QUEUED", "CANCELLED"), ("CANCELLED", "PLACED")], False, id="a job that comes back"
        ),
        pytest.param([("PLACED", "RUNNING")], False, id="a move from where the job was not"),
    ],
)
def test_moves(moves: list[tuple[str, str]], legal: bool) -> None:
    told = [("job-a", before, after) for before, after in moves]
    assert (list(checks_tables.moves_are_legal(told)) == []) is legal


GANG = ask(Shape(2, 1))


@pytest.mark.parametrize(
    ("row", "runs"),
    [
        pytest.param(job(), (run(),), id="success of a gang of which one rank never ran"),
        pytest.param(
            job(),
            (run(world=2), run(rank=1, slot="n02", end=("exit", 3, 0))),
            id="success although a rank failed",
        ),
        pytest.param(
            job("FAILED", reason="EXIT_NONZERO", code=4),
            (run(end=("exit", 3, 0)),),
            id="an exit code that no rank had",
        ),
        pytest.param(
            job("FAILED", reason="SIGNALLED", code=137),
            (run(end=("exit", None, 11)),),
            id="a signal that no rank got",
        ),
        pytest.param(
            job("FAILED", reason="TIME_LIMIT"), (run(),), id="a time limit that no rank reached"
        ),
        pytest.param(job("CANCELLED"), (), id="a cancel that nobody asked for"),
    ],
)
def test_an_untrue_end_is_caught(row: JobRow, runs: tuple[Run, ...]) -> None:
    caught = checks_ends.ends_are_true(tables(row), ledger(*runs), PUBLIC, {1: GANG})
    assert len(list(caught)) == 1


def test_true_ends_pass() -> None:
    whole = ledger(run(world=2), run(rank=1, slot="n02"))
    assert list(checks_ends.ends_are_true(tables(job()), whole, PUBLIC, {1: GANG})) == []
    failed = job("FAILED", reason="SIGNALLED", code=139)
    segfault = ledger(run(end=("exit", None, 11)))
    assert list(checks_ends.ends_are_true(tables(failed), segfault, PUBLIC, {1: GANG})) == []


def test_clean_work_that_is_run_again_is_caught() -> None:
    again = tables(job(attempts=2))
    whole = ledger(run(world=2), run(rank=1, slot="n02"))
    assert len(list(checks_ends.clean_work_counts(again, whole, PUBLIC, {1: GANG}))) == 1
    assert list(checks_ends.clean_work_counts(tables(job()), whole, PUBLIC, {1: GANG})) == []


def test_clean_work_that_counts_as_a_failure_is_caught() -> None:
    failed = tables(job("FAILED", reason="NODE_LOST"))
    whole = ledger(run(world=2), run(rank=1, slot="n02"))
    assert len(list(checks_ends.clean_work_counts(failed, whole, PUBLIC, {1: GANG}))) == 1


def test_a_lost_job_is_caught() -> None:
    accepted = ask()
    assert list(checks_ends.nothing_is_lost(tables(job()), {"job-a": 1}, [accepted])) == []
    assert len(list(checks_ends.nothing_is_lost(tables(), {"job-a": 1}, [accepted]))) == 1
    assert len(list(checks_ends.nothing_is_lost(tables(job()), {}, []))) == 1


def test_an_impossible_job_that_was_accepted_is_caught() -> None:
    impossible = ask()
    assert list(checks_ends.refusals_are_right([impossible])) == []
    impossible.impossible = "no node has 16 GPUs"
    assert len(list(checks_ends.refusals_are_right([impossible]))) == 1


def test_a_job_that_never_ends_is_caught_unless_it_has_to_wait() -> None:
    waiting = tables(job("QUEUED"))
    assert len(list(checks_ends.everything_ended(waiting, {}))) == 1
    assert list(checks_ends.everything_ended(waiting, {1: "no site permits it"})) == []
    running = tables(job("RUNNING"))
    assert len(list(checks_ends.everything_ended(running, {1: "no site permits it"}))) == 1


def test_a_canary_at_a_site_that_does_not_run_its_job_is_caught() -> None:
    one = ask()
    name, env, _ = one.canaries
    placed = {"job-a": {SITE}}
    assert list(checks_ends.canaries_kept({env: {SITE}}, [one], placed)) == []
    assert len(list(checks_ends.canaries_kept({env: {"exch-b-1"}}, [one], placed))) == 1
    assert len(list(checks_ends.canaries_kept({name: {SITE}}, [one], placed))) == 1
