"""Verbs on jobs that exist: list, get, watch, logs, cancel, explain."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from sovctl import clock
from sovctl.async_client import AsyncClient
from sovctl.async_jobs import aclose
from sovctl.cli import tables
from sovctl.cli.documents import job_document, message_document
from sovctl.cli.explanation import show_explanation
from sovctl.cli.output import Output, safe, table
from sovctl.cli.progress import JobsProgress, LogLines, sentence, write_bytes
from sovctl.cli.session import Interrupted, session_of
from sovctl.cli.since import since_ms
from sovctl.errors import InvalidArgumentError, SovError
from sovctl.results import JobInfo, TasksInfo

STATES = (
    "queued, placed, starting, running, preempting, cancelling, lost, succeeded, failed, cancelled"
)

JobArgument = Annotated[
    str,
    typer.Argument(
        metavar="JOB", help="The job's id, or the name of a live job; a task is JOB[7]."
    ),
]


def list_jobs(
    ctx: typer.Context,
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help="Only jobs in this state; may be repeated."),
    ] = None,
    project: Annotated[
        str, typer.Option(metavar="PATH", help="Only jobs of this project and below it.")
    ] = "",
    array: Annotated[
        str, typer.Option(metavar="JOB", help="The tasks of this array, one line each.")
    ] = "",
) -> None:
    """List jobs.

    An array is one line, unless a state is asked for: those are its tasks'.
    """
    session = session_of(ctx)
    wanted = [word.lower() for word in state or ()]
    if unknown := sorted(set(wanted) - set(STATES.split(", "))):
        raise InvalidArgumentError(f"--state: found {unknown[0]!r}, allowed {STATES}")

    async def work(client: AsyncClient) -> list[JobInfo]:
        return [job async for job in client.list(states=wanted, project=project, array=array)]

    session.output.listing(tables.jobs(session.run(work), clock.now_ms()))


def get_job(ctx: typer.Context, job: JobArgument) -> None:
    """Show a job with its attempts and ranks."""
    session = session_of(ctx)

    async def work(client: AsyncClient) -> JobInfo:
        return (await client.get(job)).info

    show_job(session.output, session.run(work))


def show_job(output: Output, job: JobInfo) -> None:
    """A job in full, in the form that was asked for."""
    if not output.is_human:
        output.result(job_document(job), job.id or "", "")
        return
    now_ms = clock.now_ms()
    submitted = tables.age(job.submitted_at_ms, now_ms)
    lines = [
        ("Job", job.id or "-"),
        *([("Task of", job.label)] if job.array_id else []),
        *([(_called(job.tasks), _tasks(job.tasks))] if job.tasks is not None else []),
        ("Name", job.name),
        ("Project", job.tenant),
        ("Owner", job.owner or "-"),
        ("State", job.state + (f" ({job.reason})" if job.reason else "")),
        ("Message", job.message or "-"),
        ("Asked for", f"{job.nodes} node(s), {job.gpus} GPU(s)"),
        ("Submitted", "-" if submitted == "-" else f"{submitted} ago"),
        *([("By its data", _raised(job))] if job.effective_residency else []),
        *([("Waits for", _awaited(job))] if job.waits_for else []),
        *([("Should start", _estimate(job, now_ms))] if job.estimated_start_ms else []),
        ("Exit code", "-" if job.exit_code is None else str(job.exit_code)),
    ]
    text = "".join(f"{f'{name}:':<12}{safe(value)}\n" for name, value in lines)
    output.print(Text(text.rstrip("\n")))
    if not job.attempts:
        return
    attempts = tables.attempts(job.attempts, now_ms)
    output.print(Text(""))
    output.print(table(attempts.columns, attempts.rows))
    ranks = tables.ranks(job.attempts[-1], now_ms)
    if ranks.rows:
        output.print(Text(f"\nRanks of attempt {job.attempts[-1].number}:"))
        output.print(table(ranks.columns, ranks.rows))


def _called(tasks: TasksInfo) -> str:
    return "Tasks" if tasks.ready is None else "Replicas"


def _tasks(tasks: TasksInfo) -> str:
    counted = (("queued", tasks.queued), ("live", tasks.live), ("succeeded", tasks.succeeded))
    counted += (("failed", tasks.failed), ("cancelled", tasks.cancelled))
    listed = ", ".join(f"{count} {what}" for what, count in counted if count)
    if tasks.ready is not None:
        return f"ready {tasks.ready}/{tasks.total}" + (f": {listed}" if listed else "")
    return f"{tasks.total}: {listed}"


def _raised(job: JobInfo) -> str:
    """What the labels of its inputs make of what it asks for."""
    need = job.effective_residency
    assert need is not None
    words = [*need.jurisdictions, need.tier, *need.markings, *need.data_kinds]
    return f"{', '.join(words)}; at {', '.join(need.data_sites) or 'no site'}"


def _awaited(job: JobInfo) -> str:
    return ", ".join(f"{each.job} {each.state}" for each in job.waits_for)


def _estimate(job: JobInfo, now_ms: int) -> str:
    return tables.estimate(job.estimated_start_ms or 0, job.estimated_start_p90_ms or 0, now_ms)


def watch_jobs(
    ctx: typer.Context,
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB...", help="Jobs to watch; default: all."),
    ] = None,
) -> None:
    """Watch jobs change, until all named are over."""
    session = session_of(ctx)
    output = session.output

    async def work(client: AsyncClient) -> None:
        # Names are looked up once: a watch is for ids, which never change their meaning.
        ids = [(await client.get(job)).id for job in jobs or ()]
        with JobsProgress(output) as progress:
            async for job in client.watch(ids):
                if output.is_human:
                    progress.show(job)
                else:
                    output.event(job_document(job), job.id or "")

    session.run(work)


def logs_of(
    ctx: typer.Context,
    job: JobArgument,
    rank: Annotated[
        str, typer.Option(metavar="N|all", help="One rank's log, or each line of all of them.")
    ] = "0",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job is over.")
    ] = False,
    since: Annotated[
        str, typer.Option(metavar="WHEN", help="Only what is younger, such as 10m, or a time.")
    ] = "",
    attempt: Annotated[
        int, typer.Option(metavar="N", min=0, help="An earlier attempt; default: the latest.")
    ] = 0,
) -> None:
    """Print a job's log, streamed from its site."""
    if rank != "all" and not rank.isdecimal():
        raise InvalidArgumentError(f"--rank: found {rank!r}, allowed a number or all")
    session = session_of(ctx)
    younger_ms = since_ms(since)
    number = None if rank == "all" else int(rank)
    lines = LogLines(with_rank=number is None)

    async def work(client: AsyncClient) -> None:
        found = await client.get(job)
        chunks = client.logs(
            found.id, rank=number, follow=follow, since_ms=younger_ms, attempt=attempt
        )
        try:
            async for chunk in chunks:
                if number is not None:
                    write_bytes(session.output.stdout, chunk.data)
                    continue
                for line in lines.add(chunk.rank, chunk.data):
                    write_bytes(session.output.stdout, line)
        finally:
            await aclose(chunks)
            for line in lines.rest():
                write_bytes(session.output.stdout, line)

    try:
        session.run(work)
    except KeyboardInterrupt:
        raise Interrupted(f"{job} is not affected") from None


