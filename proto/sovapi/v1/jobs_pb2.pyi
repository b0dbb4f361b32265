from sovapi.v1 import common_pb2 as _common_pb2
from sovapi.v1 import policy_pb2 as _policy_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_KIND_UNSPECIFIED: _ClassVar[JobKind]
    JOB_KIND_BATCH: _ClassVar[JobKind]
    JOB_KIND_SERVICE: _ClassVar[JobKind]
    JOB_KIND_RAY: _ClassVar[JobKind]

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_PLACED: _ClassVar[JobState]
    JOB_STATE_STARTING: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_PREEMPTING: _ClassVar[JobState]
    JOB_STATE_CANCELLING: _ClassVar[JobState]
    JOB_STATE_LOST: _ClassVar[JobState]
    JOB_STATE_SUCCEEDED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_SPOT: _ClassVar[Priority]
    PRIORITY_NORMAL: _ClassVar[Priority]
    PRIORITY_HIGH: _ClassVar[Priority]

class TopologyLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOPOLOGY_LEVEL_UNSPECIFIED: _ClassVar[TopologyLevel]
    TOPOLOGY_LEVEL_NODE: _ClassVar[TopologyLevel]
    TOPOLOGY_LEVEL_NVLINK: _ClassVar[TopologyLevel]
    TOPOLOGY_LEVEL_LEAF: _ClassVar[TopologyLevel]
    TOPOLOGY_LEVEL_POD: _ClassVar[TopologyLevel]
    TOPOLOGY_LEVEL_SITE: _ClassVar[TopologyLevel]

class TopologyMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOPOLOGY_MODE_UNSPECIFIED: _ClassVar[TopologyMode]
    TOPOLOGY_MODE_REQUIRED: _ClassVar[TopologyMode]
    TOPOLOGY_MODE_PREFERRED: _ClassVar[TopologyMode]

class NodeSharing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_SHARING_UNSPECIFIED: _ClassVar[NodeSharing]
    NODE_SHARING_NONE: _ClassVar[NodeSharing]
    NODE_SHARING_TENANT: _ClassVar[NodeSharing]
    NODE_SHARING_ANY: _ClassVar[NodeSharing]

class OnPartition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_PARTITION_UNSPECIFIED: _ClassVar[OnPartition]
    ON_PARTITION_KEEP: _ClassVar[OnPartition]
    ON_PARTITION_REQUEUE: _ClassVar[OnPartition]

class RankPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RANK_PHASE_UNSPECIFIED: _ClassVar[RankPhase]
    RANK_PHASE_PREPARED: _ClassVar[RankPhase]
    RANK_PHASE_STARTING: _ClassVar[RankPhase]
    RANK_PHASE_RUNNING: _ClassVar[RankPhase]
    RANK_PHASE_OVER: _ClassVar[RankPhase]

class RankCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RANK_CAUSE_UNSPECIFIED: _ClassVar[RankCause]
    RANK_CAUSE_EXIT: _ClassVar[RankCause]
    RANK_CAUSE_STOP: _ClassVar[RankCause]
    RANK_CAUSE_LEASE: _ClassVar[RankCause]
    RANK_CAUSE_TIME_LIMIT: _ClassVar[RankCause]
    RANK_CAUSE_FENCE: _ClassVar[RankCause]
    RANK_CAUSE_NEVER_STARTED: _ClassVar[RankCause]
    RANK_CAUSE_LOST: _ClassVar[RankCause]
    RANK_CAUSE_INFRASTRUCTURE: _ClassVar[RankCause]
