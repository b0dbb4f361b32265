from sovapi.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class QueueOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUEUE_ORDER_UNSPECIFIED: _ClassVar[QueueOrder]
    QUEUE_ORDER_AGE: _ClassVar[QueueOrder]
    QUEUE_ORDER_SHORTEST: _ClassVar[QueueOrder]
QUEUE_ORDER_UNSPECIFIED: QueueOrder
QUEUE_ORDER_AGE: QueueOrder
QUEUE_ORDER_SHORTEST: QueueOrder

class GpuQuota(_message.Message):
    __slots__ = ("gpu_class", "guarantee_milli", "limit_milli")
    GPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    GUARANTEE_MILLI_FIELD_NUMBER: _ClassVar[int]
    LIMIT_MILLI_FIELD_NUMBER: _ClassVar[int]
    gpu_class: str
    guarantee_milli: int
    limit_milli: int
    def __init__(self, gpu_class: _Optional[str] = ..., guarantee_milli: _Optional[int] = ..., limit_milli: _Optional[int] = ...) -> None: ...

class Tenant(_message.Message):
    __slots__ = ("path", "display_name", "weight", "quotas", "queue_order", "max_queued_jobs")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    QUOTAS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_ORDER_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_JOBS_FIELD_NUMBER: _ClassVar[int]
    path: str
    display_name: str
    weight: int
    quotas: _containers.RepeatedCompositeFieldContainer[GpuQuota]
    queue_order: QueueOrder
    max_queued_jobs: int
    def __init__(self, path: _Optional[str] = ..., display_name: _Optional[str] = ..., weight: _Optional[int] = ..., quotas: _Optional[_Iterable[_Union[GpuQuota, _Mapping]]] = ..., queue_order: _Optional[_Union[QueueOrder, str]] = ..., max_queued_jobs: _Optional[int] = ...) -> None: ...

class ApplyTenantsRequest(_message.Message):
    __slots__ = ("tenants", "dry_run", "reason")
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    tenants: _containers.RepeatedCompositeFieldContainer[Tenant]
    dry_run: bool
    reason: str
    def __init__(self, tenants: _Optional[_Iterable[_Union[Tenant, _Mapping]]] = ..., dry_run: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class ApplyTenantsResponse(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, changes: _Optional[_Iterable[str]] = ...) -> None: ...

class ListTenantsRequest(_message.Message):
    __slots__ = ("page",)
    PAGE_FIELD_NUMBER: _ClassVar[int]
    page: _common_pb2.PageRequest
    def __init__(self, page: _Optional[_Union[_common_pb2.PageRequest, _Mapping]] = ...) -> None: ...

class ListTenantsResponse(_message.Message):
    __slots__ = ("tenants", "next_page_token")
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tenants: _containers.RepeatedCompositeFieldContainer[Tenant]
    next_page_token: str
    def __init__(self, tenants: _Optional[_Iterable[_Union[Tenant, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetQuotaRequest(_message.Message):
    __slots__ = ("tenant",)
    TENANT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    def __init__(self, tenant: _Optional[str] = ...) -> None: ...

class QuotaLine(_message.Message):
    __slots__ = ("tenant", "gpu_class", "guarantee_milli", "limit_milli", "used_milli", "borrowed_milli", "queued_milli")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    GPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    GUARANTEE_MILLI_FIELD_NUMBER: _ClassVar[int]
    LIMIT_MILLI_FIELD_NUMBER: _ClassVar[int]
    USED_MILLI_FIELD_NUMBER: _ClassVar[int]
    BORROWED_MILLI_FIELD_NUMBER: _ClassVar[int]
    QUEUED_MILLI_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    gpu_class: str
    guarantee_milli: int
    limit_milli: int
    used_milli: int
    borrowed_milli: int
    queued_milli: int
    def __init__(self, tenant: _Optional[str] = ..., gpu_class: _Optional[str] = ..., guarantee_milli: _Optional[int] = ..., limit_milli: _Optional[int] = ..., used_milli: _Optional[int] = ..., borrowed_milli: _Optional[int] = ..., queued_milli: _Optional[int] = ...) -> None: ...

class GetQuotaResponse(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[QuotaLine]
    def __init__(self, lines: _Optional[_Iterable[_Union[QuotaLine, _Mapping]]] = ...) -> None: ...

class GetUsageRequest(_message.Message):
    __slots__ = ("tenant", "since_ms", "until_ms")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    since_ms: int
    until_ms: int
    def __init__(self, tenant: _Optional[str] = ..., since_ms: _Optional[int] = ..., until_ms: _Optional[int] = ...) -> None: ...

class UsageLine(_message.Message):
    __slots__ = ("tenant", "gpu_class", "gpu_milli_ms", "energy_mj", "co2e_mg", "jobs")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    GPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLI_MS_FIELD_NUMBER: _ClassVar[int]
    ENERGY_MJ_FIELD_NUMBER: _ClassVar[int]
    CO2E_MG_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    gpu_class: str
    gpu_milli_ms: int
    energy_mj: int
    co2e_mg: int
    jobs: int
    def __init__(self, tenant: _Optional[str] = ..., gpu_class: _Optional[str] = ..., gpu_milli_ms: _Optional[int] = ..., energy_mj: _Optional[int] = ..., co2e_mg: _Optional[int] = ..., jobs: _Optional[int] = ...) -> None: ...

class GetUsageResponse(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[UsageLine]
    def __init__(self, lines: _Optional[_Iterable[_Union[UsageLine, _Mapping]]] = ...) -> None: ...

class SetSecretRequest(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: bytes
    def __init__(self, name: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class SetSecretResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSecretsRequest(_message.Message):
    __slots__ = ("page",)
    PAGE_FIELD_NUMBER: _ClassVar[int]
    page: _common_pb2.PageRequest
    def __init__(self, page: _Optional[_Union[_common_pb2.PageRequest, _Mapping]] = ...) -> None: ...

class ListSecretsResponse(_message.Message):
    __slots__ = ("names", "next_page_token")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    next_page_token: str
    def __init__(self, names: _Optional[_Iterable[str]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RemoveSecretRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RemoveSecretResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
