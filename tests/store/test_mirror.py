"""What the writer remembers of who is where is what the tables say, whatever was undone."""

from contextlib import suppress
from dataclasses import replace
from random import Random  # noqa: TID251 (drawn from a stated seed)

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.occupancy import NodeRecord
from scheduler.model.ids import AttemptKey, GpuClass, JobId, NodeId, SiteId, TenantPath, node_id
from scheduler.model.job import JobState, NodePlacement, Placement
from scheduler.model.residency import FactKey
from scheduler.store import mirror
from scheduler.store.apply import apply_plan
from scheduler.store.codec import canonical
from scheduler.store.leaves import Grounds, PlacedLeaf, arrived_text
from scheduler.store.records import Arrival
from scheduler.store.store import Store, Txn
from tests.store.builders import (
    H100,
    LONDON,
    NOW_MS,
    lay_out,
    node,
    place,
    plan,
    queue,
    report,
    site,
)

SLOTS = ("n01", "n02", "n03")
TURNS = 60


class Undone(Exception):
    """What was done inside is undone."""


def remembered(txn: Txn) -> dict[NodeId, NodeRecord]:
    """What the writer remembers."""
    return dict(txn.mirror._memo.known.records)  # pyright: ignore[reportPrivateUsage]


def told(record: NodeRecord) -> tuple[object, ...]:
    """All of a record that placements are held against."""
    return (
        record.node,
        record.report,
        sorted((o.job, o.gpu_mask, o.organisation) for o in record.occupants.values()),
        record.left.key(),
        sorted(record.views),
    )


def check(txn: Txn) -> None:
    """Holds what is remembered against a fresh reading of the tables."""
    known = {node: told(record) for node, record in remembered(txn).items()}
    txn.mirror._memo.known.records.clear()  # pyright: ignore[reportPrivateUsage]
    fresh = txn.mirror.records(known)
    assert known == {node: told(fresh[node]) for node in known}
    drawn: dict[GpuClass, int] = {}
    for use in txn.attempts.live_by_site():
        drawn[use.gpu_class] = drawn.get(use.gpu_class, 0) + use.gpu_milli
    held = txn.ledger().draws.at(LONDON)
    assert {name: milli for name, milli in held.items() if milli} == drawn


def place_something(txn: Txn, draw: Random) -> None:
    """A job on one GPU of some node, if it is free."""
    job = queue(txn).id
    apply_plan(txn, plan(place(job, draw.choice(SLOTS), mask=1 << draw.randrange(8))), NOW_MS)


def end_something(txn: Txn, draw: Random) -> None:
    """An attempt that is live is over."""
    live = txn.attempts.live_at(LONDON)
    if live:
        row = draw.choice(live)
        job = txn.jobs.row(row.key.job)
        assert job is not None
        over = row._replace(state=JobState.SUCCEEDED, live=False, ended_at_ms=NOW_MS)
        txn.attempts.save(job.tenant, row, over)
        txn.jobs.save(job, job._replace(state=JobState.SUCCEEDED))


def change_node(txn: Txn, draw: Random) -> None:
    """A node reports other GPUs, or is closed."""
    slot = draw.choice(SLOTS)
    txn.fleet.put_report(report(node_id(LONDON, slot), gpus=draw.choice((4, 8))), NOW_MS)
    txn.fleet.cordon_node(node_id(LONDON, slot), draw.random() < 0.3, "fan")


def perhaps_undo(draw: Random) -> None:
    """Has what was done undone, at times."""
    if draw.random() < 0.3:
        raise Undone


@pytest.mark.parametrize("seed", range(3))
def test_the_mirror_is_what_the_tables_say(store: Store, seed: int) -> None:
    draw = Random(seed)
    with store.transaction() as txn:
        lay_out(txn, slots=SLOTS)
    for _ in range(TURNS):
        with store.transaction() as txn:
            act = draw.choice((place_something, place_something, end_something, change_node))
            try:
                with txn.savepoint():
                    act(txn, draw)
                    perhaps_undo(draw)
            except Undone:
                pass
            check(txn)
            place_something(txn, draw)