JOB_KIND_UNSPECIFIED: JobKind
JOB_KIND_BATCH: JobKind
JOB_KIND_SERVICE: JobKind
JOB_KIND_RAY: JobKind
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_PLACED: JobState
JOB_STATE_STARTING: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_PREEMPTING: JobState
JOB_STATE_CANCELLING: JobState
JOB_STATE_LOST: JobState
JOB_STATE_SUCCEEDED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
PRIORITY_UNSPECIFIED: Priority
PRIORITY_SPOT: Priority
PRIORITY_NORMAL: Priority
PRIORITY_HIGH: Priority
TOPOLOGY_LEVEL_UNSPECIFIED: TopologyLevel
TOPOLOGY_LEVEL_NODE: TopologyLevel
TOPOLOGY_LEVEL_NVLINK: TopologyLevel
TOPOLOGY_LEVEL_LEAF: TopologyLevel
TOPOLOGY_LEVEL_POD: TopologyLevel
TOPOLOGY_LEVEL_SITE: TopologyLevel
TOPOLOGY_MODE_UNSPECIFIED: TopologyMode
TOPOLOGY_MODE_REQUIRED: TopologyMode
TOPOLOGY_MODE_PREFERRED: TopologyMode
NODE_SHARING_UNSPECIFIED: NodeSharing
NODE_SHARING_NONE: NodeSharing
NODE_SHARING_TENANT: NodeSharing
NODE_SHARING_ANY: NodeSharing
ON_PARTITION_UNSPECIFIED: OnPartition
ON_PARTITION_KEEP: OnPartition
ON_PARTITION_REQUEUE: OnPartition
RANK_PHASE_UNSPECIFIED: RankPhase
RANK_PHASE_PREPARED: RankPhase
RANK_PHASE_STARTING: RankPhase
RANK_PHASE_RUNNING: RankPhase
RANK_PHASE_OVER: RankPhase
RANK_CAUSE_UNSPECIFIED: RankCause
RANK_CAUSE_EXIT: RankCause
RANK_CAUSE_STOP: RankCause
RANK_CAUSE_LEASE: RankCause
RANK_CAUSE_TIME_LIMIT: RankCause
RANK_CAUSE_FENCE: RankCause
RANK_CAUSE_NEVER_STARTED: RankCause
RANK_CAUSE_LOST: RankCause
RANK_CAUSE_INFRASTRUCTURE: RankCause

class Resources(_message.Message):
    __slots__ = ("nodes", "gpus_per_node", "gpu_classes", "gpu_share_milli", "mig_profile", "max_nodes", "cpu_arch", "tasks_per_node", "tasks_per_gpu", "cpu_milli_per_node", "memory_bytes_per_node", "interconnect")
    NODES_FIELD_NUMBER: _ClassVar[int]
    GPUS_PER_NODE_FIELD_NUMBER: _ClassVar[int]
    GPU_CLASSES_FIELD_NUMBER: _ClassVar[int]
    GPU_SHARE_MILLI_FIELD_NUMBER: _ClassVar[int]
    MIG_PROFILE_FIELD_NUMBER: _ClassVar[int]
    MAX_NODES_FIELD_NUMBER: _ClassVar[int]
    CPU_ARCH_FIELD_NUMBER: _ClassVar[int]
    TASKS_PER_NODE_FIELD_NUMBER: _ClassVar[int]
    TASKS_PER_GPU_FIELD_NUMBER: _ClassVar[int]
    CPU_MILLI_PER_NODE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_PER_NODE_FIELD_NUMBER: _ClassVar[int]
    INTERCONNECT_FIELD_NUMBER: _ClassVar[int]
    nodes: int
    gpus_per_node: int
    gpu_classes: _containers.RepeatedScalarFieldContainer[str]
    gpu_share_milli: int
    mig_profile: str
    max_nodes: int
    cpu_arch: _common_pb2.CpuArch
    tasks_per_node: int
    tasks_per_gpu: bool
    cpu_milli_per_node: int
    memory_bytes_per_node: int
    interconnect: _common_pb2.Interconnect
    def __init__(self, nodes: _Optional[int] = ..., gpus_per_node: _Optional[int] = ..., gpu_classes: _Optional[_Iterable[str]] = ..., gpu_share_milli: _Optional[int] = ..., mig_profile: _Optional[str] = ..., max_nodes: _Optional[int] = ..., cpu_arch: _Optional[_Union[_common_pb2.CpuArch, str]] = ..., tasks_per_node: _Optional[int] = ..., tasks_per_gpu: _Optional[bool] = ..., cpu_milli_per_node: _Optional[int] = ..., memory_bytes_per_node: _Optional[int] = ..., interconnect: _Optional[_Union[_common_pb2.Interconnect, str]] = ...) -> None: ...

