"""Joint projects: what is given has moved, nothing is lost or made, and faults are all told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from scheduler.core.joint import given
from scheduler.core.quota import QuotaTree, Usage, charge, fits, within
from scheduler.core.tree_rules import tree_faults
from scheduler.model.ids import ALL_CLASSES, GpuClass, TenantPath
from scheduler.model.reasons import Reason
from scheduler.model.tenancy import GpuQuota, Share, Tenant
from tests.core.builders import H100, tenant

HOST, PROJECT = TenantPath("met"), TenantPath("met/climate")
GIVER, PART = TenantPath("nrc"), TenantPath("nrc/compute")


def share(guarantee: int = 2, limit: int = 8, since_ms: int = 1, **changes: object) -> Share:
    made = Share(PART, "uk-ca", H100, guarantee * 1000, limit * 1000, since_ms)
    return replace(made, **changes)  # type: ignore[arg-type]


def tree(*shares: Share, wide: bool = False) -> tuple[Tenant, ...]:
    """Two organisations of 16 GPUs, half of them guaranteed; the host's project has 4 of its own.
    `wide`: organisations name no model."""
    name = ALL_CLASSES if wide else "H100"
    project = tenant(PROJECT, guarantee=4, limit=4, gpu_class="H100")
    return (
        tenant(HOST, guarantee=8, limit=16, gpu_class=name),
        replace(project, shares=shares),
        tenant("met/other", limit=16, gpu_class="H100"),
        tenant(GIVER, guarantee=8, limit=16, gpu_class=name),
        tenant(PART, guarantee=8, limit=16, gpu_class="H100"),
    )


def quota(tenants: tuple[Tenant, ...], path: TenantPath, name: GpuClass) -> tuple[int, int | None]:
    found = QuotaTree(tenants).quota(path, name)
    assert found is not None
    return found.guarantee_milli // 1000, (found.limit_milli or 0) // 1000


@pytest.mark.parametrize("wide", [False, True])
def test_a_share_adds_to_its_project_and_the_host_what_its_giver_has_no_more(wide: bool) -> None:
    tenants, name = tree(share(), wide=wide), ALL_CLASSES if wide else H100
    assert quota(tenants, PROJECT, H100) == (6, 12)
    assert quota(tenants, HOST, name) == (10, 24)
    assert quota(tenants, GIVER, name) == (6, 8)
    assert quota(tenants, PART, H100) == (6, 8)
    assert quota(tenants, TenantPath("met/other"), H100) == (0, 16)
    assert tree_faults(tenants) == ()


def test_a_share_that_is_not_in_force_moves_nothing() -> None:
    tenants = tree(share(since_ms=0))
    assert given(tenants) == tenants


def test_a_tree_over_another_fleet_has_moved_its_shares_once() -> None:
    again = QuotaTree(tree(share())).rated({H100: 64_000}).rated({H100: 32_000})
    found = again.quota(PROJECT, H100)
    assert found is not None
    assert found.limit_milli == 12_000


def test_what_binds_names_every_share_and_which_of_them_count_for_nothing() -> None:
    usage: Usage = {}
    charge(usage, PROJECT, H100, 12_000)
    other = share(limit=3, guarantee=0, since_ms=0, of=GIVER, agreement="later")
    bound = QuotaTree(tree(share(), other))
    (denial,) = fits(bound, usage, PROJECT, H100, 1_000)
    assert (denial.reason, denial.subject) == (Reason.QUOTA_LIMIT, PROJECT)
    assert (
        "limit 12, in use 12, asked 1; given to it: 8 of nrc/compute under uk-ca" in denial.detail
    )
    assert "3 of nrc under later, which is not in force and counts for nothing" in denial.detail


def test_the_giver_may_not_use_what_it_gave() -> None:
    usage: Usage = {}
    charge(usage, PART, H100, 8_000)
    assert within(QuotaTree(tree(share(since_ms=0))), usage, PART, H100, 1_000)
    assert not within(QuotaTree(tree(share())), usage, PART, H100, 1_000)


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        pytest.param([share(of="uni")], "found 'uni'", id="a giver that is not there"),
        pytest.param([share(of=HOST)], "of another branch", id="a giver above the project"),
        pytest.param([share(), share()], "under 'uk-ca' twice", id="the same share twice"),
        pytest.param([share(gpu_class=ALL_CLASSES)], "allowed a GPU model", id="of all models"),
        pytest.param([share(gpu_class="A100")], "a limit of its own", id="nothing to add to"),
        pytest.param([share(limit=0, guarantee=0)], "allowed from 1", id="of nothing"),
        pytest.param([share(guarantee=9)], "allowed 0 to the limit", id="guaranteed above it"),
        pytest.param([share(limit=30)], "has to keep", id="more than the giver may use"),
        pytest.param([share(limit=12)], "has to keep 6", id="what the giver is guaranteed"),
        pytest.param([share(guarantee=9, limit=9)], "at most its own, 8", id="more guarantee"),
    ],
)
def test_a_share_that_makes_no_sense_is_told(shares: list[Share], told: str) -> None:
    found = tree_faults(tree(*shares))
    assert any(told in fault.detail for fault in found), found


def test_all_faults_are_told_at_once_each_with_its_field() -> None:
    wrong = share(of="uni", gpu_class=ALL_CLASSES, limit=0, guarantee=1)
    subjects = [fault.subject for fault in tree_faults(tree(share(), wrong))]
    at = "tenants[1].shares[1]"
    assert subjects == [at, at, at, f"{at}.limit_milli", f"{at}.guarantee_milli"]


@drawn(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 4), st.booleans()), min_size=1, max_size=3
    ),
    st.booleans(),
)
def test_what_moves_is_neither_lost_nor_made(
    drawn_shares: list[tuple[int, int, bool]], wide: bool
) -> None:
    """For any shares that make sense, sums over organisations and over leaves are as before."""
    shares = [
        share(min(guarantee, limit), limit, int(in_force), agreement=f"a{n}")
        for n, (guarantee, limit, in_force) in enumerate(drawn_shares)
    ]
    tenants = tree(*shares, wide=wide)
    if tree_faults(tenants):
        return
    for names in ((HOST, GIVER), (PROJECT, TenantPath("met/other"), PART)):
        before = [q for t in tenants if t.path in names for q in t.quotas]
        after = [q for t in given(tenants) if t.path in names for q in t.quotas]
        for sums in (guaranteed, limited):
            assert sum(map(sums, before)) == sum(map(sums, after))


def guaranteed(quota: GpuQuota) -> int:
    return quota.guarantee_milli


def limited(quota: GpuQuota) -> int:
    return quota.limit_milli or 0
