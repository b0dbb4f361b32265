from sovapi.v1 import common_pb2 as _common_pb2
from sovapi.v1 import jobs_pb2 as _jobs_pb2
from sovapi.v1 import tenants_pb2 as _tenants_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SiteStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SITE_STATUS_UNSPECIFIED: _ClassVar[SiteStatus]
    SITE_STATUS_ACTIVE: _ClassVar[SiteStatus]
    SITE_STATUS_PLANNED: _ClassVar[SiteStatus]
    SITE_STATUS_ON_HOLD: _ClassVar[SiteStatus]

class WindowKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WINDOW_KIND_UNSPECIFIED: _ClassVar[WindowKind]
    WINDOW_KIND_MAINTENANCE: _ClassVar[WindowKind]
    WINDOW_KIND_RESERVED: _ClassVar[WindowKind]

class ContactState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONTACT_STATE_UNSPECIFIED: _ClassVar[ContactState]
    CONTACT_STATE_BLOCKED: _ClassVar[ContactState]
    CONTACT_STATE_NOT_USED: _ClassVar[ContactState]
    CONTACT_STATE_DECLARED: _ClassVar[ContactState]
    CONTACT_STATE_NOT_CONTROLLED: _ClassVar[ContactState]
SITE_STATUS_UNSPECIFIED: SiteStatus
SITE_STATUS_ACTIVE: SiteStatus
SITE_STATUS_PLANNED: SiteStatus
SITE_STATUS_ON_HOLD: SiteStatus
WINDOW_KIND_UNSPECIFIED: WindowKind
WINDOW_KIND_MAINTENANCE: WindowKind
WINDOW_KIND_RESERVED: WindowKind
CONTACT_STATE_UNSPECIFIED: ContactState
CONTACT_STATE_BLOCKED: ContactState
CONTACT_STATE_NOT_USED: ContactState
CONTACT_STATE_DECLARED: ContactState
CONTACT_STATE_NOT_CONTROLLED: ContactState

class Fact(_message.Message):
    __slots__ = ("key", "values", "assurance", "asserted_by", "evidence_digest", "observed_at_ms", "expires_at_ms")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    ASSURANCE_FIELD_NUMBER: _ClassVar[int]
    ASSERTED_BY_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    key: str
    values: _containers.RepeatedScalarFieldContainer[str]
    assurance: _common_pb2.Assurance
    asserted_by: str
    evidence_digest: str
    observed_at_ms: int
    expires_at_ms: int
    def __init__(self, key: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ..., assurance: _Optional[_Union[_common_pb2.Assurance, str]] = ..., asserted_by: _Optional[str] = ..., evidence_digest: _Optional[str] = ..., observed_at_ms: _Optional[int] = ..., expires_at_ms: _Optional[int] = ...) -> None: ...

class Party(_message.Message):
    __slots__ = ("name", "country", "stake_milli_percent", "at_most")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    STAKE_MILLI_PERCENT_FIELD_NUMBER: _ClassVar[int]
    AT_MOST_FIELD_NUMBER: _ClassVar[int]
    name: str
    country: str
    stake_milli_percent: int
    at_most: bool
    def __init__(self, name: _Optional[str] = ..., country: _Optional[str] = ..., stake_milli_percent: _Optional[int] = ..., at_most: _Optional[bool] = ...) -> None: ...

class SiteProfile(_message.Message):
    __slots__ = ("landlord", "facility_operator", "service_operator", "offtaker", "cooling", "pue_milli", "note", "assumed")
    LANDLORD_FIELD_NUMBER: _ClassVar[int]
    FACILITY_OPERATOR_FIELD_NUMBER: _ClassVar[int]
    SERVICE_OPERATOR_FIELD_NUMBER: _ClassVar[int]
    OFFTAKER_FIELD_NUMBER: _ClassVar[int]
    COOLING_FIELD_NUMBER: _ClassVar[int]
    PUE_MILLI_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    ASSUMED_FIELD_NUMBER: _ClassVar[int]
    landlord: str
    facility_operator: str
    service_operator: str
    offtaker: str
    cooling: str
    pue_milli: int
    note: str
    assumed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, landlord: _Optional[str] = ..., facility_operator: _Optional[str] = ..., service_operator: _Optional[str] = ..., offtaker: _Optional[str] = ..., cooling: _Optional[str] = ..., pue_milli: _Optional[int] = ..., note: _Optional[str] = ..., assumed: _Optional[_Iterable[str]] = ...) -> None: ...

