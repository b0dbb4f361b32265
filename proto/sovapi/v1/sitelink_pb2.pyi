from sovapi.v1 import common_pb2 as _common_pb2
from sovapi.v1 import jobs_pb2 as _jobs_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DesiredAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DESIRED_ACTION_UNSPECIFIED: _ClassVar[DesiredAction]
    DESIRED_ACTION_RUN: _ClassVar[DesiredAction]
    DESIRED_ACTION_STOP: _ClassVar[DesiredAction]
    DESIRED_ACTION_FORGET: _ClassVar[DesiredAction]

class AttemptPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTEMPT_PHASE_UNSPECIFIED: _ClassVar[AttemptPhase]
    ATTEMPT_PHASE_ACCEPTED: _ClassVar[AttemptPhase]
    ATTEMPT_PHASE_STARTING: _ClassVar[AttemptPhase]
    ATTEMPT_PHASE_RUNNING: _ClassVar[AttemptPhase]
    ATTEMPT_PHASE_STOPPING: _ClassVar[AttemptPhase]
    ATTEMPT_PHASE_ENDED: _ClassVar[AttemptPhase]
    ATTEMPT_PHASE_REFUSED: _ClassVar[AttemptPhase]
    ATTEMPT_PHASE_FAILED_TO_START: _ClassVar[AttemptPhase]
    ATTEMPT_PHASE_LOST: _ClassVar[AttemptPhase]

class TunnelKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TUNNEL_KIND_UNSPECIFIED: _ClassVar[TunnelKind]
    TUNNEL_KIND_LOGS: _ClassVar[TunnelKind]
    TUNNEL_KIND_EXEC: _ClassVar[TunnelKind]
    TUNNEL_KIND_PORT_FORWARD: _ClassVar[TunnelKind]
    TUNNEL_KIND_DOWNLOAD: _ClassVar[TunnelKind]
DESIRED_ACTION_UNSPECIFIED: DesiredAction
DESIRED_ACTION_RUN: DesiredAction
DESIRED_ACTION_STOP: DesiredAction
DESIRED_ACTION_FORGET: DesiredAction
ATTEMPT_PHASE_UNSPECIFIED: AttemptPhase
ATTEMPT_PHASE_ACCEPTED: AttemptPhase
ATTEMPT_PHASE_STARTING: AttemptPhase
ATTEMPT_PHASE_RUNNING: AttemptPhase
ATTEMPT_PHASE_STOPPING: AttemptPhase
ATTEMPT_PHASE_ENDED: AttemptPhase
ATTEMPT_PHASE_REFUSED: AttemptPhase
ATTEMPT_PHASE_FAILED_TO_START: AttemptPhase
ATTEMPT_PHASE_LOST: AttemptPhase
TUNNEL_KIND_UNSPECIFIED: TunnelKind
TUNNEL_KIND_LOGS: TunnelKind
TUNNEL_KIND_EXEC: TunnelKind
TUNNEL_KIND_PORT_FORWARD: TunnelKind
TUNNEL_KIND_DOWNLOAD: TunnelKind

