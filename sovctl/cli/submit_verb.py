"""`sovctl submit`: from a job file, a Slurm script or flags to a queued job, and on to its end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from sovctl import clock
from sovctl.async_client import AsyncClient
from sovctl.async_jobs import AsyncJob, Forecast, aclose
from sovctl.cli.documents import job_document, message_document
from sovctl.cli.exit_codes import job_exit_code
from sovctl.cli.explanation import show_explanation
from sovctl.cli.job_verbs import show_job
from sovctl.cli.output import Output
from sovctl.cli.progress import JobProgress, LogLines, sentence
from sovctl.cli.session import Interrupted, Session, exit_with, session_of
from sovctl.errors import InvalidArgumentError, SpecError
from sovctl.faults import Lines, check
from sovctl.results import JobInfo
from sovctl.slurm import is_batch_script, parse_batch_script
from sovctl.spec import SPEC_FILE_BYTES_MAX, JobSpec, read_spec_file
from sovshared import yamlio


def _option(help_text: str, metavar: str, *names: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help_text)


FileArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="FILE", help="A job file (YAML), or a batch script with #SBATCH.")
]
Name: TypeAlias = Annotated[str, _option("The job's name; default: the command's.", "NAME")]
Project: TypeAlias = Annotated[str, _option("Project; default: the context's.", "PATH")]
Nodes: TypeAlias = Annotated[str, _option("Nodes: all or none.", "N")]
Gpus: TypeAlias = Annotated[str, _option("GPUs on each node.", "N", "--gpus-per-node", "--gpus")]
Gpu: TypeAlias = Annotated[
    list[str] | None, _option("An acceptable GPU model; may be repeated.", "MODEL")
]
Tasks: TypeAlias = Annotated[str, _option("Ranks on each node: a number, or per_gpu.", "N|per_gpu")]
Cpus: TypeAlias = Annotated[str, _option("CPUs on each node.", "N")]
Memory: TypeAlias = Annotated[str, _option("Memory on each node, such as 64GiB.", "SIZE")]
WorkingDir: TypeAlias = Annotated[
    str, _option("Directory to send along; the job starts in it.", "DIR")
]
Env: TypeAlias = Annotated[list[str] | None, _option("A variable; may be repeated.", "NAME=VALUE")]
TimeLimit: TypeAlias = Annotated[str, _option("Longest run, such as 4h; default 24h.", "DURATION")]
Priority: TypeAlias = Annotated[str, _option("spot, normal or high.", "CLASS")]
Within: TypeAlias = Annotated[
    str, _option("Keep nodes within one node, nvlink, leaf, pod or site.", "LEVEL")
]
Jurisdiction: TypeAlias = Annotated[
    list[str] | None,
    _option("A country the job may be in; may be repeated; default GB.", "COUNTRY"),
]
Tolerate: TypeAlias = Annotated[
    list[str] | None,
    _option("A country whose law may reach the operator; may be repeated.", "COUNTRY"),
]
NodeSharing: TypeAlias = Annotated[str, _option("none, tenant or any.", "WITH")]
OnPartition: TypeAlias = Annotated[str, _option("keep or requeue.", "WHAT")]
ArrayOf: TypeAlias = Annotated[
    str, _option("Many tasks: a number of them, or 0-LAST; %M for M at once.", "N[%M]")
]
Replicas: TypeAlias = Annotated[
    str, _option("A service of so many replicas, which runs until it is cancelled.", "N")
]
DependsOn: TypeAlias = Annotated[
    list[str] | None,
    _option("Wait for a job to be SUCCEEDED, or STATE; may be repeated.", "JOB[:STATE]"),
]
Key: TypeAlias = Annotated[str, _option("The same key never makes a second job.", "KEY")]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would happen now.")
]
Wait: TypeAlias = Annotated[bool, typer.Option("--wait", help="Wait until the job is over.")]
Follow: TypeAlias = Annotated[
    bool, typer.Option("--follow", "-f", help="Print all ranks' logs until the job is over.")
]


def submit_job(
    ctx: typer.Context,
    file: FileArgument = "",
    name: Name = "",
    project: Project = "",
    nodes: Nodes = "",
    gpus_per_node: Gpus = "",
    gpu: Gpu = None,
    tasks_per_node: Tasks = "",
    cpus_per_node: Cpus = "",
    memory_per_node: Memory = "",
    working_dir: WorkingDir = "",
    env: Env = None,
    time_limit: TimeLimit = "",
    priority: Priority = "",
    within: Within = "",
    jurisdiction: Jurisdiction = None,
    tolerate: Tolerate = None,
    node_sharing: NodeSharing = "",
    on_partition: OnPartition = "",
    array: ArrayOf = "",
    replicas: Replicas = "",
    depends_on: DependsOn = None,
    idempotency_key: Key = "",
    dry_run: DryRun = False,
    wait: Wait = False,
    follow: Follow = False,
) -> None:
    """Queue a job: a FILE, or flags and a command after `--`.

    Flags change what the file says. Exit status with --wait or --follow: 0 when
    the job succeeded, else 1.
    """
    session = session_of(ctx)
    if (not file) == (session.command is None):
        found = "both FILE and a command" if file else "neither FILE nor a command"
        raise InvalidArgumentError(f"submit: found {found}, allowed FILE, or -- COMMAND...")
    flags: dict[str, Any] = {
        "name": name,
        "project": project,
        "working_dir": working_dir,
        "env": _pairs(env or ()),
        "time_limit": time_limit,
        "priority": priority,
        "on_partition": on_partition,
        "array": _array(array),
        "kind": "service" if replicas else "",
        "replicas": _number_or_word(replicas),
        "depends_on": [_dependency(each) for each in depends_on or ()],
        "resources": {
            "nodes": _number_or_word(nodes),
            "gpus_per_node": _number_or_word(gpus_per_node),
            "gpu": gpu,
            "tasks_per_node": _number_or_word(tasks_per_node),
            "cpus_per_node": cpus_per_node,
            "memory_per_node": memory_per_node,
        },
        "topology": {"within": within},
        "residency": {
            "jurisdictions": jurisdiction,
            "tolerate_foreign_compulsion": tolerate,
            "node_sharing": node_sharing,
        },
    }
    spec = _spec(session, file, flags)
    if dry_run:
        _show_forecast(session, session.run(lambda client: client.forecast(spec)))
        return
    _submit(session, spec, idempotency_key, wait=wait, follow=follow)


def _spec(session: Session, file: str, flags: dict[str, Any]) -> JobSpec:
    """File or command, with the flags laid over it."""
    if session.command is not None:
        content: dict[str, Any] = {"command": list(session.command)}
        if session.command:
            content["name"] = Path(session.command[0]).name
        return check(JobSpec, merged(content, flags), "command line")
    content, lines = read_job(Path(file), session)
    return check(JobSpec, merged(content, flags), file, lines)


def read_job(path: Path, session: Session) -> tuple[dict[str, Any], Lines]:
    """A job file or batch script as plain data, and the line of each field."""
    raw = read_spec_file(path)
    content: dict[str, Any]
    lines: Lines = {}
    if is_batch_script(raw):
        script = parse_batch_script(raw, str(path))
        for notice in script.notices:
            session.output.note(f"{path}: {notice}")
        content = {"name": path.stem, **script.content}
    else:
        try:
            document = yamlio.loads(raw, str(path), bytes_max=SPEC_FILE_BYTES_MAX)
        except yamlio.YamlInvalid as error:
            raise SpecError(str(error)) from None
        if not isinstance(document.value, dict):
            raise SpecError(f"{path}: found no job, allowed a mapping with at least a command")
        content, lines = dict(document.value), document.lines
    directory = content.get("working_dir")
    if isinstance(directory, str):
        content["working_dir"] = str(path.parent / directory)
    return content, lines


def merged(content: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`content` with what `over` says; empty values say nothing."""
    result = dict(content)
    for key, value in over.items():
        if value in (None, "", [], {}):
            continue
        if isinstance(value, dict):
            inner: Any = result.get(key)
            value = merged(inner if isinstance(inner, dict) else {}, value)  # type: ignore[arg-type]
            if not value:
                continue
        result[key] = value
    return result


