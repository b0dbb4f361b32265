"""What contradicts itself in a tenant tree is refused whole, with every fault."""

from __future__ import annotations

import pytest

from scheduler.core.tree_rules import overcommitted, tree_faults, unknown_classes
from scheduler.model.ids import GpuClass, TenantPath
from scheduler.model.tenancy import Budget, BudgetPeriod, GpuQuota, Tenant
from tests.core.builders import A100, H100, TENANTS, tenant


def test_every_fault_of_a_tree_is_told_at_once() -> None:
    bad = Tenant(
        TenantPath("lost/child"),
        weight=0,
        quotas=(GpuQuota(H100, -1), GpuQuota(H100, 5000, 4000)),
    )
    found = {(fault.subject, fault.detail.split()[0]) for fault in tree_faults([bad, bad])}
    assert found == {
        ("tenants[0].path", "parent"),
        ("tenants[0].weight", "0,"),
        ("tenants[0].quotas[0]", "guarantee"),
        ("tenants[0].quotas[1]", "GPU"),
        ("tenants[0].quotas[1]", "limit"),
        ("tenants[1].path", "'lost/child'"),
        ("tenants[1].path", "parent"),
        ("tenants[1].weight", "0,"),
        ("tenants[1].quotas[0]", "guarantee"),
        ("tenants[1].quotas[1]", "GPU"),
        ("tenants[1].quotas[1]", "limit"),
    }
    assert tree_faults(TENANTS) == ()


def faults_of(*tenants: Tenant) -> set[tuple[str, str]]:
    """Field and the whole detail of each fault."""
    return {(fault.subject, fault.detail) for fault in tree_faults(tenants)}


def test_children_are_guaranteed_no_more_than_their_parent() -> None:
    parent = tenant("a", guarantee=4, gpu_class="H100")
    one, two = (tenant(f"a/{name}", guarantee=2, gpu_class="H100") for name in ("x", "y"))
    assert faults_of(parent, one, two) == set()
    more = tenant("a/z", guarantee=1, gpu_class="H100")
    assert faults_of(parent, one, two, more) == {
        (
            "tenants[0].quotas",
            "children are guaranteed 5 GPUs of H100 together,"
            " above the 4 of H100 that it is guaranteed itself",
        )
    }


def test_a_guarantee_of_all_classes_covers_those_that_are_not_named() -> None:
    parent = tenant("a", guarantee=4)
    one = tenant("a/x", guarantee=2, gpu_class="H100")
    two = tenant("a/y", guarantee=2, gpu_class="A100")
    assert faults_of(parent, one, two) == set()
    assert [field for field, _ in faults_of(parent, one, two, tenant("a/z", guarantee=1))] == [
        "tenants[0].quotas"
    ]


def test_a_guarantee_that_a_limit_above_makes_void() -> None:
    top = Tenant(TenantPath("a"), quotas=(GpuQuota(H100, 4000, 4000),))
    middle = tenant("a/b", guarantee=4, gpu_class="H100")
    low = Tenant(TenantPath("a/b/c"), quotas=(GpuQuota(H100, 5000),))
    fields = {field for field, _ in faults_of(top, middle, low)}
    assert fields == {"tenants[1].quotas", "tenants[2].quotas[0]"}


@pytest.mark.parametrize(
    ("quota", "words"),
    [
        pytest.param(GpuQuota(H100, borrow_limit_milli=-1), "borrow limit -1", id="borrow"),
        pytest.param(GpuQuota(H100, lend_limit_milli=-1), "lend limit -1", id="lend"),
        pytest.param(GpuQuota(H100, 1000, lend_limit_milli=2000), "is above guarantee", id="more"),
        pytest.param(GpuQuota(H100, weight=-1), "weight -1", id="weight"),
        pytest.param(GpuQuota(H100, limit_milli=1 << 60), "is above", id="beyond all bounds"),
    ],
)
def test_a_quota_that_makes_no_sense(quota: GpuQuota, words: str) -> None:
    ((field, detail),) = faults_of(Tenant(TenantPath("a"), quotas=(quota,)))
    assert field == "tenants[0].quotas[0]"
    assert words in detail


MONTH = BudgetPeriod.MONTH


@pytest.mark.parametrize(
    ("budgets", "field"),
    [
        pytest.param((Budget(H100, -1, MONTH),), "[0].amount_gpu_ms", id="negative"),
        pytest.param((Budget(H100, 1 << 60, MONTH),), "[0].amount_gpu_ms", id="beyond bounds"),
        pytest.param((Budget(H100, 1, BudgetPeriod.UNSPECIFIED),), "[0].period", id="no period"),
        pytest.param((Budget(H100, 1, BudgetPeriod.DAYS),), "[0].days", id="no days"),
        pytest.param((Budget(H100, 1, MONTH, days=3),), "[0].days", id="days of a month"),
        pytest.param((Budget(H100, 1, MONTH, 0, 9, 9),), "[0].from_day", id="ends as it begins"),
        pytest.param((Budget(H100, 1, MONTH), Budget(H100, 2, MONTH)), "[1]", id="two at once"),
        pytest.param(
            (Budget(H100, 1, MONTH, 0, 0, 10), Budget(H100, 2, BudgetPeriod.QUARTER, 0, 9)),
            "[1]", id="one day of two",
        ),
    ],
)  # fmt: skip
def test_a_budget_that_makes_no_sense(budgets: tuple[Budget, ...], field: str) -> None:
    ((found, _),) = faults_of(Tenant(TenantPath("a"), budgets=budgets))
    assert found == f"tenants[0].budgets{field}"


def test_budgets_that_follow_one_another_or_are_of_other_classes_are_no_fault() -> None:
    following = (Budget(H100, 1, MONTH, 0, 0, 10), Budget(H100, 2, BudgetPeriod.QUARTER, 0, 10))
    assert faults_of(Tenant(TenantPath("a"), budgets=(*following, Budget(A100, 3, MONTH)))) == set()


def test_classes_that_the_fleet_does_not_have_are_named() -> None:
    tree = (
        tenant("a", gpu_class="H100"),
        Tenant(TenantPath("b"), quotas=(GpuQuota(GpuClass("H10")),),
               budgets=(Budget(GpuClass("B20"), 1, MONTH),)),
    )  # fmt: skip
    found = unknown_classes(tree, frozenset({H100, A100}))
    assert [fault.subject for fault in found] == [
        "tenants[1].quotas[0].gpu_class",
        "tenants[1].budgets[0].gpu_class",
    ]
    assert found[0].detail == "found 'H10', which no declared node has; the fleet has A100, H100"


def test_promises_beyond_the_fleet_are_told() -> None:
    tree = (tenant("a", guarantee=8, gpu_class="H100"), tenant("b", guarantee=1, gpu_class="H100"))
    assert overcommitted(tree, {H100: 9000}) == ()
    assert overcommitted(tree, {H100: 8000}) == (
        "9 GPUs of H100 are guaranteed, the active sites have 8",
    )
