"""What is let in. Bad input raises; work that could never run is a decision, with a leaf.

A refused submission must leave its leaf, so it is a value (`Rejected`) and not an exception: the
transaction commits, and only then is the caller refused (`Submission.job_or_raise`). Nothing else
is written for it. A dry run judges by the same code on a snapshot, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from scheduler.control import evidence
from scheduler.control.dependencies import Waits, waits_of
from scheduler.control.follow import follow
from scheduler.control.views import shown
from scheduler.core import admission_rules, residency
from scheduler.core.classes import class_of
from scheduler.core.feasibility import DeclaredFleet, Prospect, could_ever_run
from scheduler.core.job_ids import JobIdCodec
from scheduler.core.quota import QuotaTree
from scheduler.model.identity import Principal
from scheduler.model.ids import JobId, TenantPath, ancestry
from scheduler.model.job import Awaited, Job, JobSpec, JobState, OnPartition, TaskCounts
from scheduler.model.plan import JobClass
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid
from scheduler.store import leaves
from scheduler.store.idempotency import Remembered
from scheduler.store.records import JobRow
from scheduler.store.store import Snapshot, Txn
from scheduler.wire.spec import spec_digest, spec_to_bytes

IDEMPOTENCY_KEY_CHARACTERS_MAX = 128
QUEUE_FULL_RETRY_AFTER_MS = 10_000

HasBundle: TypeAlias = Callable[[TenantPath, str], bool]
"""Whether a tenant has uploaded the bundle with this digest."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job is queued, or was by an earlier request with the same key."""

    job: Job
    existed: bool

    def job_or_raise(self) -> Job:
        """The job."""
        return self.job


@dataclass(frozen=True, slots=True)
class Rejected:
    """The work could never run. It has an id and an audit leaf, and no row."""

    id: JobId
    refusal: Refused

    def job_or_raise(self) -> Job:
        """Raises the refusal; call it once the leaf is committed."""
        raise self.refusal


Submission: TypeAlias = Accepted | Rejected


@dataclass(frozen=True, slots=True)
class Judgement:
    """What admission says of work that is well formed. No denials: it would be let in."""

    spec: JobSpec
    job_class: JobClass
    prospect: Prospect | None
    denials: tuple[Denial, ...]
    message: str
    waits_for: tuple[Awaited, ...] = ()


class Admission:
    """Judges submissions. Remembers the declared fleet between them, by its revision."""

    def __init__(self, codec: JobIdCodec, has_bundle: HasBundle) -> None:
        self._codec = codec
        self._has_bundle = has_bundle
        self._declared: tuple[int, DeclaredFleet] | None = None

    def submit(
        self, txn: Txn, principal: Principal, spec: JobSpec, key: str, now_ms: int
    ) -> Submission:
        """Queues work, or says why it never could run. Raises when it is malformed."""
        _refuse_long_key(key)
        spec = resolved(principal, spec)
        body = spec_to_bytes(spec)
        digest = spec_digest(body)
        if key and (earlier := txn.idempotency.get(principal.path, key, now_ms)) is not None:
            return _replayed(txn, earlier, key, digest)
        found = self.judge(txn, principal, spec, now_ms)
        _refuse_full_queue(txn, principal, spec.project)
        if found.denials:
            return self._reject(txn, principal, found, digest, now_ms)
        txn.jobs.put_spec_bytes(digest, body)
        array = spec.array
        row = JobRow(
            id=txn.jobs.take_id(),
            class_id=txn.jobs.intern(found.job_class),
            tenant=spec.project,
            owner=principal.path,
            name=spec.name,
            state=JobState.QUEUED,
            submitted_at_ms=now_ms,
            next_attempt=1,
            spec_digest=digest,
            leased=spec.on_partition is OnPartition.REQUEUE,
            held=bool(found.waits_for) or array is not None,
            tasks=array.count if array is not None else 0,
            running_max=array.max_running if array is not None else 0,
        )
        txn.jobs.add(row)
        txn.waits.add(row.id, found.waits_for)
        leaves.submitted(txn.audit, row, found.waits_for)
        if key:
            txn.idempotency.put(principal.path, key, Remembered(digest, row.id), now_ms)
        if array is not None:
            follow(txn, row, now_ms)
        return Accepted(_as_queued(row, spec, found.waits_for), existed=False)

    def judge(self, read: Snapshot, principal: Principal, spec: JobSpec, now_ms: int) -> Judgement:
        """What admission says of `spec`. Raises when it is malformed, listing every fault."""
        spec = resolved(principal, spec)
        tree = {tenant.path for tenant in read.tenancy.tenants()}
        faults = [*admission_rules.value_faults(spec), *_project_faults(principal, spec, tree)]
        if not faults and spec.bundle_digest:
            faults += self._bundle_faults(spec)
        waits = Waits() if faults else waits_of(read, self._codec, principal, spec)
        faults += waits.faults
        if faults:
            raise invalid(*faults)
        if missing := admission_rules.unsupported(spec):
            raise Refused(
                Code.UNIMPLEMENTED,
                Reason.FEATURE_NOT_AVAILABLE,
                "; ".join(f"{m.subject}: {m.detail}" for m in missing),
                missing,
            )
        job_class = class_of(spec, spec.project)
        at_the_door = residency.admission_denials(spec.residency, read.tenancy.policy())
        if at_the_door:
            return Judgement(spec, job_class, None, at_the_door, "no site may ever hold this work")
        if waits.lost:
            why = "; ".join(denial.detail for denial in waits.lost)
            return Judgement(spec, job_class, None, waits.lost, why)
        prospect = could_ever_run(self._declared_fleet(read), job_class, now_ms)
        if prospect.possible():
            return Judgement(spec, job_class, prospect, (), "", waits.open)
        denials = _decisive_first(prospect)
        return Judgement(spec, job_class, prospect, denials, _why_never(prospect))

    def _reject(
        self, txn: Txn, principal: Principal, found: Judgement, digest: str, now_ms: int
    ) -> Rejected:
        number = txn.jobs.take_id()
        evidence.submission_refused(
            txn.audit, number, principal, found.spec.project, digest, found.denials, now_ms
        )
        message = f"{self._codec.encode(number)} refused: {found.message}"
        return Rejected(number, refusal_of(found, message))

    def _bundle_faults(self, spec: JobSpec) -> list[Denial]:
        if self._has_bundle(spec.project, spec.bundle_digest):
            return []
        detail = f"found {spec.bundle_digest}, allowed the digest of a bundle that was uploaded"
        return [Denial(Reason.INVALID_ARGUMENT, detail, "bundle_digest")]

    def _declared_fleet(self, read: Snapshot) -> DeclaredFleet:
        revision = read.declared_revision()
        known = self._declared
        if known is not None and known[0] == revision:
            return known[1]
        fleet = DeclaredFleet(
            (entry.site for entry in read.fleet.sites()),
            (entry.node for entry in read.fleet.nodes()),
            read.tenancy.policy(),
            QuotaTree(read.tenancy.tenants()),
        )
        if revision is not None:
            self._declared = (revision, fleet)
        return fleet