class NodeDeclaration(_message.Message):
    __slots__ = ("slot", "pod", "leaf", "nvlink_domain", "gpu_class", "gpus", "cpu_arch", "cpu_milli", "memory_bytes", "interconnects", "base_w", "gpu_w", "mig", "nvlink_spares")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    NVLINK_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    GPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    CPU_ARCH_FIELD_NUMBER: _ClassVar[int]
    CPU_MILLI_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    INTERCONNECTS_FIELD_NUMBER: _ClassVar[int]
    BASE_W_FIELD_NUMBER: _ClassVar[int]
    GPU_W_FIELD_NUMBER: _ClassVar[int]
    MIG_FIELD_NUMBER: _ClassVar[int]
    NVLINK_SPARES_FIELD_NUMBER: _ClassVar[int]
    slot: str
    pod: str
    leaf: str
    nvlink_domain: str
    gpu_class: str
    gpus: int
    cpu_arch: _common_pb2.CpuArch
    cpu_milli: int
    memory_bytes: int
    interconnects: _containers.RepeatedScalarFieldContainer[_common_pb2.Interconnect]
    base_w: int
    gpu_w: int
    mig: _containers.RepeatedCompositeFieldContainer[_common_pb2.MigInstance]
    nvlink_spares: int
    def __init__(self, slot: _Optional[str] = ..., pod: _Optional[str] = ..., leaf: _Optional[str] = ..., nvlink_domain: _Optional[str] = ..., gpu_class: _Optional[str] = ..., gpus: _Optional[int] = ..., cpu_arch: _Optional[_Union[_common_pb2.CpuArch, str]] = ..., cpu_milli: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., interconnects: _Optional[_Iterable[_Union[_common_pb2.Interconnect, str]]] = ..., base_w: _Optional[int] = ..., gpu_w: _Optional[int] = ..., mig: _Optional[_Iterable[_Union[_common_pb2.MigInstance, _Mapping]]] = ..., nvlink_spares: _Optional[int] = ...) -> None: ...

class SiteDeclaration(_message.Message):
    __slots__ = ("id", "display_name", "status", "facts", "ultimate_parents", "nodes", "min_isolation", "power_cap_w", "profile", "energy")
    ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    ULTIMATE_PARENTS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    MIN_ISOLATION_FIELD_NUMBER: _ClassVar[int]
    POWER_CAP_W_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    ENERGY_FIELD_NUMBER: _ClassVar[int]
    id: str
    display_name: str
    status: SiteStatus
    facts: _containers.RepeatedCompositeFieldContainer[Fact]
    ultimate_parents: _containers.RepeatedCompositeFieldContainer[Party]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeDeclaration]
    min_isolation: _common_pb2.Isolation
    power_cap_w: int
    profile: SiteProfile
    energy: SiteEnergy
    def __init__(self, id: _Optional[str] = ..., display_name: _Optional[str] = ..., status: _Optional[_Union[SiteStatus, str]] = ..., facts: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ..., ultimate_parents: _Optional[_Iterable[_Union[Party, _Mapping]]] = ..., nodes: _Optional[_Iterable[_Union[NodeDeclaration, _Mapping]]] = ..., min_isolation: _Optional[_Union[_common_pb2.Isolation, str]] = ..., power_cap_w: _Optional[int] = ..., profile: _Optional[_Union[SiteProfile, _Mapping]] = ..., energy: _Optional[_Union[SiteEnergy, _Mapping]] = ...) -> None: ...

