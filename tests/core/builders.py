"""Builders for tests: a whole fact by default, and only what a test is about spelt out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from scheduler.core.fleet import FleetState
from scheduler.model.fleet import (
    CpuArch,
    Health,
    Interconnect,
    Isolation,
    Node,
    NodeReport,
    Site,
    SiteStatus,
)
from scheduler.model.ids import GpuClass, JobId, SiteId, TenantPath, node_id
from scheduler.model.job import (
    JobSpec,
    JobState,
    Placement,
    Priority,
    Resources,
    Topology,
    TopologyLevel,
    TopologyMode,
)
from scheduler.model.mig import MigInstance
from scheduler.model.plan import (
    BudgetChanged,
    Change,
    JobChanged,
    JobClass,
    LengthsChanged,
    LiveAttempt,
    NodeChanged,
    Plan,
    PolicyChanged,
    QueuedJob,
    ReservationChanged,
    RunLengths,
    SiteChanged,
    TenantsChanged,
    WindowChanged,
)
from scheduler.model.residency import (
    Assurance,
    Fact,
    FactKey,
    Hearing,
    NodeFact,
    NodeFactKey,
    NodeSharing,
    Party,
    Policy,
    Requirement,
)
from scheduler.model.rules import FactRule
from scheduler.model.tenancy import GpuQuota, QueueOrder, Tenant

HOUR_MS = 3600 * 1000
GIB = 1 << 30
NOW_MS = 1_000 * HOUR_MS
H100 = GpuClass("H100")
A100 = GpuClass("A100")
POLICY = Policy(allowed_jurisdictions=("GB", "NO"))
GB_ONLY = Requirement(jurisdictions=("GB",))


PROVED = FactRule("location", Assurance.MEASURED, 600_000)
"""Asks that each node was proved to be where its site says, ten minutes ago at most."""


def located(verdict: str = "PROVED_IN", country: str = "GB", **changes: object) -> NodeFact:
    """What landmarks found out about a node, just now."""
    sure = {"PROVED_IN": Assurance.MEASURED, "UNPROVED": Assurance.DECLARED}
    fact = NodeFact(
        NodeFactKey.LOCATION,
        (verdict, country),
        sure.get(verdict, Assurance.UNSPECIFIED),
        "landmarks",
        observed_at_ms=NOW_MS,
        expires_at_ms=None if verdict == "CLAIM_FALSE" else NOW_MS + 600_000,
        evidence_digest="sha256:statements",
        claim="key 1 in GB",
        heard=(Hearing(65, "slough", "operator-b", NOW_MS),),
    )
    return replace(fact, **changes)  # type: ignore[arg-type]


def facts(country: str = "GB", **values: tuple[str, ...]) -> tuple[Fact, ...]:
    """Every fact, each saying `country` where a country is meant."""
    said: dict[FactKey, tuple[str, ...]] = dict.fromkeys(FactKey, (country,))
    said[FactKey.ULTIMATE_PARENTS] = ()
    said[FactKey.ACCREDITATION] = ("SECRET",)
    said[FactKey.MARKINGS] = ("SENSITIVE",)
    said.update({FactKey(key): value for key, value in values.items()})
    return tuple(
        Fact(key, value, Assurance.AUDITED, "auditor", observed_at_ms=0)
        for key, value in said.items()
    )


def site(
    name: str = "london",
    country: str = "GB",
    *,
    parents: tuple[Party, ...] = (),
    status: SiteStatus = SiteStatus.ACTIVE,
    cordoned: bool = False,
    min_isolation: Isolation = Isolation.UNSPECIFIED,
    **values: tuple[str, ...],
) -> Site:
    """A site of which everything is known."""
    return Site(
        SiteId(name),
        status,
        facts(country, **values),
        parents,
        cordoned=cordoned,
        min_isolation=min_isolation,
    )


def node(
    at: str,
    slot: str,
    *,
    gpus: int = 8,
    gpu_class: GpuClass = H100,
    pod: str = "p0",
    leaf: str = "l0",
    nvlink: str = "",
    spares: int = 0,
    arch: CpuArch = CpuArch.AMD64,
    cpu_milli: int = 64_000,
    memory_bytes: int = 512 * GIB,
    interconnects: tuple[Interconnect, ...] = (Interconnect.ETHERNET, Interconnect.INFINIBAND),
    cordoned: bool = False,
    facts: tuple[NodeFact, ...] = (),
    mig: tuple[MigInstance, ...] = (),
) -> Node:
    """A node of eight H100."""
    return Node(
        node_id(SiteId(at), slot),
        pod,
        leaf,
        nvlink,
        gpu_class,
        gpus,
        arch,
        cpu_milli,
        memory_bytes,
        interconnects,
        cordoned,
        facts=facts,
        mig=mig,
        nvlink_spares=spares,
    )


def report(of: Node, *, health: Health = Health.OK, gpus: int | None = None,
           isolation: Isolation = Isolation.UID,
           mig: tuple[MigInstance, ...] | None = None) -> NodeReport:  # fmt: skip
    """A healthy report."""
    return NodeReport(
        of.id,
        "boot-1",
        of.gpus if gpus is None else gpus,
        health,
        "",
        isolation,
        "simulated",
        runtime_alive=True,
        agent_connected=True,
        mig=of.mig if mig is None else mig,
    )


def up(of: Node) -> NodeChanged:
    """`of`, declared and healthy."""
    return NodeChanged(of.id, of, report(of))


def job_class(
    tenant: str = "trust-a/radiology",
    *,
    gpus: int = 1,
    nodes: int = 1,
    classes: tuple[GpuClass, ...] = (),
    sharing: NodeSharing = NodeSharing.TENANT,
    within: TopologyLevel = TopologyLevel.SITE,
    mode: TopologyMode = TopologyMode.REQUIRED,
    residency: Requirement = GB_ONLY,
    priority: Priority = Priority.NORMAL,
    limit_ms: int = HOUR_MS,
    cpu_milli: int = 0,
    memory_bytes: int = 0,
    arch: CpuArch = CpuArch.ANY,
    interconnect: Interconnect = Interconnect.ANY,
    share_milli: int = 1000,
    nodes_max: int = 0,
    mig: str = "",
) -> JobClass:
    """A class of one-GPU jobs."""
    return JobClass(
        TenantPath(tenant),
        Resources(
            nodes=nodes,
            gpus_per_node=gpus,
            gpu_classes=classes,
            cpu_arch=arch,
            cpu_milli_per_node=cpu_milli,
            memory_bytes_per_node=memory_bytes,
            interconnect=interconnect,
            gpu_share_milli=share_milli,
            max_nodes=nodes_max,
            mig_profile=mig,
        ),
        Topology(within, mode),
        replace(residency, node_sharing=sharing),
        priority,
        limit_ms,
        preemptible=True,
    )


def queued(
    number: int, of: JobClass, *, at_ms: int | None = None, not_before_ms: int = 0, attempt: int = 1
) -> JobChanged:
    """Job `number` waits."""
    submitted_at_ms = NOW_MS - 1000 + number if at_ms is None else at_ms
    job = QueuedJob(JobId(number), of, submitted_at_ms, attempt, not_before_ms)
    return JobChanged(job.id, job, None)


def live(
    placement: Placement,
    of: JobClass,
    *,
    placed_at_ms: int = NOW_MS,
    submitted_at_ms: int | None = None,
) -> JobChanged:
    """The job of `placement` holds its nodes."""
    attempt = LiveAttempt(
        placement,
        of.tenant,
        of,
        JobState.RUNNING,
        placed_at_ms,
        submitted_at_ms=submitted_at_ms,
    )
    return JobChanged(placement.key.job, None, attempt)


def gone(number: int) -> JobChanged:
    """Job `number` is over."""
    return JobChanged(JobId(number), None, None)


def tenant(
    path: str,
    *,
    weight: int = 1,
    guarantee: int = 0,
    limit: int | None = None,
    gpu_class: str = "*",
    order: QueueOrder = QueueOrder.AGE,
) -> Tenant:
    """A tenant; guarantee and limit in whole GPUs."""
    quotas = (
        GpuQuota(GpuClass(gpu_class), guarantee * 1000, None if limit is None else limit * 1000),
    )
    return Tenant(TenantPath(path), weight, quotas, order)


TENANTS: tuple[Tenant, ...] = tuple(
    tenant(path) for path in ("trust-a", "trust-a/radiology", "trust-b", "trust-b/genomics")
)


def fleet_of(
    *changes: Change,
    sites: Sequence[Site] = (),
    nodes: Iterable[Node] = (),
    tenants: Sequence[Tenant] = TENANTS,
    policy: Policy = POLICY,
) -> FleetState:
    """A fleet with one site in London unless told otherwise; everything connected and healthy."""
    fleet = FleetState()
    start: list[Change] = [PolicyChanged(policy), TenantsChanged(tuple(tenants))]
    start += [SiteChanged(each.id, each, connected=True) for each in (sites or (site(),))]
    start += [up(each) for each in nodes]
    fleet.apply_all(len(start) + len(changes), [*start, *changes])
    return fleet


def commit(fleet: FleetState, plan: Plan, *, now_ms: int = NOW_MS) -> None:
    """Applies `plan` as the store would."""
    for placement in plan.placements:
        waited = waiting_job(fleet, placement.key.job)
        fleet.apply(
            live(
                placement,
                waited.job_class,
                placed_at_ms=now_ms,
                submitted_at_ms=waited.submitted_at_ms,
            )
        )
    for job in plan.released:
        fleet.apply(ReservationChanged(job, None))
    for made in plan.reservations:
        fleet.apply(ReservationChanged(made.job, made))
    if plan.mix is not None:
        fleet.apply(plan.mix)


def spec(name: str = "train", **changes: object) -> JobSpec:
    """A job that may be submitted."""
    plain = JobSpec(
        name=name,
        project=TenantPath("trust-a/radiology"),
        command=("python", "train.py"),
        residency=GB_ONLY,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def rebuilt(fleet: FleetState) -> FleetState:
    """A fleet that was told the same facts once, in another order."""
    fresh = FleetState()
    changes: list[Change] = []
    changes += [JobChanged(job.id, job, None) for job in in_order(fleet)]
    changes += [JobChanged(job, None, live) for job, live in fleet.live.items()]
    changes += [
        NodeChanged(name, record.node, record.report)
        for name, record in sorted(fleet.nodes.items(), reverse=True)
    ]
    changes += [
        SiteChanged(name, site, connected)
        for name, (site, connected) in sorted(fleet.sites.items(), reverse=True)
    ]
    changes.append(fleet.usual)
    changes += [
        LengthsChanged(
            tenant, tuple(RunLengths(kind, line) for kind, line in sorted(ahead.items()))
        )
        for tenant, ahead in fleet.evictable.lengths.items()
    ]
    changes += [ReservationChanged(job, made) for job, made in fleet.reservations.items()]
    changes += [WindowChanged(name, window) for name, window in fleet.windows.by_id.items()]
    changes += [TenantsChanged(tuple(fleet.tree.tenants.values())), PolicyChanged(fleet.policy)]
    changes += [BudgetChanged(use) for use in fleet.book.settlements()]
    fresh.apply_all(fleet.sequence, changes)
    return fresh


def in_order(fleet: FleetState) -> list[QueuedJob]:
    """Every job that waits, the oldest first."""
    return sorted(fleet.queued.in_line(), key=lambda job: job.id)


def oldest(fleet: FleetState) -> QueuedJob:
    """The job that has waited longest."""
    return in_order(fleet)[0]


def waiting_job(fleet: FleetState, job: JobId) -> QueuedJob:
    """A job that waits."""
    return next(queued for queued in fleet.queued.in_line() if queued.id == job)


def waiting_class(fleet: FleetState, job: JobId) -> JobClass:
    """The class of a job that waits."""
    return waiting_job(fleet, job).job_class
