from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.quota import (
    ALL_CLASSES,
    SHARE_SCALE,
    QuotaTree,
    Usage,
    charge,
    dominant_share,
    fits,
    lineage,
    reclaimable,
    used_milli,
    within,
)
from scheduler.model.ids import GpuClass, TenantPath
from scheduler.model.reasons import Reason
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


def quota(
    path: str,
    guarantee: int = 0,
    limit: int | None = None,
    *,
    borrow: int | None = None,
    lend: int | None = None,
    gpu_class: GpuClass = H100,
    weight: int = 0,
) -> Tenant:
    """A tenant with one quota, in whole GPUs."""
    milli = [None if gpus is None else gpus * 1000 for gpus in (limit, borrow, lend)]
    own = GpuQuota(gpu_class, guarantee * 1000, milli[0], weight, milli[1], milli[2])
    return Tenant(TenantPath(path), quotas=(own,))


def test_borrowing_stops_at_its_limit() -> None:
    tree = QuotaTree([quota("trust-a", 4, borrow=2), quota("trust-a/radiology")])
    usage: Usage = {}
    charge(usage, RADIOLOGY, H100, 5000)
    assert within(tree, usage, RADIOLOGY, H100, 1000)
    assert not within(tree, usage, RADIOLOGY, H100, 2000)
    (denial,) = fits(tree, usage, RADIOLOGY, H100, 2000)
    assert (denial.reason, denial.subject) == (Reason.QUOTA_BORROW, A)
    assert denial.detail == "H100 GPUs: guarantee 4 and 2 to borrow, in use 5, asked 2"
    assert not fits(tree, usage, RADIOLOGY, A100, 2000)


B = TenantPath("trust-b")


@pytest.mark.parametrize(
    ("used_by_a", "used_by_b", "asked_by_b", "may"),
    [
        pytest.param(0, 0, 4, True, id="what is not kept is lent"),
        pytest.param(0, 0, 5, False, id="what may not be lent stays free"),
        pytest.param(2, 0, 4, True, id="the owner's use comes out of what is kept"),
        pytest.param(4, 0, 4, True, id="and when that is used, nothing is kept any more"),
        pytest.param(6, 0, 3, False, id="beyond it, there is only what is free"),
        pytest.param(0, 4, 1, False, id="others' use counts"),
    ],
)
def test_an_unlent_guarantee_stays_free(
    used_by_a: int, used_by_b: int, asked_by_b: int, may: bool
) -> None:
    # Eight GPUs; six are guaranteed to A, of which two may be lent and four are kept.
    tree = QuotaTree([quota("trust-a", 6, lend=2), quota("trust-b")], {H100: 8000})
    usage: Usage = {}
    charge(usage, A, H100, used_by_a * 1000)
    charge(usage, B, H100, used_by_b * 1000)
    assert within(tree, usage, B, H100, asked_by_b * 1000) == may
    denials = fits(tree, usage, B, H100, asked_by_b * 1000)
    assert [d.reason for d in denials] == ([] if may else [Reason.QUOTA_KEPT])


def test_the_owner_starts_on_what_is_kept_for_it() -> None:
    tree = QuotaTree([quota("trust-a", 6, lend=2), quota("trust-b")], {H100: 8000})
    usage: Usage = {}
    charge(usage, B, H100, 4000)
    assert within(tree, usage, A, H100, 4000)
    # Also where the fleet has shrunk below what is promised.
    assert within(tree.rated({H100: 5000}), usage, A, H100, 4000)


def test_a_project_keeps_its_part_from_its_siblings_under_a_limit() -> None:
    path, other = TenantPath("trust-a/pathology"), RADIOLOGY
    tree = QuotaTree([quota("trust-a", 4, 4), quota(path, 2, lend=0), quota(other)], {H100: 64_000})
    assert within(tree, {}, other, H100, 2000)
    (denial,) = fits(tree, {}, other, H100, 3000)
    assert (denial.reason, denial.subject) == (Reason.QUOTA_KEPT, A)
    assert within(tree, {}, path, H100, 4000)


TREE_PATHS = ("a", "a/x", "a/y", "b", "b/x", "b/x/p", "b/x/q", "c")
LEAVES = tuple(map(TenantPath, ("a/x", "a/y", "b/x/p", "b/x/q", "c")))


