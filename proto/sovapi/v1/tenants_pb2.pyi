from sovapi.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BudgetPeriod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BUDGET_PERIOD_UNSPECIFIED: _ClassVar[BudgetPeriod]
    BUDGET_PERIOD_MONTH: _ClassVar[BudgetPeriod]
    BUDGET_PERIOD_QUARTER: _ClassVar[BudgetPeriod]
    BUDGET_PERIOD_DAYS: _ClassVar[BudgetPeriod]

class QueueOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUEUE_ORDER_UNSPECIFIED: _ClassVar[QueueOrder]
    QUEUE_ORDER_AGE: _ClassVar[QueueOrder]
    QUEUE_ORDER_SHORTEST: _ClassVar[QueueOrder]
BUDGET_PERIOD_UNSPECIFIED: BudgetPeriod
BUDGET_PERIOD_MONTH: BudgetPeriod
BUDGET_PERIOD_QUARTER: BudgetPeriod
BUDGET_PERIOD_DAYS: BudgetPeriod
QUEUE_ORDER_UNSPECIFIED: QueueOrder
QUEUE_ORDER_AGE: QueueOrder
QUEUE_ORDER_SHORTEST: QueueOrder

class GpuQuota(_message.Message):
    __slots__ = ("gpu_class", "guarantee_milli", "limit_milli", "weight", "borrow_limit_milli", "lend_limit_milli")
    GPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    GUARANTEE_MILLI_FIELD_NUMBER: _ClassVar[int]
    LIMIT_MILLI_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    BORROW_LIMIT_MILLI_FIELD_NUMBER: _ClassVar[int]
    LEND_LIMIT_MILLI_FIELD_NUMBER: _ClassVar[int]
    gpu_class: str
    guarantee_milli: int
    limit_milli: int
    weight: int
    borrow_limit_milli: int
    lend_limit_milli: int
    def __init__(self, gpu_class: _Optional[str] = ..., guarantee_milli: _Optional[int] = ..., limit_milli: _Optional[int] = ..., weight: _Optional[int] = ..., borrow_limit_milli: _Optional[int] = ..., lend_limit_milli: _Optional[int] = ...) -> None: ...

class Budget(_message.Message):
    __slots__ = ("gpu_class", "amount_gpu_ms", "period", "days", "from_day", "until_day")
    GPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_GPU_MS_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    FROM_DAY_FIELD_NUMBER: _ClassVar[int]
    UNTIL_DAY_FIELD_NUMBER: _ClassVar[int]
    gpu_class: str
    amount_gpu_ms: int
    period: BudgetPeriod
    days: int
    from_day: int
    until_day: int
    def __init__(self, gpu_class: _Optional[str] = ..., amount_gpu_ms: _Optional[int] = ..., period: _Optional[_Union[BudgetPeriod, str]] = ..., days: _Optional[int] = ..., from_day: _Optional[int] = ..., until_day: _Optional[int] = ...) -> None: ...

class Share(_message.Message):
    __slots__ = ("of", "agreement", "gpu_class", "guarantee_milli", "limit_milli", "since_ms")
    OF_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    GPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    GUARANTEE_MILLI_FIELD_NUMBER: _ClassVar[int]
    LIMIT_MILLI_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    of: str
    agreement: str
    gpu_class: str
    guarantee_milli: int
    limit_milli: int
    since_ms: int
    def __init__(self, of: _Optional[str] = ..., agreement: _Optional[str] = ..., gpu_class: _Optional[str] = ..., guarantee_milli: _Optional[int] = ..., limit_milli: _Optional[int] = ..., since_ms: _Optional[int] = ...) -> None: ...

class Tenant(_message.Message):
    __slots__ = ("path", "display_name", "weight", "quotas", "queue_order", "max_queued_jobs", "budgets", "shares")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    QUOTAS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_ORDER_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_JOBS_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    path: str
    display_name: str
    weight: int
    quotas: _containers.RepeatedCompositeFieldContainer[GpuQuota]
    queue_order: QueueOrder
    max_queued_jobs: int
    budgets: _containers.RepeatedCompositeFieldContainer[Budget]
    shares: _containers.RepeatedCompositeFieldContainer[Share]
    def __init__(self, path: _Optional[str] = ..., display_name: _Optional[str] = ..., weight: _Optional[int] = ..., quotas: _Optional[_Iterable[_Union[GpuQuota, _Mapping]]] = ..., queue_order: _Optional[_Union[QueueOrder, str]] = ..., max_queued_jobs: _Optional[int] = ..., budgets: _Optional[_Iterable[_Union[Budget, _Mapping]]] = ..., shares: _Optional[_Iterable[_Union[Share, _Mapping]]] = ...) -> None: ...