def _pairs(words: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidArgumentError(f"--env: found {word!r}, allowed NAME=VALUE")
        pairs[name] = value
    return pairs


def _array(text: str) -> dict[str, int]:
    """How many tasks, and how many at once: "100%20" or "0-99%20"."""
    if not text:
        return {}
    match = re.fullmatch(r"(?:(\d{1,9})|0-(\d{1,9}))(?:%(\d{1,9}))?", text)
    if match is None:
        raise InvalidArgumentError(f"--array: found {text!r}, allowed N, 0-LAST, and %M after it")
    count = int(match[1]) if match[1] else int(match[2]) + 1
    return {"count": count, "max_running": int(match[3] or 0)}


def _dependency(text: str) -> dict[str, str]:
    job, _, state = text.partition(":")
    return {"job": job, "state": state.upper() or "SUCCEEDED"}


def _number_or_word(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _show_forecast(session: Session, forecast: Forecast) -> None:
    output = session.output
    if not output.is_human:
        document = {
            "job": job_document(forecast.job),
            "forecast": message_document(forecast.explanation),
        }
        output.result(document, "", "")
        return
    output.note("dry run: admitted; nothing was queued")
    show_explanation(output, forecast.explanation, clock.now_ms())


def _submit(
    session: Session, spec: JobSpec, idempotency_key: str, *, wait: bool, follow: bool
) -> None:
    output = session.output
    submitted: list[AsyncJob] = []

    async def work(client: AsyncClient) -> JobInfo:
        job = await client.submit(spec, idempotency_key=idempotency_key)
        submitted.append(job)
        if wait or follow:
            output.note(f"submitted {job.id} ({job.info.name})")
            await _to_its_end(client, job, output, follow=follow)
        return job.info

    try:
        info = session.run(work)
    except KeyboardInterrupt:
        if not submitted:
            raise
        job_id = submitted[0].id
        raise Interrupted(f"{job_id} goes on; `sovctl cancel {job_id}` stops it") from None
    if not output.is_human:
        output.result(job_document(info), info.id or "", "")
    elif not wait and not follow:
        output.result({}, "", f"submitted {info.id} ({info.name})")
    elif not follow and not output.quiet:
        show_job(output, info)
    if wait or follow:
        exit_with(job_exit_code(info.state))


async def _to_its_end(client: AsyncClient, job: AsyncJob, output: Output, *, follow: bool) -> None:
    """Shows the job, and with `follow` its output, until it is over and its output is told."""
    with JobProgress(output) as progress:
        progress.show(job.info)
        try:
            async with asyncio.TaskGroup() as tasks:
                if follow:
                    tasks.create_task(_follow(job, progress))
                async for info in client.watch([job.id]):
                    job.info = info
                    progress.show(info)
        except ExceptionGroup as group:  # The group's own wrapping says nothing to people.
            raise group.exceptions[0] from None
        was_live = progress.is_live
    await job.refresh()
    if follow and was_live:
        output.note(sentence(job.info))


async def _follow(job: AsyncJob, progress: JobProgress) -> None:
    """All ranks' output as it comes, line by line."""
    lines = LogLines(with_rank=True)
    chunks = job.logs(rank=None, follow=True)
    try:
        async for chunk in chunks:
            for line in lines.add(chunk.rank, chunk.data):
                progress.log_line(line)
    finally:
        await aclose(chunks)
        for line in lines.rest():
            progress.log_line(line)
