"""Random histories: whatever order things happen in, what must hold does, and followers keep up."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scheduler.control.admission import Accepted
from scheduler.core.fleet import FleetState
from scheduler.core.invariants import check_plan, check_world, derived, world_of
from scheduler.core.planner import plan
from scheduler.core.recovery import LAPSE_AFTER_MS
from scheduler.model.ids import AttemptKey, GpuClass, NodeId, SiteId, TenantPath, node_id
from scheduler.model.job import Dependency, JobArray, JobState, RankCause
from scheduler.model.plan import Plan
from scheduler.model.reasons import Reason, Refused
from scheduler.model.residency import Policy
from scheduler.model.sitelink import AttemptPhase, AttemptReport
from scheduler.model.window import Window, WindowAsked, WindowKind
from tests.control.plant import ADA, EVE, HOUR_MS, OLGA, Plant, spec
from tests.store.builders import LEEDS, LONDON, report

SITES = (LONDON, LEEDS)
SLOTS = ("n01", "n02")
NODES = tuple(node_id(at, slot) for at in SITES for slot in SLOTS)
CHANGES_MAX = 100_000

sites = st.sampled_from(SITES)
nodes = st.sampled_from(NODES)
pick = st.integers(min_value=0, max_value=100)


class Histories(RuleBasedStateMachine):
    """Tenants, sites, operators and the clock act in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.plant = Plant(Path(self.folder.name) / "store.db")
        self.plant.lay_out(*SITES, slots=SLOTS)
        for at in SITES:
            self.plant.connect(at)
        self.follower = FleetState()
        self.plans = 0
        self.stale: Plan | None = None
        self.named: list[str] = []

    def teardown(self) -> None:
        """Closes what was opened."""
        self.plant.store.close()
        self.folder.cleanup()

    def live(self, at: SiteId) -> tuple[AttemptKey, ...]:
        """Attempts that hold something of a site."""
        with self.plant.store.read() as view:
            return tuple(row.key for row in view.attempts.live_at(at))

    def some_live(self, at: SiteId, number: int, act: Callable[[AttemptKey], object]) -> None:
        """Does something to one live attempt of a site, if it has any."""
        keys = self.live(at)
        if keys:
            act(keys[number % len(keys)])

    @rule(
        count=st.integers(1, 3),
        gpus=st.integers(1, 8),
        gang=st.integers(1, 2),
        rival=st.booleans(),
        leased=st.booleans(),
    )
    def submit(self, count: int, gpus: int, gang: int, rival: bool, leased: bool) -> None:
        """Work comes in."""
        project = "uni-b/physics" if rival else "trust-a/radiology"
        who = EVE if rival else None
        for _ in range(count):
            what = spec("job", project, nodes=gang, gpus=gpus, leased=leased)
            self.plant.submit(what, who) if who else self.plant.submit(what)

    @rule(count=st.integers(1, 4), bound=st.integers(0, 2), gpus=st.sampled_from([1, 8]))
    def submit_array(self, count: int, bound: int, gpus: int) -> None:
        """An array comes in."""
        what = replace(spec("sweep", gpus=gpus), array=JobArray(count, bound))
        self.named.append(self.plant.codec.encode(self.plant.submit(what)))

    @rule(number=pick, state=st.sampled_from([JobState.SUCCEEDED, JobState.CANCELLED]))
    @precondition(lambda self: bool(self.named))
    def submit_dependent(self, number: int, state: JobState) -> None:
        """A job comes in that waits for an earlier one, unless that can never be."""
        on = Dependency(self.named[number % len(self.named)], state)
        what = replace(spec("after"), depends_on=(on,))
        with self.plant.store.transaction() as txn:
            made = self.plant.control.submit(txn, ADA, what, "", self.plant.now_ms)
        if isinstance(made, Accepted):
            self.named.append(self.plant.codec.encode(made.job.id))

    @rule(number=pick)
    @precondition(lambda self: bool(self.named))
    def cancel_named(self, number: int) -> None:
        """An array, or what waits for one, is cancelled."""
        name = self.named[number % len(self.named)]
        with self.plant.store.transaction() as txn:
            self.plant.control.cancel(txn, ADA, name, now=False, now_ms=self.plant.now_ms)

    @rule(node=nodes, ahead=st.integers(0, 2), reserved=st.booleans())
    def set_aside(self, node: NodeId, ahead: int, reserved: bool) -> None:
        """A node is set aside for an hour, unless it is already."""
        starts_at_ms = self.plant.now_ms + ahead * HOUR_MS
        window = Window(
            id="",
            kind=WindowKind.RESERVED if reserved else WindowKind.MAINTENANCE,
            site=SiteId(node.partition("/")[0]),
            nodes=(node,),
            starts_at_ms=starts_at_ms,
            ends_at_ms=starts_at_ms + HOUR_MS,
            reason="fans",
            added_by="",
            tenant=TenantPath("uni-b" if reserved else ""),
        )
        asked = WindowAsked(window, 0, GpuClass(""))
        with suppress(Refused), self.plant.store.transaction() as txn:
            self.plant.control.add_window(txn, OLGA, asked, self.plant.now_ms)

    @rule()
    def cycle(self) -> None:
        """Plans and applies; the plan is sound, and all of it is kept."""
        self.follow()
        self.plans += 1
        made = plan(self.follower, self.plant.now_ms, number=self.plans)
        assert check_plan(self.follower, made, self.plant.now_ms) == ()
        with self.plant.store.transaction() as txn:
            applied = self.plant.control.apply_plan(txn, made, self.plant.now_ms)
        assert applied.stale == ()

    @rule()
    def plan_for_later(self) -> None:
        """A plan is made, and applied only when other things have happened."""
        self.stale = self.plant.plan()

    @precondition(lambda self: self.stale is not None)
    @rule()
    def apply_stale(self) -> None:
        """What still holds of an old plan is kept."""
        assert self.stale is not None
        with self.plant.store.transaction() as txn:
            self.plant.control.apply_plan(txn, self.stale, self.plant.now_ms)

    @rule(at=sites)
    def push(self, at: SiteId) -> None:
        """A site is told what it lacks."""
        self.plant.push(at)

    @rule(at=sites, number=pick)
    def start(self, at: SiteId, number: int) -> None:
        """An attempt is seen running."""
        self.some_live(at, number, lambda k: self.plant.report(self.plant.running(k), at=at))

    @rule(
        at=sites,
        number=pick,
        code=st.sampled_from([0, 1]),
        cause=st.sampled_from([RankCause.EXIT, RankCause.STOP, RankCause.TIME_LIMIT]),
    )
    def end(self, at: SiteId, number: int, code: int, cause: RankCause) -> None:
        """An attempt ends, one way or another."""
        self.some_live(
            at, number, lambda k: self.plant.report(self.plant.ended(k, code, cause), at=at)
        )

    @rule(at=sites, number=pick)
    def lose(self, at: SiteId, number: int) -> None:
        """An attempt is lost, and fenced by its site."""
        phase = AttemptPhase.LOST
        self.some_live(
            at,
            number,
            lambda k: self.plant.report(AttemptReport(k, phase, reason=Reason.NODE_LOST), at=at),
        )

    @rule(at=sites, number=pick, now=st.booleans())
    def cancel(self, at: SiteId, number: int, now: bool) -> None:
        """A job is cancelled by whoever owns it."""

        def act(key: AttemptKey) -> None:
            rival = self.plant.job(key.job).tenant.startswith("uni-b")
            if rival:
                self.plant.cancel(key.job, now=now, who=EVE)
            else:
                self.plant.cancel(key.job, now=now)

        self.some_live(at, number, act)

    @rule(node=nodes, boot=st.integers(1, 3), gpus=st.integers(6, 8))
    def node_reports(self, node: NodeId, boot: int, gpus: int) -> None:
        """A node says something, perhaps under another boot."""
        at = SiteId(node.partition("/")[0])
        self.plant.report(nodes=(report(node, f"boot-{boot}", gpus),), at=at)

    @rule(node=nodes)
    def fence(self, node: NodeId) -> None:
        """An operator declares a node dead, and opens it again."""
        with self.plant.store.transaction() as txn:
            self.plant.control.fence(txn, OLGA, node, "gone", self.plant.now_ms)
            self.plant.control.uncordon(txn, OLGA, node, "back", self.plant.now_ms)

    @rule(at=sites, silent=st.booleans(), hours=st.integers(0, 1))
    def time_passes(self, at: SiteId, silent: bool, hours: int) -> None:
        """Leases lapse where nobody was heard."""
        self.plant.now_ms += 10_000 + hours * 3_600_000
        self.plant.tick({at: LAPSE_AFTER_MS + 1} if silent else {})

    @rule(at=sites)
    def drain(self, at: SiteId) -> None:
        """A site is emptied at once, and opened again."""
        with self.plant.store.transaction() as txn:
            self.plant.control.drain(txn, OLGA, at, "fans", 1, self.plant.now_ms)
        self.plant.now_ms += 1
        self.plant.tick()
        with self.plant.store.transaction() as txn:
            self.plant.control.uncordon(txn, OLGA, at, "done", self.plant.now_ms)

    @rule(at=sites)
    def reconnect(self, at: SiteId) -> None:
        """A site's session ends and another begins."""
        agent = self.plant.agents[at]
        with self.plant.store.transaction() as txn:
            self.plant.control.site_gone(txn, at, agent.incarnation, self.plant.now_ms)
        self.plant.connect(at)

    @rule(abroad=st.booleans())
    def policy(self, abroad: bool) -> None:
        """The policy changes."""
        allowed = ("GB", "NO") if abroad else ("GB",)
        self.plant.apply_policy(Policy(allowed_jurisdictions=allowed))

    @rule()
    def another_leader(self) -> None:
        """The control plane is replaced."""
        self.plant.store.close()
        self.plant.open()
        for at in SITES:
            self.plant.connect(at)

    def follow(self) -> None:
        """The follower catches up with what was committed."""
        with self.plant.store.read() as view:
            own = self.follower.alarm.own()
            feed = view.changes.since(self.follower.sequence, CHANGES_MAX, own)
            self.follower.apply_all(feed.sequence, feed.changes)

    @invariant()
    def nothing_is_out_of_step(self) -> None:
        """Log and tables, sums and rows, follower and store agree; no node is oversubscribed."""
        self.plant.check()
        self.follow()
        fresh = FleetState()
        with self.plant.store.read() as view:
            sequence, changes = view.changes.load_all()
            fresh.apply_all(sequence, changes)
        assert derived(self.follower) == derived(fresh)
        assert self.follower.reservations == fresh.reservations
        assert self.follower.windows.by_id == fresh.windows.by_id
        assert plan(self.follower, self.plant.now_ms) == plan(fresh, self.plant.now_ms)
        world = world_of(fresh)
        faults = check_world(world, fresh.live.values())
        assert faults == ()


Histories.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestHistories = Histories.TestCase
