"""What people write to ask for a job, checked once at the edge.

The models take the values of the job file as they stand there ("4h", "512GiB"), and in Python also
the natural types (`timedelta`, `int` bytes). Defaults are applied here, so that what is sent says
everything: on the wire a zero is refused, never filled in. What only the control plane can know
(does the project exist, may it ever run) is left to admission.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    Field,
    model_validator,
)

from sovctl.errors import SpecError
from sovctl.faults import check
from sovctl.spec_fields import (
    DESTINATION,
    LIST_MAX,
    NAME,
    PROJECT,
    SIGNAL,
    Assurance,
    Bytes,
    Command,
    Countries,
    Cpus,
    Duration,
    GpuModels,
    Names,
    NodeFactName,
    Retry,
    Tasks,
    Tier,
    Variable,
    Written,
    matching,
)
from sovctl.spec_values import MIG_PROFILE, contradiction, duration_ms
from sovshared import yamlio

NAME_CHARS_MAX = 63
NODES_MAX = 4096
GPUS_PER_NODE_MAX = 64
ENV_MAX = 1000
ARRAY_COUNT_MAX = 100_000
REPLICAS_MAX = 5_000
EGRESS_MAX = 16
SPEC_FILE_BYTES_MAX = 1024 * 1024


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


class Spread(Written):
    """How far apart the replicas of a service must, or should, be."""

    over: Literal["node", "leaf", "pod", "site"]
    mode: Literal["required", "preferred"] = "preferred"


class SignalBeforeEnd(Written):
    """A signal some time ahead of the time limit."""

    signal: Annotated[str, matching(SIGNAL, "a signal's name without SIG, such as USR1")]
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
    """A job, as its file has it.

    A service has `replicas`, one unless said, and no end unless `retries` sets one; `time_limit` is
    how long one run of a replica may last, the longest allowed unless said.
    """

    name: Annotated[
        str,
        matching(NAME, f"up to {NAME_CHARS_MAX} letters, digits, '.', '_' and '-'"),
    ]
    command: Command
    kind: Literal["batch", "service", "ray"] = "batch"
    project: (
        Annotated[str, matching(PROJECT, "a project's path, such as trust-a/radiology")] | None
    ) = None
    working_dir: str | None = None
    env: Annotated[Mapping[Variable, str], Field(max_length=ENV_MAX)] = {}
    secrets: Annotated[Mapping[Variable, str], Field(max_length=ENV_MAX)] = {}
    image: str = ""
    egress: Annotated[
        Sequence[Annotated[str, matching(DESTINATION, "host:port, such as data.example.org:443")]],
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
    replicas: Annotated[int, Field(ge=1, le=REPLICAS_MAX)] | None = None
    spread: Spread | None = None

    @model_validator(mode="after")
    def _consistent(self) -> JobSpec:
        if duration_ms(self.time_limit) < 1000:
            raise contradiction("a time_limit below a second", "at least 1s")
        for name in ("replicas", "spread"):
            if self.kind != "service" and getattr(self, name) is not None:
                raise contradiction(f"{name} of a {self.kind} job", f"{name} with kind: service")
        if self.kind == "service" and self.array is not None:
            raise contradiction("an array of a service", "array or replicas, not both")
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
