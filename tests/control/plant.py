"""The real control plane, store and planner; a site that keeps what it is told in a dict."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from scheduler.control.admission import Rejected
from scheduler.control.control import Control
from scheduler.control.policies import Change
from scheduler.control.reports import Heard, Hello
from scheduler.core.fleet import FleetState
from scheduler.core.job_ids import JobIdCodec
from scheduler.core.planner import plan
from scheduler.core.tree_rules import DAY_MAX
from scheduler.model.fleet import NodeReport
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import AttemptKey, JobId, SiteId, TenantPath, node_id
from scheduler.model.job import (
    Job,
    JobSpec,
    JobState,
    OnPartition,
    RankCause,
    RankPhase,
    RankStatus,
    Resources,
    Retries,
)
from scheduler.model.plan import Plan
from scheduler.model.reasons import Reason
from scheduler.model.residency import Policy
from scheduler.model.sitelink import (
    AttemptPhase,
    AttemptReport,
    Desired,
    DesiredAction,
    DesiredAttempt,
    SiteReport,
)
from scheduler.store.apply import Applied
from scheduler.store.rebuild import as_told, rebuild
from scheduler.store.rebuild_usage import rebuild_usage
from scheduler.store.store import Store
from tests.shared.granting import Granting
from tests.store.builders import (
    GB_ONLY,
    LONDON,
    NOW_MS,
    RADIOLOGY,
    node,
    report,
    salts,
    site,
    tenants,
)

ADA = Principal("/tenant/trust-a/user/ada", Role.TENANT, TenantPath("trust-a"))
EVE = Principal("/tenant/uni-b/user/eve", Role.TENANT, TenantPath("uni-b"))
OLGA = Principal("/operator/olga", Role.OPERATOR)
SECOND_MS = 1000
HOUR_MS = 3600 * SECOND_MS


def spec(
    name: str = "train",
    project: str = "trust-a/radiology",
    *,
    nodes: int = 1,
    gpus: int = 1,
    hardware: int = 3,
    application: int = 0,
    leased: bool = False,
) -> JobSpec:
    """One GPU of one node in GB, unless said."""
    return JobSpec(
        name=name,
        project=TenantPath(project),
        command=("python", "train.py"),
        residency=GB_ONLY,
        resources=Resources(nodes=nodes, gpus_per_node=gpus),
        retries=Retries(hardware=hardware, application=application),
        on_partition=OnPartition.REQUEUE if leased else OnPartition.KEEP,
    )


@dataclass
class Agent:
    """A site's agent as far as the control plane can tell."""

    site: SiteId
    incarnation: str = "agent-1"
    generation: int = 0
    rows: dict[AttemptKey, DesiredAttempt] = field(default_factory=lambda: {})

    def accept(self, parts: tuple[Desired, ...]) -> None:
        """Takes what it is told, by the rule of the protocol."""
        if not parts:
            return
        told = tuple(row for part in parts for row in part.attempts)
        assert len(parts) == 1 or {part.rows_total for part in parts} == {len(told)}
        desired = replace(parts[0], attempts=told)
        if not desired.from_generation <= self.generation < desired.to_generation:
            return
        if desired.from_generation == 0:
            self.rows.clear()
        self.rows |= {row.key: row for row in desired.attempts}
        self.generation = desired.to_generation
        for key in [k for k, row in self.rows.items() if row.action is DesiredAction.FORGET]:
            del self.rows[key]


