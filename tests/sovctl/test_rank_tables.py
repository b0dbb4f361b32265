"""What the table of an attempt's ranks shows of tries to reach what the job does not list."""

from __future__ import annotations

from sovapi.v1 import jobs_pb2
from sovctl.cli import tables
from sovctl.results import AttemptInfo, job_info


def attempt(*denied: int | None) -> AttemptInfo:
    """An attempt with a rank for each; None: its network was its node's."""
    ranks = [
        jobs_pb2.RankStatus(
            rank=n, egress=None if tries is None else jobs_pb2.RankEgress(denied=tries)
        )
        for n, tries in enumerate(denied)
    ]
    job = jobs_pb2.Job(attempts=[jobs_pb2.Attempt(number=1, ranks=ranks)])
    return job_info(job).attempts[0]


def test_tries_that_were_denied_have_a_column_where_there_were_any() -> None:
    shown = tables.ranks(attempt(3, 0, None), 0)
    at = [column.header for column in shown.columns].index("DENIED")
    assert [row[at] for row in shown.rows] == ["3", "0", "-"]
    assert {len(row) for row in shown.rows} == {len(shown.columns)}


def test_and_none_where_there_were_none() -> None:
    assert "DENIED" not in [column.header for column in tables.ranks(attempt(0, None), 0).columns]
