"""Why a job is where it is, for people."""

from __future__ import annotations

from collections import Counter

from rich.text import Text

from sovapi.v1 import jobs_pb2
from sovctl.cli import tables
from sovctl.cli.output import Column, Output, safe, table
from sovctl.results import state_name


def show_explanation(output: Output, found: jobs_pb2.ExplainJobResponse, now_ms: int) -> None:
    """Summary, what binds at each site, quota, and the smallest changes that would unblock."""
    head = f"{found.job_id or 'dry run:'} {state_name(found.state)}"
    if found.reason:
        head += f" [{found.reason}]"
    output.print(Text(safe(head), style="bold"))
    if found.summary:
        output.print(Text(safe(found.summary)))
    for line in _position(found, now_ms):
        output.print(Text(safe(line)))
    _show_sites(output, found)
    if found.quota:
        output.print(Text("\nQuota", style="bold"))
        rows = [[d.subject or "-", d.reason, d.detail] for d in found.quota]
        columns = [Column("TENANT"), Column("REASON"), Column("DETAIL", whole=False)]
        output.print(table(columns, rows))
    if found.changes:
        output.print(Text("\nAny one of these would unblock it", style="bold"))
        for number, change in enumerate(found.changes, start=1):
            output.print(Text(safe(f"  {number}. {_change(change)}")))


def _change(change: jobs_pb2.UnblockingChange) -> str:
    """One constraint as its sentence; several as their codes, by what they are about."""
    if len(change.constraints) < 2:
        return change.summary or ", ".join(c.detail for c in change.constraints)
    subjects = sorted({c.subject for c in change.constraints})
    parts: list[str] = []
    for subject in subjects:
        counts = Counter(c.reason for c in change.constraints if c.subject == subject)
        reasons = [f"{r} ({counts[r]} times)" if counts[r] > 1 else r for r in counts]
        parts.append((f"{subject}: " if subject else "") + " and ".join(reasons))
    return "; ".join(parts)


def _position(found: jobs_pb2.ExplainJobResponse, now_ms: int) -> list[str]:
    lines = [f"Waits for {d.job} to be {state_name(d.state)}." for d in found.waits_for]
    if found.queue_position:
        lines.append(f"Number {found.queue_position} in its project's queue.")
    if found.would_run_at:
        lines.append(f"It would start now at {found.would_run_at}.")
    if found.estimated_start_ms:
        told = tables.estimate(found.estimated_start_ms, found.estimated_start_p90_ms, now_ms)
        lines.append(f"Estimated start: {told}.")
    return lines


def _show_sites(output: Output, found: jobs_pb2.ExplainJobResponse) -> None:
    rows: list[list[str]] = []
    for site in sorted(found.sites, key=lambda site: site.site):
        lead = [site.site, "yes" if site.permitted else "no"]
        rows += tables.denial_rows(lead, site.denials) or [[*lead, "-", "nothing in the way"]]
    if rows:
        output.print(Text(""))
        columns = [Column("SITE"), Column("PERMITTED"), Column("REASON")]
        output.print(table([*columns, Column("DETAIL", whole=False)], rows))
