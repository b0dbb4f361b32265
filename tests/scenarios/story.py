"""What the lines of a story do: each is one command, and answers what an operator would see.

A country is declared first (`site`, `nodes`, `tenant`); the first other command begins it, at
00:00. Times are since then. Jobs have names; what a job takes, and how it ends, is said with it.

    site NAME [country=GB] [operator=GB] [cap_kw=N] [carbon=G/KWH price=PENCE/MWH]
    nodes SITE/FIRST..LAST [gpus=8] [model=H100] [leaf=l0] [nvlink=NAME]
          [spares=N of the NVLink domain] [mig=GPU:NUMBERxPROFILE,...]
    tenant PATH [guarantee=GPUS] [limit=GPUS] [borrow=GPUS] [lend=GPUS] [weight=N]
           [order=shortest] [budget=GPU-HOURS each month]
    submit NAME PROJECT [nodes=1] [gpus=8] [runs=1h] [limit=2h] [priority=normal] [within=site]
           [model=H100] [country=GB,CA] [agreement=NAME]
           [saves=15m] [grace=30s] [min_runtime=0s] [preemptible=no]
           [exit=0] [after=NAME[:failed]] [tasks=N] [at_once=N] [retries=N] [max_nodes=N]
           [share=MILLI] [mig=PROFILE] [mode=preferred]
    after DURATION          what happened meanwhile
    jobs                    every job: where it is, or why it waits
    why NAME                what keeps a job waiting
    cancel NAME | scale NAME to=N
    fence NODE | cordon PLACE | uncordon PLACE | drain PLACE within=DURATION
    fail SITE/SLOT for=DURATION
    maintenance SITE from=DURATION for=DURATION [nodes=SLOT,SLOT]
    reserve SITE tenant=PATH from=DURATION for=DURATION [nodes=SLOT,SLOT]
    again site|tenant ...   declares it anew
    agree NAME [opens=CA] [gpus=N] [hours=N each month] [lasts=365d] | revoke NAME
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.country import BEGIN_MS, CODEC, OPERATOR, Country, Work
from scheduler.control import agreements
from scheduler.control.admission import Rejected
from scheduler.control.control import Control
from scheduler.control.policies import Change
from scheduler.core.explain import explain
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import GpuClass, JobId, NodeId, SiteId, TenantPath, ancestry, node_id
from scheduler.model.job import (
    TERMINAL,
    Dependency,
    Job,
    JobSpec,
    JobState,
)
from scheduler.model.reasons import Refused
from scheduler.model.residency import Policy
from scheduler.model.tenancy import Tenant
from scheduler.model.window import Window, WindowAsked, WindowKind
from scheduler.store.store import Txn
from tests.scenarios.agreed import pact
from tests.scenarios.asked import asked
from tests.scenarios.declared import BadStory, Declared, Line, clock, duration_ms

GRAIN_MS = 1_000
JOBS_MAX = 500


class Story:
    """One story while it is told."""

    def __init__(self, path: Path) -> None:
        self._url = f"sqlite:///{path}"
        self._declared = Declared()
        self._country: Country | None = None
        self._jobs: dict[str, JobId] = {}
        self._seen: dict[JobId, Job] = {}
        self._commands: dict[str, Callable[[Line], str]] = {
            "submit": self._submit,
            "after": self._after,
            "jobs": self._all_jobs,
            "why": self._why,
            "cancel": self._cancel,
            "scale": self._scale,
            "cordon": self._cordon,
            "fence": self._fence,
            "uncordon": self._uncordon,
            "drain": self._drain,
            "fail": self._fail,
            "maintenance": self._window,
            "reserve": self._window,
            "agree": self._agree,
            "revoke": self._revoke,
            "again": self._again,
        }

    def execute(self, text: str) -> str:
        """Does what one line says; what it answers."""
        line = Line.of(text)
        command = line.word("the command")
        declare = {
            "site": self._declared.site,
            "nodes": self._declared.some_nodes,
            "tenant": self._declared.tenant,
        }
        if command in declare and self._country is None:
            declare[command](line)
            line.done()
            return "ok"
        if command not in self._commands:
            raise BadStory(f"found {command!r}, allowed: {', '.join(sorted(self._commands))}")
        if command in ("maintenance", "reserve"):
            line.pairs["kind"] = "MAINTENANCE" if command == "maintenance" else "RESERVED"
        try:
            return self._commands[command](line)
        except Refused as refused:
            return _refused(refused)

    def close(self) -> None:
        """The end of the story."""
        if self._country is not None:
            self._country.store.close()

    @property
    def country(self) -> Country:
        """The country; it begins when somebody first asks for it."""
        if self._country is None:
            self._country = Country(self._url, GRAIN_MS)
            self._declare()
        return self._country

    def _declare(self) -> None:
        country, declared = self.country, self._declared
        sites = [(site, declared.at(name)) for name, site in declared.sites.items()]
        tenants = dict(declared.tenants)
        for path in declared.tenants:
            for above in ancestry(path):
                tenants.setdefault(above, Tenant(above))
        country.declare(sites)
        with country.store.transaction() as txn:
            country.control.apply_tenants(
                txn, OPERATOR, [tenants[path] for path in sorted(tenants)],
                reason="declared", dry_run=False, now_ms=country.now_ms,
            )  # fmt: skip

    def _again(self, line: Line) -> str:
        country, what = self.country, line.word("what")
        (self._declared.site if what == "site" else self._declared.tenant)(line)
        line.done()
        self._declare()
        country.moment()
        return "\n".join(["ok", *self._news()])

    # Jobs.

    def _submit(self, line: Line) -> str:
        country, name = self.country, line.word("the job's name")
        spec = self._spec(name, TenantPath(line.word("the project")), line)
        work = Work(
            spec,
            line.time_ms("runs", "1h"),
            exit_code=line.number("exit"),
            saves_every_ms=line.time_ms("saves", "0s"),
        )
        line.done()
        organisation = TenantPath(spec.project.partition("/")[0])
        who = Principal(f"/tenant/{organisation}/user/ada", Role.TENANT, organisation)
        with country.store.transaction() as txn:
            made = country.submit(txn, who, spec, work)
        if isinstance(made, Rejected):
            return _refused(made.refusal)
        self._jobs[name] = made
        country.moment()
        return "\n".join(["queued", *self._news()])

    def _spec(self, name: str, project: TenantPath, line: Line) -> JobSpec:
        awaited, _, state = line.take("after").partition(":")
        depends_on = (
            (
                Dependency(
                    CODEC.encode(self._jobs[awaited]), JobState[(state or "succeeded").upper()]
                ),
            )
            if awaited
            else ()
        )
        return asked(line, name, project, depends_on)

    def _after(self, line: Line) -> str:
        country = self.country
        until_ms = country.now_ms + duration_ms(line.word("how long"))
        line.done()
        told: list[str] = []
        while (next_ms := country.next_ms()) is not None and next_ms <= until_ms:
            country.run_until(next_ms)
            told += self._news()
        country.run_until(until_ms)
        return "\n".join(told) or "nothing"

    def _news(self) -> list[str]:
        """What became of jobs since it was looked at before."""
        told: list[str] = []
        at = clock(self.country.now_ms - BEGIN_MS)
        for job in self._every_job():
            before = self._seen.get(job.id)
            self._seen[job.id] = job
            state = None if before is None else before.state
            if job.state is not state and (what := _told(job)):
                told.append(f"{at} {job.name} {what}")
        return told

    def _every_job(self) -> list[Job]:
        country = self.country
        with country.store.read() as read:
            rows = read.jobs.page(None, states=frozenset(), before=None, limit=JOBS_MAX)
            jobs = read.jobs.whole(rows, with_spec=False)
        return sorted(jobs, key=lambda job: job.id)

    def _all_jobs(self, line: Line) -> str:
        line.done()
        told: list[str] = []
        for job in self._every_job():
            where = _where(job) if job.state not in (JobState.QUEUED, *TERMINAL) else ""
            told.append(f"{job.name} {job.state.name} {where or self._reason(job)}".rstrip())
        return "\n".join(told)

    def _reason(self, job: Job) -> str:
        queued = self.country.state.queued.get(job.id)
        if job.state is not JobState.QUEUED or queued is None:
            return job.reason.value if job.reason is not None else ""
        denials = self.country.state.classes[queued.job_class].denials
        return denials[0].reason.value if denials else ""

    def _why(self, line: Line) -> str:
        country, job = self.country, self._jobs[line.word("the job")]
        line.done()
        queued = country.state.queued.get(job)
        if queued is None:
            return "it does not wait"
        found = explain(country.state, queued, country.now_ms)
        changes = [
            " and ".join(dict.fromkeys(f"{d.reason.value} {d.subject}".strip() for d in change))
            for change in found.changes
        ]
        return "\n".join([found.summary, *(f"  would start without {each}" for each in changes)])

    # What operators do.

    def _operate(self, act: Callable[[Txn, Country], object]) -> str:
        country = self.country
        with country.store.transaction() as txn:
            act(txn, country)
        country.moment()
        return "\n".join(["ok", *self._news()])

    def _cancel(self, line: Line) -> str:
        job = self._jobs[line.word("the job")]
        line.done()
        return self._operate_on(
            job,
            lambda txn, c, who, name: c.cancel(
                txn, who, name, now=False, now_ms=self.country.now_ms
            ),
        )

    def _scale(self, line: Line) -> str:
        job, to = self._jobs[line.word("the service")], line.number("to")
        line.done()
        return self._operate_on(
            job, lambda txn, c, who, name: c.scale(txn, who, name, to, self.country.now_ms)
        )

    def _operate_on(self, job: JobId, act: Callable[[Txn, Control, Principal, str], object]) -> str:
        """What the owner of a job does with it."""

        def acted(txn: Txn, country: Country) -> object:
            row = txn.jobs.row(job)
            assert row is not None
            whose = Principal(row.owner, Role.TENANT, row.tenant)
            return act(txn, country.control, whose, CODEC.encode(job))

        return self._operate(acted)

    def _cordon(self, line: Line) -> str:
        place = _place(line.word("the site or node"))
        line.done()
        return self._operate(
            lambda txn, c: c.control.cordon(txn, OPERATOR, place, "work", c.now_ms)
        )

    def _uncordon(self, line: Line) -> str:
        place = _place(line.word("the site or node"))
        line.done()
        return self._operate(
            lambda txn, c: c.control.uncordon(txn, OPERATOR, place, "done", c.now_ms)
        )

    def _fence(self, line: Line) -> str:
        node = NodeId(line.word("the node"))
        line.done()
        return self._operate(lambda txn, c: c.control.fence(txn, OPERATOR, node, "off", c.now_ms))

    def _drain(self, line: Line) -> str:
        place, within_ms = _place(line.word("the site or node")), line.time_ms("within", "10m")
        line.done()
        return self._operate(
            lambda txn, c: c.control.drain(txn, OPERATOR, place, "work", within_ms, c.now_ms)
        )

    def _fail(self, line: Line) -> str:
        node, for_ms = (
            self._declared.nodes[NodeId(line.word("the node"))],
            line.time_ms("for", "10m"),
        )
        line.done()
        return self._operate(lambda txn, c: c.fail(txn, node, for_ms))

    def _window(self, line: Line) -> str:
        country, site = self.country, SiteId(line.word("the site"))
        starts_ms = country.now_ms + line.time_ms("from", "0s")
        ends_ms = starts_ms + line.time_ms("for", "1h")
        nodes = tuple(node_id(site, slot) for slot in line.take("nodes").split(",") if slot)
        tenant, kind = TenantPath(line.take("tenant")), WindowKind[line.take("kind")]
        line.done()
        window = Window("", kind, site, nodes, starts_ms, ends_ms, "work", "", tenant)
        asked = WindowAsked(window, 0, GpuClass(""))
        return self._operate(lambda txn, c: c.control.add_window(txn, OPERATOR, asked, c.now_ms))

    def _agree(self, line: Line) -> str:
        country = self.country
        agreement = pact(line, country.now_ms)
        line.done()

        def agree(txn: Txn, c: Country) -> None:
            honours = Change(Policy(instruments=("treaty",)), "a story", override="a story")
            c.control.apply_policy(txn, OPERATOR, honours, dry_run=False, now_ms=c.now_ms)
            agreements.apply(
                txn, OPERATOR, agreement, b"signed",
                reason="agreed", dry_run=False, now_ms=c.now_ms,
            )  # fmt: skip

        return self._operate(agree)

    def _revoke(self, line: Line) -> str:
        name = line.word("the agreement")
        line.done()
        return self._operate(
            lambda txn, c: agreements.revoke(
                txn, OPERATOR, name, reason="it is over", dry_run=False, now_ms=c.now_ms
            )
        )


def _place(text: str) -> SiteId | NodeId:
    return NodeId(text) if "/" in text else SiteId(text)


def _refused(refused: Refused) -> str:
    faults = [f"  {each.reason.value} {each.subject}: {each.detail}" for each in refused.denials]
    return "\n".join([f"refused {refused.reason.value}", *(faults or [f"  {refused}"])])


def _where(job: Job) -> str:
    placement = job.attempts[-1].placement if job.attempts else None
    if placement is None:
        return ""
    shown = [f"{part.node}:{part.gpu_mask.bit_count()}" for part in placement.nodes]
    return " ".join(shown)


def _told(job: Job) -> str:
    """What a new state of a job means, in words."""
    match job.state:
        case JobState.PLACED | JobState.STARTING:
            return f"is placed on {_where(job)}" if job.state is JobState.PLACED else ""
        case JobState.RUNNING:
            return "runs"
        case JobState.PREEMPTING | JobState.CANCELLING:
            return f"is told to stop: {job.message.removeprefix('being stopped: ')}"
        case JobState.QUEUED:
            return f"waits again: {job.reason.value}" if job.attempts and job.reason else ""
        case JobState.SUCCEEDED:
            return "has succeeded"
        case JobState.FAILED | JobState.CANCELLED:
            return f"is over: {job.state.name} {job.reason.value if job.reason else ''}".rstrip()
        case _:
            return f"is {job.state.name}"