@st.composite
def quota_trees(draw: st.DrawFn) -> QuotaTree:
    """Up to three levels of guarantees, limits, and limits to borrowing and lending."""
    tenants: list[Tenant] = []
    for path in TREE_PATHS:
        quotas: list[GpuQuota] = []
        for gpu_class in (H100, ALL_CLASSES):
            guarantee = draw(st.integers(0, 4)) * 1000
            spare = draw(st.sampled_from([None, None, 0, 1, 3, 8]))
            quotas.append(
                GpuQuota(
                    gpu_class,
                    guarantee,
                    None if spare is None else guarantee + spare * 1000,
                    borrow_limit_milli=draw(st.sampled_from([None, None, 0, 2000])),
                    lend_limit_milli=draw(st.sampled_from([None, None, 0, guarantee // 2])),
                )
            )
        tenants.append(Tenant(TenantPath(path), quotas=tuple(quotas)))
    return QuotaTree(tenants, {H100: draw(st.integers(4, 16)) * 1000, A100: 4000})


asks = st.lists(
    st.tuples(st.sampled_from(LEAVES), st.sampled_from([H100, A100]), st.integers(1, 4),
              st.booleans()), max_size=40,
)  # fmt: skip


def free_milli(tree: QuotaTree, usage: Usage, gpu_class: GpuClass) -> int:
    """What of the fleet nobody holds."""
    used = sum(used_milli(usage, path, gpu_class) for path in tree.organisations)
    return tree.capacity_of(gpu_class) - used


@given(quota_trees(), asks)
def test_quota_is_never_exceeded_and_never_lost(
    tree: QuotaTree, history: list[tuple[TenantPath, GpuClass, int, bool]]
) -> None:
    """Over random histories of placements that `within` lets through, and ends."""
    usage: Usage = {}
    held: list[tuple[TenantPath, GpuClass, int]] = []
    for tenant_path, gpu_class, gpus, ends in history:
        if ends and held:
            over = held.pop(0)
            charge(usage, over[0], over[1], -over[2])
        milli = gpus * 1000
        may = within(tree, usage, tenant_path, gpu_class, milli)
        assert may == (not fits(tree, usage, tenant_path, gpu_class, milli))
        if not may or free_milli(tree, usage, gpu_class) < milli:
            continue
        charge(usage, tenant_path, gpu_class, milli)
        held.append((tenant_path, gpu_class, milli))
        for path, node in tree.tenants.items():
            for own in node.quotas:
                used = sum(
                    m for t, g, m in held
                    if path in lineage(t) and own.gpu_class in (g, ALL_CLASSES)
                )  # fmt: skip
                assert used == used_milli(usage, path, own.gpu_class)
                ceiling = own.ceiling_milli()
                assert ceiling is None or used <= ceiling
    for tenant_path, gpu_class, milli in held:
        charge(usage, tenant_path, gpu_class, -milli)
    assert not any(milli for line in usage.values() for milli in line.values())


@given(quota_trees(), asks)
def test_what_is_kept_for_an_owner_it_can_always_take(
    tree: QuotaTree, history: list[tuple[TenantPath, GpuClass, int, bool]]
) -> None:
    """Where all that is kept fits the fleet at the start, it is there for its owners ever after."""
    kept = {
        path: own.kept_milli()
        for path, node in tree.tenants.items()
        for own in node.quotas
        if own.gpu_class == H100
    }
    tenants = [
        Tenant(
            t.path,
            quotas=(GpuQuota(H100, t.quotas[0].guarantee_milli,
                             lend_limit_milli=t.quotas[0].lend_limit_milli),),
        )
        for t in tree.tenants.values()
    ]  # fmt: skip
    tree = QuotaTree(tenants, {H100: sum(kept.values()) + 4000})
    usage: Usage = {}
    for tenant_path, _, gpus, _ in history:
        # Where nothing is kept, nothing but the nodes themselves bounds what is used.
        has_room = gpus * 1000 <= free_milli(tree, usage, H100)
        if has_room and within(tree, usage, tenant_path, H100, gpus * 1000):
            charge(usage, tenant_path, H100, gpus * 1000)
        owed = {leaf: max(0, kept[leaf] - used_milli(usage, leaf, H100)) for leaf in LEAVES}
        assert sum(owed.values()) <= free_milli(tree, usage, H100)
        for leaf, milli in owed.items():
            assert within(tree, usage, leaf, H100, milli)


def test_the_largest_part_of_any_class_is_a_tenants_share() -> None:
    capacity = {H100: 10_000, A100: 100_000}
    line = {H100: 2000, A100: 10_000, ALL_CLASSES: 12_000}
    assert dominant_share(Tenant(A), line, capacity) == SHARE_SCALE // 5
    assert dominant_share(Tenant(A, weight=2), line, capacity) == SHARE_SCALE // 10
    heavy = Tenant(A, weight=2, quotas=(GpuQuota(H100, weight=4),))
    assert dominant_share(heavy, line, capacity) == SHARE_SCALE // 20
    assert dominant_share(Tenant(A), {}, capacity) == 0


@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=4),
)
def test_who_has_the_smallest_share_gets_shares_in_proportion_to_weight(
    weights: list[int],
) -> None:
    """Progressive filling by the share: no tenant is ahead of another by more than one turn."""
    capacity = {H100: 60_000, A100: 30_000}
    tenants = [Tenant(TenantPath(f"t{n}"), weight=weights[n]) for n in range(len(weights))]
    wants = [A100 if n % 2 else H100 for n in range(len(weights))]
    lines: list[dict[GpuClass, int]] = [{} for _ in tenants]
    left = dict(capacity)
    while all(left[name] >= 1000 for name in set(wants)):
        shares = [dominant_share(t, line, capacity) for t, line in zip(tenants, lines, strict=True)]
        at = shares.index(min(shares))
        lines[at][wants[at]] = lines[at].get(wants[at], 0) + 1000
        left[wants[at]] -= 1000
    for n, line in enumerate(lines):
        for m, other in enumerate(lines):
            step = SHARE_SCALE * 1000 // (capacity[wants[n]] * weights[n])
            one, two = (dominant_share(tenants[k], x, capacity) for k, x in ((n, line), (m, other)))
            assert one <= two + step + 1  # Shares are rounded down.


@pytest.mark.parametrize(
    ("used", "who", "asked", "victim", "milli", "may"),
    [
        pytest.param({"b/x/p": 6}, "a/x", 1, "b/x/p", 1, True, id="a borrower gives back"),
        pytest.param({"b/x/p": 6}, "a/x", 5, "b/x/p", 1, False, id="what would be borrowed, not"),
        pytest.param({"b/x/p": 6}, "a/x", 1, "b/x/p", 3, False, id="below its guarantee nobody"),
        pytest.param({"b/x/p": 6, "a/x": 4}, "a/x", 1, "b/x/p", 1, False, id="who has enough"),
        pytest.param({"a/y": 4}, "a/x", 1, "a/y", 2, True, id="a sibling gives back"),
        pytest.param({"a/y": 4}, "a/x", 3, "a/y", 2, False, id="up to what is guaranteed there"),
        pytest.param({"a/x": 4}, "a/x", 1, "a/x", 1, False, id="not one's own"),
        pytest.param({"b/x/p": 2, "b/x/q": 4}, "a/x", 1, "b/x/p", 1, False,
                     id="a project inside a branch that borrows keeps its guarantee"),
        pytest.param({"b/x/p": 2, "b/x/q": 4}, "a/x", 1, "b/x/q", 2, True,
                     id="and its sibling pays"),
        pytest.param({"c": 3}, "c", 1, "a/x", 1, False, id="who is guaranteed nothing"),
    ],
)  # fmt: skip
def test_reclaim(
    used: dict[str, int], who: str, asked: int, victim: str, milli: int, may: bool
) -> None:
    tree = QuotaTree(
        [quota("a", 4), quota("a/x", 2), quota("a/y", 2), quota("b", 4), quota("b/x", 4),
         quota("b/x/p", 2), quota("b/x/q"), quota("c")]
    )  # fmt: skip
    usage: Usage = {}
    for path, gpus in used.items():
        charge(usage, TenantPath(path), H100, gpus * 1000)
    found = reclaimable(
        tree, usage, TenantPath(who), TenantPath(victim), H100, milli * 1000,
        asked_milli=asked * 1000,
    )  # fmt: skip
    assert found == may


def unmet(tree: QuotaTree, usage: Usage) -> tuple[int, ...]:
    """The guarantees that are not met, summed by depth, deepest first."""
    sums = [0] * 4
    for path, node in tree.tenants.items():
        for own in node.quotas:
            short = own.guarantee_milli - used_milli(usage, path, own.gpu_class)
            sums[path.count("/")] += max(0, short)
    return tuple(reversed(sums))


@given(quota_trees(), asks, st.integers(1, 4))
def test_every_reclaim_lowers_the_guarantees_that_are_not_met(
    tree: QuotaTree, history: list[tuple[TenantPath, GpuClass, int, bool]], asked: int
) -> None:
    """So reclaim never cycles, in any hierarchy: whatever is ended, and whoever takes its place."""
    usage: Usage = {}
    held: list[tuple[TenantPath, GpuClass, int]] = []
    for tenant_path, gpu_class, gpus, _ in history:
        charge(usage, tenant_path, gpu_class, gpus * 1000)
        held.append((tenant_path, gpu_class, gpus * 1000))
    rounds = 0
    while True:
        before = unmet(tree, usage)
        found = next(
            (
                (who, n)
                for who in LEAVES
                for n, (victim, name, milli) in enumerate(held)
                if reclaimable(tree, usage, who, victim, name, milli, asked_milli=asked * 1000)
            ),
            None,
        )
        if found is None:
            return
        who, n = found
        victim, name, milli = held.pop(n)
        broken = {
            (path, own.gpu_class)
            for path in lineage(victim)
            if path not in lineage(who)
            for own in tree.tenants[path].quotas
            if used_milli(usage, path, own.gpu_class) >= own.guarantee_milli
        }
        charge(usage, victim, name, -milli)
        for path, of in broken:
            assert used_milli(usage, path, of) >= tree.guarantee_milli(path, of)
        charge(usage, who, name, asked * 1000)
        held.append((who, name, asked * 1000))
        assert unmet(tree, usage) < before
        rounds += 1
        assert rounds <= 10_000
