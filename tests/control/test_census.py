"""What is counted is what is there, also when only the changes since the last time are read."""

from dataclasses import replace

import pytest

from scheduler.control.census import Census, Enumerator, GpuCount, Scraped
from scheduler.control.failures import BREAKER_NODES_MIN
from scheduler.core.quota import ALL_CLASSES
from scheduler.model.fleet import Health, SiteStatus
from scheduler.model.ids import SiteId
from scheduler.model.job import JobState, RankCause
from scheduler.store import changes
from tests.control.plant import N01, N02, OLGA, Plant, spec
from tests.store.builders import H100, LONDON, RADIOLOGY, node, report, site

SLOUGH = SiteId("slough")


def take(plant: Plant, by: Enumerator | None = None) -> Census:
    with plant.store.read() as view:
        return (by or Enumerator()).take(view, plant.now_ms)


def test_an_empty_control_plane_counts_nothing(plant: Plant) -> None:
    with plant.store.transaction() as txn:
        plant.control.apply_fleet(txn, OLGA, [], reason="end", dry_run=False, now_ms=plant.now_ms)
    found = take(plant)
    assert found.sites == ()
    assert set(found.jobs.values()) == {0}


def test_jobs_quota_and_gpus_are_counted(plant: Plant) -> None:
    plant.run(spec(gpus=3))
    waiting = spec(nodes=2, gpus=8)
    plant.submit(waiting)
    found = take(plant)
    assert (found.jobs[JobState.RUNNING], found.jobs[JobState.QUEUED]) == (1, 1)
    assert list(found.queued.values()) == [1]
    (london,) = found.sites
    assert london.gpus == {H100: GpuCount(installed=16, schedulable=16, allocated_milli=3000)}
    assert london.contact.connected
    lines = {(line.tenant, line.gpu_class): line for line in found.quota}
    assert lines[RADIOLOGY, ALL_CLASSES].used_milli == 3000
    assert lines[RADIOLOGY, ALL_CLASSES].queued_milli == 16_000
    with plant.store.read() as view:
        assert found.audit_leaves == len(list(view.audit.all())) > 0


def test_nodes_are_counted_by_the_health_they_report(plant: Plant) -> None:
    healths = {"n01": Health.OK, "n02": Health.DEGRADED, "n03": Health.FAILED, "n04": Health.OK}
    plant.lay_out(slots=(*healths, "n05"))
    for slot, health in healths.items():
        told = replace(report(node(slot, LONDON).id), health=health, agent_connected=slot != "n04")
        plant.report(nodes=(told,))
    (london,) = take(plant).sites
    assert london.nodes == {
        Health.OK: 1,
        Health.DEGRADED: 1,
        Health.FAILED: 1,
        Health.UNKNOWN: 2,  # One that is not heard, one that never was.
    }
    assert london.nodes_schedulable == 1
    assert london.gpus[H100].installed == 40
    assert london.gpus[H100].schedulable == 8


def test_what_was_told_to_leave_closed_nodes_is_counted_until_it_is_gone(plant: Plant) -> None:
    key = plant.run()
    assert take(plant).sites[0].draining == 0
    with plant.store.transaction() as txn:
        plant.control.drain(txn, OLGA, LONDON, "roof", 1_000, plant.now_ms)
    plant.tick()
    assert take(plant).sites[0].draining == 0  # Its deadline has not come.
    plant.now_ms += 1_000
    plant.tick()
    assert (take(plant).sites[0].draining, take(plant).sites[0].unpermitted) == (1, 0)
    plant.push()
    plant.report(plant.ended(key, cause=RankCause.STOP, exit_code=143))
    assert take(plant).sites[0].draining == 0


