"""A country in virtual time: the real control plane, store and planner, and sites that do as told.

What it replaces is sockets, threads and the work itself: a site starts what it is told to after
START_MS, lets it run for as long as it takes, stops what it is told to stop, and reports each of
these. Everything that happens in one moment is committed in one transaction; then the planner plans
until it has nothing to add, and the sites are told. No chance and no clock is involved.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from scheduler.control.admission import Accepted, Asked, Rejected
from scheduler.control.control import Control
from scheduler.control.declare import Declaration
from scheduler.control.reports import Hello
from scheduler.core.fleet import FleetState
from scheduler.core.job_ids import JobIdCodec
from scheduler.core.planner import plan
from scheduler.model.fleet import Health, Isolation, Node, NodeReport
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import AttemptKey, JobId, NodeId, SiteId, site_of
from scheduler.model.job import JobSpec, Placement, RankCause, RankPhase, RankStatus
from scheduler.model.plan import PlanBudget
from scheduler.model.sitelink import (
    AttemptPhase,
    AttemptReport,
    DesiredAction,
    DesiredAttempt,
    SiteReport,
)
from scheduler.store.store import Store, Txn
from scheduler.wire.written import written
from tests.shared.granting import Granting

BEGIN_MS = 1_800_000_000_000
"""When it begins: a moment in January 2027."""
START_MS = 2_000
"""From being told to run an attempt until all its ranks run."""
STOP_MS = 1_000
"""From being told to stop one until nothing of it runs."""
TICK_MS = 60_000
"""Time passes judgement so often: leases, windows, back-offs."""
PLANS_MAX = 64
"""Plans of one moment, unless said otherwise."""
CHANGES_MAX = 200_000
OPERATOR = Principal("/operator/olga", Role.OPERATOR)
BUDGET = PlanBudget()
CODEC = JobIdCodec(b"a key for countries of no reality")

Act = Callable[[Txn], None]


@dataclass(slots=True)
class Work:
    """What a job has to do, and how far it is. What is not saved is done again."""

    spec: JobSpec
    left_ms: int
    exit_code: int = 0
    saves_every_ms: int = 0
    """A checkpoint so often; 0: none."""

    def takes_ms(self, nodes: int) -> int:
        """How long what is left takes on so many nodes; `left_ms` is on all it may have."""
        return self.left_ms * max(nodes, self.spec.resources.max_nodes) // nodes

    def did(self, ran_ms: int, nodes: int) -> None:
        """So long on so many nodes is done, and saved."""
        self.left_ms -= ran_ms * nodes // max(nodes, self.spec.resources.max_nodes)


@dataclass(slots=True)
class Run:
    """One attempt at its site."""

    placement: Placement
    submitted: JobId
    """The job, or the array of which it is a task."""
    told_ms: int
    started_ms: int = -1
    ended_ms: int = -1
    stopping: bool = False
    lost_ms: int = -1
    """When a node of it failed: nothing is heard of it until it is stopped."""
    rebooted: set[NodeId] = field(default_factory=lambda: set())
    """Its nodes that failed and came back: nothing of it runs there any more."""
    reported: bool = False
    useful_ms: int = 0
    """How much of its time was not done again."""


@dataclass(slots=True)
class Agent:
    """A site as far as the control plane can tell."""

    name: SiteId
    generation: int = 0
    rows: dict[AttemptKey, DesiredAttempt] = field(default_factory=lambda: {})


class Country:
    """Everything of one country. `grain_ms`: moments are multiples of it. `plans_max`: of one
    moment; what another plan would do is left to the next."""

    def __init__(self, url: str, grain_ms: int = 1_000, plans_max: int = PLANS_MAX) -> None:
        numbers = itertools.count(1)
        self.store = Store(url, salts=lambda: next(numbers).to_bytes(16, "big"), codec=CODEC)
        self.store.open()
        self.control = Control(
            codec=CODEC,
            epoch=self.store.epoch,
            has_bundle=lambda _t, _d: False,
            granter=Granting().granter,
        )
        self.now_ms = BEGIN_MS
        self.works: dict[JobId, Work] = {}
        self.runs: dict[AttemptKey, Run] = {}
        self.over: Callable[[Run], None] = lambda run: None
        """Told of each attempt that is over."""
        self.placed: Callable[[Run], None] = lambda run: None
        """Told of each placement that was committed."""
        self.plans = 0
        self.state = FleetState()
        self._arrays: dict[JobId, JobId] = {}
        self._agents: dict[SiteId, Agent] = {}
        self._boots: dict[NodeId, int] = {}
        self._grain_ms, self._plans_max = grain_ms, plans_max
        self._due: list[tuple[int, int, Act]] = []
        self._numbers = itertools.count()
        self._reports: dict[SiteId, list[AttemptReport]] = {}
        # Sites that have something to say of what they were told, if only that they heard it.
        self._heard: set[SiteId] = set()
        self._loaded = False
        with self.store.transaction() as txn:
            self.control.start(txn, self.now_ms)
        self.at(self.now_ms + TICK_MS, self._tick)

    # Time.

    def at(self, at_ms: int, act: Act) -> None:
        """`act` happens at `at_ms`, or at the first moment after it."""
        moment_ms = -(-at_ms // self._grain_ms) * self._grain_ms
        heapq.heappush(self._due, (moment_ms, next(self._numbers), act))

    def next_ms(self) -> int | None:
        """The next moment at which something happens; None: nothing is to come."""
        return self._due[0][0] if self._due else None

    def run_until(self, until_ms: int) -> None:
        """Lets everything happen up to and including `until_ms`."""
        while self._due and self._due[0][0] <= until_ms:
            self.now_ms = self._due[0][0]
            self.moment()
        self.now_ms = until_ms

    def moment(self) -> None:
        """All that is due now, then plans until there is nothing more to do."""
        with self.store.transaction() as txn:
            while self._due and self._due[0][0] <= self.now_ms:
                heapq.heappop(self._due)[2](txn)
            self._hear(txn)
        self._plan()
        self._tell()

    def _tick(self, txn: Txn) -> None:
        self.control.tick(txn, {}, self.now_ms, present=frozenset(self._agents))
        self.at(self.now_ms + TICK_MS, self._tick)

    # What people do.

    def declare(self, declarations: Sequence[Declaration]) -> None:
        """The fleet; every site connects, and every node is ready."""
        with self.store.transaction() as txn:
            self.control.apply_fleet(
                txn, OPERATOR, declarations, reason="declared", dry_run=False, now_ms=self.now_ms
            )
        for site, nodes in declarations:
            if site.id not in self._agents:
                self._agents[site.id] = Agent(site.id)
                hello = Hello("1.0", f"agent-{site.id}", self.store.epoch, 0)
                with self.store.transaction() as txn:
                    self.control.site_hello(txn, site.id, hello, self.now_ms)
            fresh = tuple(node for node in nodes if node.id not in self._boots)
            self._boots |= dict.fromkeys((node.id for node in fresh), 1)
            with self.store.transaction() as txn:
                self._say(txn, site.id, (), tuple(_report(node, 1) for node in fresh))

    def submit(self, txn: Txn, who: Principal, spec: JobSpec, work: Work) -> JobId | Rejected:
        """A job; what it has to do is `work`."""
        made = self.control.submit(txn, who, spec, "", self.now_ms)
        if isinstance(made, Rejected):
            return made
        job = made.job_or_raise().id
        self.works[job] = work
        return job

    def submit_each(
        self, txn: Txn, who: Principal, many: Sequence[tuple[JobSpec, Work]]
    ) -> list[JobId | None]:
        """Many jobs of one caller at once, as they come in production; None: it was refused."""
        asked = [Asked(written(spec), "") for spec, _ in many]
        found: list[JobId | None] = []
        for made, (_, work) in zip(
            self.control.submit_each(txn, who, asked, self.now_ms), many, strict=True
        ):
            found.append(made.id if isinstance(made, Accepted) else None)
            if isinstance(made, Accepted):
                self.works[made.id] = work
        return found

    def fail(self, txn: Txn, node: Node, for_ms: int) -> None:
        """A node goes dark, and comes back booted anew; what ran there is not heard of again."""
        for run in self.runs.values():
            if run.ended_ms < 0 and any(part.node == node.id for part in run.placement.nodes):
                run.lost_ms = run.lost_ms if run.lost_ms >= 0 else self.now_ms
        dark = replace(_report(node, self._boots[node.id]), agent_connected=False)
        self._say(txn, site_of(node.id), (), (dark,))
        self.at(self.now_ms + for_ms, lambda later: self._return(later, node))

    def _return(self, txn: Txn, node: Node) -> None:
        self._boots[node.id] += 1
        for run in self.runs.values():
            if run.lost_ms >= 0 and run.ended_ms < 0:
                nodes = {part.node for part in run.placement.nodes}
                run.rebooted |= nodes & {node.id}
                if run.rebooted == nodes:  # Others may run there from now on.
                    self._close(run, None)
        self._say(txn, site_of(node.id), (), (_report(node, self._boots[node.id]),))

    # The planner.

    def _plan(self) -> None:
        """Plans and commits until a plan changes nothing."""
        for _ in range(self._plans_max):
            self._catch_up()
            self.plans += 1
            made = plan(self.state, self.now_ms, BUDGET, self.plans)
            if not (made.placements or made.preemptions or made.reservations or made.released):
                return
            with self.store.transaction() as txn:
                applied = self.control.apply_plan(txn, made, self.now_ms)
            for placement in applied.kept:
                submitted = self._submitted(placement.key.job)
                run = self.runs[placement.key] = Run(placement, submitted, self.now_ms)
                self.placed(run)
            if not applied.kept and not applied.preempted:
                return
        self._catch_up()

    def _submitted(self, job: JobId) -> JobId:
        """What was submitted: the job, or its array, of which each task has as much to do."""
        if job not in self._arrays and job not in self.works:
            with self.store.read() as read:
                row = read.jobs.row(job)
            assert row is not None
            assert row.array_id is not None, "what is no task was submitted here"
            self._arrays[job] = row.array_id
            self.works[job] = replace(self.works[row.array_id])
        return self._arrays.get(job, job)

    def _catch_up(self) -> None:
        with self.store.read() as read:
            if self._loaded:
                own = self.state.alarm.own()
                feed = read.changes.since(self.state.sequence, CHANGES_MAX, own)
                self.state.apply_all(feed.sequence, feed.changes)
                return
            sequence, changes = read.changes.load_all()
            self.state.apply_all(sequence, changes)
            self._loaded = True

    # The sites.

    def _tell(self) -> None:
        """Every site hears what it lacks, and does it."""
        with self.store.read() as read:
            for agent in self._agents.values():
                for told in self.control.desired(read, agent.name, agent.generation, self.now_ms):
                    agent.generation = max(agent.generation, told.to_generation)
                    for row in told.attempts:
                        self._do(agent, row)

    def _do(self, agent: Agent, row: DesiredAttempt) -> None:
        known = agent.rows.get(row.key)
        if row.action is DesiredAction.FORGET:
            agent.rows.pop(row.key, None)
            self.runs.pop(row.key, None)
            if not self._heard:
                self.at(self.now_ms + self._grain_ms, lambda txn: None)
            self._heard.add(agent.name)
            return
        agent.rows[row.key] = row
        run = self.runs[row.key]
        if row.action is DesiredAction.RUN and known is None:
            self.at(self.now_ms + START_MS, lambda txn: self._start(agent, run))
        elif row.action is DesiredAction.STOP and not run.stopping:
            run.stopping = True
            self.at(self.now_ms + STOP_MS, lambda txn: self._end(agent, run, None))

    def _start(self, agent: Agent, run: Run) -> None:
        if run.stopping or run.lost_ms >= 0:
            return
        run.started_ms = self.now_ms
        work = self.works[run.placement.key.job]
        limit_ms, left_ms = work.spec.time_limit_ms, work.takes_ms(len(run.placement.nodes))
        self._report(agent, AttemptReport(
            run.placement.key, AttemptPhase.RUNNING, _ranks(run, RankPhase.RUNNING)
        ))  # fmt: skip
        cause = RankCause.EXIT if left_ms <= limit_ms else RankCause.TIME_LIMIT
        ends_ms = self.now_ms + min(left_ms, limit_ms)
        self.at(ends_ms, lambda txn: self._end(agent, run, cause))

    def _end(self, agent: Agent, run: Run, cause: RankCause | None) -> None:
        """An attempt is over: by itself (`cause`), or as it was told to stop."""
        if run.reported or (cause is not None and (run.lost_ms >= 0 or run.stopping)):
            return
        run.reported = True
        if run.ended_ms < 0:
            self._close(run, cause)
        ranks = _ranks(run, RankPhase.OVER)
        exit_code = self.works[run.placement.key.job].exit_code
        code = exit_code if cause is RankCause.EXIT else None
        why = cause or (RankCause.NEVER_STARTED if run.started_ms < 0 else RankCause.STOP)
        signal = 15 if why in (RankCause.STOP, RankCause.TIME_LIMIT) else 0
        over = tuple(replace(r, exit_code=code, cause=why, signal=signal) for r in ranks)
        self._report(agent, AttemptReport(run.placement.key, AttemptPhase.ENDED, over))

    def _close(self, run: Run, cause: RankCause | None) -> None:
        """Nothing of an attempt runs any more; what it has not saved is to be done again."""
        run.ended_ms = self.now_ms
        work = self.works[run.placement.key.job]
        until_ms = run.lost_ms if run.lost_ms >= 0 else run.ended_ms
        ran_ms = max(0, until_ms - run.started_ms) if run.started_ms >= 0 else 0
        if cause is RankCause.EXIT:
            run.useful_ms = ran_ms
        elif work.saves_every_ms:
            run.useful_ms = ran_ms // work.saves_every_ms * work.saves_every_ms
            work.did(run.useful_ms, len(run.placement.nodes))
        self.over(run)

    def _report(self, agent: Agent, report: AttemptReport) -> None:
        self._reports.setdefault(agent.name, []).append(report)

    def _hear(self, txn: Txn) -> None:
        """What sites have to say of this moment."""
        reports, self._reports = self._reports, {}
        heard, self._heard = self._heard, set[SiteId]()
        for site in sorted({*reports, *heard}):
            self._say(txn, site, tuple(reports.get(site, ())))

    def _say(
        self,
        txn: Txn,
        site: SiteId,
        attempts: tuple[AttemptReport, ...],
        nodes: tuple[NodeReport, ...] = (),
    ) -> None:
        held = self._agents[site].generation
        said = SiteReport(self.store.epoch, held, attempts, nodes, full=False)
        self.control.site_report(txn, site, said, self.now_ms)


def _ranks(run: Run, phase: RankPhase) -> tuple[RankStatus, ...]:
    """The ranks of an attempt, one a node."""
    return tuple(
        RankStatus(rank, part.node, phase) for rank, part in enumerate(run.placement.nodes)
    )


def _report(node: Node, boot: int) -> NodeReport:
    """A healthy node's word."""
    return NodeReport(
        node=node.id,
        boot_id=f"boot-{boot}",
        gpus=node.gpus,
        health=Health.OK,
        health_detail="",
        isolation=Isolation.UID,
        telemetry="simulated",
        runtime_alive=True,
        agent_connected=True,
        mig=node.mig,
    )
