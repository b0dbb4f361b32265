"""A store on disk that holds the reference fleet and a queue, for benches of the control plane."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.worlds import H200, HOUR_MS, NOW_MS, Shape, fleet_changes, queue, shape_from
from scheduler.core.job_ids import JobIdCodec
from scheduler.model.fleet import SiteContact
from scheduler.model.ids import AttemptKey, site_of
from scheduler.model.job import JobSpec, JobState, NodePlacement, Placement, Resources
from scheduler.model.plan import (
    Change,
    JobChanged,
    JobClass,
    NodeChanged,
    Plan,
    PolicyChanged,
    SiteChanged,
    TenantsChanged,
)
from scheduler.store import leaves
from scheduler.store.apply import apply_plan
from scheduler.store.records import JobRow, Kept
from scheduler.store.store import Store, Txn
from tests.store.postgres import Cluster, programs

CODEC = JobIdCodec(b"a key for benches of the store..")
SEED, CLASSES, TENANTS, GANG_PERCENT = 42, 2_000, 50, 2
FILL_BATCH = 10_000
KNOWN_FOR_MS = 30 * 24 * HOUR_MS
"""For so long sites have been as they are: longer than anything has run."""


@contextmanager
def sqlite_database() -> Generator[str]:
    """Where an empty SQLite database is, on disk."""
    root = Path(tempfile.mkdtemp(prefix="sovb-"))
    try:
        yield f"sqlite:///{root}/store.db"
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def postgresql_database() -> Generator[str | None]:
    """Where an empty database of a durable PostgreSQL server is; None where none is installed."""
    found = programs()
    if found is None:
        yield None
        return
    server = Cluster(found, durable=True)
    try:
        yield server.url()
    finally:
        server.close()


def opened(url: str) -> Store:
    """The store at `url`, led by the caller."""
    store = Store(url, salts=_salts(), codec=CODEC)
    store.open()
    return store


def _salts() -> Callable[[], bytes]:
    numbers = itertools.count(1)
    return lambda: next(numbers).to_bytes(16, "big")


def fill(store: Store, data: Path | None, jobs: int) -> None:
    """The whole fleet, reported and connected, and `jobs` queued jobs."""
    fill_shape(store, shape_from(data), jobs)


def fill_shape(store: Store, shape: Shape, jobs: int) -> None:
    """As `fill`, of a fleet of this shape."""
    declare(store, list(fleet_changes(shape, TENANTS)))
    waiting = queue(SEED, jobs, CLASSES, TENANTS, GANG_PERCENT)
    while part := list(itertools.islice(waiting, FILL_BATCH)):
        with store.transaction() as txn:
            _submit(txn, iter(part))


def declare(store: Store, changes: Sequence[Change]) -> None:
    """Everything that a fleet is made of, its sites connected and its nodes reported."""
    with store.transaction() as txn:
        for change in changes:
            match change:
                case PolicyChanged():
                    txn.tenancy.add_policy(change.policy, NOW_MS - KNOWN_FOR_MS)
                case TenantsChanged():
                    txn.tenancy.replace_tenants(change.tenants)
                case SiteChanged(site=site) if site is not None:
                    txn.fleet.put_site(site)
                    txn.certificates.know(site, NOW_MS - KNOWN_FOR_MS)
                    txn.fleet.put_contact(SiteContact(site.id, True, 0, 0), NOW_MS)
                case NodeChanged(node=node) if node is not None:
                    txn.fleet.add_node(node)
                case _:
                    raise AssertionError(f"a fleet is not made of {change}")
    with store.transaction() as txn:
        for change in changes:
            if isinstance(change, NodeChanged) and change.report is not None:
                txn.fleet.put_report(change.report, NOW_MS)


def _submit(txn: Txn, part: Iterator[object]) -> None:
    specs: dict[JobClass, Kept] = {}
    for change in part:
        assert isinstance(change, JobChanged)
        assert change.queued is not None
        job_class = change.queued.job_class
        if job_class not in specs:
            specs[job_class] = txn.jobs.put_spec(_spec(job_class))
        queued_row(txn, job_class, specs[job_class], change.queued.submitted_at_ms)


def queued_row(txn: Txn, job_class: JobClass, spec: Kept, submitted_at_ms: int) -> JobRow:
    """A job that waits, with a specification that is kept."""
    row = JobRow(
        id=txn.jobs.take_id(),
        class_id=txn.jobs.intern(job_class),
        tenant=job_class.tenant,
        owner=f"/tenant/{job_class.tenant}/user/bench",
        name="train",
        state=JobState.QUEUED,
        submitted_at_ms=submitted_at_ms,
        next_attempt=1,
        spec_digest=spec.digest,
        spec_number=spec.number,
    )
    txn.jobs.add(row)
    leaves.submitted(txn.audit, row)
    return row


def _spec(job_class: JobClass) -> JobSpec:
    return JobSpec(
        name="train",
        project=job_class.tenant,
        command=("python", "train.py"),
        resources=job_class.resources,
        topology=job_class.topology,
        residency=job_class.residency,
        priority=job_class.priority,
    )


def running(store: Store, jobs: int) -> None:
    """`jobs` more jobs of one GPU each, placed one beside another from the first node on."""
    with store.read() as view:
        nodes = [(entry.node.id, entry.node.gpus) for entry in view.fleet.nodes()]
    rooms = iter([(node, gpu) for node, gpus in nodes for gpu in range(gpus)])
    job_class = _one_gpu()
    for first in range(0, jobs, FILL_BATCH):
        with store.transaction() as txn:
            spec = txn.jobs.put_spec(_spec(job_class))
            placements: list[Placement] = []
            for _ in range(min(FILL_BATCH, jobs - first)):
                row = queued_row(txn, job_class, spec, NOW_MS)
                node, gpu = next(rooms)
                placed = (NodePlacement(node, 1 << gpu),)
                key = AttemptKey(row.id, 1)
                placements.append(Placement(key, site_of(node), H200, placed, 1_000))
            applied = apply_plan(txn, Plan(0, 1, tuple(placements)), NOW_MS)
            assert not applied.stale, applied.stale[0]


def _one_gpu() -> JobClass:
    first = next(queue(SEED, 1, 1, TENANTS, 0))
    assert isinstance(first, JobChanged)
    assert first.queued is not None
    return replace(first.queued.job_class, resources=Resources(gpus_per_node=1))
