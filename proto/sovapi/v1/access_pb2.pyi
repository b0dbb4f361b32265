from sovapi.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AccessAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCESS_ACTION_UNSPECIFIED: _ClassVar[AccessAction]
    ACCESS_ACTION_READ: _ClassVar[AccessAction]
    ACCESS_ACTION_LOGS: _ClassVar[AccessAction]
    ACCESS_ACTION_CANCEL: _ClassVar[AccessAction]
    ACCESS_ACTION_DOWNLOAD: _ClassVar[AccessAction]
    ACCESS_ACTION_EXEC: _ClassVar[AccessAction]
    ACCESS_ACTION_PORT_FORWARD: _ClassVar[AccessAction]
    ACCESS_ACTION_ENROL: _ClassVar[AccessAction]

class AccessReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCESS_REASON_UNSPECIFIED: _ClassVar[AccessReason]
    ACCESS_REASON_SUPPORT: _ClassVar[AccessReason]
    ACCESS_REASON_INCIDENT: _ClassVar[AccessReason]
    ACCESS_REASON_ABUSE: _ClassVar[AccessReason]
    ACCESS_REASON_LEGAL: _ClassVar[AccessReason]

class AccessState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCESS_STATE_UNSPECIFIED: _ClassVar[AccessState]
    ACCESS_STATE_PENDING: _ClassVar[AccessState]
    ACCESS_STATE_ACTIVE: _ClassVar[AccessState]
    ACCESS_STATE_ENDED: _ClassVar[AccessState]
    ACCESS_STATE_REVOKED: _ClassVar[AccessState]
ACCESS_ACTION_UNSPECIFIED: AccessAction
ACCESS_ACTION_READ: AccessAction
ACCESS_ACTION_LOGS: AccessAction
ACCESS_ACTION_CANCEL: AccessAction
ACCESS_ACTION_DOWNLOAD: AccessAction
ACCESS_ACTION_EXEC: AccessAction
ACCESS_ACTION_PORT_FORWARD: AccessAction
ACCESS_ACTION_ENROL: AccessAction
ACCESS_REASON_UNSPECIFIED: AccessReason
ACCESS_REASON_SUPPORT: AccessReason
ACCESS_REASON_INCIDENT: AccessReason
ACCESS_REASON_ABUSE: AccessReason
ACCESS_REASON_LEGAL: AccessReason
ACCESS_STATE_UNSPECIFIED: AccessState
ACCESS_STATE_PENDING: AccessState
ACCESS_STATE_ACTIVE: AccessState
ACCESS_STATE_ENDED: AccessState
ACCESS_STATE_REVOKED: AccessState

class AccessPerson(_message.Message):
    __slots__ = ("name", "country", "clearance")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    CLEARANCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    country: str
    clearance: _common_pb2.Clearance
    def __init__(self, name: _Optional[str] = ..., country: _Optional[str] = ..., clearance: _Optional[_Union[_common_pb2.Clearance, str]] = ...) -> None: ...