def refusal_of(found: Judgement, message: str) -> Refused:
    """The refusal that a judgement against the work amounts to."""
    assert found.denials, "it would be let in"
    return Refused(Code.FAILED_PRECONDITION, found.denials[0].reason, message, found.denials)


def resolved(principal: Principal, spec: JobSpec) -> JobSpec:
    """The spec with its project's full path: a tenant may leave out its own part of it."""
    if principal.tenant is None or principal.may_see(spec.project):
        return spec
    if not spec.project:
        return replace(spec, project=principal.tenant)
    return replace(spec, project=TenantPath(f"{principal.tenant}/{spec.project}"))


def _project_faults(principal: Principal, spec: JobSpec, tree: set[TenantPath]) -> list[Denial]:
    """A project is a leaf of the tree, inside the caller's own part of it."""
    project = spec.project
    if project not in tree or not principal.may_see(project):
        # Whether others have such a project is not said.
        detail = f"found {project[:200]!r}, which is no project of yours"
        return [Denial(Reason.NOT_FOUND, detail, "project")]
    below = sorted(path for path in tree if path.startswith(f"{project}/"))
    if below:
        detail = f"found {project!r}, allowed a leaf of the tree, such as {below[0]!r}"
        return [Denial(Reason.INVALID_ARGUMENT, detail, "project")]
    return []


def _refuse_long_key(key: str) -> None:
    if len(key) > IDEMPOTENCY_KEY_CHARACTERS_MAX:
        detail = f"found {len(key)} characters, allowed {IDEMPOTENCY_KEY_CHARACTERS_MAX}"
        raise invalid(Denial(Reason.TOO_LARGE, detail, "idempotency_key"))


def _refuse_full_queue(txn: Txn, principal: Principal, project: TenantPath) -> None:
    limits = {tenant.path: tenant.max_queued_jobs for tenant in txn.tenancy.tenants()}
    queued = txn.ledger().queued_jobs
    full = [
        Denial(Reason.QUEUE_FULL, f"{queued[path]} jobs are queued, allowed {limits[path]}", path)
        for path in ancestry(project)
        if path in limits and queued.get(path, 0) >= limits[path]
    ]
    if full := shown(principal, full):
        raise Refused(
            Code.RESOURCE_EXHAUSTED,
            Reason.QUEUE_FULL,
            "; ".join(f"{denial.subject}: {denial.detail}" for denial in full),
            full,
            retry_after_ms=QUEUE_FULL_RETRY_AFTER_MS,
        )


def _replayed(txn: Txn, earlier: Remembered, key: str, digest: str) -> Accepted:
    if earlier.request_digest != digest:
        raise Refused(
            Code.ABORTED,
            Reason.IDEMPOTENCY_CONFLICT,
            f"idempotency key {key!r} was used for another specification",
        )
    job = txn.jobs.get(earlier.job)
    assert job is not None, "a remembered job is there"
    return Accepted(job, existed=True)


def _as_queued(row: JobRow, spec: JobSpec, waits_for: tuple[Awaited, ...]) -> Job:
    return Job(
        id=row.id,
        tenant=row.tenant,
        owner=row.owner,
        name=row.name,
        state=row.state,
        spec=spec,
        spec_digest=row.spec_digest,
        submitted_at_ms=row.submitted_at_ms,
        held=row.held,
        tasks=TaskCounts(row.tasks, queued=row.tasks) if row.tasks else None,
        waits_for=waits_for,
    )


def _decisive_first(prospect: Prospect) -> tuple[Denial, ...]:
    """Every reason; first those of the place that came closest."""
    if prospect.quota:
        return prospect.denials()
    if not prospect.sites:
        detail = "no site is declared"
        return (Denial(Reason.SITE_NOT_ACTIVE, detail),)
    closest = min(prospect.sites, key=lambda site: (not site.permitted, len(site.denials)))
    others = (d for site in prospect.sites if site is not closest for d in site.denials)
    return (*closest.denials, *others)


def _why_never(prospect: Prospect) -> str:
    if prospect.quota:
        return f"over quota even with nothing else running: {prospect.quota[0].detail}"
    lawful = sum(site.permitted for site in prospect.sites)
    total = len(prospect.sites)
    if not lawful:
        return f"none of the {total} declared sites may hold this work"
    return f"{lawful} of the {total} declared sites may hold this work, and none of them ever could"
