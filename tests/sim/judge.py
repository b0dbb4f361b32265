"""The end of a run: when it is over, and every checker that looks at the whole of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from scheduler.control.certify import REFUSED
from scheduler.core.tree_rules import DAY_MAX
from scheduler.model.ids import JobId
from scheduler.model.job import TopologyLevel, TopologyMode
from scheduler.store.rebuild import as_told, rebuild
from scheduler.store.rebuild_usage import rebuild_usage
from tests.sim import checks_ends, checks_runs, checks_services, checks_tables
from tests.sim.checks_runs import Disturbed
from tests.sim.clock import WALL_AT_START_MS
from tests.sim.tables import OVER, Tables
from tests.sim.truth import objections
from tests.sim.workload import Ask
from tests.sim.world import World

LOOK_MS = 5_000
GANG_BOUND_MS = 300_000
"""Patience of a start, a grace, and the way there and back."""
PAGE_MAX = 500
CERTIFICATES_MAX = 100_000
"""More than the jobs of any run."""


def settled(world: World) -> Callable[[], bool]:
    """Whether all work is over and nothing of it is left; asked after each event."""
    looked_ms = -LOOK_MS

    def over() -> bool:
        nonlocal looked_ms
        if world.loop.now_ms - looked_ms < LOOK_MS:
            return False
        looked_ms = world.loop.now_ms
        if any(True for _ in left_over(world)):
            return False
        tables = world.watch.tables()
        return not any(True for _ in _unended(world, tables))

    return over


def final(world: World, disturbed: Disturbed) -> None:
    """Every checker that looks at the whole run."""
    watch, ledger, asks = world.watch, world.ledger, world.drawn.asks
    tables = watch.tables()
    public = {number: world.codec.encode(JobId(number)) for number in tables.jobs}
    by_job = {name: watch.asks[number] for number, name in public.items()}
    row_ids = {name: number for number, name in public.items()}
    # Safety, at every instant.
    watch.found("twice", checks_runs.nothing_ran_twice(ledger))
    watch.found("overlap", checks_runs.attempts_never_overlap(ledger))
    watch.found("gpus", checks_runs.gpus_never_shared(ledger))
    watch.found("nodes", checks_runs.nodes_never_oversubscribed(ledger, world.machines))
    watch.found("sharing", checks_runs.neighbours_agree(ledger, by_job))
    outside = checks_runs.nothing_ran_outside(ledger, by_job, world.truth, watch.placed_ms)
    watch.found("outside", outside)
    gangs = checks_runs.gangs_start_whole_or_stop(ledger, disturbed, GANG_BOUND_MS)
    watch.found("gangs", gangs)
    services = {public[row.id] for row, _ in checks_services.services(tables)}
    watch.found("moves", checks_tables.moves_are_legal(watch.moves(), services))
    watch.found("ends", checks_ends.ends_are_true(tables, ledger, public, watch.asks))
    watch.found("clean", checks_ends.clean_work_counts(tables, ledger, public, watch.asks))
    watch.found("services", checks_services.ends_of_replicas_are_right(tables, watch.asks))
    watch.found("canary", checks_ends.canaries_kept(watch.canaries, asks, watch.sites_of))
    watch.found("lost", checks_ends.nothing_is_lost(tables, row_ids, asks))
    watch.found("refused", checks_ends.refusals_are_right(asks))
    watch.found("rebuild", audit_tells_all(world))
    watch.found("certified", all_is_certified(world))
    # Liveness, with faults off.
    watch.found("answer", (f"{a.number} has no answer" for a in asks if not a.settled))
    watch.found("ended", _unended(world, tables))
    watch.found("left", left_over(world))
    watch.found("alive", checks_runs.nothing_runs(ledger))


def _unended(world: World, tables: Tables) -> Iterator[str]:
    waiting = {
        number: why
        for number, job in tables.jobs.items()
        if job.state not in OVER and (why := must_wait(world, world.watch.asks[number]))
    }
    return checks_ends.everything_ended(tables, waiting)


def must_wait(world: World, ask: Ask) -> str:
    """Why a job can run nowhere in an idle fleet, as it is declared now; empty if it can."""
    wall_ms = WALL_AT_START_MS + world.loop.now_ms
    reasons: list[str] = []
    for name in sorted(world.plans):
        plan = world.plans[name]
        why = objections(ask.need, world.declared.site(name), world.declared.law, wall_ms)
        if ask.shape.gpu_class not in ("", plan.gpu_class):
            why.append(f"its GPUs are {plan.gpu_class}")
        if not _fits(world, ask, name):
            why.append("it is too small")
        whole = ask.shape.sharing == "none"
        gpus = max(s.gpus for s in plan.shapes) if whole else ask.shape.gpus
        parts = ask.tenant.split("/")
        for path in ("/".join(parts[: n + 1]) for n in range(len(parts))):
            for gpu_class, limit in world.tree[path].limits.items():
                if gpu_class in ("*", plan.gpu_class) and gpus * ask.shape.nodes > limit:
                    why.append(f"{path} may use {limit} GPUs")
        if not why:
            return ""
        reasons.append(f"{name}: {', '.join(why)}")
    return "; ".join(reasons)


def _fits(world: World, ask: Ask, site: str) -> bool:
    """Whether enough nodes are large enough, and close enough together where that must hold."""
    leaves: Counter[str] = Counter()
    for number, shape in enumerate(world.plans[site].shapes):
        if shape.gpus >= ask.shape.gpus:
            leaves[f"leaf-{1 + number // 2}"] += 1
    topology = ask.spec.topology
    close = topology.within is TopologyLevel.LEAF and topology.mode is TopologyMode.REQUIRED
    room = max(leaves.values(), default=0) if close else sum(leaves.values())
    return room >= ask.shape.nodes


def left_over(world: World) -> Iterator[str]:
    """What should be gone once all work is over: desired rows, spool entries, reservations."""
    outbox = world.watch.tables().outbox
    if outbox:
        yield f"{outbox} rows are still in the outbox"
    for name, site in sorted(world.sites.items()):
        for slot, node in sorted(site.nodes.items()):
            for key in sorted(node.spool.entries):
                yield f"{key} is still in the spool of {name}/{slot}"
        for key in sorted(site.ray.groups):
            yield f"{name} still holds a reservation for {key}"
    for ask in world.drawn.asks:
        if not ask.settled:
            yield f"submission {ask.number} waits for its answer"


def audit_tells_all(world: World) -> Iterator[str]:
    """Jobs, attempts and what was used, rebuilt from the audit log alone, equal the tables."""
    assert world.plane is not None
    with world.plane.store.read() as read:
        told = rebuild(read.audit.all(), world.codec)
        rows = tuple(read.jobs.rows(told).values())
        held = {job.id: as_told(job) for job in read.jobs.whole(rows, with_spec=False)}
        used = tuple(read.usage.of_days(0, DAY_MAX))
        if (settled := rebuild_usage(read.audit.all())) != used:
            yield f"the log tells {settled} of what was used, the tables hold {used}"
    for job in sorted(told.keys() | held.keys() | {JobId(n) for n in world.watch.tables().jobs}):
        if told.get(job) != held.get(job):
            yield f"job {job}: the log tells {told.get(job)}, the tables hold {held.get(job)}"


def all_is_certified(world: World) -> Iterator[str]:
    """Every job that is over has a certificate, in a sequence of its tenant without a gap, of which
    the log holds the digest; none that is not over has one."""
    assert world.plane is not None
    with world.plane.store.read() as read:
        lines = read.certificates.page(None, None, CERTIFICATES_MAX)
        last: dict[str, tuple[int, str]] = {}
        for line in lines:
            seq, digest = last.get(line.tenant, (0, ""))
            if (line.seq, line.prev) != (seq + 1, digest):
                yield f"certificate {line.seq} of {line.tenant} does not follow {seq}"
            last[line.tenant] = (line.seq, line.digest)
            leaf = read.audit.leaf(line.leaf_index)
            if leaf is None or leaf.job != line.job or line.digest not in leaf.body:
                yield f"job {line.job}: the log does not hold its certificate"
        certified = {line.job: line.outcome for line in lines if line.outcome != REFUSED}
    over = {n: job.state for n, job in world.watch.tables().jobs.items() if job.state in OVER}
    if certified != over:
        wrong = sorted(certified.keys() ^ over.keys())
        yield f"certified {len(certified)} of {len(over)} jobs that are over; differ: {wrong[:10]}"


def counts(world: World) -> str:
    """A run in one line."""
    states = Counter(job.state for job in world.watch.tables().jobs.values())
    refused = sum(ask.refused is not None for ask in world.drawn.asks)
    told = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
    return (
        f"{told}, {refused} refused, {len(world.ledger.runs)} ranks ran,"
        f" {world.watch.commits} commits, {world.loop.now_ms // 1000} s"
    )
