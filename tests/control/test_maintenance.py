"""Windows of time: declared, refused, kept free ahead, begun, and over."""

from dataclasses import replace

import pytest

from scheduler.model.ids import GpuClass, NodeId, SiteId, TenantPath
from scheduler.model.job import JobSpec, JobState
from scheduler.model.plan import Plan
from scheduler.model.reasons import Reason, Refused
from scheduler.model.window import Window, WindowAsked, WindowKind
from tests.control.plant import EVE, HOUR_MS, N01, N02, OLGA, Plant, spec
from tests.store.builders import LONDON, NOW_MS

PHYSICS = TenantPath("uni-b/physics")


def window(
    *nodes: NodeId,
    starts_h: int = 2,
    ends_h: int = 4,
    tenant: str = "",
    name: str = "",
    site: SiteId = LONDON,
) -> Window:
    """Maintenance from two hours to four hours from now; for a tenant, a reservation."""
    return Window(
        id=name,
        kind=WindowKind.RESERVED if tenant else WindowKind.MAINTENANCE,
        site=site,
        nodes=nodes,
        starts_at_ms=NOW_MS + starts_h * HOUR_MS,
        ends_at_ms=NOW_MS + ends_h * HOUR_MS,
        reason="new cooling",
        added_by="",
        tenant=TenantPath(tenant),
    )


def add(plant: Plant, what: Window, count: int = 0, gpu_class: str = "") -> Window:
    """An operator declares a window."""
    with plant.store.transaction() as txn:
        asked = WindowAsked(what, count, GpuClass(gpu_class))
        return plant.control.add_window(txn, OLGA, asked, plant.now_ms)


def lasting(hours: int, name: str = "job", *, nodes: int = 1, gpus: int = 1) -> JobSpec:
    """A job with a time limit."""
    return replace(spec(name, nodes=nodes, gpus=gpus), time_limit_ms=hours * HOUR_MS)


def nodes_of(plant: Plant, *jobs: JobSpec) -> list[list[NodeId]]:
    """Where each of `jobs` goes in one cycle."""
    ids = [plant.submit(job) for job in jobs]
    kept = {p.key.job: [n.node for n in p.nodes] for p in plant.cycle().kept}
    return [kept.get(job, []) for job in ids]


def test_ahead_of_maintenance_a_node_takes_only_what_is_over_in_time(plant: Plant) -> None:
    add(plant, window(N01))
    short, long = nodes_of(plant, lasting(1, gpus=8), lasting(3, gpus=8))
    assert (short, long) == ([N01], [N02])
    plant.submit(lasting(3, "third", gpus=1))
    assert plant.cycle().kept == ()


def test_the_reason_says_that_a_window_is_in_the_way(plant: Plant) -> None:
    add(plant, window())
    job = plant.submit(lasting(3))
    (blocked,) = plant.plan().blocked
    assert blocked.denials[0].reason is Reason.WINDOW
    assert plant.job(job).state is JobState.QUEUED


def test_a_reserved_node_is_its_tenants_alone(plant: Plant) -> None:
    add(plant, window(N01, tenant="uni-b"))
    theirs = plant.submit(replace(lasting(3, gpus=8), project=PHYSICS), EVE)
    ours = [plant.submit(lasting(3, f"o{n}", gpus=8)) for n in range(2)]
    kept = {p.key.job: p.nodes[0].node for p in plant.cycle().kept}
    assert N01 not in {kept.get(job) for job in ours}
    assert theirs in kept
    plant.check()


def test_when_maintenance_begins_what_runs_there_leaves_with_its_grace(plant: Plant) -> None:
    key = plant.run(lasting(24, nodes=2, gpus=8))
    made = add(plant, window(N01))
    plant.tick()
    assert plant.job(key.job).state is JobState.RUNNING
    plant.now_ms = made.starts_at_ms
    plant.tick()
    assert plant.job(key.job).state is JobState.PREEMPTING
    assert plant.push().rows[key].stop_grace_ms == 30_000
    plant.report(plant.ended(key, exit_code=143))
    assert plant.job(key.job).state is JobState.QUEUED
    assert plant.cycle().kept == ()
    plant.tick()
    plant.now_ms = made.ends_at_ms
    plant.tick()
    with plant.store.read() as view:
        assert view.windows.all() == ()
        kinds = [leaf.kind for leaf in view.audit.all() if leaf.kind.startswith("window_")]
    assert kinds == ["window_added", "window_begun", "window_ended"]
    assert len(plant.cycle().kept) == 1
    plant.check()