class SiteMessage(_message.Message):
    __slots__ = ("hello", "report", "heartbeat", "tunnel_refused", "stored_jobs")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    TUNNEL_REFUSED_FIELD_NUMBER: _ClassVar[int]
    STORED_JOBS_FIELD_NUMBER: _ClassVar[int]
    hello: SiteHello
    report: SiteReport
    heartbeat: Heartbeat
    tunnel_refused: TunnelRefused
    stored_jobs: StoredJobs
    def __init__(self, hello: _Optional[_Union[SiteHello, _Mapping]] = ..., report: _Optional[_Union[SiteReport, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., tunnel_refused: _Optional[_Union[TunnelRefused, _Mapping]] = ..., stored_jobs: _Optional[_Union[StoredJobs, _Mapping]] = ...) -> None: ...

class ControlMessage(_message.Message):
    __slots__ = ("hello", "desired", "heartbeat_ack", "open_tunnel", "desired_part", "jobs_over")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_ACK_FIELD_NUMBER: _ClassVar[int]
    OPEN_TUNNEL_FIELD_NUMBER: _ClassVar[int]
    DESIRED_PART_FIELD_NUMBER: _ClassVar[int]
    JOBS_OVER_FIELD_NUMBER: _ClassVar[int]
    hello: ControlHello
    desired: Desired
    heartbeat_ack: HeartbeatAck
    open_tunnel: OpenTunnel
    desired_part: Desired
    jobs_over: JobsOver
    def __init__(self, hello: _Optional[_Union[ControlHello, _Mapping]] = ..., desired: _Optional[_Union[Desired, _Mapping]] = ..., heartbeat_ack: _Optional[_Union[HeartbeatAck, _Mapping]] = ..., open_tunnel: _Optional[_Union[OpenTunnel, _Mapping]] = ..., desired_part: _Optional[_Union[Desired, _Mapping]] = ..., jobs_over: _Optional[_Union[JobsOver, _Mapping]] = ...) -> None: ...

class SiteHello(_message.Message):
    __slots__ = ("protocol_version", "site", "agent_version", "incarnation", "epoch", "generation", "metrics_address")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    METRICS_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    site: str
    agent_version: str
    incarnation: str
    epoch: int
    generation: int
    metrics_address: str
    def __init__(self, protocol_version: _Optional[int] = ..., site: _Optional[str] = ..., agent_version: _Optional[str] = ..., incarnation: _Optional[str] = ..., epoch: _Optional[int] = ..., generation: _Optional[int] = ..., metrics_address: _Optional[str] = ...) -> None: ...

class ControlHello(_message.Message):
    __slots__ = ("protocol_version", "server_version", "epoch", "heartbeat_interval_ms", "lease_ms")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    server_version: str
    epoch: int
    heartbeat_interval_ms: int
    lease_ms: int
    def __init__(self, protocol_version: _Optional[int] = ..., server_version: _Optional[str] = ..., epoch: _Optional[int] = ..., heartbeat_interval_ms: _Optional[int] = ..., lease_ms: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("sequence", "power")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    power: SitePower
    def __init__(self, sequence: _Optional[int] = ..., power: _Optional[_Union[SitePower, _Mapping]] = ...) -> None: ...

class SitePower(_message.Message):
    __slots__ = ("gpu_watts", "nodes")
    GPU_WATTS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    gpu_watts: int
    nodes: int
    def __init__(self, gpu_watts: _Optional[int] = ..., nodes: _Optional[int] = ...) -> None: ...

class HeartbeatAck(_message.Message):
    __slots__ = ("sequence", "generation")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    generation: int
    def __init__(self, sequence: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...

class DesiredAttempt(_message.Message):
    __slots__ = ("job_id", "attempt", "generation", "action", "stop_grace_ms", "stop_reason", "launch")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    STOP_GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    LAUNCH_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    attempt: int
    generation: int
    action: DesiredAction
    stop_grace_ms: int
    stop_reason: str
    launch: Launch
    def __init__(self, job_id: _Optional[str] = ..., attempt: _Optional[int] = ..., generation: _Optional[int] = ..., action: _Optional[_Union[DesiredAction, str]] = ..., stop_grace_ms: _Optional[int] = ..., stop_reason: _Optional[str] = ..., launch: _Optional[_Union[Launch, _Mapping]] = ...) -> None: ...

class Launch(_message.Message):
    __slots__ = ("command", "env", "bundle_digest", "nodes", "tasks_per_node", "gpus_per_node", "time_limit_ms", "stop_grace_ms", "signal_before_end", "leased", "min_isolation", "residency", "policy_revision", "secrets", "image", "grant", "controlling_stake_milli_percent", "gpu_share_milli", "egress", "inputs", "outputs", "mig_profile", "ray", "sealed_secrets", "key_ticket")
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
    class SealedSecretsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    TASKS_PER_NODE_FIELD_NUMBER: _ClassVar[int]
    GPUS_PER_NODE_FIELD_NUMBER: _ClassVar[int]
    TIME_LIMIT_MS_FIELD_NUMBER: _ClassVar[int]
    STOP_GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_BEFORE_END_FIELD_NUMBER: _ClassVar[int]
    LEASED_FIELD_NUMBER: _ClassVar[int]
    MIN_ISOLATION_FIELD_NUMBER: _ClassVar[int]
    RESIDENCY_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    CONTROLLING_STAKE_MILLI_PERCENT_FIELD_NUMBER: _ClassVar[int]
    GPU_SHARE_MILLI_FIELD_NUMBER: _ClassVar[int]
    EGRESS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    MIG_PROFILE_FIELD_NUMBER: _ClassVar[int]
    RAY_FIELD_NUMBER: _ClassVar[int]
    SEALED_SECRETS_FIELD_NUMBER: _ClassVar[int]
    KEY_TICKET_FIELD_NUMBER: _ClassVar[int]
    command: _containers.RepeatedScalarFieldContainer[str]
    env: _containers.ScalarMap[str, str]
    bundle_digest: str
    nodes: _containers.RepeatedCompositeFieldContainer[PlacedNode]
    tasks_per_node: int
    gpus_per_node: int
    time_limit_ms: int
    stop_grace_ms: int
    signal_before_end: _jobs_pb2.SignalBeforeEnd
    leased: bool
    min_isolation: _common_pb2.Isolation
    residency: _jobs_pb2.ResidencyRequirement
    policy_revision: int
    secrets: _containers.ScalarMap[str, str]
    image: str
    grant: bytes
    controlling_stake_milli_percent: int
    gpu_share_milli: int
    egress: _containers.RepeatedScalarFieldContainer[str]
    inputs: _containers.RepeatedCompositeFieldContainer[LaunchInput]
    outputs: _containers.RepeatedCompositeFieldContainer[_jobs_pb2.DatasetOutput]
    mig_profile: str
    ray: bool
    sealed_secrets: _containers.ScalarMap[str, bytes]
    key_ticket: bytes
    def __init__(self, command: _Optional[_Iterable[str]] = ..., env: _Optional[_Mapping[str, str]] = ..., bundle_digest: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[PlacedNode, _Mapping]]] = ..., tasks_per_node: _Optional[int] = ..., gpus_per_node: _Optional[int] = ..., time_limit_ms: _Optional[int] = ..., stop_grace_ms: _Optional[int] = ..., signal_before_end: _Optional[_Union[_jobs_pb2.SignalBeforeEnd, _Mapping]] = ..., leased: _Optional[bool] = ..., min_isolation: _Optional[_Union[_common_pb2.Isolation, str]] = ..., residency: _Optional[_Union[_jobs_pb2.ResidencyRequirement, _Mapping]] = ..., policy_revision: _Optional[int] = ..., secrets: _Optional[_Mapping[str, str]] = ..., image: _Optional[str] = ..., grant: _Optional[bytes] = ..., controlling_stake_milli_percent: _Optional[int] = ..., gpu_share_milli: _Optional[int] = ..., egress: _Optional[_Iterable[str]] = ..., inputs: _Optional[_Iterable[_Union[LaunchInput, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[_jobs_pb2.DatasetOutput, _Mapping]]] = ..., mig_profile: _Optional[str] = ..., ray: _Optional[bool] = ..., sealed_secrets: _Optional[_Mapping[str, bytes]] = ..., key_ticket: _Optional[bytes] = ...) -> None: ...

class LaunchInput(_message.Message):
    __slots__ = ("dataset", "version", "mount")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MOUNT_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    version: str
    mount: str
    def __init__(self, dataset: _Optional[str] = ..., version: _Optional[str] = ..., mount: _Optional[str] = ...) -> None: ...

class PlacedNode(_message.Message):
    __slots__ = ("slot", "gpu_indices")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    GPU_INDICES_FIELD_NUMBER: _ClassVar[int]
    slot: str
    gpu_indices: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, slot: _Optional[str] = ..., gpu_indices: _Optional[_Iterable[int]] = ...) -> None: ...

class Desired(_message.Message):
    __slots__ = ("epoch", "from_generation", "to_generation", "attempts", "rows_total")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FROM_GENERATION_FIELD_NUMBER: _ClassVar[int]
    TO_GENERATION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    ROWS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    from_generation: int
    to_generation: int
    attempts: _containers.RepeatedCompositeFieldContainer[DesiredAttempt]
    rows_total: int
    def __init__(self, epoch: _Optional[int] = ..., from_generation: _Optional[int] = ..., to_generation: _Optional[int] = ..., attempts: _Optional[_Iterable[_Union[DesiredAttempt, _Mapping]]] = ..., rows_total: _Optional[int] = ...) -> None: ...

class AttemptReport(_message.Message):
    __slots__ = ("job_id", "attempt", "phase", "ranks", "reason", "detail")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    attempt: int
    phase: AttemptPhase
    ranks: _containers.RepeatedCompositeFieldContainer[_jobs_pb2.RankStatus]
    reason: str
    detail: str
    def __init__(self, job_id: _Optional[str] = ..., attempt: _Optional[int] = ..., phase: _Optional[_Union[AttemptPhase, str]] = ..., ranks: _Optional[_Iterable[_Union[_jobs_pb2.RankStatus, _Mapping]]] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class NodeReport(_message.Message):
    __slots__ = ("slot", "boot_id", "gpu_uuids", "health", "health_detail", "isolation", "telemetry", "cpu_arch", "cpu_milli", "memory_bytes", "runtime_alive", "agent_connected", "agent_version", "metrics_address", "attestation", "mig")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    GPU_UUIDS_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    HEALTH_DETAIL_FIELD_NUMBER: _ClassVar[int]
    ISOLATION_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    CPU_ARCH_FIELD_NUMBER: _ClassVar[int]
    CPU_MILLI_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_ALIVE_FIELD_NUMBER: _ClassVar[int]
    AGENT_CONNECTED_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    METRICS_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ATTESTATION_FIELD_NUMBER: _ClassVar[int]
    MIG_FIELD_NUMBER: _ClassVar[int]
    slot: str
    boot_id: str
    gpu_uuids: _containers.RepeatedScalarFieldContainer[str]
    health: _common_pb2.Health
    health_detail: str
    isolation: _common_pb2.Isolation
    telemetry: str
    cpu_arch: _common_pb2.CpuArch
    cpu_milli: int
    memory_bytes: int
    runtime_alive: bool
    agent_connected: bool
    agent_version: str
    metrics_address: str
    attestation: Attestation
    mig: _containers.RepeatedCompositeFieldContainer[_common_pb2.MigInstance]
    def __init__(self, slot: _Optional[str] = ..., boot_id: _Optional[str] = ..., gpu_uuids: _Optional[_Iterable[str]] = ..., health: _Optional[_Union[_common_pb2.Health, str]] = ..., health_detail: _Optional[str] = ..., isolation: _Optional[_Union[_common_pb2.Isolation, str]] = ..., telemetry: _Optional[str] = ..., cpu_arch: _Optional[_Union[_common_pb2.CpuArch, str]] = ..., cpu_milli: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., runtime_alive: _Optional[bool] = ..., agent_connected: _Optional[bool] = ..., agent_version: _Optional[str] = ..., metrics_address: _Optional[str] = ..., attestation: _Optional[_Union[Attestation, _Mapping]] = ..., mig: _Optional[_Iterable[_Union[_common_pb2.MigInstance, _Mapping]]] = ...) -> None: ...

class Attestation(_message.Message):
    __slots__ = ("verdict", "detail", "evidence_digest", "observed_at_ms")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    verdict: str
    detail: str
    evidence_digest: str
    observed_at_ms: int
    def __init__(self, verdict: _Optional[str] = ..., detail: _Optional[str] = ..., evidence_digest: _Optional[str] = ..., observed_at_ms: _Optional[int] = ...) -> None: ...

class SiteReport(_message.Message):
    __slots__ = ("epoch", "generation", "attempts", "nodes", "full")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    generation: int
    attempts: _containers.RepeatedCompositeFieldContainer[AttemptReport]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeReport]
    full: bool
    def __init__(self, epoch: _Optional[int] = ..., generation: _Optional[int] = ..., attempts: _Optional[_Iterable[_Union[AttemptReport, _Mapping]]] = ..., nodes: _Optional[_Iterable[_Union[NodeReport, _Mapping]]] = ..., full: _Optional[bool] = ...) -> None: ...

class OpenTunnel(_message.Message):
    __slots__ = ("tunnel_id", "kind", "job_id", "attempt", "logs", "exec", "port_forward", "download", "outputs")
    TUNNEL_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    EXEC_FIELD_NUMBER: _ClassVar[int]
    PORT_FORWARD_FIELD_NUMBER: _ClassVar[int]
    DOWNLOAD_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    tunnel_id: str
    kind: TunnelKind
    job_id: str
    attempt: int
    logs: _jobs_pb2.LogsRequest
    exec: _jobs_pb2.ExecStart
    port_forward: _jobs_pb2.PortForwardStart
    download: _jobs_pb2.DownloadRequest
    outputs: _containers.RepeatedCompositeFieldContainer[_jobs_pb2.WrittenOutput]
    def __init__(self, tunnel_id: _Optional[str] = ..., kind: _Optional[_Union[TunnelKind, str]] = ..., job_id: _Optional[str] = ..., attempt: _Optional[int] = ..., logs: _Optional[_Union[_jobs_pb2.LogsRequest, _Mapping]] = ..., exec: _Optional[_Union[_jobs_pb2.ExecStart, _Mapping]] = ..., port_forward: _Optional[_Union[_jobs_pb2.PortForwardStart, _Mapping]] = ..., download: _Optional[_Union[_jobs_pb2.DownloadRequest, _Mapping]] = ..., outputs: _Optional[_Iterable[_Union[_jobs_pb2.WrittenOutput, _Mapping]]] = ...) -> None: ...

class TunnelRefused(_message.Message):
    __slots__ = ("tunnel_id", "reason", "detail")
    TUNNEL_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    tunnel_id: str
    reason: str
    detail: str
    def __init__(self, tunnel_id: _Optional[str] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class TunnelUp(_message.Message):
    __slots__ = ("tunnel_id", "logs", "exec", "port_forward", "download")
    TUNNEL_ID_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    EXEC_FIELD_NUMBER: _ClassVar[int]
    PORT_FORWARD_FIELD_NUMBER: _ClassVar[int]
    DOWNLOAD_FIELD_NUMBER: _ClassVar[int]
    tunnel_id: str
    logs: _jobs_pb2.LogsResponse
    exec: _jobs_pb2.ExecResponse
    port_forward: _jobs_pb2.PortForwardResponse
    download: _jobs_pb2.DownloadResponse
    def __init__(self, tunnel_id: _Optional[str] = ..., logs: _Optional[_Union[_jobs_pb2.LogsResponse, _Mapping]] = ..., exec: _Optional[_Union[_jobs_pb2.ExecResponse, _Mapping]] = ..., port_forward: _Optional[_Union[_jobs_pb2.PortForwardResponse, _Mapping]] = ..., download: _Optional[_Union[_jobs_pb2.DownloadResponse, _Mapping]] = ...) -> None: ...

class TunnelDown(_message.Message):
    __slots__ = ("exec", "port_forward")
    EXEC_FIELD_NUMBER: _ClassVar[int]
    PORT_FORWARD_FIELD_NUMBER: _ClassVar[int]
    exec: _jobs_pb2.ExecRequest
    port_forward: _jobs_pb2.PortForwardRequest
    def __init__(self, exec: _Optional[_Union[_jobs_pb2.ExecRequest, _Mapping]] = ..., port_forward: _Optional[_Union[_jobs_pb2.PortForwardRequest, _Mapping]] = ...) -> None: ...

class FetchBundleRequest(_message.Message):
    __slots__ = ("digest", "job_id", "attempt")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    digest: str
    job_id: str
    attempt: int
    def __init__(self, digest: _Optional[str] = ..., job_id: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class FetchBundleResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class StoredJobs(_message.Message):
    __slots__ = ("job_ids",)
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class JobsOver(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[JobOver]
    def __init__(self, jobs: _Optional[_Iterable[_Union[JobOver, _Mapping]]] = ...) -> None: ...

class JobOver(_message.Message):
    __slots__ = ("job_id", "ended_ago_ms")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ENDED_AGO_MS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    ended_ago_ms: int
    def __init__(self, job_id: _Optional[str] = ..., ended_ago_ms: _Optional[int] = ...) -> None: ...