def cancel_jobs(
    ctx: typer.Context,
    jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help="Jobs to cancel.")],
    now: Annotated[bool, typer.Option("--now", help="Skip the grace: kill at once.")] = False,
) -> None:
    """Cancel jobs: SIGTERM, grace, then SIGKILL."""
    session = session_of(ctx)
    output = session.output

    async def work(client: AsyncClient) -> list[JobInfo | SovError]:
        outcomes: list[JobInfo | SovError] = []
        for job in jobs:
            try:
                outcomes.append(await client.cancel(job, now=now))
            except SovError as error:
                outcomes.append(error)
        return outcomes

    outcomes = session.run(work)
    cancelled = [outcome for outcome in outcomes if isinstance(outcome, JobInfo)]
    if output.is_human:
        for job in cancelled:
            output.print(Text(safe(sentence(job))))
    else:
        output.listing(tables.jobs(cancelled, clock.now_ms()))
    errors = [outcome for outcome in outcomes if isinstance(outcome, SovError)]
    for error in errors[:-1]:
        output.error(error)
    if errors:
        raise errors[-1]


def scale_service(
    ctx: typer.Context,
    job: JobArgument,
    replicas: Annotated[
        int, typer.Option(metavar="N", help="How many there are to be; 0 keeps the service.")
    ],
) -> None:
    """Set how many replicas a service has."""
    session = session_of(ctx)
    found = session.run(lambda client: client.scale(job, replicas))
    if session.output.is_human:
        session.output.print(Text(safe(sentence(found))))
    else:
        session.output.result(job_document(found), found.id or "", "")


def explain_job(ctx: typer.Context, job: JobArgument) -> None:
    """Say what keeps a job waiting, and what would unblock it."""
    session = session_of(ctx)
    found = session.run(lambda client: client.explain(job))
    if session.output.is_human:
        show_explanation(session.output, found, clock.now_ms())
    else:
        session.output.result(message_document(found), found.job_id, "")


def moment(at_ms: int) -> str:
    """UTC to the second."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
