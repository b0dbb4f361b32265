"""One random history: work comes and ends, nodes fail, rules change and time passes, and every plan
that the kept state makes is the one that a state built from the facts alone would make.

What is committed is not always what was planned: a plan may come to nothing, or in part.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import replace

from scheduler.core.fleet import FleetState
from scheduler.core.invariants import check_plan, derived
from scheduler.core.lengths import Run, learned
from scheduler.core.planner import plan
from scheduler.core.ranks import gpus_of, with_service
from scheduler.model.fleet import Health
from scheduler.model.ids import JobId, SiteId, TenantPath
from scheduler.model.job import (
    DEFAULT_TIME_LIMIT_MS,
    JobState,
    Placement,
    Priority,
    TopologyLevel,
    TopologyMode,
)
from scheduler.model.plan import (
    BudgetChanged,
    Change,
    JobChanged,
    JobClass,
    LengthsChanged,
    LiveAttempt,
    MixChanged,
    MixEntry,
    NodeChanged,
    Plan,
    PlanBorneOut,
    PlanKept,
    PolicyChanged,
    QueuedJob,
    ReservationChanged,
    SiteChanged,
    TenantsChanged,
    Underway,
    WindowChanged,
)
from scheduler.model.residency import NodeSharing, Requirement
from scheduler.model.tenancy import Budget, BudgetPeriod, QueueOrder, Tenant
from scheduler.model.topology import Apart
from scheduler.model.window import Window, WindowKind
from tests.core.builders import (
    A100,
    H100,
    HOUR_MS,
    NOW_MS,
    POLICY,
    in_order,
    job_class,
    node,
    queued,
    rebuilt,
    report,
    site,
    tenant,
)

STEPS = 16
CLASSES = 10
CROWD = 12
"""Jobs at the beginning."""
MINUTE_MS = 60_000
SITES = ("leeds", "london", "narvik")
PROJECTS = ("trust-a/pathology", "trust-a/radiology", "trust-b/genomics")
COUNTED = ("placements", "preemptions", "reservations", "released")


class Difference(AssertionError):
    """Two plans where there is one, or a plan that breaks a rule."""


def walked(seed: int) -> tuple[Counter[str], bytes]:
    """Walks the history of `seed`; how often plans said what, and a digest of every plan. Raises
    `Difference`."""
    history = _History(random.Random(seed))
    for step in range(STEPS):
        try:
            history.step()
        except Difference as difference:
            raise Difference(f"seed {seed}, step {step}: {difference}") from difference
    history.compare()
    return history.seen, history.digest.digest()


class _History:
    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._fleet = FleetState()
        self._now_ms = NOW_MS
        self._jobs = 0
        self._plans = 0
        self._ends_ms: dict[JobId, int] = {}
        self._classes = [_drawn_class(draw) for _ in range(CLASSES)]
        self.seen = Counter[str]()
        self.digest = hashlib.sha256()
        self._apply(PolicyChanged(POLICY))
        self._apply(TenantsChanged(_drawn_tree(draw)))
        for name in SITES:
            made = site(name, "NO" if name == "narvik" else "GB")
            self._apply(SiteChanged(made.id, made, connected=True))
            for slot in range(draw.randint(2, 6)):
                of = node(
                    name,
                    f"n{slot}",
                    gpus=draw.choice((4, 8)),
                    gpu_class=draw.choice((H100, H100, A100)),
                    leaf=f"l{slot // 2}",
                )
                self._apply(NodeChanged(of.id, of, report(of)))
        for _ in range(CROWD):
            self._submit()

    def step(self) -> None:
        """Something happens, time passes, and the fleet is planned."""
        draw = self._draw
        for _ in range(draw.randint(0, 4)):
            self._submit()
        for _ in range(draw.randint(0, 2)):
            draw.choice((self._end, self._end, self._change_node, self._declare))()
        self._now_ms += draw.choice((0, 1000, MINUTE_MS, 20 * MINUTE_MS, 2 * HOUR_MS))
        self._leave()
        made = self._plan()
        if draw.randrange(3) or not self._plan_ahead(made):
            self._commit(made)

    def compare(self) -> None:
        """What follows from the facts is what was kept of them, before and after a plan."""
        wanted = derived(rebuilt(self._fleet))
        if derived(self._fleet) != wanted:
            raise Difference("the states differ")
        plan(self._fleet, self._now_ms)
        if derived(self._fleet) != wanted:
            raise Difference("the plan left its traces in the state")

    def _plan(self) -> Plan:
        fleet, now_ms = self._fleet, self._now_ms
        self._plans += 1
        made = plan(fleet, now_ms, number=self._plans)
        anew = rebuilt(fleet)
        if broken := check_plan(anew, made, now_ms):
            raise Difference(f"the plan breaks a rule: {broken[0]}")
        scratch = plan(anew, now_ms)
        if made != scratch:
            parts = [of for of in COUNTED if getattr(made, of) != getattr(scratch, of)]
            told = [f"{of}: {getattr(made, of)} != {getattr(scratch, of)}" for of in parts]
            raise Difference("; ".join(told))
        self.seen.update({of: len(getattr(made, of)) for of in COUNTED})
        self.seen["plans"] += 1
        self.digest.update(repr(made).encode())
        return made

    def _commit(self, made: Plan) -> None:
        """Makes a plan so; now and then in part, or not at all."""
        draw = self._draw
        fate = draw.randrange(10)
        if not fate:
            return
        # At times somebody else was there first.
        placed = [each for each in made.placements if fate > 1 or draw.randrange(2)]
        queued = [self._fleet.queued[placement.key.job] for placement in placed]
        if draw.randrange(4) == 0:
            self._fleet.settle()  # Somebody looks at the state before that is heard.
        if draw.randrange(2):
            self._apply(PlanKept(tuple(of.id for of in queued), self._now_ms))
        else:
            for placement, of in zip(placed, queued, strict=True):
                self._apply(JobChanged(of.id, None, self._started(placement, of)))
        for of in queued:
            limit_ms = of.job_class.time_limit_bucket_ms
            self._ends_ms[of.id] = self._now_ms + draw.choice((limit_ms, limit_ms // 3))
        for asked in made.preemptions:
            live = self._fleet.live[asked.victim.job]
            leaving = replace(live, state=JobState.PREEMPTING)
            self._apply(JobChanged(asked.victim.job, None, leaving))
            self._ends_ms[asked.victim.job] = self._now_ms + live.job_class.grace_ms
        for job in made.released:
            self._apply(ReservationChanged(job, None))
        for kept in made.reservations:
            self._apply(ReservationChanged(kept.job, kept))
        if made.mix is not None:
            self._apply(made.mix)

    def _plan_ahead(self, made: Plan) -> bool:
        """The next plan is made while `made` is committed, now and then in part; whether it could
        be. Then it is committed itself."""
        draw, alarm = self._draw, self._fleet.alarm
        queued = [self._fleet.queued[placement.key.job] for placement in made.placements]
        if not made.only_places() or not alarm.presume(Underway(made.number, self._now_ms)):
            return False
        for of in queued:
            self._ends_ms[of.id] = self._now_ms + of.job_class.time_limit_bucket_ms
        following = self._plan()
        self.seen["ahead"] += 1
        dropped = [of for of in queued if not draw.randrange(6)]
        kept = {of.id for of in queued}.difference(of.id for of in dropped)
        self._apply(PlanBorneOut(made.number, tuple(sorted(kept))))
        for of in dropped:
            self._apply(JobChanged(of.id, of, None))
        self._commit(following)
        return True

    def _started(self, placement: Placement, of: QueuedJob) -> LiveAttempt:
        """A job that runs where it was placed."""
        return LiveAttempt(
            placement,
            of.job_class.tenant,
            of.job_class,
            JobState.RUNNING,
            self._now_ms,
            started_at_ms=self._now_ms,
            submitted_at_ms=of.submitted_at_ms,
        )

    def _submit(self) -> None:
        self._jobs += 1
        waited_ms = self._draw.choice((0, MINUTE_MS, HOUR_MS, 100 * HOUR_MS))
        of = self._draw.choice(self._classes)
        self._apply(queued(self._jobs, of, at_ms=self._now_ms - waited_ms))

    def _leave(self) -> None:
        """Who has run to its end, or had its grace."""
        for job in sorted(self._fleet.live):
            live = self._fleet.live[job]
            if self._ends_ms[job] > self._now_ms:
                continue
            if live.state is JobState.PREEMPTING:
                self._requeue(live, not_before_ms=0)
            else:
                self._apply(JobChanged(job, None, None))

    def _requeue(self, live: LiveAttempt, not_before_ms: int) -> None:
        job, attempt = live.placement.key
        submitted_ms = live.submitted_at_ms or live.placed_at_ms
        order = self._fleet.evictable.order_of(live.tenant)
        had_gpu_ms = live.job_class.had_gpu_ms + gpus_of(live.job_class) * (
            self._now_ms - live.placed_at_ms
        )
        self._apply(
            queued(
                int(job),
                with_service(live.job_class, had_gpu_ms, order),
                at_ms=submitted_ms,
                attempt=attempt + 1,
                not_before_ms=not_before_ms,
            )
        )

    def _end(self) -> None:
        """A job ends, fails and is to come back later, or is cancelled while it waits."""
        draw, live = self._draw, sorted(self._fleet.live)
        if not live or not draw.randrange(4):
            waiting = sorted(job.id for job in in_order(self._fleet))
            if waiting:
                self._apply(JobChanged(draw.choice(waiting), None, None))
            return
        job = draw.choice(live)
        if draw.randrange(3):
            self._apply(JobChanged(job, None, None))
        else:
            self._requeue(self._fleet.live[job], self._now_ms + draw.choice((1000, HOUR_MS)))

    def _change_node(self) -> None:
        draw = self._draw
        record = self._fleet.nodes[draw.choice(sorted(self._fleet.nodes))]
        health = draw.choice((Health.OK, Health.OK, Health.FAILED))
        of = replace(record.node, cordoned=not draw.randrange(5))
        self._apply(NodeChanged(of.id, of, report(of, health=health)))

    def _declare(self) -> None:
        """The tree, a window, what is usually asked for, or a site changes."""
        draw = self._draw
        match draw.randrange(6):
            case 5:
                self._apply(_drawn_lengths(draw))
            case 0:
                settled = self._fleet.book.settlements()
                self._apply(TenantsChanged(_drawn_tree(draw)))
                for use in settled if self._fleet.tree.has_budgets else ():
                    self._apply(BudgetChanged(use))
            case 1 | 2:
                name = f"window-{draw.randrange(2)}"
                known = name in self._fleet.windows.by_id
                self._apply(WindowChanged(name, None if known else self._drawn_window(name)))
            case 3:
                self._apply(MixChanged(_drawn_mix(draw), self._now_ms))
            case _:
                name = SiteId(draw.choice(SITES))
                old, _ = self._fleet.sites[name]
                cordoned = not draw.randrange(3)
                made = replace(old, cordoned=cordoned)
                self._apply(SiteChanged(name, made, connected=bool(draw.randrange(5))))

    def _drawn_window(self, name: str) -> Window:
        draw = self._draw
        at = SiteId(draw.choice(SITES))
        here = sorted(each for each in self._fleet.nodes if each.startswith(f"{at}/"))
        starts_ms = self._now_ms + draw.choice((-MINUTE_MS, 10 * MINUTE_MS, HOUR_MS))
        kind = draw.choice((WindowKind.MAINTENANCE, WindowKind.RESERVED))
        return Window(
            name,
            kind,
            at,
            tuple(draw.choice((here[:1], here[:2], []))),
            starts_ms,
            starts_ms + draw.choice((30 * MINUTE_MS, 3 * HOUR_MS)),
            "",
            "",
            TenantPath("trust-a" if kind is WindowKind.RESERVED else ""),
        )

    def _apply(self, change: Change) -> None:
        self._fleet.apply_all(self._fleet.sequence + 1, [change])


def _drawn_class(draw: random.Random) -> JobClass:
    gpus = draw.choice((0, 1, 1, 2, 4, 8))
    made = job_class(
        draw.choice(PROJECTS),
        gpus=gpus,
        share_milli=draw.choice((1000, 1000, 250, 600)) if gpus == 1 else 1000,
        nodes=(nodes := draw.choice((1, 1, 1, 2, 3))),
        nodes_max=draw.choice((0, 0, nodes + 1)),
        classes=draw.choice(((), (), (H100,), (A100, H100))),
        sharing=draw.choice((NodeSharing.TENANT, NodeSharing.TENANT, *list(NodeSharing)[1:])),
        within=draw.choice((TopologyLevel.SITE, TopologyLevel.LEAF)),
        mode=draw.choice((TopologyMode.REQUIRED, TopologyMode.PREFERRED)),
        residency=Requirement(draw.choice((("GB",), ("GB", "NO")))),
        priority=draw.choice((Priority.SPOT, Priority.NORMAL, Priority.NORMAL, Priority.HIGH)),
        limit_ms=draw.choice((HOUR_MS // 2, HOUR_MS, 5 * HOUR_MS, DEFAULT_TIME_LIMIT_MS)),
        cpu_milli=draw.choice((0, 0, 1000, 12_000)),
    )
    grace_ms = draw.choice((0, MINUTE_MS, HOUR_MS))
    made = replace(made, preemptible=bool(draw.randrange(3)), grace_ms=grace_ms)
    return made if draw.randrange(3) else _spread(draw, made)


def _spread(draw: random.Random, of: JobClass) -> JobClass:
    """The class of a service's replicas, which are to be apart."""
    apart = Apart(
        JobId(draw.randrange(1 << 30)),
        draw.choice((TopologyLevel.NODE, TopologyLevel.LEAF, TopologyLevel.SITE)),
        required=bool(draw.randrange(2)),
    )
    return replace(of, resources=replace(of.resources, max_nodes=0), apart=apart)


