"""What the store tells a follower of its changes, and what it tells one that starts."""

from collections.abc import Iterable

import pytest

from scheduler.model.ids import JobId, node_id
from scheduler.model.job import JobState, Resources
from scheduler.model.plan import (
    Change,
    JobChanged,
    NodeChanged,
    QueuedJob,
    QueueLoaded,
    SiteChanged,
)
from scheduler.store import bulk
from scheduler.store.apply import apply_plan
from scheduler.store.changes import ChangesTrimmed
from scheduler.store.store import Store
from tests.store.builders import (
    LONDON,
    NOW_MS,
    RADIOLOGY,
    RIVALS,
    job_class,
    lay_out,
    place,
    plan,
    queue,
    report,
)


def test_changes_are_absolute_and_each_thing_appears_once(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
    with store.read() as view:
        start = view.changes.sequence()
    with store.transaction() as txn:
        placed, waiting = queue(txn), queue(txn, name="waits")
        apply_plan(txn, plan(place(placed.id, "n01")), NOW_MS)
    with store.transaction() as txn:
        txn.fleet.put_report(report(node_id(LONDON, "n02"), gpus=4), NOW_MS + 1)
    with store.read() as view:
        feed = view.changes.since(start, limit=1000)
    jobs = {c.id: c for c in feed.changes if isinstance(c, JobChanged)}
    nodes = [c for c in feed.changes if isinstance(c, NodeChanged)]
    assert len(feed.changes) == 3
    assert (live := jobs[placed.id].live) is not None
    assert live.placement == place(placed.id, "n01")
    assert jobs[waiting.id].queued is not None
    assert nodes[0].report is not None
    assert nodes[0].report.gpus == 4


def test_an_unchanged_report_wakes_nobody(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
    with store.read() as view:
        start = view.changes.sequence()
    with store.transaction() as txn:
        txn.fleet.put_report(report(node_id(LONDON, "n01")), NOW_MS + 5000)
    with store.read() as view:
        assert view.changes.sequence() == start
        entry = view.fleet.node(node_id(LONDON, "n01"))
        assert entry is not None
        assert entry.reported_at_ms == NOW_MS + 5000


def _spread(changes: Iterable[Change]) -> list[Change]:
    """The changes, with one for each job where many were told at once."""
    told: list[Change] = []
    for change in changes:
        if not isinstance(change, QueueLoaded):
            told.append(change)
            continue
        assert list(change.ids) == sorted(set(change.ids))
        for job, at_ms in zip(change.ids, change.submitted_at_ms, strict=True):
            waiting = QueuedJob(JobId(job), change.job_class, at_ms, next_attempt=1)
            told.append(JobChanged(waiting.id, waiting, None))
    return told


def test_loading_all_equals_following_from_the_start(store: Store) -> None:
    other = job_class(RIVALS, Resources(nodes=2))
    with store.transaction() as txn:
        lay_out(txn)
    with store.transaction() as txn:
        rows = [queue(txn, of) for of in (None, other, None, other, None, None)]
        apply_plan(txn, plan(place(rows[1].id, "n01", "n02")), NOW_MS)
        txn.jobs.save(rows[2], rows[2]._replace(next_attempt=3))
        txn.jobs.save(rows[3], rows[3]._replace(not_before_ms=NOW_MS + 1))
        txn.jobs.save(rows[4], rows[4]._replace(held=True))
    with store.read() as view:
        sequence, changes = view.changes.load_all()
        loaded = list(changes)
        followed = view.changes.since(0, limit=1000).changes
        assert sequence == view.changes.sequence()
    held = JobChanged(rows[4].id, None, None, job_class())
    assert held in followed
    spread = _spread(loaded)
    assert len(spread) == len(set(spread))
    assert set(spread) == set(followed) - {held}
    lines = [change for change in loaded if isinstance(change, QueueLoaded)]
    assert [list(line.ids) for line in lines] == [[rows[0].id, rows[5].id]]


def test_a_queue_of_several_pages_is_told_class_by_class(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "PAGE_ROWS", 2)
    other = job_class(RIVALS)
    with store.transaction() as txn:
        lay_out(txn)
        rows = [queue(txn, of) for of in (None, other, None, other, None)]
    with store.read() as view:
        _, changes = view.changes.load_all()
        lines = [change for change in changes if isinstance(change, QueueLoaded)]
    found = [(line.job_class.tenant, *line.ids) for line in lines]
    first, second, third, fourth, fifth = (row.id for row in rows)
    assert found == [
        (RADIOLOGY, first, third, fifth),
        (RIVALS, second, fourth),
    ]


def test_a_job_that_waits_no_more_is_told_with_its_class(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
        over, live = queue(txn), queue(txn)
    with store.read() as view:
        start = view.changes.sequence()
    with store.transaction() as txn:
        txn.jobs.save(over, over._replace(state=JobState.CANCELLED, ended_at_ms=NOW_MS))
        apply_plan(txn, plan(place(live.id, "n01")), NOW_MS)
    with store.read() as view:
        changes = view.changes.since(start, limit=1000).changes
    with store.read() as view:
        again = view.changes.since(start, limit=1000).changes
    assert [c for c in changes if isinstance(c, JobChanged) and c.live is None] == [
        JobChanged(over.id, None, None, job_class())
    ]
    classes = [c.job_class for c in changes if isinstance(c, JobChanged)]
    assert classes == [job_class()] * 2
    same = [c.job_class for c in again if isinstance(c, JobChanged)]
    assert all(one is other for one, other in zip(classes, same, strict=True))


def test_a_follower_too_far_behind_is_told_to_start_anew(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
    with store.read() as view:
        with pytest.raises(ChangesTrimmed):
            view.changes.since(0, limit=1)
        with pytest.raises(ChangesTrimmed):
            view.changes.since(view.changes.sequence() + 1, limit=1000)


def test_a_removed_site_and_node_are_told_as_gone(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
    with store.read() as view:
        start = view.changes.sequence()
    with store.transaction() as txn:
        txn.fleet.remove_node(node_id(LONDON, "n01"))
        txn.fleet.remove_site(LONDON)
    with store.read() as view:
        feed = view.changes.since(start, limit=1000)
    assert NodeChanged(node_id(LONDON, "n01"), None, None) in feed.changes
    gone = [c for c in feed.changes if isinstance(c, SiteChanged)]
    assert [c.site for c in gone] == [None]