def test_a_leader_learns_its_fleet_part_by_part(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "LEARNED_MAX", 2)
    with store.transaction() as txn:
        lay_out(txn, slots=SLOTS)
        place_something(txn, Random(1))
    for learned, known in ((2, 2), (1, 3), (0, 3)):
        with store.transaction() as txn:
            if learned == 2:
                txn.mirror._memo.known.records.clear()  # pyright: ignore[reportPrivateUsage]
            assert txn.mirror.learn() == learned
            assert len(remembered(txn)) == known
            check(txn)


def test_a_cap_is_that_of_the_newest_declaration(store: Store) -> None:
    """A site's cap is remembered between plans, and only until something is declared anew."""
    capped = replace(site(), power_cap_w=20_000)
    with store.transaction() as txn:
        lay_out(txn, slots=SLOTS)
        txn.fleet.put_site(capped)
    with store.transaction() as txn:
        first = txn.mirror.cap(capped)
        assert first is not None
        assert first == txn.mirror.cap(capped)
    with store.transaction() as txn:
        with suppress(Undone), txn.savepoint():
            txn.fleet.put_site(replace(capped, power_cap_w=30_000))
            changed = txn.mirror.cap(replace(capped, power_cap_w=30_000))
            assert changed is not None
            assert changed.cap_w == 30_000
            raise Undone
        assert txn.mirror.cap(capped) == first
    with store.transaction() as txn:
        txn.fleet.put_node(node("n09"))
    with store.transaction() as txn:
        wider = txn.mirror.cap(capped)
        assert wider is not None
        assert wider.base_w > first.base_w


NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)


@given(tenant=NAMES, owner=NAMES, digest=NAMES, at_ms=st.integers(0, 1 << 50))
@settings(max_examples=60)
def test_the_text_of_a_submission_is_canonical(
    tenant: str, owner: str, digest: str, at_ms: int
) -> None:
    job = Arrival(JobId(7), 1, TenantPath(tenant), "train", False, digest, b"")
    assert arrived_text(job, "job-aaaaaaaaaaaaa", owner, at_ms) == canonical(
        {
            "kind": "job_submitted",
            "at_ms": at_ms,
            "tenant": tenant,
            "job": "job-aaaaaaaaaaaaa",
            "owner": owner,
            "spec_digest": digest,
        }
    )


@given(
    tenant=NAMES,
    site=NAMES,
    country=NAMES,
    nodes=st.lists(st.tuples(NAMES, st.integers(0, (1 << 64) - 1)), max_size=3),
    relied_on=st.lists(st.sampled_from(FactKey), max_size=3),
    number=st.integers(0, 1 << 40),
)
@settings(max_examples=60)
def test_the_text_of_a_placement_is_canonical(
    tenant: str,
    site: str,
    country: str,
    nodes: list[tuple[str, int]],
    relied_on: list[FactKey],
    number: int,
) -> None:
    grounds = Grounds(
        SiteId(site), country, GpuClass(H100), "sha256:d", tuple(relied_on), number, number
    )
    placed = tuple(NodePlacement(NodeId(node), mask) for node, mask in nodes)
    key = AttemptKey(JobId(7), 3)
    placement = Placement(key, SiteId(site), GpuClass(H100), placed, number)
    text = PlacedLeaf(grounds).text(placement, TenantPath(tenant), "job-aaaaaaaaaaaaa")
    assert text == canonical(
        {
            "kind": "attempt_placed",
            "at_ms": number,
            "tenant": tenant,
            "job": "job-aaaaaaaaaaaaa",
            "attempt": key.attempt,
            "site": site,
            "country": country,
            "gpu_class": H100,
            "gpu_milli": number,
            "nodes": [{"node": n.node, "gpus": list(n.gpu_indices())} for n in placed],
            "policy_revision": number,
            "relied_on": [fact.value for fact in relied_on],
            "facts_digest": "sha256:d",
        }
    )
