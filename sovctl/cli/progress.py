"""A job on its way: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Group
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sovctl import clock
from sovctl.cli import tables
from sovctl.cli.live import LiveView
from sovctl.cli.output import Output, console_for, fitted, safe, styled, table
from sovctl.results import JobInfo

RANKS_SHOWN = 16
JOBS_SHOWN = 50
LINE_BYTES_MAX = 64 * 1024
"""A line of a log that is longer is shown in pieces."""


def sentence(job: JobInfo) -> str:
    """The job's state in a line: where it is and why it is not further."""
    words = [job.label if job.id else job.name, job.state]
    if job.tasks is not None:
        words.append(tables.tasks_of(job))
    attempt = job.attempt
    if attempt is not None and not job.is_over:
        words.append(f"at {attempt.site} ({tables.short_nodes(attempt.nodes)})")
    if job.reason:
        words.append(f"[{job.reason}]")
    if job.message:
        words.append(f"- {job.message}")
    if job.is_over and job.exit_code is not None:
        words.append(f"exit code {job.exit_code}")
    return " ".join(words)


class JobProgress(LiveView):
    """Shows one job. On standard error, so that standard output is the job's own."""

    def __init__(self, output: Output) -> None:
        console = console_for(output.stderr, color=output.color)
        wanted = output.is_human and not output.quiet
        super().__init__(console, wanted=wanted, transient=True)
        self._output = output
        self._told = ""
        self._job: JobInfo | None = None

    def show(self, job: JobInfo) -> None:
        """The job as it is now."""
        self._job = job
        told = sentence(job)
        if self.is_live:
            self._refresh()
        elif told != self._told:
            self._output.note(told)
        self._told = told

    def log_line(self, line: bytes) -> None:
        """A line of the job's output, above the view where both share a terminal."""
        if self.is_live and self._output.stdout.isatty():
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            self._console.print(Text(safe(text)), soft_wrap=True)
            return
        write_bytes(self._output.stdout, line)

    def _view(self) -> Group:
        job = self._job
        if job is None:
            return Group(Spinner("dots", text="submitting"))
        now_ms = clock.now_ms()
        took = tables.age(job.submitted_at_ms, now_ms)
        head = Text.assemble(
            safe(job.name), "  ", job.id or "", "  ", styled(job.state), f"  {took}"
        )
        if job.reason:
            head.append(f"  {job.reason}", style="yellow")
        parts: list[Spinner | Text | Table] = [head if job.is_over else Spinner("dots", text=head)]
        if job.message:
            parts.append(Text(f"  {safe(job.message)}", style="dim"))
        if job.attempt is not None:
            found = tables.ranks(job.attempt, now_ms)
            parts.append(Text(f"  {job.attempt.site}, attempt {job.attempt.number}"))
            parts.append(table(found.columns, found.rows[:RANKS_SHOWN]))
            if len(found.rows) > RANKS_SHOWN:
                parts.append(Text(f"  and {len(found.rows) - RANKS_SHOWN} more ranks"))
        return Group(*parts)


class JobsProgress(LiveView):
    """Shows many jobs: `sovctl watch`."""

    def __init__(self, output: Output) -> None:
        console = console_for(output.stdout, color=output.color)
        super().__init__(console, wanted=output.is_human)
        self._output = output
        self._jobs: dict[str, JobInfo] = {}

    def show(self, job: JobInfo) -> None:
        """One job as it is now."""
        if not self.is_live:
            self._output.print(Text(safe(sentence(job))))
            return
        key = job.id or job.name
        self._jobs.pop(key, None)
        self._jobs[key] = job  # The last to change is the last in the table.
        while len(self._jobs) > JOBS_SHOWN:
            over = (k for k, each in self._jobs.items() if each.is_over)
            self._jobs.pop(next(over, next(iter(self._jobs))))
        self._refresh()

    def _view(self) -> Table:
        found = tables.jobs(self._jobs.values(), clock.now_ms())
        return fitted(found, self._console.width)


class LogLines:
    """Cuts chunks into lines, per rank, so that ranks never mix within a line."""

    def __init__(self, *, with_rank: bool) -> None:
        self._with_rank = with_rank
        self._rest: dict[int, bytes] = {}

    def add(self, rank: int, data: bytes) -> Sequence[bytes]:
        """The lines that are now complete."""
        text = self._rest.pop(rank, b"") + data
        *lines, rest = text.split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            lines, rest = [*lines, rest], b""
        if rest:
            self._rest[rank] = rest
        return [self._line(rank, line) + b"\n" for line in lines]

    def rest(self) -> Sequence[bytes]:
        """What never saw the end of its line, by rank."""
        left = [self._line(rank, self._rest[rank]) + b"\n" for rank in sorted(self._rest)]
        self._rest.clear()
        return left

    def _line(self, rank: int, line: bytes) -> bytes:
        return b"[%d] %b" % (rank, line) if self._with_rank else line


def write_bytes(stream: TextIO, data: bytes) -> None:
    """Bytes as they are, where the stream takes bytes."""
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        stream.write(data.decode("utf-8", "replace"))
    else:
        stream.flush()
        buffer.write(data)
    stream.flush()
