"""What is let in. Bad input raises; work that could never run is a decision, with a leaf.

A refused submission must leave its leaf, so it is a value (`Rejected`) and not an exception: the
transaction commits, and only then is the caller refused (`Submission.job_or_raise`). Nothing else
is written for it. A dry run judges by the same code on a snapshot, and writes nothing.

Whatever is raised is raised before anything is written: of many submissions in one transaction,
one that is refused needs no savepoint of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, TypeAlias

from scheduler.control import arrays, certify, evidence, secrets
from scheduler.control.arrivals import Arrivals
from scheduler.control.datasets import readable
from scheduler.control.dependencies import Waits, waits_of
from scheduler.control.requirements import effective
from scheduler.control.standing import Standing
from scheduler.control.views import shown
from scheduler.core import admission_rules, data_rules, residency
from scheduler.core.classes import class_of
from scheduler.core.feasibility import Prospect, could_ever_run
from scheduler.core.job_ids import JobIdCodec
from scheduler.model.identity import Principal
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.job import Awaited, Job, JobSpec, JobState
from scheduler.model.plan import JobClass
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid
from scheduler.store.idempotency import Remembered
from scheduler.store.store import Snapshot, Txn
from scheduler.wire.written import Written, written

IDEMPOTENCY_KEY_CHARACTERS_MAX = 128
QUEUE_FULL_RETRY_AFTER_MS = 10_000

HasBundle: TypeAlias = Callable[[TenantPath, str], bool]
"""Whether a tenant has uploaded the bundle with this digest."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job is queued, or was by an earlier request with the same key.

    `whole` makes the job for who wants more of it than its id: of a thousand at once, nobody does.
    """

    id: JobId
    existed: bool
    whole: Callable[[], Job]

    @property
    def job(self) -> Job:
        """The job."""
        return self.whole()

    def job_or_raise(self) -> Job:
        """The job."""
        return self.whole()

    def id_or_raise(self) -> JobId:
        """Its id."""
        return self.id


@dataclass(frozen=True, slots=True)
class Rejected:
    """The work could never run. It has an id and an audit leaf, and no row."""

    id: JobId
    refusal: Refused

    def job_or_raise(self) -> Job:
        """Raises the refusal; call it once the leaf is committed."""
        raise self.refusal

    def id_or_raise(self) -> JobId:
        """As `job_or_raise`."""
        raise self.refusal


Submission: TypeAlias = Accepted | Rejected


@dataclass(frozen=True, slots=True)
class Asked:
    """One submission: its project is `resolved_project`; the key is empty when there is none."""

    written: Written
    key: str


class Judgement(NamedTuple):
    """What admission says of work that is well formed. No denials: it would be let in. A tuple,
    because one is made for every job."""

    asked: Written
    job_class: JobClass
    prospect: Prospect | None
    denials: tuple[Denial, ...] = ()
    message: str = ""
    waits_for: tuple[Awaited, ...] = ()


class Admission:
    """Judges submissions. Remembers the declared fleet between them, by its revision."""

    def __init__(self, codec: JobIdCodec, has_bundle: HasBundle) -> None:
        self._codec = codec
        self._has_bundle = has_bundle
        self._known: tuple[int, Standing] | None = None

    def submit(
        self, txn: Txn, principal: Principal, spec: JobSpec, key: str, now_ms: int
    ) -> Submission:
        """Queues work, or says why it never could run. Raises when it is malformed."""
        asked = Asked(written(resolved(principal, spec)), key)
        (outcome,) = self.submit_each(txn, principal, (asked,), now_ms)
        if isinstance(outcome, Refused):
            raise outcome
        return outcome

    def submit_each(
        self, txn: Txn, principal: Principal, many: Sequence[Asked], now_ms: int
    ) -> list[Submission | Refused]:
        """What becomes of each, in order; one that is refused holds up no other."""
        keys = {a.key for a in many if 0 < len(a.key) <= IDEMPOTENCY_KEY_CHARACTERS_MAX}
        earlier = txn.idempotency.get_many(principal.path, keys, now_ms)
        repeated = txn.jobs.rows(seen.job for seen in earlier.values())
        jobs = {job.id: job for job in txn.jobs.whole(tuple(repeated.values()), with_spec=True)}
        standing = self._standing(txn)
        arrivals = Arrivals(txn, principal.path, now_ms)
        outcomes: list[Submission | Refused] = []
        for asked in many:
            key, digest = asked.key, asked.written.digest
            try:
                _refuse_long_key(key)
                if key in earlier:
                    arrivals.settle()  # It may be one of them.
                    outcomes.append(_replayed(txn, earlier[key], key, digest, jobs))
                    continue
                if not asked.written.shared.plain:
                    arrivals.settle()  # It may wait for one of them.
                found = self._judge(txn, standing, principal, asked.written, now_ms)
                _refuse_full_queue(txn, standing, principal, asked.written.project, arrivals)
            except Refused as refused:
                outcomes.append(refused)
                continue
            if found.denials:
                arrivals.settle()
                outcomes.append(self._reject(txn, principal, found, now_ms))
                continue
            job = arrivals.add(asked.written, found.job_class, found.waits_for, key)
            if key:
                earlier[key] = Remembered(digest, job)
            whole = partial(_as_queued, job, found, principal.path, now_ms)
            outcomes.append(Accepted(job, False, whole))
        arrivals.settle()
        return outcomes

    def judge(self, read: Snapshot, principal: Principal, spec: JobSpec, now_ms: int) -> Judgement:
        """What admission says of `spec`. Raises when it is malformed, listing every fault."""
        asked = written(resolved(principal, spec))
        return self._judge(read, self._standing(read), principal, asked, now_ms)

    def _judge(
        self, read: Snapshot, standing: Standing, principal: Principal, asked: Written, now_ms: int
    ) -> Judgement:
        welcome = standing.welcome(asked.project, asked.shape, now_ms)
        if welcome is not None and self._is_fit(read, principal, asked):
            return Judgement(asked, welcome, None)
        spec = asked.spec
        faults = [
            *admission_rules.value_faults(spec),
            *data_rules.spec_faults(spec),
            *_project_faults(principal, spec, standing.projects),
        ]
        if not faults:
            faults += self._faults_of_what_it_names(read, spec)
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
        known = readable(read, [mount.dataset for mount in spec.inputs], spec.project)
        requirement = effective(read, spec)
        job_class = class_of(replace(spec, residency=requirement), spec.project)
        if unread := data_rules.input_denials(spec, known):
            why = "; ".join(denial.detail for denial in unread)
            return Judgement(asked, job_class, None, unread, why)
        at_the_door = residency.admission_denials(job_class.residency, standing.policy, now_ms)
        if at_the_door:
            return Judgement(asked, job_class, None, at_the_door, "no site may ever hold this work")
        if waits.lost:
            why = "; ".join(denial.detail for denial in waits.lost)
            return Judgement(asked, job_class, None, waits.lost, why)
        prospect = could_ever_run(standing.fleet, job_class, now_ms)
        if prospect.possible():
            if not spec.depends_on and not spec.inputs:  # Else others decide too.
                standing.admit(spec.project, asked.shape, job_class, now_ms)
            return Judgement(asked, job_class, prospect, waits_for=waits.open)
        denials = _decisive_first(prospect)
        return Judgement(asked, job_class, prospect, denials, _why_never(prospect))

    def _reject(self, txn: Txn, principal: Principal, found: Judgement, now_ms: int) -> Rejected:
        number = txn.jobs.take_id()
        asked, denials = found.asked, found.denials
        evidence.submission_refused(
            txn.audit, number, principal, asked.project, asked.digest, denials, now_ms
        )
        certify.refused(txn, number, asked.spec, asked.digest, denials, now_ms)
        message = f"{self._codec.encode(number)} refused: {found.message}"
        return Rejected(number, refusal_of(found, message))

    def _faults_of_what_it_names(self, read: Snapshot, spec: JobSpec) -> list[Denial]:
        faults = self._bundle_faults(spec) if spec.bundle_digest else []
        return faults + secrets.faults_of(read, spec) if spec.secrets else faults

    def _bundle_faults(self, spec: JobSpec) -> list[Denial]:
        if self._has_bundle(spec.project, spec.bundle_digest):
            return []
        detail = f"found {spec.bundle_digest}, allowed the digest of a bundle that was uploaded"
        return [Denial(Reason.INVALID_ARGUMENT, detail, "bundle_digest")]

    def _is_fit(self, read: Snapshot, principal: Principal, asked: Written) -> bool:
        """Whether a job of a welcome shape and project has no fault of its own either."""
        if not principal.may_see(asked.project):
            return False
        if not admission_rules.is_plainly_sound(asked) and admission_rules.own_faults(asked.spec):
            return False
        if asked.shared.plain and not asked.bundle_digest:
            return True
        return not self._faults_of_what_it_names(read, asked.spec)

    def _standing(self, read: Snapshot) -> Standing:
        revision = read.declared_revision()
        known = self._known
        if known is not None and known[0] == revision:
            return known[1]
        standing = Standing(read)
        if revision is not None:
            self._known = (revision, standing)
        return standing


def refusal_of(found: Judgement, message: str) -> Refused:
    """The refusal that a judgement against the work amounts to."""
    assert found.denials, "it would be let in"
    return Refused(Code.FAILED_PRECONDITION, found.denials[0].reason, message, found.denials)


def resolved_project(principal: Principal, project: TenantPath) -> TenantPath:
    """A project's full path: a tenant may leave out its own part of it."""
    if principal.tenant is None or principal.may_see(project):
        return project
    return TenantPath(f"{principal.tenant}/{project}") if project else principal.tenant