class SiteEnergy(_message.Message):
    __slots__ = ("carbon_g_per_kwh", "price_pence_per_mwh", "source", "observed_at_ms")
    CARBON_G_PER_KWH_FIELD_NUMBER: _ClassVar[int]
    PRICE_PENCE_PER_MWH_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    carbon_g_per_kwh: int
    price_pence_per_mwh: int
    source: str
    observed_at_ms: int
    def __init__(self, carbon_g_per_kwh: _Optional[int] = ..., price_pence_per_mwh: _Optional[int] = ..., source: _Optional[str] = ..., observed_at_ms: _Optional[int] = ...) -> None: ...

class ApplyFleetRequest(_message.Message):
    __slots__ = ("sites", "dry_run", "reason")
    SITES_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    sites: _containers.RepeatedCompositeFieldContainer[SiteDeclaration]
    dry_run: bool
    reason: str
    def __init__(self, sites: _Optional[_Iterable[_Union[SiteDeclaration, _Mapping]]] = ..., dry_run: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class ApplyFleetResponse(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, changes: _Optional[_Iterable[str]] = ...) -> None: ...

class FleetWhatIfRequest(_message.Message):
    __slots__ = ("sites", "without_sites")
    SITES_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_SITES_FIELD_NUMBER: _ClassVar[int]
    sites: _containers.RepeatedCompositeFieldContainer[SiteDeclaration]
    without_sites: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sites: _Optional[_Iterable[_Union[SiteDeclaration, _Mapping]]] = ..., without_sites: _Optional[_Iterable[str]] = ...) -> None: ...

class Displaced(_message.Message):
    __slots__ = ("tenant", "gpu_class", "held_milli", "placed_milli")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    GPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    HELD_MILLI_FIELD_NUMBER: _ClassVar[int]
    PLACED_MILLI_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    gpu_class: str
    held_milli: int
    placed_milli: int
    def __init__(self, tenant: _Optional[str] = ..., gpu_class: _Optional[str] = ..., held_milli: _Optional[int] = ..., placed_milli: _Optional[int] = ...) -> None: ...

class FleetWhatIfResponse(_message.Message):
    __slots__ = ("now", "then", "changes", "displaced", "nodes_assumed")
    NOW_FIELD_NUMBER: _ClassVar[int]
    THEN_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    DISPLACED_FIELD_NUMBER: _ClassVar[int]
    NODES_ASSUMED_FIELD_NUMBER: _ClassVar[int]
    now: _tenants_pb2.WhatIfOutcome
    then: _tenants_pb2.WhatIfOutcome
    changes: _containers.RepeatedScalarFieldContainer[str]
    displaced: _containers.RepeatedCompositeFieldContainer[Displaced]
    nodes_assumed: int
    def __init__(self, now: _Optional[_Union[_tenants_pb2.WhatIfOutcome, _Mapping]] = ..., then: _Optional[_Union[_tenants_pb2.WhatIfOutcome, _Mapping]] = ..., changes: _Optional[_Iterable[str]] = ..., displaced: _Optional[_Iterable[_Union[Displaced, _Mapping]]] = ..., nodes_assumed: _Optional[int] = ...) -> None: ...

