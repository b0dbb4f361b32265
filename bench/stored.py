"""A store on disk that holds the reference fleet and a queue, for benches of the control plane."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.worlds import NOW_MS, fleet_changes, queue, shape_from
from scheduler.core.job_ids import JobIdCodec
from scheduler.model.fleet import SiteContact
from scheduler.model.job import JobSpec, JobState
from scheduler.model.plan import (
    JobChanged,
    JobClass,
    NodeChanged,
    PolicyChanged,
    SiteChanged,
    TenantsChanged,
)
from scheduler.store import leaves
from scheduler.store.records import JobRow
from scheduler.store.store import Store, Txn
from tests.store.postgres import Cluster, programs

CODEC = JobIdCodec(b"a key for benches of the store..")
SEED, CLASSES, TENANTS, GANG_PERCENT = 42, 2_000, 50, 2
FILL_BATCH = 10_000


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
    changes = list(fleet_changes(shape_from(data), TENANTS))
    with store.transaction() as txn:
        for change in changes:
            match change:
                case PolicyChanged():
                    txn.tenancy.add_policy(change.policy, NOW_MS)
                case TenantsChanged():
                    txn.tenancy.replace_tenants(change.tenants)
                case SiteChanged(site=site) if site is not None:
                    txn.fleet.put_site(site)
                    txn.fleet.put_contact(SiteContact(site.id, True, 0, 0), NOW_MS)
                case NodeChanged(node=node) if node is not None:
                    txn.fleet.add_node(node)
                case _:
                    raise AssertionError(f"a fleet is not made of {change}")
    with store.transaction() as txn:
        for change in changes:
            if isinstance(change, NodeChanged) and change.report is not None:
                txn.fleet.put_report(change.report, NOW_MS)
    waiting = queue(SEED, jobs, CLASSES, TENANTS, GANG_PERCENT)
    while part := list(itertools.islice(waiting, FILL_BATCH)):
        with store.transaction() as txn:
            _submit(txn, iter(part))


def _submit(txn: Txn, part: Iterator[object]) -> None:
    for change in part:
        assert isinstance(change, JobChanged)
        assert change.queued is not None
        job_class = change.queued.job_class
        row = JobRow(
            id=txn.jobs.take_id(),
            class_id=txn.jobs.intern(job_class),
            tenant=job_class.tenant,
            owner=f"/tenant/{job_class.tenant}/user/bench",
            name="train",
            state=JobState.QUEUED,
            submitted_at_ms=change.queued.submitted_at_ms,
            next_attempt=1,
            spec_digest=txn.jobs.put_spec(_spec(job_class)),
        )
        txn.jobs.add(row)
        leaves.submitted(txn.audit, row)


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
