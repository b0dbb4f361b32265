"""What callers are shown: their own jobs and quota, the fleet to operators. Reads only.

Another tenant's object is not found, exactly as one that never was.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from scheduler.core.job_ids import JobIdCodec
from scheduler.core.joint import given, given_away_milli
from scheduler.core.quota import ALL_CLASSES, Usage
from scheduler.model.fleet import NodeReport
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import GpuClass, JobId, NodeId, SiteId, TenantPath, ancestry, site_of
from scheduler.model.job import Job, JobState
from scheduler.model.plan import Explanation, JobClass
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid, not_found
from scheduler.model.tenancy import Share
from scheduler.store.job_rows import Lines
from scheduler.store.jobs import PAGE_MAX
from scheduler.store.records import JobRow, NodeEntry, SiteEntry
from scheduler.store.store import Snapshot

NODES_PAGE_MAX = 1_000
_TASK = re.compile(r"(.{1,200})\[([0-9]{1,9})\]")
ABOVE_IS_FULL = "all that may be is in use or queued there; by whom is not shown to parts of it"
_ABOVE_OWN = frozenset(
    {
        Reason.QUOTA_LIMIT,
        Reason.QUOTA_BORROW,
        Reason.QUOTA_KEPT,
        Reason.BUDGET_EXHAUSTED,
        Reason.QUEUE_FULL,
    }
)
"""Reasons that tell sums of the node that they are about."""


@dataclass(frozen=True, slots=True)
class QuotaLine:
    """One node of the tree and one GPU class; "*" stands for all classes together.

    `queued_milli` counts under a class only what accepts no other. `lent_milli` is what of the
    guarantee is idle and could not be had at once, because others use it.
    """

    tenant: TenantPath
    gpu_class: GpuClass
    guarantee_milli: int
    limit_milli: int | None
    used_milli: int
    borrowed_milli: int
    queued_milli: int
    weight: int = 0
    borrow_limit_milli: int | None = None
    lend_limit_milli: int | None = None
    lent_milli: int = 0
    shares: tuple[Share, ...] = ()
    """Given to it by others: those in force are in what is above."""
    given_milli: int = 0
    """Of its limit, given to others' joint projects: it is not in what is above any more."""


@dataclass(frozen=True, slots=True)
class SiteView:
    """A site with its sums."""

    entry: SiteEntry
    nodes_total: int
    nodes_ready: int
    gpus_total: int
    gpus_used_milli: int


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node with what is taken of it."""

    entry: NodeEntry
    gpus_used_milli: int


def find_job(read: Snapshot, codec: JobIdCodec, principal: Principal, name: str) -> JobRow:
    """A job by its public id, or by a name that only one of the caller's open jobs has.

    "JOB[7]" is task 7 of the array JOB.
    """
    if (told := _TASK.fullmatch(name)) is not None:
        return _find_task(read, find_job(read, codec, principal, told[1]), name, int(told[2]))
    number = codec.decode(name)
    if number is not None:
        row = read.jobs.row(number)
        if row is not None and principal.may_see(row.tenant):
            return row
    elif principal.tenant is not None:
        named = read.jobs.open_by_name(principal.tenant, name, limit=2)
        if len(named) > 1:
            detail = f"found more than one open job called {name!r}: give its id"
            raise invalid(Denial(Reason.INVALID_ARGUMENT, detail, "id"))
        if named:
            return named[0]
    raise not_found("job", name[:200])


def _find_task(read: Snapshot, array: JobRow, name: str, task: int) -> JobRow:
    row = read.jobs.task_row(array.id, task) if array.tasks else None
    if row is not None:
        return row
    if array.unfolded <= task < array.tasks:
        detail = f"{name[:200]} waits for earlier tasks of its array, and has nothing to show yet"
        raise Refused(Code.FAILED_PRECONDITION, Reason.BEHIND_OTHERS, detail)
    raise not_found("job", name[:200])


def get_job(read: Snapshot, codec: JobIdCodec, principal: Principal, name: str) -> Job:
    """The whole job that `find_job` finds. Its spec is shown to its own tenant only."""
    row = find_job(read, codec, principal, name)
    return read.jobs.whole((row,), with_spec=shows_spec(principal))[0]


def shown(principal: Principal, denials: Iterable[Denial]) -> tuple[Denial, ...]:
    """Reasons as a caller is shown them: what a node above its own uses is its siblings' sum."""
    return tuple(
        replace(denial, detail=ABOVE_IS_FULL) if _is_above(principal, denial) else denial
        for denial in denials
    )


