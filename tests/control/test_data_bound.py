"""Work that reads datasets: what it is raised to, where it may be, and what a change brings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.control import datasets
from scheduler.model.dataset import Dataset, Label
from scheduler.model.ids import SiteId, TenantPath
from scheduler.model.job import DatasetMount, JobArray, JobSpec, JobState, RankCause
from scheduler.model.plan import JobClass
from scheduler.model.reasons import Reason
from scheduler.model.residency import Requirement, Tier
from scheduler.model.sitelink import DesiredAction
from tests.control.plant import ADA, EVE, Plant, spec
from tests.control.test_datasets import SCANS, declare
from tests.store.builders import LONDON, RIVALS

LEEDS = SiteId("exch-leeds-1")


def reading(*names: str, project: str = "trust-a/radiology") -> JobSpec:
    mounts = tuple(DatasetMount(name, f"/data/{n}") for n, name in enumerate(names))
    return replace(spec(project=project), inputs=mounts)


def class_of(plant: Plant, job: object) -> JobClass:
    with plant.store.read() as read:
        row = read.jobs.row(job)  # type: ignore[arg-type]
        assert row is not None
        return read.jobs.job_class(row.class_id)


def relabel(plant: Plant, **changes: object) -> None:
    declare(plant, replace(SCANS, label=replace(SCANS.label, **changes)))  # type: ignore[arg-type]


def test_work_is_raised_to_its_inputs_label_and_bound_to_where_they_lie(plant: Plant) -> None:
    declare(plant, replace(SCANS, label=Label(("GB",), Tier.OFFICIAL, ("SENSITIVE",), ("health",))))
    asked = replace(reading(SCANS.name), residency=Requirement(("GB",)))
    job = plant.submit(asked)
    effective = class_of(plant, job).residency
    assert (effective.markings, effective.data_kinds) == (("SENSITIVE",), ("health",))
    assert effective.data_sites == (LONDON,)
    with plant.store.read() as read:
        assert read.jobs.get(job).spec.residency == asked.residency  # type: ignore[union-attr]


def test_work_goes_where_its_data_lies_and_nowhere_else(plant: Plant) -> None:
    plant.lay_out(LEEDS, LONDON)
    plant.connect()
    plant.connect(LEEDS)
    declare(plant, replace(SCANS, sites=(LEEDS,)))
    for _ in range(3):
        plant.submit(reading(SCANS.name))
    applied = plant.cycle()
    assert {placement.site for placement in applied.kept} == {LEEDS}


@pytest.mark.parametrize(
    ("asked", "entries", "reason"),
    [
        pytest.param(reading("trust-a/unheard"), (), Reason.DATA_UNLABELLED, id="unlabelled"),
        pytest.param(
            reading(SCANS.name, "trust-a/more"),
            (replace(SCANS, name="trust-a/more", sites=(LEEDS,)),),
            Reason.DATA_APART,
            id="inputs that lie apart",
        ),
        pytest.param(
            reading(SCANS.name),
            (replace(SCANS, label=Label(("GB",), Tier.TOP_SECRET)),),
            Reason.TIER_ABOVE_CONTROL_PLANE,
            id="raised above the control plane's own tier",
        ),
        pytest.param(
            reading(SCANS.name),
            (replace(SCANS, label=Label(("GB",), Tier.OFFICIAL, ("ATOMIC",))),),
            Reason.MARKING,
            id="raised to a marking that no site may handle",
        ),
        pytest.param(
            replace(reading(SCANS.name), residency=Requirement(("NO",))),
            (),
            Reason.DATA_ZONE,
            id="work that is not for the data's zone",
        ),
    ],
)
def test_what_could_never_read_its_inputs_is_refused(
    plant: Plant, asked: JobSpec, entries: tuple[Dataset, ...], reason: Reason
) -> None:
    plant.lay_out(LEEDS, LONDON)
    declare(plant, SCANS)
    declare(plant, *entries)
    refused = plant.try_submit(asked)
    assert reason in {denial.reason for denial in refused.refusal.denials}


def test_another_tenants_data_is_as_unlabelled_as_none_until_it_is_shared(plant: Plant) -> None:
    declare(plant, SCANS)
    asked = reading(SCANS.name, project=RIVALS)
    refused = plant.try_submit(asked, EVE)
    assert [denial.reason for denial in refused.refusal.denials] == [Reason.DATA_UNLABELLED]
    declare(plant, replace(SCANS, shared_with=(TenantPath("uni-b"),)))
    plant.submit(asked, EVE)


def test_a_job_that_waits_follows_its_label_and_waits_alone_where_it_may_be_no_more(
    plant: Plant,
) -> None:
    declare(plant, SCANS)
    job = plant.submit(reading(SCANS.name))
    relabel(plant, markings=("ATOMIC",))
    plant.tick()
    assert class_of(plant, job).residency.markings == ("ATOMIC",)
    assert plant.cycle().kept == ()
    relabel(plant, markings=())
    plant.tick()
    assert [placement.key.job for placement in plant.cycle().kept] == [job]


def test_tasks_of_an_array_follow_too(plant: Plant) -> None:
    declare(plant, SCANS)
    array = plant.submit(replace(reading(SCANS.name), array=JobArray(3)))
    relabel(plant, markings=("ATOMIC",))
    plant.tick()
    assert plant.cycle().kept == ()
    relabel(plant, markings=())
    plant.tick()
    assert len(plant.cycle().kept) == 3
    assert class_of(plant, array).residency.markings == ()


@pytest.mark.parametrize("how", ["removed", "strengthened", "moved", "withdrawn"])
def test_running_work_leaves_when_its_data_may_not_be_read_there_any_more(
    plant: Plant, how: str
) -> None:
    plant.lay_out(LEEDS, LONDON)
    shared = replace(SCANS, name="uni-b/scans", shared_with=(TenantPath("trust-a"),))
    declare(plant, shared, who=EVE)
    key = plant.run(reading("uni-b/scans"))
    plant.tick()
    assert plant.job(key.job).state is JobState.RUNNING
    if how == "removed":
        with plant.store.transaction() as txn:
            datasets.remove(txn, EVE, "uni-b/scans", "", plant.now_ms)
    elif how == "strengthened":
        declare(plant, replace(shared, label=Label(("GB",), Tier.OFFICIAL, ("ATOMIC",))), who=EVE)
    elif how == "moved":
        declare(plant, replace(shared, sites=(LEEDS,)), who=EVE)
    else:
        declare(plant, replace(shared, shared_with=()), who=EVE)
    plant.tick()
    assert plant.job(key.job).state is JobState.PREEMPTING
    assert plant.job(key.job).reason is Reason.RESIDENCY_LOST
    assert plant.action(key) is DesiredAction.STOP


def test_work_that_was_told_to_leave_waits_in_the_class_of_the_new_label(plant: Plant) -> None:
    declare(plant, SCANS)
    key = plant.run(reading(SCANS.name))
    relabel(plant, markings=("ATOMIC",))
    plant.tick()
    plant.push()
    plant.report(plant.ended(key, cause=RankCause.STOP, exit_code=143))
    assert plant.job(key.job).state is JobState.QUEUED
    assert class_of(plant, key.job).residency.markings == ("ATOMIC",)


def test_what_is_over_reads_nothing(plant: Plant) -> None:
    declare(plant, SCANS)
    key = plant.run(reading(SCANS.name))
    with plant.store.read() as read:
        assert read.tenancy.datasets.reading([key.job]) == {key.job}
    plant.cancel(key.job, who=ADA)
    plant.push()
    plant.report(plant.ended(key))
    with plant.store.read() as read:
        assert read.tenancy.datasets.reading([key.job]) == frozenset()
