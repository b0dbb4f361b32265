from sovapi.v1 import identity_pb2 as _identity_pb2
from sovapi.v1 import jobs_pb2 as _jobs_pb2
from sovapi.v1 import sitelink_pb2 as _sitelink_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeMessage(_message.Message):
    __slots__ = ("hello", "report", "spool", "ping", "log_chunk", "power", "goods_page", "goods_chunk", "stored_jobs", "tunnel_refused")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    SPOOL_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    LOG_CHUNK_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    GOODS_PAGE_FIELD_NUMBER: _ClassVar[int]
    GOODS_CHUNK_FIELD_NUMBER: _ClassVar[int]
    STORED_JOBS_FIELD_NUMBER: _ClassVar[int]
    TUNNEL_REFUSED_FIELD_NUMBER: _ClassVar[int]
    hello: NodeHello
    report: _sitelink_pb2.NodeReport
    spool: SpoolReport
    ping: NodePing
    log_chunk: LogChunk
    power: NodePower
    goods_page: GoodsPage
    goods_chunk: GoodsChunk
    stored_jobs: _sitelink_pb2.StoredJobs
    tunnel_refused: _sitelink_pb2.TunnelRefused
    def __init__(self, hello: _Optional[_Union[NodeHello, _Mapping]] = ..., report: _Optional[_Union[_sitelink_pb2.NodeReport, _Mapping]] = ..., spool: _Optional[_Union[SpoolReport, _Mapping]] = ..., ping: _Optional[_Union[NodePing, _Mapping]] = ..., log_chunk: _Optional[_Union[LogChunk, _Mapping]] = ..., power: _Optional[_Union[NodePower, _Mapping]] = ..., goods_page: _Optional[_Union[GoodsPage, _Mapping]] = ..., goods_chunk: _Optional[_Union[GoodsChunk, _Mapping]] = ..., stored_jobs: _Optional[_Union[_sitelink_pb2.StoredJobs, _Mapping]] = ..., tunnel_refused: _Optional[_Union[_sitelink_pb2.TunnelRefused, _Mapping]] = ...) -> None: ...

class SiteOrder(_message.Message):
    __slots__ = ("welcome", "stop", "archive", "pong", "read_log", "list_goods", "read_goods", "jobs_over", "open_tunnel")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    READ_LOG_FIELD_NUMBER: _ClassVar[int]
    LIST_GOODS_FIELD_NUMBER: _ClassVar[int]
    READ_GOODS_FIELD_NUMBER: _ClassVar[int]
    JOBS_OVER_FIELD_NUMBER: _ClassVar[int]
    OPEN_TUNNEL_FIELD_NUMBER: _ClassVar[int]
    welcome: SiteWelcome
    stop: StopRank
    archive: ArchiveRank
    pong: NodePong
    read_log: ReadLog
    list_goods: ListGoods
    read_goods: ReadGoods
    jobs_over: _sitelink_pb2.JobsOver
    open_tunnel: _sitelink_pb2.OpenTunnel
    def __init__(self, welcome: _Optional[_Union[SiteWelcome, _Mapping]] = ..., stop: _Optional[_Union[StopRank, _Mapping]] = ..., archive: _Optional[_Union[ArchiveRank, _Mapping]] = ..., pong: _Optional[_Union[NodePong, _Mapping]] = ..., read_log: _Optional[_Union[ReadLog, _Mapping]] = ..., list_goods: _Optional[_Union[ListGoods, _Mapping]] = ..., read_goods: _Optional[_Union[ReadGoods, _Mapping]] = ..., jobs_over: _Optional[_Union[_sitelink_pb2.JobsOver, _Mapping]] = ..., open_tunnel: _Optional[_Union[_sitelink_pb2.OpenTunnel, _Mapping]] = ...) -> None: ...

class NodeHello(_message.Message):
    __slots__ = ("protocol_version", "slot", "boot_id", "agent_version")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    slot: str
    boot_id: str
    agent_version: str
    def __init__(self, protocol_version: _Optional[int] = ..., slot: _Optional[str] = ..., boot_id: _Optional[str] = ..., agent_version: _Optional[str] = ...) -> None: ...

class SiteWelcome(_message.Message):
    __slots__ = ("protocol_version", "site", "ping_interval_ms")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    PING_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    site: str
    ping_interval_ms: int
    def __init__(self, protocol_version: _Optional[int] = ..., site: _Optional[str] = ..., ping_interval_ms: _Optional[int] = ...) -> None: ...

class SpoolReport(_message.Message):
    __slots__ = ("full", "entries")
    FULL_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    full: bool
    entries: _containers.RepeatedCompositeFieldContainer[SpoolEntry]
    def __init__(self, full: _Optional[bool] = ..., entries: _Optional[_Iterable[_Union[SpoolEntry, _Mapping]]] = ...) -> None: ...

