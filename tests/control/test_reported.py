"""Reports of many attempts: taken as one after another would be, with few questions."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from scheduler.control import reported
from scheduler.control.reports import Heard
from scheduler.model.ids import AttemptKey, SiteId
from scheduler.model.job import JobArray, JobState, RankEgress, RankStatus
from scheduler.model.reasons import Reason, Refused
from scheduler.model.sitelink import AttemptPhase, AttemptReport, DesiredAction, SiteReport
from tests.control.plant import LONDON, Plant, spec

LEEDS = SiteId("leeds")


def under_way(plant: Plant, count: int) -> list[AttemptKey]:
    """So many jobs, all running."""
    jobs = [plant.submit(spec(gpus=1)) for _ in range(count)]
    plant.cycle()
    plant.push()
    keys = [AttemptKey(job, 1) for job in jobs]
    plant.report(*(plant.running(key) for key in keys))
    return keys


def statements_of(plant: Plant, *said: AttemptReport) -> int:
    """How many statements the database is given for one report."""
    given: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        given.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        plant.report(*said)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return len(given)


def test_many_ends_take_as_many_statements_as_one(plant: Plant) -> None:
    first, second, *rest = under_way(plant, 12)
    plant.report(plant.ended(first))  # What is remembered from then on is read with it.
    one = statements_of(plant, plant.ended(second))
    assert statements_of(plant, *(plant.ended(key) for key in rest)) == one
    assert {plant.job(key.job).state for key in rest} == {JobState.SUCCEEDED}
    plant.check()


def test_a_report_is_taken_whole_however_many_batches_it_makes(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = under_way(plant, 5)
    monkeypatch.setattr(reported, "BATCH_MAX", 2)
    plant.report(*(plant.ended(key, exit_code=n) for n, key in enumerate(keys)))
    assert [plant.job(key.job).exit_code for key in keys] == [0, 1, 2, 3, 4]
    plant.check()


def test_what_is_told_twice_in_a_report_counts_once(plant: Plant) -> None:
    (key,) = under_way(plant, 1)
    unknown = AttemptKey(key.job, 7)
    made_up = AttemptReport(unknown, AttemptPhase.ENDED)
    heard = plant.report(plant.ended(key), plant.ended(key, exit_code=3), made_up, made_up)
    assert (heard.implausible, heard.unanswered) == ((), 0)
    done = plant.job(key.job)
    assert (done.state, done.exit_code) == (JobState.SUCCEEDED, 0)
    assert plant.action(key) is DesiredAction.FORGET
    with plant.store.read() as view:
        told = {row.key: row.generation for row in view.outbox.since(LONDON, 0)}
        held = view.fleet.contact(LONDON).generation
    # One generation for the answer, one for the end, and none for what was told before.
    assert (told[unknown], told[key]) == (held - 1, held)
    plant.check()


def test_denied_tries_count_once_for_ranks_of_one_network_and_for_what_is_told_twice(
    plant: Plant,
) -> None:
    key = plant.run()
    first = plant.ended(key).ranks[0]

    def over(rank: int, denied: int) -> RankStatus:
        return replace(first, rank=rank, started_at_ms=1, egress=RankEgress(denied))

    early = AttemptReport(key, AttemptPhase.RUNNING, (over(0, 3),))
    assert plant.report(early).egress_denied == 3
    assert plant.report(early).egress_denied == 0
    whole = AttemptReport(key, AttemptPhase.ENDED, (over(0, 3), over(1, 5)))
    assert plant.report(whole, whole).egress_denied == 2
    assert plant.report(whole).egress_denied == 0
    plant.check()


def test_what_one_end_does_to_another_attempt_of_the_report_is_seen(plant: Plant) -> None:
    array = plant.submit(replace(spec("sweep", gpus=1), array=JobArray(2, 0)))
    plant.cycle()
    plant.push()
    with plant.store.transaction() as txn:
        first, second = (AttemptKey(row.id, 1) for row in txn.jobs.open_tasks(array, 10))
    plant.report(plant.running(first), plant.running(second))
    with plant.store.transaction() as txn:
        row = txn.jobs.row(array)
        assert row is not None
        txn.jobs.save(row, row._replace(cancel_requested=True))
    # The first end cancels the rest of the array, so the second is that of a cancelled task.
    plant.report(plant.ended(first, exit_code=1), plant.ended(second, exit_code=1))
    assert plant.job(first.job).reason is Reason.EXIT_NONZERO
    assert plant.job(second.job).state is JobState.CANCELLED


def test_what_a_site_forgot_is_dropped_whoever_tells_of_it(plant: Plant) -> None:
    said, greeted, unconfirmed = under_way(plant, 3)
    plant.report(plant.ended(said))
    plant.settled(said)
    plant.report(plant.ended(greeted))
    plant.push()
    # The session ends before the site has said that it knows: its next one begins with that.
    plant.connect()
    assert plant.action(greeted) is None
    plant.report(plant.ended(unconfirmed))
    assert plant.action(unconfirmed) is DesiredAction.FORGET
    plant.settled(unconfirmed)
    plant.check()


def test_sites_that_speak_together_are_heard_as_one_after_the_other(tmp_path: Path) -> None:
    together, apart = (two_sites(tmp_path / name) for name in ("together", "apart"))
    at_london, at_leeds = together[1:]
    assert at_london
    assert at_leeds
    assert apart[1:] == (at_london, at_leeds)

    def said(plant: Plant, keys: list[AttemptKey], epoch: int = 0) -> SiteReport:
        reports = tuple(plant.ended(key) for key in keys)
        return SiteReport(plant.store.epoch + epoch, 1, reports, (), full=False)

    told = [
        (LEEDS, said(together[0], at_leeds[:1])),
        # Of another site's attempts its word does not count, and it is answered.
        (LONDON, said(together[0], [*at_london, *at_leeds[1:]])),
        (SiteId("nowhere"), said(together[0], [])),
        # What a site says again, now of the past.
        (LEEDS, said(together[0], at_leeds)),
        (LONDON, said(together[0], [], epoch=1)),
    ]
    with together[0].store.transaction() as txn:
        heard = together[0].control.site_reports(txn, told, together[0].now_ms)
    alone: list[Heard | Refused] = []
    for site, report in told:
        with apart[0].store.transaction() as txn:
            try:
                alone.append(apart[0].control.site_report(txn, site, report, apart[0].now_ms))
            except Refused as refused:
                alone.append(refused)
    assert list(map(str, heard)) == list(map(str, alone))
    assert [isinstance(each, Refused) for each in heard] == [False, False, True, False, True]
    for key in (*at_london, *at_leeds):
        assert together[0].job(key.job) == apart[0].job(key.job)
        assert together[0].job(key.job).state is JobState.SUCCEEDED
        for site in (LONDON, LEEDS):
            assert together[0].action(key, site) is apart[0].action(key, site)
    assert together[0].action(at_leeds[1], LONDON) is DesiredAction.FORGET
    together[0].check()
    apart[0].check()


def two_sites(path: Path) -> tuple[Plant, list[AttemptKey], list[AttemptKey]]:
    """Jobs that run at London and at Leeds."""
    path.mkdir()
    plant = Plant(path / "s.db")
    plant.lay_out(LONDON, LEEDS)
    plant.connect()
    plant.connect(LEEDS)
    keys = [AttemptKey(plant.submit(spec(gpus=8)), 1) for _ in range(4)]
    plant.cycle()
    for at in (LONDON, LEEDS):
        plant.push(at)
    held = {at: [key for key in keys if key in plant.agents[at].rows] for at in (LONDON, LEEDS)}
    for at, mine in held.items():
        plant.report(*(plant.running(key) for key in mine), at=at)
    return plant, held[LONDON], held[LEEDS]