class Site(_message.Message):
    __slots__ = ("id", "display_name", "status", "country", "operator", "facts", "connected", "last_contact_age_ms", "nodes_total", "nodes_ready", "gpus_total", "gpus_used_milli", "cordoned", "agent_version", "ultimate_parents", "generation", "acked_generation", "profile", "power_cap_w", "gpu_power_w", "gpu_power_nodes", "energy")
    ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    LAST_CONTACT_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    NODES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    NODES_READY_FIELD_NUMBER: _ClassVar[int]
    GPUS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    GPUS_USED_MILLI_FIELD_NUMBER: _ClassVar[int]
    CORDONED_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    ULTIMATE_PARENTS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    ACKED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    POWER_CAP_W_FIELD_NUMBER: _ClassVar[int]
    GPU_POWER_W_FIELD_NUMBER: _ClassVar[int]
    GPU_POWER_NODES_FIELD_NUMBER: _ClassVar[int]
    ENERGY_FIELD_NUMBER: _ClassVar[int]
    id: str
    display_name: str
    status: SiteStatus
    country: str
    operator: str
    facts: _containers.RepeatedCompositeFieldContainer[Fact]
    connected: bool
    last_contact_age_ms: int
    nodes_total: int
    nodes_ready: int
    gpus_total: int
    gpus_used_milli: int
    cordoned: bool
    agent_version: str
    ultimate_parents: _containers.RepeatedCompositeFieldContainer[Party]
    generation: int
    acked_generation: int
    profile: SiteProfile
    power_cap_w: int
    gpu_power_w: int
    gpu_power_nodes: int
    energy: SiteEnergy
    def __init__(self, id: _Optional[str] = ..., display_name: _Optional[str] = ..., status: _Optional[_Union[SiteStatus, str]] = ..., country: _Optional[str] = ..., operator: _Optional[str] = ..., facts: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ..., connected: _Optional[bool] = ..., last_contact_age_ms: _Optional[int] = ..., nodes_total: _Optional[int] = ..., nodes_ready: _Optional[int] = ..., gpus_total: _Optional[int] = ..., gpus_used_milli: _Optional[int] = ..., cordoned: _Optional[bool] = ..., agent_version: _Optional[str] = ..., ultimate_parents: _Optional[_Iterable[_Union[Party, _Mapping]]] = ..., generation: _Optional[int] = ..., acked_generation: _Optional[int] = ..., profile: _Optional[_Union[SiteProfile, _Mapping]] = ..., power_cap_w: _Optional[int] = ..., gpu_power_w: _Optional[int] = ..., gpu_power_nodes: _Optional[int] = ..., energy: _Optional[_Union[SiteEnergy, _Mapping]] = ...) -> None: ...

class ListSitesRequest(_message.Message):
    __slots__ = ("page",)
    PAGE_FIELD_NUMBER: _ClassVar[int]
    page: _common_pb2.PageRequest
    def __init__(self, page: _Optional[_Union[_common_pb2.PageRequest, _Mapping]] = ...) -> None: ...

