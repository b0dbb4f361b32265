"""What people write to ask for a job, checked once at the edge.

The models take the values of the job file as they stand there ("4h", "512GiB"), and in Python also
the natural types (`timedelta`, `int` bytes). Defaults are applied here, so that what is sent says
everything: on the wire a zero is refused, never filled in. What only the control plane can know
(does the project exist, may it ever run) is left to admission.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from sovctl.errors import SpecError
from sovctl.faults import check
from sovctl.spec_values import (
    BYTES_ALLOWED,
    CPUS_ALLOWED,
    DURATION_ALLOWED,
    MIG_PROFILE,
    contradiction,
    duration_ms,
    parse_bytes,
    parse_cpus,
    parse_duration,
    refusal,
)
from sovshared import yamlio

NAME_CHARS_MAX = 63
NODES_MAX = 4096
GPUS_PER_NODE_MAX = 64
TASKS_PER_NODE_MAX = 1024
COMMAND_ARGUMENTS_MAX = 1000
LIST_MAX = 100
ENV_MAX = 1000
ARRAY_COUNT_MAX = 100_000
EGRESS_MAX = 16
RETRIES_MAX = 100
SPEC_FILE_BYTES_MAX = 1024 * 1024

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?", re.IGNORECASE)
_COUNTRY = re.compile(r"[A-Z]{2}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_DESTINATION = re.compile(r"(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\]):[1-9][0-9]{0,4}")
_SIGNAL = re.compile(r"[A-Z0-9]{1,16}")
_PROJECT = re.compile(r"[a-z0-9._-]+(?:/[a-z0-9._-]+){0,3}")


def matching(pattern: re.Pattern[str], allowed: str) -> AfterValidator:
    """A check that text is of a pattern, refusing in people's words and not the pattern's."""

    def judge(value: str) -> str:
        if not pattern.fullmatch(value):
            raise refusal(value, allowed)
        return value

    return AfterValidator(judge)


def _command(value: object) -> tuple[str, ...]:
    """A list is run as it stands; a string by a shell."""
    allowed = "a list of words, or one shell command as text; not empty"
    words: tuple[str, ...] = ()
    if isinstance(value, str):
        words = ("/bin/sh", "-c", value) if value.strip() else ()
    elif isinstance(value, (list, tuple)):
        found = cast(Sequence[object], value)
        if not all(isinstance(word, str) for word in found):
            odd = next(word for word in found if not isinstance(word, str))
            raise refusal(odd, "words that are text (quote numbers)")
        words = tuple(cast(Sequence[str], found))
    else:
        raise refusal(value, allowed)
    if not words or not words[0]:
        raise refusal(cast(object, value), allowed)
    if len(words) > COMMAND_ARGUMENTS_MAX:
        raise refusal(words, f"at most {COMMAND_ARGUMENTS_MAX} words")
    return words


def _one_or_more(value: object) -> tuple[str, ...]:
    """A name, or a list of names."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)):
        names = cast(Sequence[object], value)
        if len(names) <= LIST_MAX and all(isinstance(n, str) and n for n in names):
            return tuple(cast(Sequence[str], names))
    raise refusal(cast(object, value), f"a GPU model, or a list of at most {LIST_MAX} of them")


def _tasks(value: object) -> int | Literal["per_gpu"]:
    if value == "per_gpu":
        return "per_gpu"
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= TASKS_PER_NODE_MAX:
        return value
    raise refusal(value, f"a whole number from 1 to {TASKS_PER_NODE_MAX}, or per_gpu")