def test_when_a_reservation_begins_its_tenants_own_work_stays(plant: Plant) -> None:
    key = plant.run(lasting(24))
    made = add(plant, window(tenant="trust-a"))
    plant.now_ms = made.starts_at_ms
    plant.tick()
    assert plant.job(key.job).state is JobState.RUNNING


def test_a_window_added_between_plan_and_apply_drops_the_placement(plant: Plant) -> None:
    plant.submit(lasting(24))
    planned: Plan = plant.plan()
    add(plant, window())
    with plant.store.transaction() as txn:
        applied = plant.control.apply_plan(txn, planned, plant.now_ms)
    assert [stale.denial.reason for stale in applied.stale] == [Reason.WINDOW]


def test_overlapping_windows_of_the_same_nodes_are_refused_with_every_clash(plant: Plant) -> None:
    add(plant, window(N01, name="a", starts_h=1, ends_h=3))
    add(plant, window(N02, name="b", starts_h=2, ends_h=5, tenant="uni-b"))
    add(plant, window(N01, name="c", starts_h=4, ends_h=6))
    add(plant, window(N01, name="d", starts_h=3, ends_h=4))  # Touching is not overlapping.
    with pytest.raises(Refused) as caught:
        add(plant, window(name="all", starts_h=2, ends_h=5))
    assert [denial.subject for denial in caught.value.denials] == ["a", "b", "c", "d"]
    assert caught.value.reason is Reason.WINDOW
    with plant.store.read() as view:
        assert [w.id for w in plant.control.windows(view, WindowKind.RESERVED)] == ["b"]


def test_a_window_that_is_called_off_bars_nothing(plant: Plant) -> None:
    made = add(plant, window())
    plant.submit(lasting(24))
    assert plant.cycle().kept == ()
    with plant.store.transaction() as txn:
        plant.control.remove_window(txn, OLGA, made.id, "postponed", plant.now_ms)
    assert len(plant.cycle().kept) == 1
    with plant.store.transaction() as txn, pytest.raises(Refused, match="not found"):
        plant.control.remove_window(txn, OLGA, made.id, "again", plant.now_ms)


def test_nodes_are_chosen_for_a_count_idle_ones_first(plant: Plant) -> None:
    key = plant.run(lasting(24, gpus=1))
    busy = plant.job(key.job).attempts[0].placement.nodes[0].node
    (idle,) = {N01, N02} - {busy}
    assert add(plant, window(tenant="uni-b"), 1, "H100").nodes == (idle,)
    assert add(plant, window(tenant="uni-b"), 1, "H100").nodes == (busy,)
    with pytest.raises(Refused) as caught:
        add(plant, window(tenant="uni-b"), 1, "H100")
    assert caught.value.reason is Reason.NODES_TOO_FEW
    with pytest.raises(Refused, match="found 0 nodes with B200"):
        add(plant, window(starts_h=9, ends_h=10), 1, "B200")


def test_every_fault_of_a_window_is_named_at_once(plant: Plant) -> None:
    bad = replace(
        window(NodeId("elsewhere/n01"), starts_h=4, ends_h=2, name="No Name"),
        tenant=TenantPath("uni-b"),
        reason=" ",
    )
    with pytest.raises(Refused) as caught:
        add(plant, bad, count=3)
    fields = [denial.subject for denial in caught.value.denials]
    assert fields == ["id", "to_ms", "reason", "tenant", "count", "nodes[0]"]
    with pytest.raises(Refused) as caught:
        add(plant, window(tenant="nobody", site=SiteId("mars"), starts_h=-3, ends_h=-1))
    assert [d.subject for d in caught.value.denials] == ["to_ms", "tenant", "target"]
