from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Assurance(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ASSURANCE_UNSPECIFIED: _ClassVar[Assurance]
    ASSURANCE_DECLARED: _ClassVar[Assurance]
    ASSURANCE_AUDITED: _ClassVar[Assurance]
    ASSURANCE_ATTESTED: _ClassVar[Assurance]
    ASSURANCE_MEASURED: _ClassVar[Assurance]

class Isolation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ISOLATION_UNSPECIFIED: _ClassVar[Isolation]
    ISOLATION_NONE: _ClassVar[Isolation]
    ISOLATION_PIDNS: _ClassVar[Isolation]
    ISOLATION_UID: _ClassVar[Isolation]
    ISOLATION_CONTAINER: _ClassVar[Isolation]

class Health(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEALTH_UNSPECIFIED: _ClassVar[Health]
    HEALTH_OK: _ClassVar[Health]
    HEALTH_DEGRADED: _ClassVar[Health]
    HEALTH_FAILED: _ClassVar[Health]
    HEALTH_UNKNOWN: _ClassVar[Health]

class CpuArch(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CPU_ARCH_UNSPECIFIED: _ClassVar[CpuArch]
    CPU_ARCH_AMD64: _ClassVar[CpuArch]
    CPU_ARCH_ARM64: _ClassVar[CpuArch]
    CPU_ARCH_ANY: _ClassVar[CpuArch]

class Interconnect(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INTERCONNECT_UNSPECIFIED: _ClassVar[Interconnect]
    INTERCONNECT_ANY: _ClassVar[Interconnect]
    INTERCONNECT_ETHERNET: _ClassVar[Interconnect]
    INTERCONNECT_ROCE: _ClassVar[Interconnect]
    INTERCONNECT_INFINIBAND: _ClassVar[Interconnect]
    INTERCONNECT_NVLINK: _ClassVar[Interconnect]

class Tier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIER_UNSPECIFIED: _ClassVar[Tier]
    TIER_OFFICIAL: _ClassVar[Tier]
    TIER_SECRET: _ClassVar[Tier]
    TIER_TOP_SECRET: _ClassVar[Tier]

class Clearance(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLEARANCE_UNSPECIFIED: _ClassVar[Clearance]
    CLEARANCE_BPSS: _ClassVar[Clearance]
    CLEARANCE_SC: _ClassVar[Clearance]
    CLEARANCE_DV: _ClassVar[Clearance]
ASSURANCE_UNSPECIFIED: Assurance
ASSURANCE_DECLARED: Assurance
ASSURANCE_AUDITED: Assurance
ASSURANCE_ATTESTED: Assurance
ASSURANCE_MEASURED: Assurance
ISOLATION_UNSPECIFIED: Isolation
ISOLATION_NONE: Isolation
ISOLATION_PIDNS: Isolation
ISOLATION_UID: Isolation
ISOLATION_CONTAINER: Isolation
HEALTH_UNSPECIFIED: Health
HEALTH_OK: Health
HEALTH_DEGRADED: Health
HEALTH_FAILED: Health
HEALTH_UNKNOWN: Health
CPU_ARCH_UNSPECIFIED: CpuArch
CPU_ARCH_AMD64: CpuArch
CPU_ARCH_ARM64: CpuArch
CPU_ARCH_ANY: CpuArch
INTERCONNECT_UNSPECIFIED: Interconnect
INTERCONNECT_ANY: Interconnect
INTERCONNECT_ETHERNET: Interconnect
INTERCONNECT_ROCE: Interconnect
INTERCONNECT_INFINIBAND: Interconnect
INTERCONNECT_NVLINK: Interconnect
TIER_UNSPECIFIED: Tier
TIER_OFFICIAL: Tier
TIER_SECRET: Tier
TIER_TOP_SECRET: Tier
CLEARANCE_UNSPECIFIED: Clearance
CLEARANCE_BPSS: Clearance
CLEARANCE_SC: Clearance
CLEARANCE_DV: Clearance

class GpuQuantity(_message.Message):
    __slots__ = ("gpu_class", "gpu_milli")
    GPU_CLASS_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLI_FIELD_NUMBER: _ClassVar[int]
    gpu_class: str
    gpu_milli: int
    def __init__(self, gpu_class: _Optional[str] = ..., gpu_milli: _Optional[int] = ...) -> None: ...

class Denial(_message.Message):
    __slots__ = ("reason", "detail", "subject", "rule")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    detail: str
    subject: str
    rule: str
    def __init__(self, reason: _Optional[str] = ..., detail: _Optional[str] = ..., subject: _Optional[str] = ..., rule: _Optional[str] = ...) -> None: ...

class PageRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class NodeFactRule(_message.Message):
    __slots__ = ("about", "min_assurance", "max_age_ms")
    ABOUT_FIELD_NUMBER: _ClassVar[int]
    MIN_ASSURANCE_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    about: str
    min_assurance: Assurance
    max_age_ms: int
    def __init__(self, about: _Optional[str] = ..., min_assurance: _Optional[_Union[Assurance, str]] = ..., max_age_ms: _Optional[int] = ...) -> None: ...

class MigInstance(_message.Message):
    __slots__ = ("gpu", "profile")
    GPU_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    gpu: int
    profile: str
    def __init__(self, gpu: _Optional[int] = ..., profile: _Optional[str] = ...) -> None: ...