def _schema(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema(schema)


Duration: TypeAlias = Annotated[
    timedelta | str,
    PlainValidator(parse_duration),
    _schema(type="string", description=DURATION_ALLOWED),
]
Bytes: TypeAlias = Annotated[
    int | str, PlainValidator(parse_bytes), _schema(type="string", description=BYTES_ALLOWED)
]
Cpus: TypeAlias = Annotated[
    int | str | Decimal,
    PlainValidator(parse_cpus),
    _schema(type=["number", "string"], description=CPUS_ALLOWED),
]
Command: TypeAlias = Annotated[
    str | Sequence[str],
    PlainValidator(_command),
    _schema(anyOf=[{"type": "string"}, {"type": "array", "items": {"type": "string"}}]),
]
GpuModels: TypeAlias = Annotated[
    str | Sequence[str],
    PlainValidator(_one_or_more),
    _schema(anyOf=[{"type": "string"}, {"type": "array", "items": {"type": "string"}}]),
]
Tasks: TypeAlias = Annotated[
    int | Literal["per_gpu"],
    PlainValidator(_tasks),
    _schema(anyOf=[{"type": "integer", "minimum": 1}, {"const": "per_gpu"}]),
]
Names: TypeAlias = Annotated[
    Sequence[Annotated[str, Field(min_length=1, max_length=256)]],
    Field(max_length=LIST_MAX),
    AfterValidator(tuple),
]
Country: TypeAlias = Annotated[
    str, matching(_COUNTRY, "two capital letters, an ISO 3166-1 country such as GB")
]
Countries: TypeAlias = Annotated[
    Sequence[Country], Field(max_length=LIST_MAX), AfterValidator(tuple)
]
Variable: TypeAlias = Annotated[
    str, matching(_VARIABLE, "letters, digits and _, not beginning with a digit")
]
Tier: TypeAlias = Literal["OFFICIAL", "SECRET", "TOP_SECRET"]
Assurance: TypeAlias = Literal["DECLARED", "AUDITED", "ATTESTED", "MEASURED"]
NodeFactName: TypeAlias = Literal["attestation", "location"]
Retry: TypeAlias = Annotated[int, Field(ge=0, le=RETRIES_MAX)]


class Written(BaseModel):
    """Anything people write: no unknown fields, no silent conversions, never changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_by_name=True)


class Resources(Written):
    """The shape of a job: `nodes` nodes of `gpus_per_node` GPUs each, all or none.

    Zero CPUs or memory means: in proportion to the GPUs.
    """

    nodes: Annotated[int, Field(ge=1, le=NODES_MAX)] = 1
    gpus_per_node: Annotated[int, Field(ge=0, le=GPUS_PER_NODE_MAX)] = 1
    gpu: GpuModels = ()
    gpu_share: Annotated[int, Field(ge=1, le=1000)] = 1000
    mig: Annotated[str, matching(MIG_PROFILE, "a MIG profile, such as 1g.10gb")] = ""
    max_nodes: Annotated[int, Field(ge=0, le=NODES_MAX)] = 0
    cpu_arch: Literal["amd64", "arm64", "any"] = "any"
    tasks_per_node: Tasks = 1
    cpus_per_node: Cpus = Decimal(0)
    memory_per_node: Bytes = 0
    interconnect: Literal["any", "nvlink", "infiniband", "roce", "ethernet"] = "any"

    @model_validator(mode="after")
    def _consistent(self) -> Resources:
        if self.max_nodes and self.max_nodes < self.nodes:
            raise contradiction(f"max_nodes {self.max_nodes}", f"at least nodes, {self.nodes}")
        if self.gpu_share < 1000 and self.gpus_per_node != 1:
            found = f"gpu_share {self.gpu_share} of {self.gpus_per_node} GPUs"
            raise contradiction(found, "a share of one GPU: gpus_per_node 1")
        if self.mig and (self.gpu_share < 1000 or self.gpus_per_node != 1):
            raise contradiction("mig of several GPUs, or a share", "gpus_per_node 1, no gpu_share")
        if self.tasks_per_node == "per_gpu" and self.gpus_per_node == 0:
            raise contradiction("tasks_per_node per_gpu without GPUs", "per_gpu with GPUs")
        return self


class Topology(Written):
    """How close together the nodes of a gang must, or should, be."""

    within: Literal["node", "nvlink", "leaf", "pod", "site"] = "site"
    mode: Literal["required", "preferred"] = "required"


FactName: TypeAlias = Literal[
    "country",
    "landlord",
    "facility_operator",
    "service_operator",
    "support_desk",
    "key_custodian",
    "accreditation",
    "markings",
    "sinks",
    "ultimate_parents",
]


class FactQuality(Written):
    """How well one fact about a site must be known, wherever it is needed."""

    min_assurance: Assurance = "DECLARED"
    max_age: Duration | None = None


class NodeFactQuality(Written):
    """How well a fact about a node must be known."""

    min_assurance: Assurance
    max_age: Duration | None = None


class Residency(Written):
    """What must hold of a site before this work may be there."""

    jurisdictions: Annotated[Countries, Field(min_length=1)] = ("GB",)
    tier: Tier = "OFFICIAL"
    markings: Names = ()
    tolerate_foreign_compulsion: Countries = ()
    agreements: Names = ()
    node_sharing: Literal["none", "tenant", "any"] = "tenant"
    min_assurance: Assurance = "DECLARED"
    data_kinds: Names = ()
    node_facts: Mapping[NodeFactName, NodeFactQuality] = {}
    """What must be known of every node beside what is known of its site."""
    facts: Mapping[FactName, FactQuality] = {}
    """Facts about the site that must be known better than `min_assurance` and the policy ask."""


class Input(Written):
    """A dataset of the catalogue, mounted."""

    dataset: Annotated[str, Field(min_length=1)]
    mount: Annotated[str, Field(min_length=1)]


class Output(Written):
    """Files that become a dataset; `from` in a file, `source` in Python."""

    dataset: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1, alias="from")]


class SignalBeforeEnd(Written):
    """A signal some time ahead of the time limit."""

    signal: Annotated[str, matching(_SIGNAL, "a signal's name without SIG, such as USR1")]
    before: Duration


class Preemption(Written):
    """Whether and how the job may be preempted. `grace` is also what a cancel gives it."""

    allowed: bool = True
    grace: Duration = timedelta(seconds=30)
    min_runtime: Duration = timedelta()


class Retries(Written):
    """How often another attempt follows, by whose fault one ended."""

    hardware: Retry = 3
    application: Retry = 0


class Array(Written):
    """Many tasks from one job."""

    count: Annotated[int, Field(ge=1, le=ARRAY_COUNT_MAX)]
    max_running: Annotated[int, Field(ge=0, le=ARRAY_COUNT_MAX)] = 0


class Dependency(Written):
    """A job that must have reached a state first."""

    job: Annotated[str, Field(min_length=1)]
    state: Literal["SUCCEEDED", "FAILED", "CANCELLED", "RUNNING"] = "SUCCEEDED"


class JobSpec(Written):
    """A job, as its file has it."""

    name: Annotated[
        str,
        matching(_NAME, f"up to {NAME_CHARS_MAX} letters, digits, '.', '_' and '-'"),
    ]
    command: Command
    kind: Literal["batch", "service", "ray"] = "batch"
    project: (
        Annotated[str, matching(_PROJECT, "a project's path, such as trust-a/radiology")] | None
    ) = None
    working_dir: str | None = None
    env: Annotated[Mapping[Variable, str], Field(max_length=ENV_MAX)] = {}
    secrets: Annotated[Mapping[Variable, str], Field(max_length=ENV_MAX)] = {}
    image: str = ""
    egress: Annotated[
        Sequence[Annotated[str, matching(_DESTINATION, "host:port, such as data.example.org:443")]],
        Field(max_length=EGRESS_MAX),
        AfterValidator(tuple),
    ] = ()
    resources: Resources = Resources()
    topology: Topology = Topology()
    residency: Residency = Residency()
    inputs: Annotated[Sequence[Input], Field(max_length=LIST_MAX), AfterValidator(tuple)] = ()
    outputs: Annotated[Sequence[Output], Field(max_length=LIST_MAX), AfterValidator(tuple)] = ()
    priority: Literal["spot", "normal", "high"] = "normal"
    time_limit: Duration = timedelta(hours=24)
    signal_before_end: SignalBeforeEnd | None = None
    preemption: Preemption = Preemption()
    retries: Retries = Retries()
    on_partition: Literal["keep", "requeue"] = "keep"
    array: Array | None = None
    depends_on: Annotated[
        Sequence[Dependency], Field(max_length=LIST_MAX), AfterValidator(tuple)
    ] = ()
    max_path_latency: Duration | None = None

    @model_validator(mode="after")
    def _consistent(self) -> JobSpec:
        if duration_ms(self.time_limit) < 1000:
            raise contradiction("a time_limit below a second", "at least 1s")
        return self

    @classmethod
    def from_yaml(cls, text: str | bytes, source: str = "job") -> JobSpec:
        """The job that `text` describes; `source` names it in errors.

        Raises:
            SpecError: With every fault at once.
        """
        try:
            document = yamlio.loads(text, source, bytes_max=SPEC_FILE_BYTES_MAX)
        except yamlio.YamlInvalid as error:
            raise SpecError(str(error)) from None
        return check(cls, document.value, source, document.lines)

    @classmethod
    def from_file(cls, path: str | Path) -> JobSpec:
        """The job in the YAML file at `path`; its working_dir is taken relative to that file.

        Raises:
            SpecError: With every fault at once.
        """
        file = Path(path)
        spec = cls.from_yaml(read_spec_file(file), str(file))
        if spec.working_dir is None:
            return spec
        return spec.model_copy(update={"working_dir": str(file.parent / spec.working_dir)})


def read_spec_file(path: Path) -> bytes:
    """The file's content, as far as a specification may be long."""
    try:
        with path.open("rb") as file:
            content = file.read(SPEC_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from None
    if len(content) > SPEC_FILE_BYTES_MAX:
        raise SpecError(f"{path}: found more than {SPEC_FILE_BYTES_MAX} bytes, allowed that many")
    return content


def command_text(words: Sequence[str]) -> str:
    """A command as one would type it."""
    return shlex.join(words)


def job_schema() -> dict[str, Any]:
    """The JSON Schema of a job file, for editors."""
    schema = JobSpec.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
