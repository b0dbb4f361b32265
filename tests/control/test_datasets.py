"""The data catalogue: who may declare what, who sees it, and what its log says."""

import json
from dataclasses import replace

import pytest

from scheduler.control import datasets
from scheduler.model.dataset import Dataset, Label
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import SiteId, TenantPath
from scheduler.model.reasons import Code, Reason, Refused
from scheduler.model.residency import Tier
from tests.control.plant import ADA, EVE, Plant
from tests.store.builders import LONDON, NOW_MS

SCANS = Dataset(
    name="trust-a/scans-2026",
    sites=(LONDON,),
    label=Label(("GB",), Tier.OFFICIAL, data_kinds=("health",)),
    transfer_basis="collected and kept there",
)


def declare(plant: Plant, *entries: Dataset, who: Principal = ADA, dry_run: bool = False) -> object:
    with plant.store.transaction() as txn:
        return datasets.apply(
            txn, who, entries, reason="scans.yaml", dry_run=dry_run, now_ms=plant.now_ms
        )


def seen(plant: Plant, who: Principal) -> list[str]:
    with plant.store.read() as read:
        return [dataset.name for dataset in datasets.listed(read, who)]


def test_what_is_declared_is_listed_and_a_dry_run_changes_nothing(plant: Plant) -> None:
    assert declare(plant, SCANS, dry_run=True) == ("+ trust-a/scans-2026",)
    assert seen(plant, ADA) == []
    assert declare(plant, SCANS) == ("+ trust-a/scans-2026",)
    assert declare(plant, SCANS) == ()
    assert seen(plant, ADA) == ["trust-a/scans-2026"]
    with plant.store.read() as read:
        found = datasets.get(read, ADA, SCANS.name)
    assert found == replace(SCANS, declared_by=ADA.path, changed_at_ms=plant.now_ms)


def test_another_tenants_dataset_was_never_there(plant: Plant) -> None:
    declare(plant, SCANS)
    assert seen(plant, EVE) == []
    with plant.store.transaction() as txn:
        for ask in (
            lambda: datasets.get(txn, EVE, SCANS.name),
            lambda: datasets.remove(txn, EVE, SCANS.name, "", NOW_MS),
        ):
            with pytest.raises(Refused) as refused:
                ask()
            assert refused.value.code is Code.NOT_FOUND


def test_who_it_is_shared_with_sees_it_and_neither_with_whom_else_nor_may_remove_it(
    plant: Plant,
) -> None:
    declare(plant, replace(SCANS, shared_with=(TenantPath("uni-b"),)))
    assert seen(plant, EVE) == [SCANS.name]
    with plant.store.transaction() as txn:
        found = datasets.get(txn, EVE, SCANS.name)
        assert (found.shared_with, found.declared_by) == ((), "")
        with pytest.raises(Refused) as refused:
            datasets.remove(txn, EVE, SCANS.name, "", NOW_MS)
        assert refused.value.code is Code.NOT_FOUND


def test_every_fault_of_a_declaration_is_told_at_once(plant: Plant) -> None:
    wrong = Dataset(
        name="uni-b/scans",
        sites=(SiteId("nowhere"), LONDON),
        label=Label(("FR",), Tier.UNSPECIFIED, markings=("loud",)),
        transfer_basis=" ",
        version="../up",
    )
    with pytest.raises(Refused) as refused:
        declare(plant, wrong)
    assert {denial.subject for denial in refused.value.denials} == {
        "datasets[0].name",
        "datasets[0].label.tier",
        "datasets[0].label.markings[0]",
        "datasets[0].sites[0]",
        "datasets[0].sites[1]",
        "datasets[0].transfer_basis",
        "datasets[0].version",
    }
    outside = [d for d in refused.value.denials if d.reason is Reason.DATA_ZONE]
    assert "stands in GB" in outside[0].detail


def test_operators_and_auditors_are_not_shown_tenants_data(plant: Plant) -> None:
    declare(plant, SCANS)
    assert seen(plant, Principal("/operator/olga", Role.OPERATOR)) == []


def test_the_audit_log_holds_every_state_of_an_entry(plant: Plant) -> None:
    declare(plant, SCANS)
    with plant.store.transaction() as txn:
        datasets.remove(txn, ADA, SCANS.name, "withdrawn", plant.now_ms)
    with plant.store.read() as read:
        kinds = [
            (leaf.kind, json.loads(leaf.body)["dataset"]["name"])
            for leaf in read.audit.all()
            if leaf.kind.startswith("dataset_")
        ]
    assert kinds == [("dataset_declared", SCANS.name), ("dataset_removed", SCANS.name)]
    assert seen(plant, ADA) == []