class ApplyTenantsRequest(_message.Message):
    __slots__ = ("tenants", "dry_run", "reason", "allow_unknown_gpu_classes")
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ALLOW_UNKNOWN_GPU_CLASSES_FIELD_NUMBER: _ClassVar[int]
    tenants: _containers.RepeatedCompositeFieldContainer[Tenant]
    dry_run: bool
    reason: str
    allow_unknown_gpu_classes: bool
    def __init__(self, tenants: _Optional[_Iterable[_Union[Tenant, _Mapping]]] = ..., dry_run: _Optional[bool] = ..., reason: _Optional[str] = ..., allow_unknown_gpu_classes: _Optional[bool] = ...) -> None: ...

class ApplyTenantsResponse(_message.Message):
    __slots__ = ("changes", "warnings")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedScalarFieldContainer[str]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, changes: _Optional[_Iterable[str]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

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
    __slots__ = ("tenant", "gpu_class", "guarantee_milli", "limit_milli", "used_milli", "borrowed_milli", "queued_milli", "weight", "borrow_limit_milli", "lend_limit_milli", "lent_milli", "shares", "given_milli")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    GPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    GUARANTEE_MILLI_FIELD_NUMBER: _ClassVar[int]
    LIMIT_MILLI_FIELD_NUMBER: _ClassVar[int]
    USED_MILLI_FIELD_NUMBER: _ClassVar[int]
    BORROWED_MILLI_FIELD_NUMBER: _ClassVar[int]
    QUEUED_MILLI_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    BORROW_LIMIT_MILLI_FIELD_NUMBER: _ClassVar[int]
    LEND_LIMIT_MILLI_FIELD_NUMBER: _ClassVar[int]
    LENT_MILLI_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    GIVEN_MILLI_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    gpu_class: str
    guarantee_milli: int
    limit_milli: int
    used_milli: int
    borrowed_milli: int
    queued_milli: int
    weight: int
    borrow_limit_milli: int
    lend_limit_milli: int
    lent_milli: int
    shares: _containers.RepeatedCompositeFieldContainer[Share]
    given_milli: int
    def __init__(self, tenant: _Optional[str] = ..., gpu_class: _Optional[str] = ..., guarantee_milli: _Optional[int] = ..., limit_milli: _Optional[int] = ..., used_milli: _Optional[int] = ..., borrowed_milli: _Optional[int] = ..., queued_milli: _Optional[int] = ..., weight: _Optional[int] = ..., borrow_limit_milli: _Optional[int] = ..., lend_limit_milli: _Optional[int] = ..., lent_milli: _Optional[int] = ..., shares: _Optional[_Iterable[_Union[Share, _Mapping]]] = ..., given_milli: _Optional[int] = ...) -> None: ...

class BudgetLine(_message.Message):
    __slots__ = ("tenant", "budget", "first_day", "end_day", "reserved_gpu_ms", "charged_gpu_ms", "left_gpu_ms")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    FIRST_DAY_FIELD_NUMBER: _ClassVar[int]
    END_DAY_FIELD_NUMBER: _ClassVar[int]
    RESERVED_GPU_MS_FIELD_NUMBER: _ClassVar[int]
    CHARGED_GPU_MS_FIELD_NUMBER: _ClassVar[int]
    LEFT_GPU_MS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    budget: Budget
    first_day: int
    end_day: int
    reserved_gpu_ms: int
    charged_gpu_ms: int
    left_gpu_ms: int
    def __init__(self, tenant: _Optional[str] = ..., budget: _Optional[_Union[Budget, _Mapping]] = ..., first_day: _Optional[int] = ..., end_day: _Optional[int] = ..., reserved_gpu_ms: _Optional[int] = ..., charged_gpu_ms: _Optional[int] = ..., left_gpu_ms: _Optional[int] = ...) -> None: ...

class GetQuotaResponse(_message.Message):
    __slots__ = ("lines", "budgets")
    LINES_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[QuotaLine]
    budgets: _containers.RepeatedCompositeFieldContainer[BudgetLine]
    def __init__(self, lines: _Optional[_Iterable[_Union[QuotaLine, _Mapping]]] = ..., budgets: _Optional[_Iterable[_Union[BudgetLine, _Mapping]]] = ...) -> None: ...

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
    __slots__ = ("tenant", "gpu_class", "gpu_milli_ms", "energy_mj", "co2e_mg", "jobs", "charged_gpu_ms", "refunded_gpu_ms", "running_gpu_ms", "attempts", "energy_measured")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    GPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLI_MS_FIELD_NUMBER: _ClassVar[int]
    ENERGY_MJ_FIELD_NUMBER: _ClassVar[int]
    CO2E_MG_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    CHARGED_GPU_MS_FIELD_NUMBER: _ClassVar[int]
    REFUNDED_GPU_MS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_GPU_MS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    ENERGY_MEASURED_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    gpu_class: str
    gpu_milli_ms: int
    energy_mj: int
    co2e_mg: int
    jobs: int
    charged_gpu_ms: int
    refunded_gpu_ms: int
    running_gpu_ms: int
    attempts: int
    energy_measured: bool
    def __init__(self, tenant: _Optional[str] = ..., gpu_class: _Optional[str] = ..., gpu_milli_ms: _Optional[int] = ..., energy_mj: _Optional[int] = ..., co2e_mg: _Optional[int] = ..., jobs: _Optional[int] = ..., charged_gpu_ms: _Optional[int] = ..., refunded_gpu_ms: _Optional[int] = ..., running_gpu_ms: _Optional[int] = ..., attempts: _Optional[int] = ..., energy_measured: _Optional[bool] = ...) -> None: ...

class GetUsageResponse(_message.Message):
    __slots__ = ("lines", "first_day", "end_day")
    LINES_FIELD_NUMBER: _ClassVar[int]
    FIRST_DAY_FIELD_NUMBER: _ClassVar[int]
    END_DAY_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[UsageLine]
    first_day: int
    end_day: int
    def __init__(self, lines: _Optional[_Iterable[_Union[UsageLine, _Mapping]]] = ..., first_day: _Optional[int] = ..., end_day: _Optional[int] = ...) -> None: ...

class QuotaWhatIfRequest(_message.Message):
    __slots__ = ("tenants", "allow_unknown_gpu_classes")
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    ALLOW_UNKNOWN_GPU_CLASSES_FIELD_NUMBER: _ClassVar[int]
    tenants: _containers.RepeatedCompositeFieldContainer[Tenant]
    allow_unknown_gpu_classes: bool
    def __init__(self, tenants: _Optional[_Iterable[_Union[Tenant, _Mapping]]] = ..., allow_unknown_gpu_classes: _Optional[bool] = ...) -> None: ...

class WhatIfStart(_message.Message):
    __slots__ = ("job_id", "tenant", "site", "gpu_class", "gpu_milli")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    GPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLI_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant: str
    site: str
    gpu_class: str
    gpu_milli: int
    def __init__(self, job_id: _Optional[str] = ..., tenant: _Optional[str] = ..., site: _Optional[str] = ..., gpu_class: _Optional[str] = ..., gpu_milli: _Optional[int] = ...) -> None: ...

class WhatIfReclaim(_message.Message):
    __slots__ = ("job_id", "tenant", "site", "gpu_class", "gpu_milli", "detail")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    GPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLI_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant: str
    site: str
    gpu_class: str
    gpu_milli: int
    detail: str
    def __init__(self, job_id: _Optional[str] = ..., tenant: _Optional[str] = ..., site: _Optional[str] = ..., gpu_class: _Optional[str] = ..., gpu_milli: _Optional[int] = ..., detail: _Optional[str] = ...) -> None: ...

class WhatIfWait(_message.Message):
    __slots__ = ("tenant", "jobs", "nodes", "gpus_per_node", "reason", "detail")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    GPUS_PER_NODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    jobs: int
    nodes: int
    gpus_per_node: int
    reason: str
    detail: str
    def __init__(self, tenant: _Optional[str] = ..., jobs: _Optional[int] = ..., nodes: _Optional[int] = ..., gpus_per_node: _Optional[int] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class WhatIfOutcome(_message.Message):
    __slots__ = ("starts", "reclaims", "waits", "jobs_starting", "jobs_reclaimed", "jobs_waiting")
    STARTS_FIELD_NUMBER: _ClassVar[int]
    RECLAIMS_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    JOBS_STARTING_FIELD_NUMBER: _ClassVar[int]
    JOBS_RECLAIMED_FIELD_NUMBER: _ClassVar[int]
    JOBS_WAITING_FIELD_NUMBER: _ClassVar[int]
    starts: _containers.RepeatedCompositeFieldContainer[WhatIfStart]
    reclaims: _containers.RepeatedCompositeFieldContainer[WhatIfReclaim]
    waits: _containers.RepeatedCompositeFieldContainer[WhatIfWait]
    jobs_starting: int
    jobs_reclaimed: int
    jobs_waiting: int
    def __init__(self, starts: _Optional[_Iterable[_Union[WhatIfStart, _Mapping]]] = ..., reclaims: _Optional[_Iterable[_Union[WhatIfReclaim, _Mapping]]] = ..., waits: _Optional[_Iterable[_Union[WhatIfWait, _Mapping]]] = ..., jobs_starting: _Optional[int] = ..., jobs_reclaimed: _Optional[int] = ..., jobs_waiting: _Optional[int] = ...) -> None: ...

class QuotaWhatIfResponse(_message.Message):
    __slots__ = ("now", "then", "changes", "warnings")
    NOW_FIELD_NUMBER: _ClassVar[int]
    THEN_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    now: WhatIfOutcome
    then: WhatIfOutcome
    changes: _containers.RepeatedScalarFieldContainer[str]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, now: _Optional[_Union[WhatIfOutcome, _Mapping]] = ..., then: _Optional[_Union[WhatIfOutcome, _Mapping]] = ..., changes: _Optional[_Iterable[str]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

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