class Topology(_message.Message):
    __slots__ = ("within", "mode")
    WITHIN_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    within: TopologyLevel
    mode: TopologyMode
    def __init__(self, within: _Optional[_Union[TopologyLevel, str]] = ..., mode: _Optional[_Union[TopologyMode, str]] = ...) -> None: ...

class ResidencyRequirement(_message.Message):
    __slots__ = ("jurisdictions", "tier", "markings", "tolerate_foreign_compulsion", "agreements", "node_sharing", "min_assurance", "data_kinds", "data_sites", "node_facts", "facts")
    JURISDICTIONS_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    MARKINGS_FIELD_NUMBER: _ClassVar[int]
    TOLERATE_FOREIGN_COMPULSION_FIELD_NUMBER: _ClassVar[int]
    AGREEMENTS_FIELD_NUMBER: _ClassVar[int]
    NODE_SHARING_FIELD_NUMBER: _ClassVar[int]
    MIN_ASSURANCE_FIELD_NUMBER: _ClassVar[int]
    DATA_KINDS_FIELD_NUMBER: _ClassVar[int]
    DATA_SITES_FIELD_NUMBER: _ClassVar[int]
    NODE_FACTS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    jurisdictions: _containers.RepeatedScalarFieldContainer[str]
    tier: _common_pb2.Tier
    markings: _containers.RepeatedScalarFieldContainer[str]
    tolerate_foreign_compulsion: _containers.RepeatedScalarFieldContainer[str]
    agreements: _containers.RepeatedScalarFieldContainer[str]
    node_sharing: NodeSharing
    min_assurance: _common_pb2.Assurance
    data_kinds: _containers.RepeatedScalarFieldContainer[str]
    data_sites: DataSites
    node_facts: _containers.RepeatedCompositeFieldContainer[_common_pb2.NodeFactRule]
    facts: _containers.RepeatedCompositeFieldContainer[_policy_pb2.PolicyFactRule]
    def __init__(self, jurisdictions: _Optional[_Iterable[str]] = ..., tier: _Optional[_Union[_common_pb2.Tier, str]] = ..., markings: _Optional[_Iterable[str]] = ..., tolerate_foreign_compulsion: _Optional[_Iterable[str]] = ..., agreements: _Optional[_Iterable[str]] = ..., node_sharing: _Optional[_Union[NodeSharing, str]] = ..., min_assurance: _Optional[_Union[_common_pb2.Assurance, str]] = ..., data_kinds: _Optional[_Iterable[str]] = ..., data_sites: _Optional[_Union[DataSites, _Mapping]] = ..., node_facts: _Optional[_Iterable[_Union[_common_pb2.NodeFactRule, _Mapping]]] = ..., facts: _Optional[_Iterable[_Union[_policy_pb2.PolicyFactRule, _Mapping]]] = ...) -> None: ...

class DataSites(_message.Message):
    __slots__ = ("sites",)
    SITES_FIELD_NUMBER: _ClassVar[int]
    sites: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sites: _Optional[_Iterable[str]] = ...) -> None: ...

class DatasetMount(_message.Message):
    __slots__ = ("dataset", "mount")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    MOUNT_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    mount: str
    def __init__(self, dataset: _Optional[str] = ..., mount: _Optional[str] = ...) -> None: ...

class DatasetOutput(_message.Message):
    __slots__ = ("dataset",)
    DATASET_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    def __init__(self, dataset: _Optional[str] = ..., **kwargs) -> None: ...

class SignalBeforeEnd(_message.Message):
    __slots__ = ("signal", "before_ms")
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    BEFORE_MS_FIELD_NUMBER: _ClassVar[int]
    signal: str
    before_ms: int
    def __init__(self, signal: _Optional[str] = ..., before_ms: _Optional[int] = ...) -> None: ...

class Preemption(_message.Message):
    __slots__ = ("allowed", "grace_ms", "min_runtime_ms")
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    MIN_RUNTIME_MS_FIELD_NUMBER: _ClassVar[int]
    allowed: bool
    grace_ms: int
    min_runtime_ms: int
    def __init__(self, allowed: _Optional[bool] = ..., grace_ms: _Optional[int] = ..., min_runtime_ms: _Optional[int] = ...) -> None: ...

