"""Small worlds for tests of the store: a site, its nodes, a tenant, jobs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from scheduler.core.job_ids import JobIdCodec
from scheduler.model.fleet import (
    CpuArch,
    Health,
    Interconnect,
    Isolation,
    Node,
    NodeReport,
    Site,
    SiteContact,
    SiteStatus,
)
from scheduler.model.ids import AttemptKey, GpuClass, JobId, NodeId, SiteId, TenantPath, node_id
from scheduler.model.job import (
    JobSpec,
    JobState,
    NodePlacement,
    Placement,
    Priority,
    Resources,
    Topology,
)
from scheduler.model.plan import JobClass, Plan
from scheduler.model.residency import (
    Assurance,
    Fact,
    FactKey,
    NodeSharing,
    Party,
    Policy,
    Requirement,
)
from scheduler.model.tenancy import GpuQuota, Tenant
from scheduler.store import leaves
from scheduler.store.records import JobRow
from scheduler.store.store import Txn

LONDON = SiteId("exch-london-1")
LEEDS = SiteId("exch-leeds-1")
H100 = GpuClass("H100")
ADA = "/tenant/trust-a/user/ada"
RADIOLOGY = TenantPath("trust-a/radiology")
RIVALS = TenantPath("uni-b/physics")
NOW_MS = 1_800_000_000_000
GB_ONLY = Requirement(jurisdictions=("GB",))


CODEC = JobIdCodec(b"a key for tests of the store....")


def salts() -> Callable[[], bytes]:
    """Salts that differ from one another, the same in every run."""
    numbers = count(1)
    return lambda: next(numbers).to_bytes(16, "big")


def fact(key: FactKey, *values: str) -> Fact:
    """A fact that was audited and does not expire."""
    return Fact(key, values, Assurance.AUDITED, "auditor", observed_at_ms=NOW_MS - 1000)


def british_facts() -> tuple[Fact, ...]:
    """All that a site needs to hold OFFICIAL work that is for GB only."""
    home = (
        FactKey.COUNTRY,
        FactKey.LANDLORD,
        FactKey.FACILITY_OPERATOR,
        FactKey.SERVICE_OPERATOR,
        FactKey.SUPPORT_DESK,
        FactKey.KEY_CUSTODIAN,
        FactKey.SINKS,
    )
    return (
        *(fact(key, "GB") for key in home),
        fact(FactKey.ULTIMATE_PARENTS),
        fact(FactKey.ACCREDITATION, "SECRET"),
        fact(FactKey.MARKINGS, "SENSITIVE"),
    )


def site(name: SiteId = LONDON, facts: Sequence[Fact] | None = None) -> Site:
    """An active British site."""
    return Site(
        id=name,
        status=SiteStatus.ACTIVE,
        facts=british_facts() if facts is None else tuple(facts),
        parents=(Party("Exchange plc", "GB", 100_000),),
    )


def node(slot: str, at: SiteId = LONDON, gpus: int = 8, leaf: str = "l1") -> Node:
    """A node with eight H100s."""
    return Node(
        id=node_id(at, slot),
        pod="p1",
        leaf=leaf,
        nvlink_domain="",
        gpu_class=H100,
        gpus=gpus,
        cpu_arch=CpuArch.AMD64,
        cpu_milli=64_000,
        memory_bytes=512 << 30,
        interconnects=(Interconnect.ETHERNET, Interconnect.INFINIBAND),
    )


def report(of: NodeId, boot_id: str = "boot-1", gpus: int = 8) -> NodeReport:
    """A healthy node's word."""
    return NodeReport(
        node=of,
        boot_id=boot_id,
        gpus=gpus,
        health=Health.OK,
        health_detail="",
        isolation=Isolation.UID,
        telemetry="simulated",
        runtime_alive=True,
        agent_connected=True,
    )


def tenants(limit_milli: int | None = None) -> tuple[Tenant, ...]:
    """Two organisations of one project each; `limit_milli` binds the first's."""
    return (
        Tenant(TenantPath("trust-a"), quotas=(GpuQuota(H100, limit_milli=limit_milli),)),
        Tenant(RADIOLOGY),
        Tenant(TenantPath("uni-b")),
        Tenant(RIVALS),
    )


def job_class(
    tenant: TenantPath = RADIOLOGY,
    resources: Resources | None = None,
    residency: Requirement = GB_ONLY,
    topology: Topology | None = None,
) -> JobClass:
    """Jobs of one GPU on one node, unless said."""
    return JobClass(
        tenant=tenant,
        resources=resources or Resources(),
        topology=topology or Topology(),
        residency=residency,
        priority=Priority.NORMAL,
        time_limit_bucket_ms=86_400_000,
        preemptible=True,
    )


def spec(name: str = "train", project: TenantPath = RADIOLOGY) -> JobSpec:
    """The least that a job needs."""
    return JobSpec(name=name, project=project, command=("true",), residency=GB_ONLY)


def lay_out(
    txn: Txn, slots: Sequence[str] = ("n01", "n02"), limit_milli: int | None = None
) -> None:
    """London with its nodes reported and connected, and the tenants."""
    txn.tenancy.replace_tenants(tenants(limit_milli))
    txn.tenancy.add_policy(Policy(revision=1), NOW_MS)
    txn.fleet.put_site(site())
    for slot in slots:
        txn.fleet.put_node(node(slot))
        txn.fleet.put_report(report(node_id(LONDON, slot)), NOW_MS)
    txn.fleet.put_contact(SiteContact(LONDON, True, 0, 0), NOW_MS)


def queue(txn: Txn, of: JobClass | None = None, name: str = "train") -> JobRow:
    """A queued job with its leaf."""
    its_class = of or job_class()
    kept = txn.jobs.put_spec(spec(name, its_class.tenant))
    row = JobRow(
        id=txn.jobs.take_id(),
        class_id=txn.jobs.intern(its_class),
        tenant=its_class.tenant,
        owner=ADA,
        name=name,
        state=JobState.QUEUED,
        submitted_at_ms=NOW_MS,
        next_attempt=1,
        spec_digest=kept.digest,
        spec_number=kept.number,
    )
    txn.jobs.add(row)
    leaves.submitted(txn.audit, row)
    return row


def place(job: JobId, *slots: str, mask: int = 1, attempt: int = 1) -> Placement:
    """`mask` of each slot of London."""
    nodes = tuple(NodePlacement(node_id(LONDON, slot), mask) for slot in slots)
    milli = mask.bit_count() * 1000 * len(nodes)
    return Placement(AttemptKey(job, attempt), LONDON, H100, nodes, milli)


def plan(*placements: Placement) -> Plan:
    """A plan that says nothing else."""
    return Plan(sequence=0, policy_revision=1, placements=placements)


def sharing(how: NodeSharing) -> Requirement:
    """GB only, shared as said."""
    return replace(GB_ONLY, node_sharing=how)
