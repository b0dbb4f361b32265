"""Which jobs a site is told are over: those alone of which nothing will be put back."""

from scheduler.model.ids import JobId, SiteId
from scheduler.model.job import JobState, RankCause
from tests.control.plant import LONDON, OLGA, Plant, spec

LEEDS = SiteId("exch-leeds-1")


def over(plant: Plant, *jobs: JobId, at: SiteId = LONDON) -> dict[str, int]:
    with plant.store.read() as view:
        names = [plant.codec.encode(job) for job in jobs]
        return plant.control.jobs_over(view, at, names, plant.now_ms)


def test_a_job_that_is_over_is_told_with_since_when(plant: Plant) -> None:
    key = plant.run()
    assert over(plant, key.job) == {}
    plant.report(plant.ended(key))
    plant.now_ms += 5_000
    assert over(plant, key.job, key.job) == {plant.codec.encode(key.job): 5_000}


def test_a_job_that_may_go_on_is_not_and_is_once_it_was_cancelled_in_the_queue(
    plant: Plant,
) -> None:
    key = plant.run()
    plant.report(plant.ended(key, exit_code=None, cause=RankCause.LOST))
    assert plant.job(key.job).state is JobState.QUEUED
    assert over(plant, key.job) == {}
    plant.cancel(key.job)
    assert list(over(plant, key.job)) == [plant.codec.encode(key.job)]


def test_a_site_learns_nothing_of_jobs_that_were_never_there(plant: Plant) -> None:
    plant.lay_out(LONDON, LEEDS)
    key, waits = plant.run(), plant.submit(spec("never-placed"))
    plant.report(plant.ended(key))
    plant.cancel(waits)
    assert over(plant, key.job, waits, at=LEEDS) == {}
    assert list(over(plant, key.job, waits)) == [plant.codec.encode(key.job)]
    with plant.store.read() as view:
        made_up = ["job-nobody", "../../etc", ""]
        assert plant.control.jobs_over(view, LONDON, made_up, plant.now_ms) == {}


def test_a_job_that_went_on_elsewhere_is_over_at_both_sites(plant: Plant) -> None:
    plant.lay_out(LONDON, LEEDS)
    plant.connect(LEEDS)
    with plant.store.transaction() as txn:
        plant.control.cordon(txn, OLGA, LEEDS, "elsewhere please", plant.now_ms)
    key = plant.run()
    plant.report(plant.ended(key, exit_code=None, cause=RankCause.LOST))
    with plant.store.transaction() as txn:
        plant.control.uncordon(txn, OLGA, LEEDS, "again", plant.now_ms)
        plant.control.cordon(txn, OLGA, LONDON, "elsewhere please", plant.now_ms)
    plant.now_ms += 60_000
    plant.cycle()
    plant.push(LEEDS)
    again = plant.job(key.job).attempts[-1]
    assert again.site == LEEDS
    assert over(plant, key.job) == {}
    plant.report(plant.running(again.key), at=LEEDS)
    plant.report(plant.ended(again.key), at=LEEDS)
    told = over(plant, key.job, at=LEEDS)
    assert told
    assert over(plant, key.job, at=LONDON) == told
