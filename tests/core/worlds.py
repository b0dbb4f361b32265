"""Small random worlds: mixed sites, nodes, tenants and jobs, and histories of changes to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from scheduler.core.budgets import day_of
from scheduler.core.fleet import FleetState
from scheduler.model.fleet import CpuArch, Health, Interconnect, Isolation, Node, SiteStatus
from scheduler.model.ids import GpuClass, JobId, SiteId, TenantPath
from scheduler.model.job import JobState, Priority, TopologyLevel, TopologyMode
from scheduler.model.mig import MigInstance
from scheduler.model.plan import (
    BudgetChanged,
    Change,
    JobChanged,
    JobClass,
    LiveAttempt,
    MixChanged,
    MixEntry,
    NodeChanged,
    PolicyChanged,
    SiteChanged,
    SitePress,
    TenantsChanged,
)
from scheduler.model.residency import NodeFact, NodeSharing, Party, Requirement
from scheduler.model.tenancy import Budget, BudgetPeriod, QueueOrder, SettledUse, Tenant
from tests.core.builders import (
    A100,
    GIB,
    H100,
    HOUR_MS,
    NOW_MS,
    POLICY,
    PROVED,
    job_class,
    located,
    node,
    queued,
    report,
    site,
    tenant,
)

SITES = ("leeds", "london", "narvik")
CUTS = (
    *([MigInstance(0, "1g.10gb")] * 5),
    MigInstance(0, "2g.20gb"),
    *([MigInstance(1, "3g.40gb")] * 2),
)
PROFILES = st.sampled_from(["", "", "", "", "1g.10gb", "3g.40gb"])
SHARES = st.sampled_from([1000, 1000, 250, 400, 700])
"""Of one GPU; it counts for nothing where a job has more."""
PROJECTS = ("trust-a/radiology", "trust-a/pathology", "trust-b/genomics")


def _often(value: object, *others: object) -> st.SearchStrategy[object]:
    return st.sampled_from([value] * 4 + list(others))


@st.composite
def site_changes(draw: st.DrawFn) -> SiteChanged:
    name = draw(st.sampled_from(SITES))
    if draw(st.integers(0, 11)) == 0:
        return SiteChanged(site(name).id, None, connected=False)
    parents = (Party("Giant Inc", "US", 60_000),) if draw(st.integers(0, 3)) == 0 else ()
    made = site(
        name,
        "NO" if name == "narvik" else "GB",
        parents=parents,
        status=draw(_often(SiteStatus.ACTIVE, SiteStatus.PLANNED)),  # type: ignore[arg-type]
        cordoned=draw(st.integers(0, 7)) == 0,
        min_isolation=draw(_often(Isolation.UNSPECIFIED, Isolation.UID)),  # type: ignore[arg-type]
    )
    if draw(st.integers(0, 5)) == 0:
        made = replace(
            made, facts=tuple(replace(f, expires_at_ms=NOW_MS + 500) for f in made.facts)
        )
    return SiteChanged(made.id, made, connected=draw(st.integers(0, 7)) != 0)


@st.composite
def declared_nodes(draw: st.DrawFn) -> Node:
    name = draw(st.sampled_from(SITES))
    slot = draw(st.integers(0, 5))
    kind = draw(st.integers(0, 5))
    return node(
        name,
        f"n{slot}",
        gpus=(4, 8, 4, 4, 1, 0)[kind],
        gpu_class=A100 if kind in (2, 3) else H100,
        leaf=f"l{slot // 2}",
        pod=f"p{slot // 4}",
        nvlink=f"x{slot // 2}" if kind == 3 else "",
        spares=draw(st.integers(0, 1)) if kind == 3 else 0,
        arch=CpuArch.ARM64 if kind == 3 else CpuArch.AMD64,
        cpu_milli=draw(st.sampled_from([16_000, 64_000])),
        interconnects=(Interconnect.ETHERNET,)
        if kind == 4
        else (Interconnect.ETHERNET, Interconnect.INFINIBAND),
        cordoned=draw(st.integers(0, 9)) == 0,
        facts=draw(_often((), *map(_located, ("CLAIM_FALSE", "PROVED_IN", "UNPROVED")))),  # type: ignore[arg-type]
        mig=draw(st.sampled_from([(), CUTS])) if kind <= 1 else (),
    )


def _located(verdict: str) -> tuple[NodeFact, ...]:
    return (located(verdict, expires_at_ms=NOW_MS + 500),)


@st.composite
def node_changes(draw: st.DrawFn) -> NodeChanged:
    made = draw(declared_nodes())
    fate = draw(st.integers(0, 9))
    if fate == 0:
        return NodeChanged(made.id, None, None)
    if fate == 1:
        return NodeChanged(made.id, made, None)
    said = report(
        made,
        health=Health.FAILED if fate == 2 else Health.OK,
        gpus=max(0, made.gpus - 1) if fate == 3 else None,
        isolation=Isolation.NONE if fate == 4 else Isolation.UID,
        mig=CUTS[:1] if fate == 5 and made.gpus else None,
    )
    return NodeChanged(made.id, made, said)


@st.composite
def plain_classes(draw: st.DrawFn) -> JobClass:
    """Work that fits nearly anywhere: it is what fills a world up."""
    mig = draw(PROFILES)
    return job_class(
        draw(st.sampled_from(PROJECTS)),
        gpus=1 if mig else draw(st.sampled_from([0, 1, 1, 2, 3, 4])),
        mig=mig,
        share_milli=draw(SHARES),
        nodes=draw(st.sampled_from([1, 1, 1, 2])),
        sharing=draw(st.sampled_from([NodeSharing.TENANT, NodeSharing.ANY, NodeSharing.ANY])),
        residency=Requirement(("GB", "NO"), tolerate_foreign_compulsion=("US",)),
        priority=draw(st.sampled_from([Priority.NORMAL, Priority.HIGH])),
        limit_ms=draw(st.sampled_from([HOUR_MS, 4 * HOUR_MS])),
    )


@st.composite
def picky_classes(draw: st.DrawFn) -> JobClass:
    """Work with wishes."""
    residency = Requirement(
        jurisdictions=draw(st.sampled_from([("GB",), ("GB",), ("GB", "NO"), ("FR",)])),
        tolerate_foreign_compulsion=draw(st.sampled_from([(), ("US",)])),
        node_facts=draw(_often((), (PROVED,))),  # type: ignore[arg-type]
    )
    mig = draw(PROFILES)
    return job_class(
        draw(st.sampled_from(PROJECTS)),
        gpus=1 if mig else draw(st.sampled_from([0, 1, 1, 2, 3, 4, 8])),
        mig=mig,
        share_milli=draw(SHARES),
        nodes=draw(st.sampled_from([1, 1, 2, 3])),
        nodes_max=draw(st.sampled_from([0, 0, 3, 5])),
        classes=draw(st.sampled_from([(), (), (H100,), (A100, H100)])),
        sharing=draw(
            st.sampled_from([NodeSharing.TENANT] * 3 + [NodeSharing.ANY, NodeSharing.NONE])
        ),
        within=draw(st.sampled_from([TopologyLevel.SITE, *list(TopologyLevel)[2:]])),
        mode=draw(st.sampled_from([TopologyMode.REQUIRED, TopologyMode.PREFERRED])),
        residency=residency,
        priority=draw(st.sampled_from([Priority.SPOT, Priority.NORMAL, Priority.HIGH])),
        limit_ms=draw(st.sampled_from([HOUR_MS, 4 * HOUR_MS])),
        cpu_milli=draw(st.sampled_from([0, 0, 0, 1000, 12_000])),
        memory_bytes=draw(st.sampled_from([0, 0, 200 * GIB])),
        arch=draw(st.sampled_from([CpuArch.ANY] * 3 + [CpuArch.ARM64])),
        interconnect=draw(st.sampled_from([Interconnect.ANY] * 3 + [Interconnect.INFINIBAND])),
    )


def job_classes() -> st.SearchStrategy[JobClass]:
    """Some of each."""
    return st.one_of(plain_classes(), picky_classes())


@st.composite
def tenant_trees(draw: st.DrawFn) -> tuple[Tenant, ...]:
    paths = ("trust-a", "trust-b", *PROJECTS)
    made: list[Tenant] = []
    for path in sorted(paths):
        guarantee = draw(st.sampled_from([0, 0, 2]))
        plain = tenant(
            path,
            weight=draw(st.integers(1, 3)),
            guarantee=guarantee,
            limit=draw(st.sampled_from([None, 4, 12])),
            gpu_class=draw(st.sampled_from(["*", "H100"])),
            order=draw(st.sampled_from([QueueOrder.AGE, QueueOrder.SHORTEST])),
        )
        quotas = tuple(
            replace(
                quota,
                weight=draw(st.sampled_from([0, 0, 5])),
                borrow_limit_milli=draw(st.sampled_from([None, None, None, 2000])),
                lend_limit_milli=draw(st.sampled_from([None, None, None, 0])),
            )
            for quota in plain.quotas
        )
        made.append(replace(plain, quotas=quotas, budgets=draw(_budgets())))
    return tuple(made)


@st.composite
def _budgets(draw: st.DrawFn) -> tuple[Budget, ...]:
    if draw(st.integers(0, 3)):
        return ()
    gpu_class = draw(st.sampled_from([GpuClass("*"), H100]))
    amount = draw(st.sampled_from([0, 4, 20, 100])) * HOUR_MS
    return (Budget(gpu_class, amount, BudgetPeriod.MONTH),)


@st.composite
def settlements(draw: st.DrawFn) -> BudgetChanged:
    """What some project has spent on some day of this month or the one before."""
    return BudgetChanged(
        SettledUse(
            TenantPath(draw(st.sampled_from(PROJECTS))),
            draw(st.sampled_from([H100, A100])),
            day_of(NOW_MS) - draw(st.sampled_from([0, 1, 31])),
            draw(st.integers(0, 6)) * HOUR_MS,
        )
    )


@st.composite
def mixes(draw: st.DrawFn) -> MixChanged:
    """What is usually asked for; the planner does not learn another one in these histories."""
    entries = [
        MixEntry(
            cpu_milli=draw(st.sampled_from([0, 1000, 12_000])),
            memory_bytes=draw(st.sampled_from([0, 200 * GIB])),
            gpus=draw(st.sampled_from([1, 1, 2, 4, 8])),
            gpu_milli=draw(SHARES),
            gpu_classes=draw(st.sampled_from([(), (), (H100,), (A100, H100)])),
            weight=draw(st.integers(1, 9)),
        )
        for _ in range(draw(st.integers(0, 3)))
    ]
    press = draw(
        st.lists(
            st.builds(
                SitePress,
                st.sampled_from([SiteId(name) for name in ("leeds", "london", "narvik")]),
                st.sampled_from([H100, A100]),
                st.sampled_from([-500_000, 50_000, 800_000]),
            ),
            max_size=4,
            unique_by=lambda each: (each.site, each.gpu_class),
        )
    )
    return MixChanged(tuple(entries), NOW_MS, tuple(press))


@dataclass(frozen=True)
class Placed:
    """The moment in a history at which the store commits what the planner says."""


@dataclass(frozen=True)
class Ended:
    """The moment at which the oldest live job ends, or comes back to the queue."""

    requeued: bool


Step = Change | Placed | Ended


@st.composite
def steps(draw: st.DrawFn) -> Step:
    kind = draw(st.integers(0, 17))
    if kind == 17:
        return draw(mixes())
    if kind == 16:
        return draw(settlements())
    if kind == 0:
        return draw(site_changes())
    if kind <= 3:
        return draw(node_changes())
    if kind == 4:
        return TenantsChanged(draw(tenant_trees()))
    if kind == 5:
        return PolicyChanged(
            replace(POLICY, min_isolation=draw(st.sampled_from([0, Isolation.UID])))
        )
    if kind <= 7:
        return Ended(requeued=draw(st.booleans()))
    if kind <= 9:
        return Placed()
    waited_ms = draw(st.sampled_from([0, 1000, HOUR_MS]))
    return queued(
        draw(st.integers(1, 12)),
        draw(job_classes()),
        at_ms=NOW_MS - waited_ms,
        not_before_ms=draw(st.sampled_from([0, 0, 0, NOW_MS + 1])),
    )


@st.composite
def starts(draw: st.DrawFn) -> list[Change]:
    """A world in which something usually fits."""
    begin: list[Change] = [PolicyChanged(POLICY), TenantsChanged(draw(tenant_trees()))]
    begin += [
        SiteChanged(made.id, made, connected=True)
        for made in (site("leeds"), site("london"), site("narvik", "NO"))
    ]
    for made in draw(st.lists(declared_nodes(), min_size=4, max_size=14)):
        begin.append(NodeChanged(made.id, made, report(made)))
    if draw(st.booleans()):
        begin.append(draw(mixes()))
    number = 1
    for made_class in draw(st.lists(job_classes(), min_size=3, max_size=12)):
        begin.append(queued(number, made_class, at_ms=NOW_MS - draw(st.integers(0, HOUR_MS))))
        number += 1
    return begin


def end_of(fleet: FleetState, step: Ended) -> Change | None:
    """What the store would say of the oldest live job."""
    if not fleet.live:
        return None
    job = min(fleet.live)
    before: LiveAttempt = fleet.live[job]
    if not step.requeued:
        return JobChanged(job, None, None)
    return queued(int(job), before.job_class, attempt=before.placement.key.attempt + 1)


def lost(fleet: FleetState, job: JobId) -> Change:
    """A live job's state changes, and its nodes stay taken."""
    return JobChanged(job, None, replace(fleet.live[job], state=JobState.LOST))