def _drawn_tree(draw: random.Random) -> tuple[Tenant, ...]:
    made: list[Tenant] = []
    for path in ("trust-a", *PROJECTS[:2], "trust-b", PROJECTS[2]):
        plain = tenant(
            path,
            weight=draw.randint(1, 3),
            guarantee=draw.choice((0, 0, 4)),
            limit=draw.choice((None, None, 8, 24)),
            gpu_class=draw.choice(("*", "H100")),
            order=draw.choice((QueueOrder.AGE, QueueOrder.AGE, QueueOrder.SHORTEST)),
        )
        quotas = tuple(
            replace(
                quota,
                borrow_limit_milli=draw.choice((None, None, 4000)),
                lend_limit_milli=draw.choice((None, None, 0)),
            )
            for quota in plain.quotas
        )
        amount = draw.choice((4, 40, 400)) * HOUR_MS
        budget = Budget(H100, amount, BudgetPeriod.MONTH)
        made.append(replace(plain, quotas=quotas, budgets=() if draw.randrange(5) else (budget,)))
    return tuple(made)


def _drawn_mix(draw: random.Random) -> tuple[MixEntry, ...]:
    entries = (MixEntry(0, 0, gpus, 1000, (), draw.randint(1, 9)) for gpus in (1, 2, 4, 8))
    return tuple(entry for entry in entries if draw.randrange(3))


def _drawn_lengths(draw: random.Random) -> LengthsChanged:
    """What a project's jobs tell: most of them run for minutes, hours or days."""
    usual_ms = draw.choice((5 * MINUTE_MS, 2 * HOUR_MS, 48 * HOUR_MS))
    runs = (
        Run(draw.choice((1, 2, 8)), draw.randrange(2 * usual_ms), bool(draw.randrange(4)))
        for _ in range(draw.choice((2, 40)))
    )
    return LengthsChanged(TenantPath(draw.choice(PROJECTS)), learned(runs), NOW_MS)