class ListSitesResponse(_message.Message):
    __slots__ = ("sites", "next_page_token")
    SITES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sites: _containers.RepeatedCompositeFieldContainer[Site]
    next_page_token: str
    def __init__(self, sites: _Optional[_Iterable[_Union[Site, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("id", "site", "pod", "leaf", "nvlink_domain", "gpu_class", "gpus", "gpus_reported", "gpus_used_milli", "cpu_arch", "health", "health_detail", "isolation", "cordoned", "boot_id", "telemetry", "last_report_age_ms", "location", "facts", "mig", "mig_reported")
    ID_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    NVLINK_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    GPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    GPUS_REPORTED_FIELD_NUMBER: _ClassVar[int]
    GPUS_USED_MILLI_FIELD_NUMBER: _ClassVar[int]
    CPU_ARCH_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    HEALTH_DETAIL_FIELD_NUMBER: _ClassVar[int]
    ISOLATION_FIELD_NUMBER: _ClassVar[int]
    CORDONED_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    LAST_REPORT_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    MIG_FIELD_NUMBER: _ClassVar[int]
    MIG_REPORTED_FIELD_NUMBER: _ClassVar[int]
    id: str
    site: str
    pod: str
    leaf: str
    nvlink_domain: str
    gpu_class: str
    gpus: int
    gpus_reported: int
    gpus_used_milli: int
    cpu_arch: _common_pb2.CpuArch
    health: _common_pb2.Health
    health_detail: str
    isolation: _common_pb2.Isolation
    cordoned: bool
    boot_id: str
    telemetry: str
    last_report_age_ms: int
    location: NodeLocation
    facts: _containers.RepeatedCompositeFieldContainer[NodeFact]
    mig: _containers.RepeatedCompositeFieldContainer[_common_pb2.MigInstance]
    mig_reported: _containers.RepeatedCompositeFieldContainer[_common_pb2.MigInstance]
    def __init__(self, id: _Optional[str] = ..., site: _Optional[str] = ..., pod: _Optional[str] = ..., leaf: _Optional[str] = ..., nvlink_domain: _Optional[str] = ..., gpu_class: _Optional[str] = ..., gpus: _Optional[int] = ..., gpus_reported: _Optional[int] = ..., gpus_used_milli: _Optional[int] = ..., cpu_arch: _Optional[_Union[_common_pb2.CpuArch, str]] = ..., health: _Optional[_Union[_common_pb2.Health, str]] = ..., health_detail: _Optional[str] = ..., isolation: _Optional[_Union[_common_pb2.Isolation, str]] = ..., cordoned: _Optional[bool] = ..., boot_id: _Optional[str] = ..., telemetry: _Optional[str] = ..., last_report_age_ms: _Optional[int] = ..., location: _Optional[_Union[NodeLocation, _Mapping]] = ..., facts: _Optional[_Iterable[_Union[NodeFact, _Mapping]]] = ..., mig: _Optional[_Iterable[_Union[_common_pb2.MigInstance, _Mapping]]] = ..., mig_reported: _Optional[_Iterable[_Union[_common_pb2.MigInstance, _Mapping]]] = ...) -> None: ...

class NodeFact(_message.Message):
    __slots__ = ("fact", "claim", "detail", "bound_m", "heard")
    FACT_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    BOUND_M_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    fact: Fact
    claim: str
    detail: str
    bound_m: int
    heard: _containers.RepeatedCompositeFieldContainer[Hearing]
    def __init__(self, fact: _Optional[_Union[Fact, _Mapping]] = ..., claim: _Optional[str] = ..., detail: _Optional[str] = ..., bound_m: _Optional[int] = ..., heard: _Optional[_Iterable[_Union[Hearing, _Mapping]]] = ...) -> None: ...

class Hearing(_message.Message):
    __slots__ = ("landmark", "operator", "rtt_min_us", "at_ms")
    LANDMARK_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    RTT_MIN_US_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    landmark: str
    operator: str
    rtt_min_us: int
    at_ms: int
    def __init__(self, landmark: _Optional[str] = ..., operator: _Optional[str] = ..., rtt_min_us: _Optional[int] = ..., at_ms: _Optional[int] = ...) -> None: ...

class NodeLocation(_message.Message):
    __slots__ = ("verdict", "detail", "country", "bound_m", "age_ms")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    BOUND_M_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    verdict: str
    detail: str
    country: str
    bound_m: int
    age_ms: int
    def __init__(self, verdict: _Optional[str] = ..., detail: _Optional[str] = ..., country: _Optional[str] = ..., bound_m: _Optional[int] = ..., age_ms: _Optional[int] = ...) -> None: ...

class ListNodesRequest(_message.Message):
    __slots__ = ("page", "site")
    PAGE_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    page: _common_pb2.PageRequest
    site: str
    def __init__(self, page: _Optional[_Union[_common_pb2.PageRequest, _Mapping]] = ..., site: _Optional[str] = ...) -> None: ...

class ListNodesResponse(_message.Message):
    __slots__ = ("nodes", "next_page_token")
    NODES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    next_page_token: str
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class OverviewRequest(_message.Message):
    __slots__ = ("unfit_max",)
    UNFIT_MAX_FIELD_NUMBER: _ClassVar[int]
    unfit_max: int
    def __init__(self, unfit_max: _Optional[int] = ...) -> None: ...

class GpuUse(_message.Message):
    __slots__ = ("gpu_class", "nodes", "nodes_ready", "gpus", "gpus_ready", "used_milli")
    GPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    NODES_READY_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    GPUS_READY_FIELD_NUMBER: _ClassVar[int]
    USED_MILLI_FIELD_NUMBER: _ClassVar[int]
    gpu_class: str
    nodes: int
    nodes_ready: int
    gpus: int
    gpus_ready: int
    used_milli: int
    def __init__(self, gpu_class: _Optional[str] = ..., nodes: _Optional[int] = ..., nodes_ready: _Optional[int] = ..., gpus: _Optional[int] = ..., gpus_ready: _Optional[int] = ..., used_milli: _Optional[int] = ...) -> None: ...

class SiteOverview(_message.Message):
    __slots__ = ("site", "gpus", "attempts_running", "attempts_moving")
    SITE_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_MOVING_FIELD_NUMBER: _ClassVar[int]
    site: Site
    gpus: _containers.RepeatedCompositeFieldContainer[GpuUse]
    attempts_running: int
    attempts_moving: int
    def __init__(self, site: _Optional[_Union[Site, _Mapping]] = ..., gpus: _Optional[_Iterable[_Union[GpuUse, _Mapping]]] = ..., attempts_running: _Optional[int] = ..., attempts_moving: _Optional[int] = ...) -> None: ...

class OverviewResponse(_message.Message):
    __slots__ = ("sites", "jobs_queued", "gpus_queued_milli", "unfit", "unfit_total")
    SITES_FIELD_NUMBER: _ClassVar[int]
    JOBS_QUEUED_FIELD_NUMBER: _ClassVar[int]
    GPUS_QUEUED_MILLI_FIELD_NUMBER: _ClassVar[int]
    UNFIT_FIELD_NUMBER: _ClassVar[int]
    UNFIT_TOTAL_FIELD_NUMBER: _ClassVar[int]
    sites: _containers.RepeatedCompositeFieldContainer[SiteOverview]
    jobs_queued: int
    gpus_queued_milli: int
    unfit: _containers.RepeatedCompositeFieldContainer[Node]
    unfit_total: int
    def __init__(self, sites: _Optional[_Iterable[_Union[SiteOverview, _Mapping]]] = ..., jobs_queued: _Optional[int] = ..., gpus_queued_milli: _Optional[int] = ..., unfit: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., unfit_total: _Optional[int] = ...) -> None: ...

class CordonRequest(_message.Message):
    __slots__ = ("target", "reason")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    target: str
    reason: str
    def __init__(self, target: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CordonResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UncordonRequest(_message.Message):
    __slots__ = ("target", "reason")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    target: str
    reason: str
    def __init__(self, target: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class UncordonResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("target", "reason", "deadline_ms")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    target: str
    reason: str
    deadline_ms: int
    def __init__(self, target: _Optional[str] = ..., reason: _Optional[str] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("attempts_affected",)
    ATTEMPTS_AFFECTED_FIELD_NUMBER: _ClassVar[int]
    attempts_affected: int
    def __init__(self, attempts_affected: _Optional[int] = ...) -> None: ...

class FenceRequest(_message.Message):
    __slots__ = ("node", "reason")
    NODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    node: str
    reason: str
    def __init__(self, node: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class FenceResponse(_message.Message):
    __slots__ = ("attempts_fenced",)
    ATTEMPTS_FENCED_FIELD_NUMBER: _ClassVar[int]
    attempts_fenced: int
    def __init__(self, attempts_fenced: _Optional[int] = ...) -> None: ...

class VerdictsRequest(_message.Message):
    __slots__ = ("requirements", "site")
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    requirements: _containers.RepeatedCompositeFieldContainer[_jobs_pb2.ResidencyRequirement]
    site: str
    def __init__(self, requirements: _Optional[_Iterable[_Union[_jobs_pb2.ResidencyRequirement, _Mapping]]] = ..., site: _Optional[str] = ...) -> None: ...

class SiteVerdict(_message.Message):
    __slots__ = ("site", "requirement", "permitted", "denials")
    SITE_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENT_FIELD_NUMBER: _ClassVar[int]
    PERMITTED_FIELD_NUMBER: _ClassVar[int]
    DENIALS_FIELD_NUMBER: _ClassVar[int]
    site: str
    requirement: int
    permitted: bool
    denials: _containers.RepeatedCompositeFieldContainer[_common_pb2.Denial]
    def __init__(self, site: _Optional[str] = ..., requirement: _Optional[int] = ..., permitted: _Optional[bool] = ..., denials: _Optional[_Iterable[_Union[_common_pb2.Denial, _Mapping]]] = ...) -> None: ...

class VerdictsResponse(_message.Message):
    __slots__ = ("verdicts",)
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedCompositeFieldContainer[SiteVerdict]
    def __init__(self, verdicts: _Optional[_Iterable[_Union[SiteVerdict, _Mapping]]] = ...) -> None: ...

class MaintenanceWindow(_message.Message):
    __slots__ = ("id", "target", "from_ms", "to_ms", "reason", "kind", "nodes", "tenant", "count", "gpu_class", "added_by", "begun")
    ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    FROM_MS_FIELD_NUMBER: _ClassVar[int]
    TO_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    GPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    ADDED_BY_FIELD_NUMBER: _ClassVar[int]
    BEGUN_FIELD_NUMBER: _ClassVar[int]
    id: str
    target: str
    from_ms: int
    to_ms: int
    reason: str
    kind: WindowKind
    nodes: _containers.RepeatedScalarFieldContainer[str]
    tenant: str
    count: int
    gpu_class: str
    added_by: str
    begun: bool
    def __init__(self, id: _Optional[str] = ..., target: _Optional[str] = ..., from_ms: _Optional[int] = ..., to_ms: _Optional[int] = ..., reason: _Optional[str] = ..., kind: _Optional[_Union[WindowKind, str]] = ..., nodes: _Optional[_Iterable[str]] = ..., tenant: _Optional[str] = ..., count: _Optional[int] = ..., gpu_class: _Optional[str] = ..., added_by: _Optional[str] = ..., begun: _Optional[bool] = ...) -> None: ...

class AddMaintenanceRequest(_message.Message):
    __slots__ = ("window",)
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    window: MaintenanceWindow
    def __init__(self, window: _Optional[_Union[MaintenanceWindow, _Mapping]] = ...) -> None: ...

class AddMaintenanceResponse(_message.Message):
    __slots__ = ("window",)
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    window: MaintenanceWindow
    def __init__(self, window: _Optional[_Union[MaintenanceWindow, _Mapping]] = ...) -> None: ...

class ListMaintenanceRequest(_message.Message):
    __slots__ = ("page", "kind")
    PAGE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    page: _common_pb2.PageRequest
    kind: WindowKind
    def __init__(self, page: _Optional[_Union[_common_pb2.PageRequest, _Mapping]] = ..., kind: _Optional[_Union[WindowKind, str]] = ...) -> None: ...

class ListMaintenanceResponse(_message.Message):
    __slots__ = ("windows", "next_page_token")
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    windows: _containers.RepeatedCompositeFieldContainer[MaintenanceWindow]
    next_page_token: str
    def __init__(self, windows: _Optional[_Iterable[_Union[MaintenanceWindow, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RemoveMaintenanceRequest(_message.Message):
    __slots__ = ("id", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    reason: str
    def __init__(self, id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RemoveMaintenanceResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BlockingSetting(_message.Message):
    __slots__ = ("name", "value", "file")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    file: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., file: _Optional[str] = ...) -> None: ...

class ExternalDependency(_message.Message):
    __slots__ = ("name", "hosts", "program", "when", "needed", "state", "detail", "settings", "site", "countries")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    WHEN_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    COUNTRIES_FIELD_NUMBER: _ClassVar[int]
    name: str
    hosts: _containers.RepeatedScalarFieldContainer[str]
    program: str
    when: str
    needed: bool
    state: ContactState
    detail: str
    settings: _containers.RepeatedCompositeFieldContainer[BlockingSetting]
    site: str
    countries: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., hosts: _Optional[_Iterable[str]] = ..., program: _Optional[str] = ..., when: _Optional[str] = ..., needed: _Optional[bool] = ..., state: _Optional[_Union[ContactState, str]] = ..., detail: _Optional[str] = ..., settings: _Optional[_Iterable[_Union[BlockingSetting, _Mapping]]] = ..., site: _Optional[str] = ..., countries: _Optional[_Iterable[str]] = ...) -> None: ...

class ListDependenciesRequest(_message.Message):
    __slots__ = ("home",)
    HOME_FIELD_NUMBER: _ClassVar[int]
    home: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, home: _Optional[_Iterable[str]] = ...) -> None: ...

class ListDependenciesResponse(_message.Message):
    __slots__ = ("dependencies",)
    DEPENDENCIES_FIELD_NUMBER: _ClassVar[int]
    dependencies: _containers.RepeatedCompositeFieldContainer[ExternalDependency]
    def __init__(self, dependencies: _Optional[_Iterable[_Union[ExternalDependency, _Mapping]]] = ...) -> None: ...