def test_a_node_that_drains_counts_and_what_is_stopped_elsewhere_does_not(plant: Plant) -> None:
    plant.run()
    with plant.store.read() as view:
        [held] = [n for n in (N01, N02) if view.attempts.occupants([n])]
    other = N02 if held == N01 else N01
    with plant.store.transaction() as txn:
        plant.control.drain(txn, OLGA, held, "fan", 1, plant.now_ms)
    plant.now_ms += 1
    plant.tick()
    assert take(plant).sites[0].draining == 1
    with plant.store.transaction() as txn:
        plant.control.uncordon(txn, OLGA, held, "no", plant.now_ms)
        plant.control.cordon(txn, OLGA, other, "fan", plant.now_ms)
    assert take(plant).sites[0].draining == 0


def test_it_is_counted_where_too_much_failed_to_be_believed(plant: Plant) -> None:
    slots = tuple(f"n{number:02}" for number in range(1, 2 * BREAKER_NODES_MIN))
    plant.lay_out(slots=slots)
    said = [
        replace(report(node(slot, LONDON).id), health=Health.FAILED)
        for slot in slots[:BREAKER_NODES_MIN]
    ]
    plant.report(nodes=tuple(said[:-1]))
    assert not take(plant).sites[0].breaker_open
    plant.report(nodes=tuple(said[-1:]))
    assert take(plant).sites[0].breaker_open


def test_a_closed_or_silent_site_takes_nothing(plant: Plant) -> None:
    assert take(plant).sites[0].nodes_schedulable == 2
    with plant.store.transaction() as txn:
        txn.fleet.cordon_node(N01, True, "fan")
    (london,) = take(plant).sites
    assert (london.nodes_schedulable, london.nodes_cordoned) == (1, 1)
    with plant.store.transaction() as txn:
        txn.fleet.put_contact(replace(txn.fleet.contact(LONDON), connected=False), plant.now_ms)
    (london,) = take(plant).sites
    assert (london.nodes_schedulable, london.gpus[H100].schedulable) == (0, 0)


def test_sites_that_are_not_active_do_not_count(plant: Plant) -> None:
    fleet = [
        (site(LONDON), (node("n01", LONDON), node("n02", LONDON))),
        (replace(site(SLOUGH), status=SiteStatus.ON_HOLD), ()),
    ]
    with plant.store.transaction() as txn:
        plant.control.apply_fleet(
            txn, OLGA, fleet, reason="more", dry_run=False, now_ms=plant.now_ms
        )
    assert [count.site for count in take(plant).sites] == [LONDON]


def test_following_changes_counts_the_same_as_reading_everything(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Enumerator()
    take(plant, follower)
    plant.report(nodes=(replace(report(N01), health=Health.FAILED),))
    assert take(plant, follower) == take(plant)
    plant.lay_out(slots=("n02", "n07"))
    assert take(plant, follower) == take(plant)
    assert sum(take(plant, follower).sites[0].nodes.values()) == 2
    # With more changes than it may follow, it reads everything.
    monkeypatch.setattr("scheduler.control.census.NODE_CHANGES_MAX", 0)
    plant.report(nodes=(replace(report(N02), health=Health.DEGRADED),))
    with plant.store.read() as view, pytest.raises(changes.ChangesTrimmed):
        view.changes.nodes_since(1, 0)
    assert take(plant, follower) == take(plant)


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("10.0.0.7:9445", "10.0.0.7:9445"),
        ("[fd00::7]:9445", "[fd00::7]:9445"),
        ("n01.exch-a.example:9445", "n01.exch-a.example:9445"),
        ("", ""),
        ("10.0.0.7", ""),
        ("10.0.0.7:0", ""),
        ("http://10.0.0.7:9445/x", ""),
        ("10.0.0.7:9445\n", ""),
        ("a" * 300 + ":1", ""),
    ],
)
def test_agents_are_named_where_they_say_they_are_scraped(
    plant: Plant, told: str, kept: str
) -> None:
    plant.report(nodes=(replace(report(N01), metrics_address=told),))
    assert take(plant).scraped == ((Scraped(LONDON, "n01", kept),) if kept else ())
