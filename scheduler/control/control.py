"""Everything that can be asked of the control plane: the one door for servicers and simulator.

Every method is synchronous, takes a transaction (or, to read, a snapshot) and the time, and has no
effect but on that transaction. What it decides lies in the modules beside it; here it is gathered.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from scheduler.control import (
    declare,
    joint,
    lengths,
    maintenance,
    operate,
    outbox,
    policies,
    preemptions,
    recovery,
    reports,
    services,
    spending,
    stored,
    views,
)
from scheduler.control import follow as consequences
from scheduler.control.admission import Admission, Asked, HasBundle, Judgement, Submission
from scheduler.control.cancelling import cancel
from scheduler.control.continuous import Continuous
from scheduler.control.declare import Declaration, UnknownClasses
from scheduler.control.evidence import policy_in_force
from scheduler.control.life import Cause
from scheduler.control.overview import Overview, overview
from scheduler.control.policies import Change
from scheduler.control.reports import Heard, Hello
from scheduler.control.spending import BudgetLine, UsageLine
from scheduler.control.views import NodeView, QuotaLine, SiteView
from scheduler.core.job_ids import JobIdCodec
from scheduler.core.recovery import LAPSE_AFTER_MS
from scheduler.model.identity import Principal
from scheduler.model.ids import JobId, NodeId, SiteId, TenantPath
from scheduler.model.job import Job, JobSpec, JobState
from scheduler.model.plan import Plan
from scheduler.model.reasons import Code, Reason, Refused
from scheduler.model.sitelink import Desired, SiteReport
from scheduler.model.tenancy import Tenant
from scheduler.model.window import Window, WindowAsked, WindowKind
from scheduler.store.apply import Applied
from scheduler.store.apply import apply_plan as commit_plan
from scheduler.store.job_rows import Lines
from scheduler.store.store import Snapshot, Txn
from scheduler.wire.grants import Granter


class Control:
    """The control plane of one leader; `epoch` is the store's, taken when it was opened."""

    def __init__(
        self,
        *,
        codec: JobIdCodec,
        epoch: int,
        has_bundle: HasBundle,
        granter: Granter,
        lapse_after_ms: int = LAPSE_AFTER_MS,
        told_rows_max: int = outbox.ROWS_MAX,
    ) -> None:
        self.codec = codec
        self.epoch = epoch
        self._granter = granter
        self._lapse_after_ms = lapse_after_ms
        self._told_rows_max = told_rows_max
        self._admission = Admission(codec, has_bundle)
        self._continuous = Continuous()

    def start(self, txn: Txn, now_ms: int) -> None:
        """Call it once, before anything else: nobody is connected to a leader that just began."""
        for entry in txn.fleet.sites():
            if entry.contact.connected:
                contact = replace(entry.contact, connected=False)
                txn.fleet.put_contact(contact, entry.contact_at_ms)
            txn.certificates.know(entry.site, now_ms)
        if not txn.tenancy.has_policy():
            txn.tenancy.add_policy(txn.tenancy.policy(), now_ms)
            policy_in_force(txn.audit, txn.tenancy.policy(), (), "", now_ms)

    # Tenants.

    def submit(
        self, txn: Txn, principal: Principal, spec: JobSpec, key: str, now_ms: int
    ) -> Submission:
        """Queues work, or answers a refusal that is raised after the commit: `job_or_raise`."""
        return self._admission.submit(txn, principal, spec, key, now_ms)

    def submit_each(
        self, txn: Txn, principal: Principal, many: Sequence[Asked], now_ms: int
    ) -> list[Submission | Refused]:
        """As `submit` for each, in order. One that is malformed is a refusal among the others."""
        return self._admission.submit_each(txn, principal, many, now_ms)

    def judge(self, read: Snapshot, principal: Principal, spec: JobSpec, now_ms: int) -> Judgement:
        """Admission's part of a dry run; the planner's is a forecast of `job_class`."""
        return self._admission.judge(read, principal, spec, now_ms)

    def get(self, read: Snapshot, principal: Principal, name: str) -> Job:
        """A job by public id, or by a name that is unique among the caller's open jobs."""
        return views.get_job(read, self.codec, principal, name)

    def list(
        self,
        read: Snapshot,
        principal: Principal,
        *,
        project: TenantPath | None = None,
        states: frozenset[JobState] = frozenset(),
        before: JobId | None = None,
        limit: int,
        with_spec: bool = False,
        array: str = "",
        lines: Lines | None = None,
    ) -> tuple[Job, ...]:
        """A page of the caller's jobs, newest first; of the tasks of `array` if it is named.

        An array is one line, unless states are asked for: they are those of its tasks.
        """
        of = views.find_job(read, self.codec, principal, array).id if array else None
        return views.list_jobs(
            read,
            principal,
            project=project,
            states=states,
            before=before,
            limit=limit,
            with_spec=with_spec,
            lines=lines or (Lines.TASKS if states else Lines.ARRAYS),
            array=of,
        )

    def cancel(self, txn: Txn, principal: Principal, name: str, *, now: bool, now_ms: int) -> Job:
        """Cancels a job that waits, begins to stop one that is placed; `now` skips the grace.

        A job that is over, or is being cancelled already, is answered as it is. An operator cancels
        with its tenant's eyes: `operator_access.eyes`.
        """
        if principal.tenant is None:
            detail = f"{principal.path} cancels no tenant's work without access to it"
            raise Refused(Code.PERMISSION_DENIED, Reason.ACCESS_NOT_GRANTED, detail)
        row = views.find_job(txn, self.codec, principal, name)
        who = "its tenant" if principal.path.startswith("/tenant/") else "an operator"
        cause = Cause(f"cancelled by {who}", principal.path)
        cancelled = cancel(txn, row, cause, now=now, now_ms=now_ms)
        if now and row.tasks:
            hurried = txn.jobs.open_tasks(row.id, consequences.FOLLOW_MAX)
            for task in hurried:
                cancel(txn, task, cause, now=True, now_ms=now_ms)
        if cancelled is not row or row.tasks:
            consequences.follow(txn, cancelled, now_ms)
        after = txn.jobs.row(row.id)
        assert after is not None, "a job's row stays"
        return txn.jobs.whole((after,), with_spec=views.shows_spec(principal))[0]

    def scale(self, txn: Txn, principal: Principal, name: str, replicas: int, now_ms: int) -> Job:
        """Sets how many replicas a service has. Its tenant alone does."""
        row = views.find_job(txn, self.codec, principal, name)
        consequences.follow(txn, services.scale(txn, principal, row, replicas, now_ms), now_ms)
        after = txn.jobs.row(row.id)
        assert after is not None, "a job's row stays"
        return txn.jobs.whole((after,), with_spec=views.shows_spec(principal))[0]

    def quota(
        self, read: Snapshot, principal: Principal, tenant: TenantPath | None = None
    ) -> tuple[QuotaLine, ...]:
        """Guarantee, limit and use, derived from what is placed and queued."""
        return views.quota_lines(read, principal, tenant)

    def budgets(
        self, read: Snapshot, principal: Principal, tenant: TenantPath | None, now_ms: int
    ) -> tuple[BudgetLine, ...]:
        """Budgets in force, and what is left of them."""
        return spending.budget_lines(read, principal, tenant, now_ms)

    def usage(
        self,
        read: Snapshot,
        principal: Principal,
        tenant: TenantPath | None,
        *,
        first_day: int,
        end_day: int,
        now_ms: int,
    ) -> tuple[UsageLine, ...]:
        """What was used of what was placed on some days."""
        return spending.usage_lines(
            read, principal, tenant, first_day=first_day, end_day=end_day, now_ms=now_ms
        )

    # The planner.

    def apply_plan(self, txn: Txn, plan: Plan, now_ms: int) -> Applied:
        """Commits what still holds of a plan."""
        applied = commit_plan(txn, plan, now_ms)
        self._continuous.placed(applied.known_until_ms)
        preempted = preemptions.preempt(txn, plan.preemptions, now_ms)
        return replace(applied, preempted=preempted)

    # Sites.

    def site_hello(self, txn: Txn, site: SiteId, hello: Hello, now_ms: int) -> None:
        """A session with a site begins."""
        reports.site_hello(txn, site, hello, self.epoch, now_ms)

    def site_gone(self, txn: Txn, site: SiteId, incarnation: str, now_ms: int) -> None:
        """The session with this incarnation of a site's agent ended."""
        reports.site_gone(txn, site, incarnation, now_ms)

    def site_report(self, txn: Txn, site: SiteId, report: SiteReport, now_ms: int) -> Heard:
        """Takes a site's word on its nodes and attempts."""
        return reports.site_report(txn, site, report, self.epoch, now_ms)

    def site_reports(
        self, txn: Txn, told: Sequence[tuple[SiteId, SiteReport]], now_ms: int
    ) -> Sequence[Heard | Refused]:
        """As `site_report` for each, in order: those of several sites cost less together."""
        return reports.site_reports(txn, told, self.epoch, now_ms)

    def desired(
        self, read: Snapshot, site: SiteId, from_generation: int, now_ms: int
    ) -> tuple[Desired, ...]:
        """What a site that has `from_generation` lacks, in as many messages as it takes; what is
        to run with a grant to begin from `now_ms` on."""
        sending = outbox.Sending(self.codec, self._granter, self.epoch, now_ms, self._told_rows_max)
        return outbox.desired(read, sending, site, from_generation)

    def jobs_over(
        self, read: Snapshot, site: SiteId, job_ids: Sequence[str], now_ms: int
    ) -> dict[str, int]:
        """Those of `job_ids` that were at `site` and are over, each with for how many ms."""
        named = {job: name for name in job_ids if (job := self.codec.decode(name)) is not None}
        ended = stored.over(read, site, named, now_ms)
        return {named[job]: ago_ms for job, ago_ms in ended.items()}

    def tick(
        self,
        txn: Txn,
        silence_ms: Mapping[SiteId, int],
        now_ms: int,
        *,
        present: Collection[SiteId],
    ) -> int:
        """What time alone brings: lapsed leases, drains that are due, forgotten keys; and what a
        change of facts or policy means for work that runs. Also the next part of the fleet is
        remembered, until all of it is.

        `silence_ms`: since when each site was not heard, on this process's boot-time clock; for a
        site not heard since it leads, since then. `present`: sites with a session, when this was
        asked for. How many attempts ended or began to.
        """
        reports.sites_gone(txn, present, now_ms)
        ended = recovery.end_lapsed(txn, silence_ms, self._lapse_after_ms, now_ms)
        ended += operate.end_drains(txn, now_ms)
        ended += maintenance.turn(txn, now_ms)
        joint.turn(txn, now_ms)
        lengths.turn(txn, now_ms)
        ended += self._continuous.turn(txn, now_ms)
        consequences.catch_up(txn, now_ms)
        txn.idempotency.trim(now_ms)
        txn.identity.trim_join_tokens(now_ms)
        txn.mirror.learn()
        return ended

    # Operators.

    def apply_tenants(
        self,
        txn: Txn,
        principal: Principal,
        tenants: Sequence[Tenant],
        *,
        reason: str,
        dry_run: bool,
        now_ms: int,
        unknown_classes: UnknownClasses = UnknownClasses.REFUSE,
    ) -> tuple[str, ...]:
        """Makes the tenant tree what was said; the difference."""
        return declare.apply_tenants(
            txn,
            principal,
            tenants,
            reason=reason,
            dry_run=dry_run,
            now_ms=now_ms,
            unknown_classes=unknown_classes,
        )

    def tenant_warnings(self, read: Snapshot, tenants: Sequence[Tenant]) -> tuple[str, ...]:
        """What is no fault of a tree and yet looks wrong."""
        return declare.tenant_warnings(read, tenants)

    def apply_fleet(
        self,
        txn: Txn,
        principal: Principal,
        declarations: Sequence[Declaration],
        *,
        reason: str,
        dry_run: bool,
        now_ms: int,
    ) -> tuple[str, ...]:
        """Makes the declared fleet what was said; the difference."""
        return declare.apply_fleet(
            txn, principal, declarations, reason=reason, dry_run=dry_run, now_ms=now_ms
        )

    def apply_policy(
        self,
        txn: Txn,
        principal: Principal,
        change: Change,
        *,
        dry_run: bool,
        now_ms: int,
    ) -> tuple[tuple[str, ...], int]:
        """Puts a policy in force; the difference, and the revision in force."""
        return policies.apply_policy(txn, principal, change, dry_run=dry_run, now_ms=now_ms)

    def cordon(
        self, txn: Txn, principal: Principal, target: SiteId | NodeId, reason: str, now_ms: int
    ) -> None:
        """Lets no new work onto a site or node."""
        operate.cordon(txn, principal, target, reason, now_ms)

    def uncordon(
        self, txn: Txn, principal: Principal, target: SiteId | NodeId, reason: str, now_ms: int
    ) -> None:
        """Lets new work onto a site or node again."""
        operate.uncordon(txn, principal, target, reason, now_ms)

    def drain(
        self,
        txn: Txn,
        principal: Principal,
        target: SiteId | NodeId,
        reason: str,
        deadline_ms: int,
        now_ms: int,
    ) -> int:
        """Empties a site or node by a deadline; how many attempts are there now."""
        return operate.drain(txn, principal, target, reason, deadline_ms, now_ms)

    def fence(self, txn: Txn, principal: Principal, node: NodeId, reason: str, now_ms: int) -> int:
        """Takes an operator's word that nothing runs on a node; how many attempts that ends."""
        return operate.fence(txn, principal, node, reason, now_ms)

    def add_window(self, txn: Txn, principal: Principal, asked: WindowAsked, now_ms: int) -> Window:
        """Takes nodes out of the common pool for a time."""
        return maintenance.add(txn, principal, asked, now_ms)

    def remove_window(
        self, txn: Txn, principal: Principal, name: str, reason: str, now_ms: int
    ) -> None:
        """Calls a window off, or ends it now."""
        maintenance.remove(txn, principal, name, reason, now_ms)

    def windows(self, read: Snapshot, kind: WindowKind) -> tuple[Window, ...]:
        """Windows by their beginning, of one kind or of both."""
        return maintenance.listed(read, kind)

    def sites(self, read: Snapshot) -> tuple[SiteView, ...]:
        """Every declared site."""
        return views.sites(read)

    def overview(self, read: Snapshot, *, unfit_max: int) -> Overview:
        """The fleet in sum."""
        return overview(read, unfit_max=unfit_max)

    def nodes(
        self, read: Snapshot, site: SiteId | None, *, after: NodeId | None = None, limit: int
    ) -> tuple[NodeView, ...]:
        """A page of declared nodes."""
        return views.nodes(read, site, after=after, limit=limit)