class Plant:
    """Everything but sockets and clocks; time stands still until it is moved."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_ms = NOW_MS
        self.codec = JobIdCodec(b"k" * 32)
        self.agents = {LONDON: Agent(LONDON)}
        self.granting = Granting()
        self.open()

    def open(self) -> None:
        """Starts the control plane, or another one in its place."""
        self.store = Store(self.path, salts=salts(), codec=self.codec)
        self.store.open()
        self.control = Control(
            codec=self.codec,
            epoch=self.store.epoch,
            has_bundle=lambda _tenant, _digest: False,
            granter=self.granting.granter,
        )
        with self.store.transaction() as txn:
            self.control.start(txn, self.now_ms)

    def lay_out(self, *sites: SiteId, slots: tuple[str, ...] = ("n01", "n02")) -> None:
        """Declares sites (London if none is named), their nodes, and the tenants."""
        named = sites or (LONDON,)
        fleet = [(site(s), tuple(node(slot, s) for slot in slots)) for s in named]
        with self.store.transaction() as txn:
            self.control.apply_tenants(
                txn, OLGA, tenants(), reason="start", dry_run=False, now_ms=self.now_ms
            )
            self.control.apply_fleet(
                txn, OLGA, fleet, reason="start", dry_run=False, now_ms=self.now_ms
            )
        for name in named:
            self.agents.setdefault(name, Agent(name))

    def connect(self, at: SiteId = LONDON) -> None:
        """The site's agent presents itself and reports its nodes."""
        agent = self.agents[at]
        hello = Hello("1.0", agent.incarnation, self.store.epoch, agent.generation)
        with self.store.transaction() as txn:
            self.control.site_hello(txn, at, hello, self.now_ms)
        with self.store.read() as view:
            own = [entry.node.id for entry in view.fleet.nodes(at)]
        self.report(at=at, nodes=tuple(report(name) for name in own))

    def submit(self, what: JobSpec | None = None, who: Principal = ADA, key: str = "") -> JobId:
        """A job that is let in."""
        with self.store.transaction() as txn:
            made = self.control.submit(txn, who, what or spec(), key, self.now_ms)
        return made.job_or_raise().id

    def try_submit(self, what: JobSpec, who: Principal = ADA) -> Rejected:
        """Work that is refused at the door."""
        with self.store.transaction() as txn:
            made = self.control.submit(txn, who, what, "", self.now_ms)
        assert isinstance(made, Rejected)
        return made

    def plan(self) -> Plan:
        """What the planner would do, from everything in the store."""
        state = FleetState()
        with self.store.read() as view:
            sequence, changes = view.changes.load_all()
            state.apply_all(sequence, changes)
        return plan(state, self.now_ms)

    def cycle(self) -> Applied:
        """Plans and applies."""
        made = self.plan()
        with self.store.transaction() as txn:
            return self.control.apply_plan(txn, made, self.now_ms)

    def push(self, at: SiteId = LONDON) -> Agent:
        """Tells a site what it lacks."""
        agent = self.agents[at]
        with self.store.read() as view:
            agent.accept(self.control.desired(view, at, agent.generation, self.now_ms))
        return agent

    def report(
        self,
        *attempts: AttemptReport,
        at: SiteId = LONDON,
        nodes: tuple[NodeReport, ...] = (),
        generation: int | None = None,
    ) -> Heard:
        """A site says something, with the generation that it has unless another is given."""
        held = self.agents[at].generation if generation is None else generation
        said = SiteReport(self.store.epoch, held, attempts, nodes, full=False)
        with self.store.transaction() as txn:
            return self.control.site_report(txn, at, said, self.now_ms)

    def run(self, what: JobSpec | None = None) -> AttemptKey:
        """A job that was submitted, placed, told to its site, and runs there."""
        job = self.submit(what)
        self.cycle()
        self.push()
        key = AttemptKey(job, 1)
        assert self.agents[LONDON].rows[key].action is DesiredAction.RUN
        self.report(self.running(key))
        assert self.job(job).state is JobState.RUNNING
        return key

    def running(self, key: AttemptKey) -> AttemptReport:
        """Every rank of an attempt runs."""
        return AttemptReport(key, AttemptPhase.RUNNING, self.ranks(key, RankPhase.RUNNING))

    def ended(
        self,
        key: AttemptKey,
        exit_code: int | None = 0,
        cause: RankCause = RankCause.EXIT,
        signal: int = 0,
    ) -> AttemptReport:
        """Every rank of an attempt is over, each in the same way."""
        ranks = tuple(
            replace(rank, exit_code=exit_code, cause=cause, signal=signal)
            for rank in self.ranks(key, RankPhase.OVER)
        )
        return AttemptReport(key, AttemptPhase.ENDED, ranks)

    def ranks(self, key: AttemptKey, phase: RankPhase) -> tuple[RankStatus, ...]:
        """The ranks of an attempt, one a node."""
        with self.store.read() as view:
            placement = view.attempts.placement(key)
        assert placement is not None
        return tuple(
            RankStatus(rank, placed.node, phase) for rank, placed in enumerate(placement.nodes)
        )

    def job(self, job: JobId) -> Job:
        """A job as the tables have it."""
        with self.store.read() as view:
            found = view.jobs.get(job)
        assert found is not None
        return found

    def cancel(self, job: JobId, *, now: bool = False, who: Principal = ADA) -> Job:
        """A tenant cancels."""
        with self.store.transaction() as txn:
            name = self.codec.encode(job)
            return self.control.cancel(txn, who, name, now=now, now_ms=self.now_ms)

    def tick(
        self,
        silence_ms: dict[SiteId, int] | None = None,
        present: Collection[SiteId] | None = None,
    ) -> int:
        """Time passes judgement; every site has a session unless it is said which have."""
        sessions = self.agents.keys() if present is None else present
        with self.store.transaction() as txn:
            return self.control.tick(txn, silence_ms or {}, self.now_ms, present=sessions)

    def apply_policy(self, policy: Policy) -> None:
        """Another policy comes into force."""
        with self.store.transaction() as txn:
            change = Change(policy, reason="law", override="the law has changed")
            self.control.apply_policy(txn, OLGA, change, dry_run=False, now_ms=self.now_ms)

    def action(self, key: AttemptKey, at: SiteId = LONDON) -> DesiredAction | None:
        """What is desired of an attempt."""
        with self.store.read() as view:
            row = view.outbox.get(at, key)
        return None if row is None else row.action

    def settled(self, key: AttemptKey) -> None:
        """The site forgets the attempt and says so; nothing of it is desired any more."""
        assert self.action(key) is DesiredAction.FORGET
        self.push()
        assert key not in self.agents[LONDON].rows
        self.report()
        assert self.action(key) is None

    def check(self) -> None:
        """The log rebuilds the tables, and what is summed in memory is what the rows say."""
        with self.store.read() as view:
            rows = view.jobs.page(None, states=frozenset(), before=None, limit=1000)
            jobs = {job.id: as_told(job) for job in view.jobs.whole(rows, with_spec=False)}
            assert rebuild(view.audit.all(), self.codec) == jobs
            assert rebuild_usage(view.audit.all()) == tuple(view.usage.of_days(0, DAY_MAX))
            derived = view.ledger()
        with self.store.transaction() as txn:
            assert txn.ledger().usage() == derived.usage()
            assert txn.ledger().queues() == derived.queues()


def reasons_of(job: Job) -> list[Reason | None]:
    """How each attempt ended."""
    return [attempt.reason for attempt in job.attempts]


N01 = node_id(LONDON, "n01")
N02 = node_id(LONDON, "n02")
PROJECT = RADIOLOGY