def shown_explanation(principal: Principal, told: Explanation) -> Explanation:
    """As `shown`, everywhere in an explanation; its summary repeats one of the reasons."""
    summary = told.summary
    for denial, instead in zip(told.quota, shown(principal, told.quota), strict=True):
        summary = summary.replace(denial.detail, instead.detail)
    return replace(
        told,
        summary=summary,
        sites=tuple(replace(site, denials=shown(principal, site.denials)) for site in told.sites),
        quota=shown(principal, told.quota),
        changes=tuple(shown(principal, change) for change in told.changes),
    )


def _is_above(principal: Principal, denial: Denial) -> bool:
    own = principal.tenant
    return denial.reason in _ABOVE_OWN and own is not None and own.startswith(f"{denial.subject}/")


def shown_job(principal: Principal, job: Job) -> Job:
    """A job as a caller is shown it: what its tenant calls it, and who there, is its tenant's."""
    if principal.role is Role.TENANT:
        return job
    return replace(job, name="", owner="")


def shows_spec(principal: Principal) -> bool:
    """Whether a caller that may see a job may see what it runs: arguments are its tenant's."""
    return principal.role is Role.TENANT


def list_jobs(
    read: Snapshot,
    principal: Principal,
    *,
    project: TenantPath | None,
    states: frozenset[JobState],
    before: JobId | None,
    limit: int,
    with_spec: bool,
    lines: Lines,
    array: JobId | None,
) -> tuple[Job, ...]:
    """A page of jobs, newest first: those with an id below `before`."""
    if not 1 <= limit <= PAGE_MAX:
        detail = f"found {limit}, allowed 1 to {PAGE_MAX}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, detail, "page.size"))
    under = scope(principal, project)
    rows = read.jobs.page(
        under, states=states, before=before, limit=limit, lines=lines, array=array
    )  # fmt: skip
    return read.jobs.whole(rows, with_spec=with_spec and shows_spec(principal))


def scope(principal: Principal, project: TenantPath | None) -> TenantPath | None:
    """The node of the tree that a caller asks about; None: the whole, for an operator."""
    if project and not principal.may_see(project):
        raise not_found("tenant", project[:200])
    if project:
        return project
    if principal.tenant is None and principal.role is not Role.OPERATOR:
        raise not_found("tenant", "")
    return principal.tenant


def quota_lines(
    read: Snapshot, principal: Principal, tenant: TenantPath | None
) -> tuple[QuotaLine, ...]:
    """Guarantee, limit and use at `tenant` and below it, by tenant and GPU class."""
    return quota_lines_under(read, scope(principal, tenant), read.fleet.capacity_milli())


def quota_lines_under(
    read: Snapshot,
    under: TenantPath | None,
    capacity_milli: Mapping[GpuClass, int] | None = None,
) -> tuple[QuotaLine, ...]:
    """Guarantee, limit and use of one node of the tree and all below it; None: of every tenant.

    What is lent is told where the fleet's capacity is given.
    """
    used = read.ledger().used
    queued = _queued_milli(read)
    free = {} if capacity_milli is None else _free_milli(capacity_milli, used)
    lines: list[QuotaLine] = []
    declared = read.tenancy.tenants()
    given_milli = given_away_milli(declared)
    for node in given(declared):
        if under is not None and node.path != under and not node.path.startswith(f"{under}/"):
            continue
        quotas = {quota.gpu_class: quota for quota in node.quotas}
        line = used.get(node.path, {})
        waiting = queued.get(node.path, {})
        for gpu_class in sorted({*quotas, *line, *waiting, ALL_CLASSES}):
            quota = quotas.get(gpu_class)
            guarantee = quota.guarantee_milli if quota else 0
            milli = line.get(gpu_class, 0)
            idle_milli = max(0, guarantee - milli)
            lines.append(
                QuotaLine(
                    tenant=node.path,
                    gpu_class=gpu_class,
                    guarantee_milli=guarantee,
                    limit_milli=quota.limit_milli if quota else None,
                    used_milli=milli,
                    borrowed_milli=max(0, milli - guarantee),
                    queued_milli=waiting.get(gpu_class, 0),
                    weight=quota.weight if quota else 0,
                    borrow_limit_milli=quota.borrow_limit_milli if quota else None,
                    lend_limit_milli=quota.lend_limit_milli if quota else None,
                    lent_milli=max(0, idle_milli - free.get(gpu_class, idle_milli)),
                    shares=tuple(s for s in node.shares if s.gpu_class == gpu_class),
                    given_milli=given_milli.get((node.path, gpu_class), 0),
                )
            )
    return tuple(lines)


