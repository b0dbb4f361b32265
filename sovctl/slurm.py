"""Slurm batch scripts as jobs: the directives whose meaning carries over, and no others.

A directive that has no counterpart is refused by name, since dropping it silently would change what
runs; a few that only concern paperwork are noted and left out. The script runs once for each rank,
as `srun SCRIPT` would; a plain `srun COMMAND` in it runs the command there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sovctl.errors import SpecError
from sovctl.faults import Fault, spec_error

SCRIPT_BYTES_MAX = 100_000
"""The script travels as one argument, of which Linux allows 128 KiB."""

DIRECTIVES_MAX = 200

_SHORT: Mapping[str, str] = {
    "-A": "account",
    "-a": "array",
    "-c": "cpus-per-task",
    "-C": "constraint",
    "-D": "chdir",
    "-d": "dependency",
    "-e": "error",
    "-G": "gpus",
    "-J": "job-name",
    "-n": "ntasks",
    "-N": "nodes",
    "-o": "output",
    "-p": "partition",
    "-q": "qos",
    "-t": "time",
    "-w": "nodelist",
}
_NOTED: Mapping[str, str] = {
    "output": "logs stay at the site; read them with `sovctl logs`",
    "error": "logs stay at the site, both streams in one; read them with `sovctl logs`",
    "open-mode": "logs are always appended to",
    "comment": "comments are not kept",
    "mail-type": "no mail is sent; `sovctl watch` shows changes",
    "mail-user": "no mail is sent; `sovctl watch` shows changes",
}
_FLAGS = frozenset({"exclusive", "requeue", "no-requeue"})
_SIZE_UNITS = {"": "MiB", "K": "KiB", "M": "MiB", "G": "GiB", "T": "TiB"}
_SRUN = 'srun() { "$@"; }\n'
_ARRAY = (
    'export SLURM_ARRAY_TASK_ID="$SOV_ARRAY_INDEX" SLURM_ARRAY_TASK_COUNT="$SOV_ARRAY_COUNT"'
    ' SLURM_ARRAY_JOB_ID="$SOV_ARRAY_JOB_ID"\n'
)


@dataclass(slots=True)
class BatchScript:
    """A script as plain job data, and remarks for whoever submits it."""

    content: dict[str, Any] = field(default_factory=dict[str, Any])
    notices: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class _Directives:
    """What the directives said, before it is put together."""

    top: dict[str, Any] = field(default_factory=dict[str, Any])
    resources: dict[str, Any] = field(default_factory=dict[str, Any])
    ntasks: int | None = None
    cpus_per_task: int | None = None
    gpus_total: int | None = None
    exclusive: bool = False


def is_batch_script(raw: bytes) -> bool:
    """Whether a file is a script rather than YAML."""
    return raw.startswith(b"#!") or re.search(rb"^#SBATCH\s", raw, re.MULTILINE) is not None


def parse_batch_script(raw: bytes, source: str) -> BatchScript:
    """The script as a job.

    Raises:
        SpecError: With every directive that cannot be taken.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise SpecError(
            f"{source}: found bytes that are not UTF-8, allowed a text script"
        ) from None
    if len(raw) > SCRIPT_BYTES_MAX:
        raise SpecError(
            f"{source}: found {len(raw)} bytes, allowed {SCRIPT_BYTES_MAX}; "
            "put the program into working_dir and call it from a short script"
        )
    script, found, faults = BatchScript(), _Directives(), list[Fault]()
    for number, line in _directive_lines(text):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            faults.append(Fault("#SBATCH", repr(line[:60]), f"balanced quotes ({error})", number))
            continue
        for name, value in _options(words):
            _take(name, value, found, script.notices, faults, number)
    _combine(found, faults)
    if faults:
        raise spec_error(source, faults)
    script.content = {**found.top, "command": _command(text, array="array" in found.top)}
    if found.resources:
        script.content["resources"] = found.resources
    if found.exclusive:
        script.content["residency"] = {"node_sharing": "none"}
    return script


