"""Rows and columns of what-if."""

from __future__ import annotations

from collections.abc import Sequence

from sovapi.v1 import fleet_pb2, tenants_pb2
from sovctl.cli.documents import message_document
from sovctl.cli.output import Column, Listing
from sovctl.spec_values import format_milli

NUMBER = "right"


def starts(outcome: tenants_pb2.WhatIfOutcome, now: tenants_pb2.WhatIfOutcome) -> Listing:
    """What would start, and whether it starts as things are too."""
    before = {start.job_id for start in now.starts}
    return _jobs(
        outcome.starts,
        ["as now" if start.job_id in before else "new" for start in outcome.starts],
        "nothing would start",
    )


def ends(outcome: tenants_pb2.WhatIfOutcome) -> Listing:
    """What would be ended, and why."""
    details = [reclaim.detail for reclaim in outcome.reclaims]
    return _jobs(outcome.reclaims, details, "nothing would end")


def waits(outcome: tenants_pb2.WhatIfOutcome) -> Listing:
    """What would go on waiting, and why."""
    listed = list(outcome.waits)
    return Listing(
        columns=[
            Column("TENANT"),
            Column("JOBS", justify=NUMBER),
            Column("SHAPE"),
            Column("REASON"),
            Column("DETAIL", whole=False),
        ],
        rows=[
            [
                wait.tenant,
                str(wait.jobs),
                f"{wait.nodes} x {wait.gpus_per_node} GPUs",
                wait.reason,
                wait.detail,
            ]
            for wait in listed
        ],
        documents=[message_document(wait) for wait in listed],
        names=[wait.tenant for wait in listed],
        empty="nothing would wait",
    )


def _jobs(
    found: Sequence[tenants_pb2.WhatIfStart] | Sequence[tenants_pb2.WhatIfReclaim],
    details: Sequence[str],
    empty: str,
) -> Listing:
    return Listing(
        columns=[
            Column("JOB"),
            Column("TENANT"),
            Column("SITE"),
            Column("GPUS", justify=NUMBER),
            Column("GPU"),
            Column("", whole=False),
        ],
        rows=[
            [job.job_id, job.tenant, job.site, format_milli(job.gpu_milli), job.gpu_class, detail]
            for job, detail in zip(found, details, strict=True)
        ],
        documents=[message_document(job) for job in found],
        names=[job.job_id for job in found],
        empty=empty,
    )


def displaced(response: fleet_pb2.FleetWhatIfResponse) -> Listing:
    """What each tenant would lose, and what of it has room elsewhere within its law."""
    listed = list(response.displaced)
    return Listing(
        columns=[
            Column("TENANT"),
            Column("GPU"),
            Column("LOSES ITS PLACE", justify=NUMBER),
            Column("ROOM ELSEWHERE", justify=NUMBER),
        ],
        rows=[
            [
                each.tenant,
                each.gpu_class,
                format_milli(each.held_milli),
                format_milli(each.placed_milli),
            ]
            for each in listed
        ],
        documents=[message_document(each) for each in listed],
        names=[f"{each.tenant} {each.gpu_class}" for each in listed],
        empty="nothing that runs would lose its place",
    )
