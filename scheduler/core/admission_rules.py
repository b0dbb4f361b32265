"""What may be asked for at all: the values of a job's specification, each with its field's path.

`value_faults` finds everything that is malformed or absurd; `unsupported` everything that is well
formed and cannot be done yet. Both list all faults at once, in the order of the fields. Whether the
work could run anywhere is another question (`feasibility.could_ever_run`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from enum import IntEnum
from functools import lru_cache
from typing import Protocol

from scheduler.core import egress
from scheduler.core.asks import CPU_MILLI_MIN
from scheduler.core.service_rules import service_faults
from scheduler.model import mig
from scheduler.model.fleet import CpuArch, Interconnect
from scheduler.model.ids import NAME_PATTERN, TENANT_DEPTH_MAX, TenantPath
from scheduler.model.job import (
    JobKind,
    JobSpec,
    JobState,
    OnPartition,
    Priority,
    Resources,
    TopologyLevel,
    TopologyMode,
)
from scheduler.model.mig import GPU_MILLI
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import Assurance, NodeSharing, Requirement, Tier
from scheduler.model.rules import FactRule

NODES_MAX = 4096
GPUS_PER_NODE_MAX = 64
GPU_CLASSES_MAX = 100
TASKS_PER_NODE_MAX = 1024
CPU_MILLI_MAX = 100_000_000
MEMORY_BYTES_MIN = 1 << 20
MEMORY_BYTES_MAX = 1 << 60
TIME_LIMIT_MS_MIN = 1000
TIME_LIMIT_MS_MAX = 30 * 24 * 3600 * 1000
GRACE_MS_MAX = 3600 * 1000
COMMAND_ARGUMENTS_MAX = 1000
COMMAND_BYTES_MAX = 128 * 1024
ENV_MAX = 1000
ENV_BYTES_MAX = 128 * 1024
"""Names and values together: what a Linux process bears, with room for our own."""
WORDS_GLANCED_MAX = min(COMMAND_ARGUMENTS_MAX, ENV_MAX) // 10
GLANCED_BYTES_MAX = min(COMMAND_BYTES_MAX, ENV_BYTES_MAX) // 2
"""Commands and environments up to these cannot be too large: a word, a name and a value cost a byte
more than their letters, and so many of them are far fewer than half."""
TASKS_MAX = 100_000
"""Tasks of one array."""
DEPENDENCIES_MAX = 100
COUNTRIES_MAX = 100
MARKINGS_MAX = 100
TEXT_SHOWN_CHARS = 60
"""How much of a faulty text is repeated in a message."""

_JOB_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_GPU_CLASS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_MARKING = re.compile(r"[A-Z0-9][A-Z0-9 ._-]{0,62}")
_DATA_KIND = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_IMAGE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._/:-]{0,254}@)?sha256:[0-9a-f]{64}")
_BROKEN = re.compile("[\0\ud800-\udfff]")
SIGNALS = (
    "ABRT", "ALRM", "CONT", "HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH",
)  # fmt: skip

AWAITABLE = (JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
"""States of another job that a job may wait for."""

_OURS = re.compile(
    r"(SOV|RAY)_.*|RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|GROUP_RANK|MASTER_(ADDR|PORT)"
    r"|(CUDA|NVIDIA)_VISIBLE_DEVICES"
)
"""Variables that are set for every rank: a job that sets them would not get what it wrote."""
_NAMES = re.compile(rf"(?:(?!(?:{_OURS.pattern})\n){_VARIABLE.pattern}\n)*")
"""Names of variables that a job may set, a line each."""
PROJECTS_KNOWN_MAX = 4_096
"""Paths of which it is remembered whether they are well formed."""

Faults = Iterator[Denial]


class Own(Protocol):
    """What differs between jobs of one shape: of a specification, and of what is at hand of one
    that nobody has needed whole yet."""

    @property
    def name(self) -> str: ...
    @property
    def project(self) -> TenantPath: ...
    @property
    def command(self) -> tuple[str, ...]: ...
    @property
    def bundle_digest(self) -> str: ...
    @property
    def env(self) -> tuple[tuple[str, str], ...]: ...


def value_faults(spec: JobSpec) -> tuple[Denial, ...]:
    """Everything malformed or absurd in `spec`."""
    return (
        *_who(spec),
        *_command(spec),
        *_environment(spec),
        *_egress(spec),
        *_resources(spec.resources),
        *_topology(spec),
        *requirement_faults(spec.residency),
        *_times(spec),
        *service_faults(spec),
        *_choices(spec),
        *_others(spec),
    )


def own_faults(spec: JobSpec) -> tuple[Denial, ...]:
    """Of `value_faults`, those of what differs between jobs of one shape: who, command, env."""
    return (*_who(spec), *_command(spec), *_environment(spec))


def is_plainly_sound(own: Own) -> bool:
    """Whether none of `own_faults` can be but an image's, as most jobs show at a glance: all is
    ASCII, and a few searches of everything at once find nothing. Thousands come a second."""
    command, env = own.command, own.env
    if not command or not command[0] or max(len(command), len(env) + 1) > WORDS_GLANCED_MAX:
        return False
    names = [name for name, _ in env]
    lines = "".join([f"{name}\n" for name in names])
    text = "".join(itertools.chain(command, [value for _, value in env]))
    return (
        text.isascii()
        and "\0" not in text
        and len(text) + len(lines) <= GLANCED_BYTES_MAX
        and lines.count("\n") == len(names) == len(set(names))
        and _NAMES.fullmatch(lines) is not None
        and _JOB_NAME.fullmatch(own.name) is not None
        and _is_path(own.project)
        and (not own.bundle_digest or _DIGEST.fullmatch(own.bundle_digest) is not None)
    )


def unsupported(spec: JobSpec) -> tuple[Denial, ...]:
    """Everything in `spec` that is part of the contract and that nothing here can do yet."""
    asked = (("max_path_latency_us", spec.max_path_latency_us != 0, "paths are not measured yet"),)
    return tuple(
        Denial(Reason.FEATURE_NOT_AVAILABLE, detail, field)
        for field, found, detail in asked
        if found
    )


def _who(spec: JobSpec) -> Faults:
    if not _JOB_NAME.fullmatch(spec.name):
        allowed = "1 to 63 letters, digits, '.', '_' and '-', first and last a letter or digit"
        yield _fault("name", spec.name, allowed)
    if not _is_path(spec.project):
        allowed = f"a path of 1 to {TENANT_DEPTH_MAX} names, such as trust-a/radiology"
        yield _fault("project", spec.project, allowed)
    if spec.image and not _IMAGE.fullmatch(spec.image):
        # What a tag names is another image tomorrow, and nothing could say which one ran.
        yield _fault("image", spec.image, "a digest, as in registry/name@sha256:..., and no tag")
    if spec.bundle_digest and not _DIGEST.fullmatch(spec.bundle_digest):
        yield _fault("bundle_digest", spec.bundle_digest, "sha256: and 64 hexadecimal digits")


@lru_cache(PROJECTS_KNOWN_MAX)
def _is_path(project: str) -> bool:
    parts = project.split("/")
    return len(parts) <= TENANT_DEPTH_MAX and all(NAME_PATTERN.fullmatch(part) for part in parts)


def _command(spec: JobSpec) -> Faults:
    command = spec.command
    if not command or not command[0]:
        yield _fault("command", "an empty command", "at least a program to run")
    if len(command) > COMMAND_ARGUMENTS_MAX:
        yield _fault("command", f"{len(command)} words", f"at most {COMMAND_ARGUMENTS_MAX}")
    size = sum(len(word.encode("utf-8", "surrogatepass")) + 1 for word in command)
    if size > COMMAND_BYTES_MAX:
        yield _fault("command", f"{size} bytes", f"at most {COMMAND_BYTES_MAX}")
    for at, word in enumerate(command[:COMMAND_ARGUMENTS_MAX]):
        if not _plain(word):
            yield _fault(f"command[{at}]", word, "text without NUL or broken Unicode")


def _environment(spec: JobSpec) -> Faults:
    if len(spec.env) > ENV_MAX:
        yield _fault("env", f"{len(spec.env)} variables", f"at most {ENV_MAX}")
    size = sum(len(text.encode("utf-8", "surrogatepass")) + 1 for pair in spec.env for text in pair)
    if size > ENV_BYTES_MAX:
        yield _fault("env", f"{size} bytes", f"at most {ENV_BYTES_MAX}, names and values together")
    for name, value in spec.env[:ENV_MAX]:
        field = f"env.{name[:TEXT_SHOWN_CHARS]}"
        if not _VARIABLE.fullmatch(name):
            allowed = "1 to 128 letters, digits and '_', not beginning with a digit"
            yield _fault(field, name, allowed)
        elif _OURS.fullmatch(name):
            yield _fault(field, name, "a name that is not set for every job anyway")
        if not _plain(value):
            yield _fault(field, value, "text without NUL or broken Unicode")
    yield from _twice("env", [name for name, _ in spec.env])


def _egress(spec: JobSpec) -> Faults:
    if len(spec.egress) > egress.DESTINATIONS_MAX:
        found = f"{len(spec.egress)} destinations"
        yield _fault("egress", found, f"at most {egress.DESTINATIONS_MAX}")
    for n, destination in enumerate(spec.egress[: egress.DESTINATIONS_MAX]):
        if (allowed := egress.fault(destination)) is not None:
            yield _fault(f"egress[{n}]", destination, allowed)
    yield from _twice("egress", spec.egress)


def _resources(resources: Resources) -> Faults:
    at = "resources"
    yield from _range(f"{at}.nodes", resources.nodes, 1, NODES_MAX)
    yield from _range(f"{at}.gpus_per_node", resources.gpus_per_node, 0, GPUS_PER_NODE_MAX)
    yield from _range(f"{at}.gpu_share_milli", resources.gpu_share_milli, 1, 1000)
    if 0 < resources.gpu_share_milli < 1000 and resources.gpus_per_node != 1:
        found = f"{resources.gpu_share_milli} of each of {resources.gpus_per_node} GPUs"
        allowed = "a share of one GPU (gpus_per_node 1), or whole ones (1000)"
        yield _fault(f"{at}.gpu_share_milli", found, allowed)
    yield from _mig(resources)
    yield from _range(f"{at}.max_nodes", resources.max_nodes, 0, NODES_MAX)
    if 0 < resources.max_nodes < resources.nodes:
        yield _fault(f"{at}.max_nodes", resources.max_nodes, f"0 or from nodes, {resources.nodes}")
    yield from _range(f"{at}.tasks_per_node", resources.tasks_per_node, 1, TASKS_PER_NODE_MAX)
    if resources.tasks_per_gpu and not resources.gpus_per_node:
        yield _fault(f"{at}.tasks_per_gpu", "a task per GPU of none", "gpus_per_node from 1")
    if resources.cpu_milli_per_node:
        field = f"{at}.cpu_milli_per_node"
        yield from _range(field, resources.cpu_milli_per_node, CPU_MILLI_MIN, CPU_MILLI_MAX)
    if resources.memory_bytes_per_node:
        field = f"{at}.memory_bytes_per_node"
        memory_bytes = resources.memory_bytes_per_node
        yield from _range(field, memory_bytes, MEMORY_BYTES_MIN, MEMORY_BYTES_MAX)
    if len(resources.gpu_classes) > GPU_CLASSES_MAX:
        found = f"{len(resources.gpu_classes)} models"
        yield _fault(f"{at}.gpu_classes", found, f"at most {GPU_CLASSES_MAX}")
    for n, name in enumerate(resources.gpu_classes[:GPU_CLASSES_MAX]):
        if not _GPU_CLASS.fullmatch(name):
            yield _fault(f"{at}.gpu_classes[{n}]", name, "a GPU model's name, such as H100")
    yield from _twice(f"{at}.gpu_classes", resources.gpu_classes)
    yield from _named(f"{at}.cpu_arch", resources.cpu_arch, CpuArch)
    yield from _named(f"{at}.interconnect", resources.interconnect, Interconnect)


def _mig(resources: Resources) -> Faults:
    """An instance is one, of one GPU, and whole: a process sees no second one."""
    profile, at = resources.mig_profile, "resources.mig_profile"
    if not profile:
        return
    if not mig.is_profile(profile):
        allowed = f"a MIG profile: {', '.join(mig.profiles())}, or one of them with +me"
        yield _fault(at, profile, allowed)
    if resources.gpus_per_node != 1:
        allowed = "one instance a node (gpus_per_node 1)"
        yield _fault(at, f"{profile} of each of {resources.gpus_per_node} GPUs", allowed)
    if resources.gpu_share_milli != GPU_MILLI:
        found = f"{profile} and a share of {resources.gpu_share_milli}"
        yield _fault(at, found, "an instance, or a share")


def _topology(spec: JobSpec) -> Faults:
    topology, nodes = spec.topology, spec.resources.nodes
    yield from _named("topology.within", topology.within, TopologyLevel)
    yield from _named("topology.mode", topology.mode, TopologyMode)
    if (
        topology.within is TopologyLevel.NODE
        and topology.mode is TopologyMode.REQUIRED
        and nodes > 1
    ):
        yield _fault("topology.within", f"node, for {nodes} nodes", "nvlink, leaf, pod or site")


def requirement_faults(requirement: Requirement, at: str = "residency") -> Faults:
    """Everything malformed in a requirement that is written in the field `at`."""
    # That none is named is for residency to refuse, with its own reason.
    for name, countries in (
        ("jurisdictions", requirement.jurisdictions),
        ("tolerate_foreign_compulsion", requirement.tolerate_foreign_compulsion),
    ):
        if len(countries) > COUNTRIES_MAX:
            yield _fault(f"{at}.{name}", f"{len(countries)} countries", f"at most {COUNTRIES_MAX}")
        for n, country in enumerate(countries[:COUNTRIES_MAX]):
            if not _COUNTRY.fullmatch(country):
                allowed = "two capital letters, an ISO 3166-1 country such as GB"
                yield _fault(f"{at}.{name}[{n}]", country, allowed)
        yield from _twice(f"{at}.{name}", countries)
    allowed = "1 to 63 capital letters, digits, spaces, '.', '_' and '-'"
    yield from _words(f"{at}.markings", requirement.markings, _MARKING, allowed)
    allowed = "1 to 63 small letters, digits, '.', '_' and '-'"
    yield from _words(f"{at}.data_kinds", requirement.data_kinds, _DATA_KIND, allowed)
    yield from _named(f"{at}.tier", requirement.tier, Tier)
    yield from _named(f"{at}.node_sharing", requirement.node_sharing, NodeSharing)
    yield from _named(f"{at}.min_assurance", requirement.min_assurance, Assurance)
    for name, rules in (("node_facts", requirement.node_facts), ("facts", requirement.facts)):
        yield from _qualities(f"{at}.{name}", rules)


def _qualities(at: str, rules: tuple[FactRule, ...]) -> Faults:
    """Everything malformed in how well facts must be known."""
    for n, rule in enumerate(rules):
        asked = Assurance(rule.min_assurance)
        yield from _named(f"{at}[{n}].min_assurance", asked, Assurance)
        if rule.max_age_ms is not None and rule.max_age_ms <= 0:
            yield _fault(f"{at}[{n}].max_age_ms", str(rule.max_age_ms), "from 1")
    yield from _twice(at, tuple(rule.fact for rule in rules))


def _words(at: str, words: tuple[str, ...], pattern: re.Pattern[str], allowed: str) -> Faults:
    if len(words) > MARKINGS_MAX:
        yield _fault(at, f"{len(words)}", f"at most {MARKINGS_MAX}")
    for n, word in enumerate(words[:MARKINGS_MAX]):
        if not pattern.fullmatch(word):
            yield _fault(f"{at}[{n}]", word, allowed)
    yield from _twice(at, words)


def _times(spec: JobSpec) -> Faults:
    yield from _range("time_limit_ms", spec.time_limit_ms, TIME_LIMIT_MS_MIN, TIME_LIMIT_MS_MAX)
    if spec.signal_before_end is not None:
        at = "signal_before_end"
        if spec.signal_before_end.signal not in SIGNALS:
            yield _fault(f"{at}.signal", spec.signal_before_end.signal, " ".join(SIGNALS))
        longest = max(1, spec.time_limit_ms)
        yield from _range(f"{at}.before_ms", spec.signal_before_end.before_ms, 1, longest)
    yield from _range("preemption.grace_ms", spec.preemption.grace_ms, 0, GRACE_MS_MAX)
    least = spec.preemption.min_runtime_ms
    yield from _range("preemption.min_runtime_ms", least, 0, TIME_LIMIT_MS_MAX)


def _choices(spec: JobSpec) -> Faults:
    yield from _named("kind", spec.kind, JobKind)
    shape = spec.resources
    if spec.kind is JobKind.RAY and (shape.tasks_per_gpu or shape.tasks_per_node > 1):
        found = "per GPU" if shape.tasks_per_gpu else str(shape.tasks_per_node)
        yield _fault("resources.tasks_per_node", found, "1: Ray starts a Ray job's processes")
    yield from _named("priority", spec.priority, Priority)
    yield from _named("on_partition", spec.on_partition, OnPartition)


def _others(spec: JobSpec) -> Faults:
    """What a job has to do with other jobs."""
    if spec.array is not None:
        yield from _range("array.count", spec.array.count, 1, TASKS_MAX)
        yield from _range("array.max_running", spec.array.max_running, 0, TASKS_MAX)
    if len(spec.depends_on) > DEPENDENCIES_MAX:
        yield _fault("depends_on", f"{len(spec.depends_on)} jobs", f"at most {DEPENDENCIES_MAX}")
    for n, dependency in enumerate(spec.depends_on[:DEPENDENCIES_MAX]):
        if dependency.state not in AWAITABLE:
            allowed = ", ".join(state.name for state in AWAITABLE)
            yield _fault(f"depends_on[{n}].state", dependency.state.name, allowed)


def _range(field: str, found: int, least: int, most: int) -> Faults:
    if not least <= found <= most:
        yield _fault(field, found, f"{least} to {most}")


def _named(field: str, found: IntEnum, values: type[IntEnum]) -> Faults:
    if found.value == 0:
        allowed = ", ".join(value.name for value in values if value.value != 0)
        yield _fault(field, "nothing", allowed)


def _twice(field: str, names: Iterable[str]) -> Faults:
    listed = sorted(names)
    for name, following in itertools.pairwise(listed):
        if name == following:
            yield _fault(field, f"{name[:TEXT_SHOWN_CHARS]} twice", "each once")
            return


def _plain(text: str) -> bool:
    return _BROKEN.search(text) is None


def _fault(field: str, found: str | int, allowed: str) -> Denial:
    # In ASCII: a fault must not carry control characters to a terminal.
    text = str(found)
    shown = ascii(text)[1:-1] if text else "nothing"
    if len(shown) > TEXT_SHOWN_CHARS:
        shown = f"{shown[:TEXT_SHOWN_CHARS]}... ({len(text)} characters)"
    return Denial(Reason.INVALID_ARGUMENT, f"found {shown}, allowed {allowed}", field)