def _directive_lines(text: str) -> list[tuple[int, str]]:
    """Directives stand before the first command, as in Slurm."""
    found: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#SBATCH"):
            found.append((number, line.removeprefix("#SBATCH")))
        elif line.strip() and not line.lstrip().startswith("#"):
            break
    return found[:DIRECTIVES_MAX]


def _options(words: list[str]) -> list[tuple[str, str | None]]:
    """`--name=value`, `--name value`, `-N 2` and `-N2` as pairs."""
    pairs: list[tuple[str, str | None]] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            given: str | None = value if equals else None
        else:
            name, given = _SHORT.get(word[:2], word), word[2:] or None
        takes_next = given is None and name not in _FLAGS and at < len(words)
        if takes_next and not re.match(r"-[A-Za-z-]", words[at]):
            given = words[at]
            at += 1
        pairs.append((name, given))
    return pairs


def _take(
    name: str,
    value: str | None,
    found: _Directives,
    notices: list[str],
    faults: list[Fault],
    line: int,
) -> None:
    if name in _NOTED:
        notices.append(f"line {line}: --{name} is left out: {_NOTED[name]}")
        return
    take = _TAKES.get(name)
    if take is None:
        allowed = ", ".join(f"--{each}" for each in sorted({*_TAKES, *_NOTED}))
        faults.append(Fault(f"#SBATCH --{name}", "an unknown directive", allowed, line))
        return
    if value is None and name not in _FLAGS:
        faults.append(Fault(f"#SBATCH --{name}", "nothing", "a value", line))
        return
    try:
        take(found, value or "")
    except ValueError as error:
        faults.append(Fault(f"#SBATCH --{name}", repr(value), str(error), line))


def _count(value: str) -> int:
    if not value.isdecimal() or len(value) > 9:
        raise ValueError("a whole number")
    return int(value)


def _time(found: _Directives, value: str) -> None:
    """minutes, minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]]."""
    match = re.fullmatch(r"(?:(\d{1,4})-)?(\d{1,6})(?::(\d{1,6}))?(?::(\d{1,6}))?", value)
    if not match:
        raise ValueError("minutes, minutes:seconds, hours:minutes:seconds or days-hours:minutes")
    days, first, second, third = (int(part) if part else 0 for part in match.groups())
    if match[1]:
        seconds = days * 86400 + first * 3600 + second * 60 + third
    elif match[4]:
        seconds = first * 3600 + second * 60 + third
    else:
        seconds = first * 60 + second
    if seconds < 1:
        raise ValueError("a time of at least one second; without a limit leave it out")
    found.top["time_limit"] = f"{seconds}s"


def _memory(found: _Directives, value: str) -> None:
    match = re.fullmatch(r"(\d{1,12})([KMGT]?)B?", value, re.IGNORECASE)
    if not match:
        raise ValueError("memory per node such as 64G; a bare number is MiB")
    if int(match[1]):  # Zero asks Slurm for all of a node's memory, as leaving it out does here.
        found.resources["memory_per_node"] = f"{int(match[1])}{_SIZE_UNITS[match[2].upper()]}"


def _gpus_per_node(found: _Directives, value: str) -> None:
    model, _, count = value.rpartition(":")
    found.resources["gpus_per_node"] = _count(count)
    if model:
        found.resources["gpu"] = [model.upper()]


def _gpus(found: _Directives, value: str) -> None:
    model, _, count = value.rpartition(":")
    found.gpus_total = _count(count)
    if model:
        found.resources["gpu"] = [model.upper()]


def _gres(found: _Directives, value: str) -> None:
    if not re.fullmatch(r"gpu(:[A-Za-z0-9_.-]+)?(:\d+)?", value):
        raise ValueError("gpu:COUNT or gpu:MODEL:COUNT")
    _, *rest = value.split(":")
    if not rest or not rest[-1].isdecimal():
        rest.append("1")
    _gpus_per_node(found, ":".join(rest))


def _array(found: _Directives, value: str) -> None:
    match = re.fullmatch(r"0-(\d{1,6})(?:%(\d{1,6}))?", value)
    if not match:
        raise ValueError("0-N or 0-N%LIMIT: tasks are counted from 0, without gaps")
    found.top["array"] = {"count": int(match[1]) + 1, "max_running": int(match[2] or 0)}


