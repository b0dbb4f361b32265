from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.quota import QuotaTree, Usage, charge, fits, tree_faults, within
from scheduler.model.ids import GpuClass, TenantPath
from scheduler.model.tenancy import GpuQuota, Tenant
from tests.core.builders import A100, H100, TENANTS, tenant

A = TenantPath("trust-a")
RADIOLOGY = TenantPath("trust-a/radiology")


@pytest.mark.parametrize(
    ("limits", "used", "asked", "blocked_at"),
    [
        pytest.param((8, 8), 0, 8, [], id="a tenant may use all of its limit"),
        pytest.param((8, 8), 1, 8, [A, RADIOLOGY], id="and no more"),
        pytest.param((4, None), 4, 1, [A], id="the limit of an ancestor binds"),
        pytest.param((None, 4), 4, 1, [RADIOLOGY], id="so does one's own"),
        pytest.param((None, None), 1000, 1000, [], id="no limit is no bound"),
    ],
)
def test_limits(
    limits: tuple[int | None, int | None], used: int, asked: int, blocked_at: list[TenantPath]
) -> None:
    tree = QuotaTree([tenant(A, limit=limits[0]), tenant(RADIOLOGY, limit=limits[1])])
    usage: Usage = {}
    charge(usage, RADIOLOGY, H100, used * 1000)
    denials = fits(tree, usage, RADIOLOGY, H100, asked * 1000)
    assert [denial.subject for denial in denials] == blocked_at
    assert within(tree, usage, RADIOLOGY, H100, asked * 1000) == (not blocked_at)


def test_a_limit_on_one_class_leaves_others_alone() -> None:
    tree = QuotaTree([tenant(A), tenant(RADIOLOGY, limit=1, gpu_class="H100")])
    assert fits(tree, {}, RADIOLOGY, H100, 2000)
    assert not fits(tree, {}, RADIOLOGY, A100, 2000)


def test_a_tenant_outside_the_tree_has_nothing() -> None:
    (denial,) = fits(QuotaTree(TENANTS), {}, TenantPath("trust-z"), H100, 0)
    assert "not in the tree" in denial.detail
    assert not within(QuotaTree(TENANTS), {}, TenantPath("trust-z"), H100, 0)


charges = st.lists(
    st.tuples(st.sampled_from([t.path for t in TENANTS]), st.sampled_from([H100, A100]),
              st.integers(0, 64_000)), max_size=10,
)  # fmt: skip


@given(charges, charges)
def test_charging_and_giving_back_is_nothing(
    kept: list[tuple[TenantPath, GpuClass, int]], undone: list[tuple[TenantPath, GpuClass, int]]
) -> None:
    usage: Usage = {}
    for path, gpu_class, milli in kept:
        charge(usage, path, gpu_class, milli)
    before = {path: dict(line) for path, line in usage.items()}
    for path, gpu_class, milli in undone:
        charge(usage, path, gpu_class, milli)
    for path, gpu_class, milli in reversed(undone):
        charge(usage, path, gpu_class, -milli)
    for path, line in usage.items():
        assert {c: m for c, m in line.items() if m} == {
            c: m for c, m in before.get(path, {}).items() if m
        }


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