class Retries(_message.Message):
    __slots__ = ("hardware", "application")
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    hardware: int
    application: int
    def __init__(self, hardware: _Optional[int] = ..., application: _Optional[int] = ...) -> None: ...

class JobArray(_message.Message):
    __slots__ = ("count", "max_running")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNNING_FIELD_NUMBER: _ClassVar[int]
    count: int
    max_running: int
    def __init__(self, count: _Optional[int] = ..., max_running: _Optional[int] = ...) -> None: ...

class Service(_message.Message):
    __slots__ = ("replicas", "spread")
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    replicas: int
    spread: Spread
    def __init__(self, replicas: _Optional[int] = ..., spread: _Optional[_Union[Spread, _Mapping]] = ...) -> None: ...

class Spread(_message.Message):
    __slots__ = ("over", "mode")
    OVER_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    over: TopologyLevel
    mode: TopologyMode
    def __init__(self, over: _Optional[_Union[TopologyLevel, str]] = ..., mode: _Optional[_Union[TopologyMode, str]] = ...) -> None: ...

class Dependency(_message.Message):
    __slots__ = ("job", "state")
    JOB_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    job: str
    state: JobState
    def __init__(self, job: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("name", "kind", "project", "command", "bundle_digest", "env", "secrets", "image", "egress", "resources", "topology", "residency", "inputs", "outputs", "priority", "time_limit_ms", "signal_before_end", "preemption", "retries", "on_partition", "array", "depends_on", "max_path_latency_us", "service", "key_ticket")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class SecretsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    EGRESS_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_FIELD_NUMBER: _ClassVar[int]
    RESIDENCY_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TIME_LIMIT_MS_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_BEFORE_END_FIELD_NUMBER: _ClassVar[int]
    PREEMPTION_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    ON_PARTITION_FIELD_NUMBER: _ClassVar[int]
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    DEPENDS_ON_FIELD_NUMBER: _ClassVar[int]
    MAX_PATH_LATENCY_US_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    KEY_TICKET_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: JobKind
    project: str
    command: _containers.RepeatedScalarFieldContainer[str]
    bundle_digest: str
    env: _containers.ScalarMap[str, str]
    secrets: _containers.ScalarMap[str, str]
    image: str
    egress: _containers.RepeatedScalarFieldContainer[str]
    resources: Resources
    topology: Topology
    residency: ResidencyRequirement
    inputs: _containers.RepeatedCompositeFieldContainer[DatasetMount]
    outputs: _containers.RepeatedCompositeFieldContainer[DatasetOutput]
    priority: Priority
    time_limit_ms: int
    signal_before_end: SignalBeforeEnd
    preemption: Preemption
    retries: Retries
    on_partition: OnPartition
    array: JobArray
    depends_on: _containers.RepeatedCompositeFieldContainer[Dependency]
    max_path_latency_us: int
    service: Service
    key_ticket: bytes
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[JobKind, str]] = ..., project: _Optional[str] = ..., command: _Optional[_Iterable[str]] = ..., bundle_digest: _Optional[str] = ..., env: _Optional[_Mapping[str, str]] = ..., secrets: _Optional[_Mapping[str, str]] = ..., image: _Optional[str] = ..., egress: _Optional[_Iterable[str]] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ..., topology: _Optional[_Union[Topology, _Mapping]] = ..., residency: _Optional[_Union[ResidencyRequirement, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[DatasetMount, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[DatasetOutput, _Mapping]]] = ..., priority: _Optional[_Union[Priority, str]] = ..., time_limit_ms: _Optional[int] = ..., signal_before_end: _Optional[_Union[SignalBeforeEnd, _Mapping]] = ..., preemption: _Optional[_Union[Preemption, _Mapping]] = ..., retries: _Optional[_Union[Retries, _Mapping]] = ..., on_partition: _Optional[_Union[OnPartition, str]] = ..., array: _Optional[_Union[JobArray, _Mapping]] = ..., depends_on: _Optional[_Iterable[_Union[Dependency, _Mapping]]] = ..., max_path_latency_us: _Optional[int] = ..., service: _Optional[_Union[Service, _Mapping]] = ..., key_ticket: _Optional[bytes] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("spec", "idempotency_key", "dry_run")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    spec: JobSpec
    idempotency_key: str
    dry_run: bool
    def __init__(self, spec: _Optional[_Union[JobSpec, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("job", "forecast")
    JOB_FIELD_NUMBER: _ClassVar[int]
    FORECAST_FIELD_NUMBER: _ClassVar[int]
    job: Job
    forecast: ExplainJobResponse
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., forecast: _Optional[_Union[ExplainJobResponse, _Mapping]] = ...) -> None: ...

class SubmitManyRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[SubmitRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[SubmitRequest, _Mapping]]] = ...) -> None: ...

class SubmitManyResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SubmitResult]
    def __init__(self, results: _Optional[_Iterable[_Union[SubmitResult, _Mapping]]] = ...) -> None: ...