def _dependency(found: _Directives, value: str) -> None:
    states = {"afterok": "SUCCEEDED", "afternotok": "FAILED", "after": "RUNNING"}
    needed: list[dict[str, str]] = []
    for part in value.split(","):
        kind, _, jobs = part.partition(":")
        if kind not in states or not jobs:
            raise ValueError(f"{', '.join(sorted(states))}, each with :JOB[:JOB...]")
        needed += [{"job": job, "state": states[kind]} for job in jobs.split(":")]
    found.top["depends_on"] = needed


def _signal(found: _Directives, value: str) -> None:
    match = re.fullmatch(r"(?:[BR]+:)?(?:SIG)?([A-Z][A-Z0-9]*)(?:@(\d{1,6}))?", value)
    if not match:
        raise ValueError("NAME@SECONDS, such as USR1@300")
    found.top["signal_before_end"] = {"signal": match[1], "before": f"{match[2] or 60}s"}


def _export(found: _Directives, value: str) -> None:
    if value == "NONE":
        return
    pairs = dict(part.split("=", 1) for part in value.split(",") if "=" in part)
    if len(pairs) != len(value.split(",")):
        raise ValueError("NONE or NAME=VALUE,...: nothing of this shell's environment is sent")
    found.top["env"] = pairs


def _exclusive(found: _Directives, value: str) -> None:
    if value:
        raise ValueError("--exclusive without a value")
    found.exclusive = True


def _set(key: str) -> Callable[[_Directives, str], None]:
    return lambda found, value: found.top.__setitem__(key, value)


_TAKES: Mapping[str, Callable[[_Directives, str], None]] = {
    "account": _set("project"),
    "array": _array,
    "chdir": _set("working_dir"),
    "cpus-per-task": lambda f, v: setattr(f, "cpus_per_task", _count(v)),
    "dependency": _dependency,
    "exclusive": _exclusive,
    "export": _export,
    "gpus": _gpus,
    "gpus-per-node": _gpus_per_node,
    "gres": _gres,
    "job-name": _set("name"),
    "mem": _memory,
    "no-requeue": lambda f, _: f.top.__setitem__("retries", {"hardware": 0}),
    "nodes": lambda f, v: f.resources.__setitem__("nodes", _count(v)),
    "ntasks": lambda f, v: setattr(f, "ntasks", _count(v)),
    "ntasks-per-node": lambda f, v: f.resources.__setitem__("tasks_per_node", _count(v)),
    "requeue": lambda f, _: f.top.__setitem__("retries", {"hardware": 3}),
    "signal": _signal,
    "time": _time,
}


def _combine(found: _Directives, faults: list[Fault]) -> None:
    """Totals become numbers per node; a job without GPUs asks for none, as in Slurm."""
    resources = found.resources
    nodes = resources.get("nodes", 1)
    for name, total, key in (
        ("ntasks", found.ntasks, "tasks_per_node"),
        ("gpus", found.gpus_total, "gpus_per_node"),
    ):
        if total is None or key in resources:
            continue
        if nodes < 1 or total % nodes:
            faults.append(
                Fault(f"#SBATCH --{name}", str(total), f"a multiple of --nodes ({nodes})")
            )
        else:
            resources[key] = total // nodes
    resources.setdefault("gpus_per_node", 0)
    if found.cpus_per_task is not None:
        resources["cpus_per_node"] = found.cpus_per_task * resources.get("tasks_per_node", 1)


def _command(text: str, *, array: bool) -> list[str]:
    """The script, run by the interpreter it names."""
    first = text.split("\n", 1)[0]
    words = shlex.split(first[2:]) if first.startswith("#!") else ["/bin/sh"]
    words = words or ["/bin/sh"]
    is_shell = words[-1].rsplit("/", 1)[-1] in ("sh", "bash", "dash", "zsh")
    if not is_shell:
        return [*words, "-c", text]
    return [*words, "-c", _SRUN + (_ARRAY if array else "") + text]