class AccessGrant(_message.Message):
    __slots__ = ("id", "tenant", "job_id", "actions", "reason", "detail", "state", "break_glass", "requested_by", "requested_at_ms", "approved_by", "approved_at_ms", "ends_at_ms", "revoked_by", "revoked_at_ms", "ttl_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    BREAK_GLASS_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_BY_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    APPROVED_BY_FIELD_NUMBER: _ClassVar[int]
    APPROVED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ENDS_AT_MS_FIELD_NUMBER: _ClassVar[int]
    REVOKED_BY_FIELD_NUMBER: _ClassVar[int]
    REVOKED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    tenant: str
    job_id: str
    actions: _containers.RepeatedScalarFieldContainer[AccessAction]
    reason: AccessReason
    detail: str
    state: AccessState
    break_glass: bool
    requested_by: AccessPerson
    requested_at_ms: int
    approved_by: AccessPerson
    approved_at_ms: int
    ends_at_ms: int
    revoked_by: str
    revoked_at_ms: int
    ttl_ms: int
    def __init__(self, id: _Optional[str] = ..., tenant: _Optional[str] = ..., job_id: _Optional[str] = ..., actions: _Optional[_Iterable[_Union[AccessAction, str]]] = ..., reason: _Optional[_Union[AccessReason, str]] = ..., detail: _Optional[str] = ..., state: _Optional[_Union[AccessState, str]] = ..., break_glass: _Optional[bool] = ..., requested_by: _Optional[_Union[AccessPerson, _Mapping]] = ..., requested_at_ms: _Optional[int] = ..., approved_by: _Optional[_Union[AccessPerson, _Mapping]] = ..., approved_at_ms: _Optional[int] = ..., ends_at_ms: _Optional[int] = ..., revoked_by: _Optional[str] = ..., revoked_at_ms: _Optional[int] = ..., ttl_ms: _Optional[int] = ...) -> None: ...

class RequestAccessRequest(_message.Message):
    __slots__ = ("tenant", "job_id", "actions", "reason", "detail", "ttl_ms", "break_glass")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    BREAK_GLASS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    job_id: str
    actions: _containers.RepeatedScalarFieldContainer[AccessAction]
    reason: AccessReason
    detail: str
    ttl_ms: int
    break_glass: bool
    def __init__(self, tenant: _Optional[str] = ..., job_id: _Optional[str] = ..., actions: _Optional[_Iterable[_Union[AccessAction, str]]] = ..., reason: _Optional[_Union[AccessReason, str]] = ..., detail: _Optional[str] = ..., ttl_ms: _Optional[int] = ..., break_glass: _Optional[bool] = ...) -> None: ...

class RequestAccessResponse(_message.Message):
    __slots__ = ("grant",)
    GRANT_FIELD_NUMBER: _ClassVar[int]
    grant: AccessGrant
    def __init__(self, grant: _Optional[_Union[AccessGrant, _Mapping]] = ...) -> None: ...

class ApproveAccessRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ApproveAccessResponse(_message.Message):
    __slots__ = ("grant",)
    GRANT_FIELD_NUMBER: _ClassVar[int]
    grant: AccessGrant
    def __init__(self, grant: _Optional[_Union[AccessGrant, _Mapping]] = ...) -> None: ...

class RevokeAccessRequest(_message.Message):
    __slots__ = ("id", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    reason: str
    def __init__(self, id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RevokeAccessResponse(_message.Message):
    __slots__ = ("grant",)
    GRANT_FIELD_NUMBER: _ClassVar[int]
    grant: AccessGrant
    def __init__(self, grant: _Optional[_Union[AccessGrant, _Mapping]] = ...) -> None: ...

class ListAccessRequest(_message.Message):
    __slots__ = ("page", "tenant")
    PAGE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    page: _common_pb2.PageRequest
    tenant: str
    def __init__(self, page: _Optional[_Union[_common_pb2.PageRequest, _Mapping]] = ..., tenant: _Optional[str] = ...) -> None: ...

class ListAccessResponse(_message.Message):
    __slots__ = ("grants", "next_page_token")
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    grants: _containers.RepeatedCompositeFieldContainer[AccessGrant]
    next_page_token: str
    def __init__(self, grants: _Optional[_Iterable[_Union[AccessGrant, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class AccessPolicy(_message.Message):
    __slots__ = ("tenant", "countries", "min_clearance", "break_glass", "set_by", "set_at_ms", "login_issuers")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    COUNTRIES_FIELD_NUMBER: _ClassVar[int]
    MIN_CLEARANCE_FIELD_NUMBER: _ClassVar[int]
    BREAK_GLASS_FIELD_NUMBER: _ClassVar[int]
    SET_BY_FIELD_NUMBER: _ClassVar[int]
    SET_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LOGIN_ISSUERS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    countries: _containers.RepeatedScalarFieldContainer[str]
    min_clearance: _common_pb2.Clearance
    break_glass: bool
    set_by: str
    set_at_ms: int
    login_issuers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, tenant: _Optional[str] = ..., countries: _Optional[_Iterable[str]] = ..., min_clearance: _Optional[_Union[_common_pb2.Clearance, str]] = ..., break_glass: _Optional[bool] = ..., set_by: _Optional[str] = ..., set_at_ms: _Optional[int] = ..., login_issuers: _Optional[_Iterable[str]] = ...) -> None: ...

class SetAccessPolicyRequest(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: AccessPolicy
    def __init__(self, policy: _Optional[_Union[AccessPolicy, _Mapping]] = ...) -> None: ...

class SetAccessPolicyResponse(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: AccessPolicy
    def __init__(self, policy: _Optional[_Union[AccessPolicy, _Mapping]] = ...) -> None: ...

class GetAccessPolicyRequest(_message.Message):
    __slots__ = ("tenant",)
    TENANT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    def __init__(self, tenant: _Optional[str] = ...) -> None: ...

class GetAccessPolicyResponse(_message.Message):
    __slots__ = ("policies",)
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    policies: _containers.RepeatedCompositeFieldContainer[AccessPolicy]
    def __init__(self, policies: _Optional[_Iterable[_Union[AccessPolicy, _Mapping]]] = ...) -> None: ...