class SpoolEntry(_message.Message):
    __slots__ = ("key", "status", "gone")
    KEY_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    key: str
    status: _jobs_pb2.RankStatus
    gone: bool
    def __init__(self, key: _Optional[str] = ..., status: _Optional[_Union[_jobs_pb2.RankStatus, _Mapping]] = ..., gone: _Optional[bool] = ...) -> None: ...

class NodePower(_message.Message):
    __slots__ = ("gpu_watts",)
    GPU_WATTS_FIELD_NUMBER: _ClassVar[int]
    gpu_watts: int
    def __init__(self, gpu_watts: _Optional[int] = ...) -> None: ...

class NodePing(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class NodePong(_message.Message):
    __slots__ = ("sequence", "lease_ms")
    class LeaseMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    lease_ms: _containers.ScalarMap[str, int]
    def __init__(self, sequence: _Optional[int] = ..., lease_ms: _Optional[_Mapping[str, int]] = ...) -> None: ...

class StopRank(_message.Message):
    __slots__ = ("key", "grace_ms", "cause")
    KEY_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    key: str
    grace_ms: int
    cause: _jobs_pb2.RankCause
    def __init__(self, key: _Optional[str] = ..., grace_ms: _Optional[int] = ..., cause: _Optional[_Union[_jobs_pb2.RankCause, str]] = ...) -> None: ...

class ArchiveRank(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: str
    def __init__(self, key: _Optional[str] = ...) -> None: ...

class ReadLog(_message.Message):
    __slots__ = ("request", "key", "offset", "max_bytes", "since_ms")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    request: int
    key: str
    offset: int
    max_bytes: int
    since_ms: int
    def __init__(self, request: _Optional[int] = ..., key: _Optional[str] = ..., offset: _Optional[int] = ..., max_bytes: _Optional[int] = ..., since_ms: _Optional[int] = ...) -> None: ...

class LogChunk(_message.Message):
    __slots__ = ("request", "chunk", "offset", "over", "unknown")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    OVER_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    request: int
    chunk: bytes
    offset: int
    over: bool
    unknown: bool
    def __init__(self, request: _Optional[int] = ..., chunk: _Optional[bytes] = ..., offset: _Optional[int] = ..., over: _Optional[bool] = ..., unknown: _Optional[bool] = ...) -> None: ...

class Goods(_message.Message):
    __slots__ = ("job_id", "dataset", "version")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    dataset: str
    version: str
    def __init__(self, job_id: _Optional[str] = ..., dataset: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class ListGoods(_message.Message):
    __slots__ = ("request", "goods", "below", "begin_at", "max_files")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    GOODS_FIELD_NUMBER: _ClassVar[int]
    BELOW_FIELD_NUMBER: _ClassVar[int]
    BEGIN_AT_FIELD_NUMBER: _ClassVar[int]
    MAX_FILES_FIELD_NUMBER: _ClassVar[int]
    request: int
    goods: Goods
    below: str
    begin_at: str
    max_files: int
    def __init__(self, request: _Optional[int] = ..., goods: _Optional[_Union[Goods, _Mapping]] = ..., below: _Optional[str] = ..., begin_at: _Optional[str] = ..., max_files: _Optional[int] = ...) -> None: ...

class GoodsPage(_message.Message):
    __slots__ = ("request", "files", "next", "left_out", "refused")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    request: int
    files: _containers.RepeatedCompositeFieldContainer[_jobs_pb2.DownloadFile]
    next: str
    left_out: int
    refused: str
    def __init__(self, request: _Optional[int] = ..., files: _Optional[_Iterable[_Union[_jobs_pb2.DownloadFile, _Mapping]]] = ..., next: _Optional[str] = ..., left_out: _Optional[int] = ..., refused: _Optional[str] = ...) -> None: ...

class ReadGoods(_message.Message):
    __slots__ = ("request", "goods", "path", "offset", "max_bytes")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    GOODS_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    request: int
    goods: Goods
    path: str
    offset: int
    max_bytes: int
    def __init__(self, request: _Optional[int] = ..., goods: _Optional[_Union[Goods, _Mapping]] = ..., path: _Optional[str] = ..., offset: _Optional[int] = ..., max_bytes: _Optional[int] = ...) -> None: ...

class GoodsChunk(_message.Message):
    __slots__ = ("request", "chunk", "file", "refused")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    request: int
    chunk: bytes
    file: _jobs_pb2.DownloadFile
    refused: str
    def __init__(self, request: _Optional[int] = ..., chunk: _Optional[bytes] = ..., file: _Optional[_Union[_jobs_pb2.DownloadFile, _Mapping]] = ..., refused: _Optional[str] = ...) -> None: ...