class SubmitResult(_message.Message):
    __slots__ = ("job_id", "denials")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DENIALS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    denials: _containers.RepeatedCompositeFieldContainer[_common_pb2.Denial]
    def __init__(self, job_id: _Optional[str] = ..., denials: _Optional[_Iterable[_Union[_common_pb2.Denial, _Mapping]]] = ...) -> None: ...

class RankStatus(_message.Message):
    __slots__ = ("rank", "node", "phase", "exit_code", "signal", "cause", "started_at_ms", "ended_at_ms", "log_bytes", "detail", "checkpoint_at_ms", "egress", "outputs")
    RANK_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LOG_BYTES_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EGRESS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    rank: int
    node: str
    phase: RankPhase
    exit_code: int
    signal: int
    cause: RankCause
    started_at_ms: int
    ended_at_ms: int
    log_bytes: int
    detail: str
    checkpoint_at_ms: int
    egress: RankEgress
    outputs: _containers.RepeatedCompositeFieldContainer[WrittenOutput]
    def __init__(self, rank: _Optional[int] = ..., node: _Optional[str] = ..., phase: _Optional[_Union[RankPhase, str]] = ..., exit_code: _Optional[int] = ..., signal: _Optional[int] = ..., cause: _Optional[_Union[RankCause, str]] = ..., started_at_ms: _Optional[int] = ..., ended_at_ms: _Optional[int] = ..., log_bytes: _Optional[int] = ..., detail: _Optional[str] = ..., checkpoint_at_ms: _Optional[int] = ..., egress: _Optional[_Union[RankEgress, _Mapping]] = ..., outputs: _Optional[_Iterable[_Union[WrittenOutput, _Mapping]]] = ...) -> None: ...

class RankEgress(_message.Message):
    __slots__ = ("denied", "uses")
    DENIED_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    denied: int
    uses: _containers.RepeatedCompositeFieldContainer[EgressUse]
    def __init__(self, denied: _Optional[int] = ..., uses: _Optional[_Iterable[_Union[EgressUse, _Mapping]]] = ...) -> None: ...

class EgressUse(_message.Message):
    __slots__ = ("connections", "sent_bytes", "received_bytes")
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    connections: int
    sent_bytes: int
    received_bytes: int
    def __init__(self, connections: _Optional[int] = ..., sent_bytes: _Optional[int] = ..., received_bytes: _Optional[int] = ...) -> None: ...