def _free_milli(capacity_milli: Mapping[GpuClass, int], used: Usage) -> dict[GpuClass, int]:
    """What nobody holds of each class, and of all together."""
    top = [line for path, line in used.items() if "/" not in path]
    whole = {**capacity_milli, ALL_CLASSES: sum(capacity_milli.values())}
    return {
        name: max(0, milli - sum(line.get(name, 0) for line in top))
        for name, milli in whole.items()
    }


def _queued_milli(read: Snapshot) -> dict[TenantPath, dict[GpuClass, int]]:
    found: defaultdict[TenantPath, defaultdict[GpuClass, int]]
    found = defaultdict(lambda: defaultdict(int))
    for job_class, jobs in read.jobs.queued_by_class():
        milli = jobs * _asked_milli(job_class)
        named = job_class.resources.gpu_classes
        names = (named[0], ALL_CLASSES) if len(named) == 1 else (ALL_CLASSES,)
        for path in ancestry(job_class.tenant):
            for name in names:
                found[path][name] += milli
    return {path: dict(line) for path, line in found.items()}


def queued_gpus_milli(read: Snapshot) -> int:
    """GPUs that all queued jobs ask for together."""
    return sum(jobs * _asked_milli(job_class) for job_class, jobs in read.jobs.queued_by_class())


def _asked_milli(job_class: JobClass) -> int:
    resources = job_class.resources
    return resources.nodes * resources.gpus_per_node * resources.milli_each()


def sites(read: Snapshot) -> tuple[SiteView, ...]:
    """Every declared site, by id."""
    nodes: defaultdict[SiteId, list[NodeEntry]] = defaultdict(list)
    for entry in read.fleet.nodes():
        nodes[site_of(entry.node.id)].append(entry)
    used = read.attempts.used_milli_by_site()
    return tuple(
        SiteView(
            entry=entry,
            nodes_total=len(nodes[entry.site.id]),
            nodes_ready=sum(1 for n in nodes[entry.site.id] if _ready(n.report)),
            gpus_total=sum(n.node.gpus for n in nodes[entry.site.id]),
            gpus_used_milli=used.get(entry.site.id, 0),
        )
        for entry in read.fleet.sites()
    )


def nodes(
    read: Snapshot, site: SiteId | None, *, after: NodeId | None, limit: int
) -> tuple[NodeView, ...]:
    """A page of declared nodes, by id, from behind `after` on."""
    if not 1 <= limit <= NODES_PAGE_MAX:
        detail = f"found {limit}, allowed 1 to {NODES_PAGE_MAX}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, detail, "page.size"))
    if site is not None and read.fleet.site(site) is None:
        raise not_found("site", site[:200])
    return node_views(read, list(read.fleet.nodes(site, after=after or "", limit=limit)))


def node_views(read: Snapshot, entries: Sequence[NodeEntry]) -> tuple[NodeView, ...]:
    """Nodes with what is taken of them."""
    held = read.attempts.occupants(entry.node.id for entry in entries)
    return tuple(
        NodeView(
            entry,
            sum(
                o.placed.gpu_mask.bit_count()
                * read.jobs.job_class(o.class_id).resources.milli_each()
                for o in held.get(entry.node.id, ())
            ),
        )
        for entry in entries
    )


def _ready(report: NodeReport | None) -> bool:
    return report is not None and report.ready()