def resolved(principal: Principal, spec: JobSpec) -> JobSpec:
    """The spec with its project's full path."""
    return replace(spec, project=resolved_project(principal, spec.project))


def _project_faults(
    principal: Principal, spec: JobSpec, tree: frozenset[TenantPath]
) -> list[Denial]:
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


def _refuse_full_queue(
    txn: Txn, standing: Standing, principal: Principal, project: TenantPath, arrivals: Arrivals
) -> None:
    queued, ahead = txn.ledger().queued_jobs, arrivals.ahead
    bounds = standing.bounds(project)
    for path, most in bounds:
        if queued.get(path, 0) + ahead.get(path, 0) >= most:
            break
    else:
        return
    waiting = [(path, queued.get(path, 0) + ahead.get(path, 0), most) for path, most in bounds]
    full = [
        Denial(Reason.QUEUE_FULL, f"{jobs} jobs are queued, allowed {most}", path)
        for path, jobs, most in waiting
        if jobs >= most
    ]
    if full := shown(principal, full):
        raise Refused(
            Code.RESOURCE_EXHAUSTED,
            Reason.QUEUE_FULL,
            "; ".join(f"{denial.subject}: {denial.detail}" for denial in full),
            full,
            retry_after_ms=QUEUE_FULL_RETRY_AFTER_MS,
        )


def _replayed(
    txn: Txn, earlier: Remembered, key: str, digest: str, jobs: Mapping[JobId, Job]
) -> Accepted:
    """The job of an earlier request; `jobs` are those there were before this transaction's."""
    if earlier.request_digest != digest:
        raise Refused(
            Code.ABORTED,
            Reason.IDEMPOTENCY_CONFLICT,
            f"idempotency key {key!r} was used for another specification",
        )
    job = jobs.get(earlier.job) or txn.jobs.get(earlier.job)
    assert job is not None, "a remembered job is there"
    return Accepted(job.id, True, lambda: job)


def _as_queued(job: JobId, found: Judgement, owner: str, now_ms: int) -> Job:
    asked, spec = found.asked, found.asked.spec
    tasks = arrays.as_queued(spec)
    return Job(
        id=job,
        tenant=asked.project,
        owner=owner,
        name=asked.name,
        state=JobState.QUEUED,
        spec=spec,
        spec_digest=asked.digest,
        submitted_at_ms=now_ms,
        held=bool(found.waits_for) or tasks is not None,
        tasks=tasks,
        waits_for=found.waits_for,
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
