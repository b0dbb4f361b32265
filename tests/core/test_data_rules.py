"""What data demands of work: labels only ever close, and what is malformed is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.fleets import verdicts
from scheduler.core import data_rules
from scheduler.core.residency import permits
from scheduler.model.dataset import Dataset, Label
from scheduler.model.ids import SiteId, TenantPath
from scheduler.model.job import DatasetMount, DatasetOutput, JobArray, JobSpec
from scheduler.model.reasons import Reason
from scheduler.model.residency import Deny, Requirement, Tier
from tests.core.builders import NOW_MS, POLICY, site
from tests.deploy.test_packs import PACKS, pack

SITES = [each for each, _ in verdicts.load().sites]
POLICIES = [pack(path) for path in PACKS]
COUNTRIES = st.lists(st.sampled_from(("GB", "US", "NO", "CA", "JE")), unique=True).map(tuple)
MARKINGS = st.lists(st.sampled_from(("SENSITIVE", "EYES ONLY")), unique=True).map(tuple)
KINDS = st.lists(st.sampled_from(("personal", "health")), unique=True).map(tuple)
TIERS = st.sampled_from((Tier.OFFICIAL, Tier.SECRET, Tier.TOP_SECRET))
PLACES = st.lists(st.sampled_from([each.id for each in SITES]), unique=True, max_size=12).map(tuple)
LABELS = st.builds(Label, COUNTRIES, TIERS, MARKINGS, KINDS, COUNTRIES)
DATASETS = st.builds(Dataset, st.just("trust-a/d"), PLACES, LABELS, st.just("it is ours"))
WORK = st.builds(
    Requirement,
    jurisdictions=COUNTRIES,
    tier=TIERS,
    markings=MARKINGS,
    tolerate_foreign_compulsion=COUNTRIES,
    data_kinds=KINDS,
)


def denied(work: Requirement) -> set[tuple[int, SiteId]]:
    """Where this work may not be, under each shipped pack."""
    return {
        (n, each.id)
        for n, policy in enumerate(POLICIES)
        for each in SITES
        if isinstance(permits(work, each, policy, verdicts.JUDGED_AT_MS), Deny)
    }


@settings(max_examples=30)
@given(WORK, DATASETS, DATASETS)
def test_an_input_more_or_one_that_is_lost_only_closes(
    work: Requirement, one: Dataset, other: Dataset
) -> None:
    alone = denied(work)
    with_one = denied(data_rules.raised(work, [one]))
    with_both = denied(data_rules.raised(work, [one, other]))
    assert alone <= with_one <= with_both
    assert denied(data_rules.raised(work, [one, None])) == denied(replace(work, data_sites=()))


@settings(max_examples=30)
@given(WORK, DATASETS, LABELS, PLACES)
def test_a_stronger_label_and_fewer_places_only_close(
    work: Requirement, dataset: Dataset, more: Label, kept: tuple[SiteId, ...]
) -> None:
    stronger = replace(
        dataset,
        label=data_rules.strictest(dataset.label, more),
        sites=tuple(sorted({*dataset.sites} & {*kept})),
    )
    before = denied(data_rules.raised(work, [dataset]))
    assert before <= denied(data_rules.raised(work, [stronger]))


@settings(max_examples=30)
@given(WORK, DATASETS, DATASETS)
def test_what_is_written_is_labelled_as_strictly_as_all_that_was_read(
    work: Requirement, one: Dataset, other: Dataset
) -> None:
    label = data_rules.inherited(data_rules.raised(work, [one, other]))
    for read in (one.label, other.label):
        assert data_rules.strictest(label, read) == label
    reader = replace(work, data_sites=None)
    written = Dataset("trust-a/out", (SITES[0].id,), label, "written there")
    there = [replace(dataset, sites=written.sites) for dataset in (one, other)]
    of_inputs = denied(data_rules.raised(reader, there))
    assert of_inputs <= denied(data_rules.raised(reader, [written]))


def test_work_is_denied_where_its_data_is_not() -> None:
    work = replace(Requirement(("GB",)), data_sites=(SiteId("elsewhere"),))
    verdict = permits(work, site(), POLICY, NOW_MS)
    assert isinstance(verdict, Deny)
    assert [denial.reason for denial in verdict.denials] == [Reason.DATA_ELSEWHERE]
    here = replace(work, data_sites=(site().id,))
    assert not isinstance(permits(here, site(), POLICY, NOW_MS), Deny)


def reading(*mounts: str, array: JobArray | None = None, outputs: tuple[str, ...] = ()) -> JobSpec:
    return JobSpec(
        name="train",
        project=TenantPath("trust-a/radiology"),
        command=("true",),
        residency=Requirement(("GB",)),
        inputs=tuple(DatasetMount("trust-a/scans", mount) for mount in mounts),
        outputs=tuple(DatasetOutput(f"trust-a/out-{n}", path) for n, path in enumerate(outputs)),
        array=array,
    )


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param(reading("data"), "inputs[0].mount", id="a mount that is relative"),
        pytest.param(reading("/data/../x"), "inputs[0].mount", id="a mount that climbs"),
        pytest.param(reading("/etc/passwd"), "inputs[0].mount", id="a mount among programs"),
        pytest.param(reading("/"), "inputs[0].mount", id="the root"),
        pytest.param(reading("/d", "/d/e"), "inputs[1].mount", id="one mount within another"),
        pytest.param(reading(outputs=("../up",)), "outputs[0].from", id="an output that climbs"),
        pytest.param(reading(outputs=("/abs",)), "outputs[0].from", id="an absolute output"),
        pytest.param(reading(outputs=("a", "a/b")), "outputs[1].from", id="an output in another"),
        pytest.param(
            reading(outputs=("a",), array=JobArray(2)), "outputs", id="an array with outputs"
        ),
        pytest.param(
            replace(reading(), outputs=(DatasetOutput("uni-b/out", "a"),)),
            "outputs[0].dataset",
            id="another tenant's output",
        ),
        pytest.param(
            replace(reading(), residency=Requirement(("GB",), data_sites=())),
            "residency.data_sites",
            id="sites that nobody may ask for",
        ),
    ],
)
def test_what_is_malformed_names_its_field(spec: JobSpec, field: str) -> None:
    assert field in {fault.subject for fault in data_rules.spec_faults(spec)}


def test_what_is_well_formed_has_no_fault() -> None:
    assert [*data_rules.spec_faults(reading("/data/scans", "/data2", outputs=("out/",)))] == []