class WrittenOutput(_message.Message):
    __slots__ = ("dataset", "digest", "size_bytes")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    digest: str
    size_bytes: int
    def __init__(self, dataset: _Optional[str] = ..., digest: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("number", "site", "nodes", "state", "reason", "message", "ranks", "placed_at_ms", "started_at_ms", "ended_at_ms", "country")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    PLACED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    number: int
    site: str
    nodes: _containers.RepeatedScalarFieldContainer[str]
    state: JobState
    reason: str
    message: str
    ranks: _containers.RepeatedCompositeFieldContainer[RankStatus]
    placed_at_ms: int
    started_at_ms: int
    ended_at_ms: int
    country: str
    def __init__(self, number: _Optional[int] = ..., site: _Optional[str] = ..., nodes: _Optional[_Iterable[str]] = ..., state: _Optional[_Union[JobState, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., ranks: _Optional[_Iterable[_Union[RankStatus, _Mapping]]] = ..., placed_at_ms: _Optional[int] = ..., started_at_ms: _Optional[int] = ..., ended_at_ms: _Optional[int] = ..., country: _Optional[str] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "name", "tenant", "owner", "state", "reason", "message", "attempts", "spec", "submitted_at_ms", "ended_at_ms", "exit_code", "spec_digest", "array_id", "task", "tasks", "waits_for", "estimated_start_ms", "estimated_start_p90_ms", "effective_residency")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SPEC_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ARRAY_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_START_MS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_START_P90_MS_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_RESIDENCY_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    tenant: str
    owner: str
    state: JobState
    reason: str
    message: str
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    spec: JobSpec
    submitted_at_ms: int
    ended_at_ms: int
    exit_code: int
    spec_digest: str
    array_id: str
    task: int
    tasks: TaskCounts
    waits_for: _containers.RepeatedCompositeFieldContainer[Dependency]
    estimated_start_ms: int
    estimated_start_p90_ms: int
    effective_residency: ResidencyRequirement
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., tenant: _Optional[str] = ..., owner: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., submitted_at_ms: _Optional[int] = ..., ended_at_ms: _Optional[int] = ..., exit_code: _Optional[int] = ..., spec_digest: _Optional[str] = ..., array_id: _Optional[str] = ..., task: _Optional[int] = ..., tasks: _Optional[_Union[TaskCounts, _Mapping]] = ..., waits_for: _Optional[_Iterable[_Union[Dependency, _Mapping]]] = ..., estimated_start_ms: _Optional[int] = ..., estimated_start_p90_ms: _Optional[int] = ..., effective_residency: _Optional[_Union[ResidencyRequirement, _Mapping]] = ...) -> None: ...

class TaskCounts(_message.Message):
    __slots__ = ("total", "queued", "live", "succeeded", "failed", "cancelled", "ready")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    total: int
    queued: int
    live: int
    succeeded: int
    failed: int
    cancelled: int
    ready: int
    def __init__(self, total: _Optional[int] = ..., queued: _Optional[int] = ..., live: _Optional[int] = ..., succeeded: _Optional[int] = ..., failed: _Optional[int] = ..., cancelled: _Optional[int] = ..., ready: _Optional[int] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("page", "states", "project", "with_spec", "array")
    PAGE_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    WITH_SPEC_FIELD_NUMBER: _ClassVar[int]
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    page: _common_pb2.PageRequest
    states: _containers.RepeatedScalarFieldContainer[JobState]
    project: str
    with_spec: bool
    array: str
    def __init__(self, page: _Optional[_Union[_common_pb2.PageRequest, _Mapping]] = ..., states: _Optional[_Iterable[_Union[JobState, str]]] = ..., project: _Optional[str] = ..., with_spec: _Optional[bool] = ..., array: _Optional[str] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchJobsRequest(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ids: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchJobsResponse(_message.Message):
    __slots__ = ("job", "replayed")
    JOB_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    job: Job
    replayed: bool
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., replayed: _Optional[bool] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("id", "now", "idempotency_key")
    ID_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    id: str
    now: bool
    idempotency_key: str
    def __init__(self, id: _Optional[str] = ..., now: _Optional[bool] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ScaleJobRequest(_message.Message):
    __slots__ = ("id", "replicas")
    ID_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    id: str
    replicas: int
    def __init__(self, id: _Optional[str] = ..., replicas: _Optional[int] = ...) -> None: ...

class ScaleJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ExplainJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class SiteExplanation(_message.Message):
    __slots__ = ("site", "denials", "permitted")
    SITE_FIELD_NUMBER: _ClassVar[int]
    DENIALS_FIELD_NUMBER: _ClassVar[int]
    PERMITTED_FIELD_NUMBER: _ClassVar[int]
    site: str
    denials: _containers.RepeatedCompositeFieldContainer[_common_pb2.Denial]
    permitted: bool
    def __init__(self, site: _Optional[str] = ..., denials: _Optional[_Iterable[_Union[_common_pb2.Denial, _Mapping]]] = ..., permitted: _Optional[bool] = ...) -> None: ...

class UnblockingChange(_message.Message):
    __slots__ = ("constraints", "summary")
    CONSTRAINTS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    constraints: _containers.RepeatedCompositeFieldContainer[_common_pb2.Denial]
    summary: str
    def __init__(self, constraints: _Optional[_Iterable[_Union[_common_pb2.Denial, _Mapping]]] = ..., summary: _Optional[str] = ...) -> None: ...

class ExplainJobResponse(_message.Message):
    __slots__ = ("job_id", "state", "reason", "summary", "sites", "quota", "changes", "queue_position", "estimated_start_ms", "would_run_at", "estimated_start_p90_ms", "waits_for")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_START_MS_FIELD_NUMBER: _ClassVar[int]
    WOULD_RUN_AT_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_START_P90_MS_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    state: JobState
    reason: str
    summary: str
    sites: _containers.RepeatedCompositeFieldContainer[SiteExplanation]
    quota: _containers.RepeatedCompositeFieldContainer[_common_pb2.Denial]
    changes: _containers.RepeatedCompositeFieldContainer[UnblockingChange]
    queue_position: int
    estimated_start_ms: int
    would_run_at: str
    estimated_start_p90_ms: int
    waits_for: _containers.RepeatedCompositeFieldContainer[Dependency]
    def __init__(self, job_id: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., reason: _Optional[str] = ..., summary: _Optional[str] = ..., sites: _Optional[_Iterable[_Union[SiteExplanation, _Mapping]]] = ..., quota: _Optional[_Iterable[_Union[_common_pb2.Denial, _Mapping]]] = ..., changes: _Optional[_Iterable[_Union[UnblockingChange, _Mapping]]] = ..., queue_position: _Optional[int] = ..., estimated_start_ms: _Optional[int] = ..., would_run_at: _Optional[str] = ..., estimated_start_p90_ms: _Optional[int] = ..., waits_for: _Optional[_Iterable[_Union[Dependency, _Mapping]]] = ...) -> None: ...

class LogsRequest(_message.Message):
    __slots__ = ("id", "rank", "follow", "attempt", "offset", "all_ranks", "since_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ALL_RANKS_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    rank: int
    follow: bool
    attempt: int
    offset: int
    all_ranks: bool
    since_ms: int
    def __init__(self, id: _Optional[str] = ..., rank: _Optional[int] = ..., follow: _Optional[bool] = ..., attempt: _Optional[int] = ..., offset: _Optional[int] = ..., all_ranks: _Optional[bool] = ..., since_ms: _Optional[int] = ...) -> None: ...

class LogsResponse(_message.Message):
    __slots__ = ("rank", "chunk", "offset", "attempt")
    RANK_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    rank: int
    chunk: bytes
    offset: int
    attempt: int
    def __init__(self, rank: _Optional[int] = ..., chunk: _Optional[bytes] = ..., offset: _Optional[int] = ..., attempt: _Optional[int] = ...) -> None: ...

class UploadRequest(_message.Message):
    __slots__ = ("start", "chunk")
    START_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    start: UploadStart
    chunk: bytes
    def __init__(self, start: _Optional[_Union[UploadStart, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class UploadStart(_message.Message):
    __slots__ = ("digest", "size_bytes", "project")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    digest: str
    size_bytes: int
    project: str
    def __init__(self, digest: _Optional[str] = ..., size_bytes: _Optional[int] = ..., project: _Optional[str] = ...) -> None: ...

class UploadResponse(_message.Message):
    __slots__ = ("digest", "existed")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    EXISTED_FIELD_NUMBER: _ClassVar[int]
    digest: str
    existed: bool
    def __init__(self, digest: _Optional[str] = ..., existed: _Optional[bool] = ...) -> None: ...

class ExecRequest(_message.Message):
    __slots__ = ("start", "stdin", "resize", "stdin_closed")
    START_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    STDIN_CLOSED_FIELD_NUMBER: _ClassVar[int]
    start: ExecStart
    stdin: bytes
    resize: ExecResize
    stdin_closed: bool
    def __init__(self, start: _Optional[_Union[ExecStart, _Mapping]] = ..., stdin: _Optional[bytes] = ..., resize: _Optional[_Union[ExecResize, _Mapping]] = ..., stdin_closed: _Optional[bool] = ...) -> None: ...

class ExecStart(_message.Message):
    __slots__ = ("id", "rank", "command", "tty", "size", "term")
    ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    TTY_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    id: str
    rank: int
    command: _containers.RepeatedScalarFieldContainer[str]
    tty: bool
    size: ExecResize
    term: str
    def __init__(self, id: _Optional[str] = ..., rank: _Optional[int] = ..., command: _Optional[_Iterable[str]] = ..., tty: _Optional[bool] = ..., size: _Optional[_Union[ExecResize, _Mapping]] = ..., term: _Optional[str] = ...) -> None: ...

class ExecResize(_message.Message):
    __slots__ = ("rows", "columns")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    columns: int
    def __init__(self, rows: _Optional[int] = ..., columns: _Optional[int] = ...) -> None: ...

class ExecResponse(_message.Message):
    __slots__ = ("stdout", "stderr", "exit_code", "rank_over")
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    RANK_OVER_FIELD_NUMBER: _ClassVar[int]
    stdout: bytes
    stderr: bytes
    exit_code: int
    rank_over: bool
    def __init__(self, stdout: _Optional[bytes] = ..., stderr: _Optional[bytes] = ..., exit_code: _Optional[int] = ..., rank_over: _Optional[bool] = ...) -> None: ...

class PortForwardRequest(_message.Message):
    __slots__ = ("start", "data", "closed")
    START_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    start: PortForwardStart
    data: bytes
    closed: bool
    def __init__(self, start: _Optional[_Union[PortForwardStart, _Mapping]] = ..., data: _Optional[bytes] = ..., closed: _Optional[bool] = ...) -> None: ...

class PortForwardStart(_message.Message):
    __slots__ = ("id", "rank", "port", "session")
    ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    id: str
    rank: int
    port: int
    session: str
    def __init__(self, id: _Optional[str] = ..., rank: _Optional[int] = ..., port: _Optional[int] = ..., session: _Optional[str] = ...) -> None: ...

class PortForwardResponse(_message.Message):
    __slots__ = ("data", "closed", "session")
    DATA_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    closed: bool
    session: str
    def __init__(self, data: _Optional[bytes] = ..., closed: _Optional[bool] = ..., session: _Optional[str] = ...) -> None: ...

class DownloadRequest(_message.Message):
    __slots__ = ("id", "path", "rank", "attempt", "listing", "begin_at", "offset")
    ID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    LISTING_FIELD_NUMBER: _ClassVar[int]
    BEGIN_AT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    id: str
    path: str
    rank: int
    attempt: int
    listing: bool
    begin_at: str
    offset: int
    def __init__(self, id: _Optional[str] = ..., path: _Optional[str] = ..., rank: _Optional[int] = ..., attempt: _Optional[int] = ..., listing: _Optional[bool] = ..., begin_at: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class DownloadResponse(_message.Message):
    __slots__ = ("chunk", "file", "digest", "end")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    file: DownloadFile
    digest: str
    end: DownloadEnd
    def __init__(self, chunk: _Optional[bytes] = ..., file: _Optional[_Union[DownloadFile, _Mapping]] = ..., digest: _Optional[str] = ..., end: _Optional[_Union[DownloadEnd, _Mapping]] = ...) -> None: ...

class DownloadFile(_message.Message):
    __slots__ = ("path", "size_bytes", "modified_ms")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_MS_FIELD_NUMBER: _ClassVar[int]
    path: str
    size_bytes: int
    modified_ms: int
    def __init__(self, path: _Optional[str] = ..., size_bytes: _Optional[int] = ..., modified_ms: _Optional[int] = ...) -> None: ...

class DownloadEnd(_message.Message):
    __slots__ = ("files", "left_out")
    FILES_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    files: int
    left_out: int
    def __init__(self, files: _Optional[int] = ..., left_out: _Optional[int] = ...) -> None: ...
