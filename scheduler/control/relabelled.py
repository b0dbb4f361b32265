"""What a change of the catalogue brings for jobs that read what changed.

A job's class has the requirement that planner, writer and feasibility judge it by, so a job that
waits moves to another class when the label of an input changes, or the input is no longer there.
What runs keeps its class until it waits again; it is judged anew where it runs (`continuous.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from scheduler.control.arrays import UNFOLD_MAX
from scheduler.control.requirements import effective
from scheduler.model.ids import SiteId
from scheduler.model.job import TERMINAL, JobState
from scheduler.model.residency import Requirement
from scheduler.store.records import JobRow
from scheduler.store.store import Txn

JUDGED_AGAIN_MAX = 200
"""Jobs with changed inputs that one turn looks at, arrays with all their tasks."""


def judge_again(txn: Txn) -> frozenset[SiteId]:
    """Moves what waits to the class that its inputs' labels ask for now; the sites where work runs
    whose inputs changed."""
    due = txn.tenancy.datasets.to_judge_again(JUDGED_AGAIN_MAX)
    if not due:
        return frozenset()
    rows = txn.jobs.rows(due)
    specs = txn.jobs.specs({row.spec_number for row in rows.values()})
    running: list[JobRow] = []
    for job in due:
        row = rows.get(job)
        spec = specs.get(row.spec_number) if row is not None else None
        if row is None or row.state in TERMINAL:
            txn.tenancy.datasets.over(job)
            continue
        requirement = replace(txn.jobs.job_class(row.class_id).residency, data_sites=())
        if spec is not None:
            requirement = effective(txn, spec)
        for each in _with_tasks(txn, row):
            if each.state is not JobState.QUEUED:
                running.append(each)
            else:
                _reclass(txn, each, requirement)
    txn.tenancy.datasets.judged(due)
    whole = txn.attempts.of_jobs([row.id for row in running])
    return frozenset(attempts[-1].site for attempts in whole.values() if attempts)


def _with_tasks(txn: Txn, row: JobRow) -> Iterator[JobRow]:
    """A job, or an array with its tasks."""
    yield row
    if row.tasks:
        yield from txn.jobs.open_tasks(row.id, UNFOLD_MAX)


def _reclass(txn: Txn, row: JobRow, requirement: Requirement) -> None:
    """Moves `row` to the class that asks for `requirement`, unless it is there."""
    job_class = txn.jobs.job_class(row.class_id)
    if job_class.residency != requirement:
        after = row._replace(class_id=txn.jobs.intern(replace(job_class, residency=requirement)))
        txn.jobs.save(row, after)
