"""Tables of the data catalogue."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Table, Text, text

from scheduler.store.schema import METADATA

DATASETS = Table(
    "datasets",
    METADATA,
    Column("name", Text, primary_key=True, nullable=False),
    Column("body", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""The catalogue: an entry a row. What it was before is in the audit log."""

JOB_INPUTS = Table(
    "job_inputs",
    METADATA,
    Column("job", BigInteger, primary_key=True, autoincrement=False),
    Column("dataset", Text, primary_key=True, nullable=False),
    Column("stale", Boolean, nullable=False),
    Index("ix_job_inputs_dataset", "dataset"),
    Index("ix_job_inputs_stale", "job", sqlite_where=text("stale"), postgresql_where=text("stale")),
    sqlite_with_rowid=False,
)
"""What open jobs read, arrays once for all their tasks. `stale` from a change of the dataset until
the job was judged again. Rows go when their job is over."""

TABLES = (DATASETS, JOB_INPUTS)
