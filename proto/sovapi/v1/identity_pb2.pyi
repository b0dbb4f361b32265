from sovapi.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JoinRequest(_message.Message):
    __slots__ = ("token", "name", "csr_der", "dns_names", "ip_addresses")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CSR_DER_FIELD_NUMBER: _ClassVar[int]
    DNS_NAMES_FIELD_NUMBER: _ClassVar[int]
    IP_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    token: str
    name: str
    csr_der: bytes
    dns_names: _containers.RepeatedScalarFieldContainer[str]
    ip_addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, token: _Optional[str] = ..., name: _Optional[str] = ..., csr_der: _Optional[bytes] = ..., dns_names: _Optional[_Iterable[str]] = ..., ip_addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class JoinResponse(_message.Message):
    __slots__ = ("certificate_pem", "trust_bundle_pem", "spiffe_id", "not_after_ms")
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    TRUST_BUNDLE_PEM_FIELD_NUMBER: _ClassVar[int]
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    certificate_pem: bytes
    trust_bundle_pem: bytes
    spiffe_id: str
    not_after_ms: int
    def __init__(self, certificate_pem: _Optional[bytes] = ..., trust_bundle_pem: _Optional[bytes] = ..., spiffe_id: _Optional[str] = ..., not_after_ms: _Optional[int] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("csr_der", "dns_names", "ip_addresses")
    CSR_DER_FIELD_NUMBER: _ClassVar[int]
    DNS_NAMES_FIELD_NUMBER: _ClassVar[int]
    IP_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    csr_der: bytes
    dns_names: _containers.RepeatedScalarFieldContainer[str]
    ip_addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, csr_der: _Optional[bytes] = ..., dns_names: _Optional[_Iterable[str]] = ..., ip_addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("certificate_pem", "trust_bundle_pem", "not_after_ms")
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    TRUST_BUNDLE_PEM_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    certificate_pem: bytes
    trust_bundle_pem: bytes
    not_after_ms: int
    def __init__(self, certificate_pem: _Optional[bytes] = ..., trust_bundle_pem: _Optional[bytes] = ..., not_after_ms: _Optional[int] = ...) -> None: ...

class LoginRequest(_message.Message):
    __slots__ = ("api_key", "oidc_token", "csr_der", "name")
    API_KEY_FIELD_NUMBER: _ClassVar[int]
    OIDC_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CSR_DER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    api_key: str
    oidc_token: str
    csr_der: bytes
    name: str
    def __init__(self, api_key: _Optional[str] = ..., oidc_token: _Optional[str] = ..., csr_der: _Optional[bytes] = ..., name: _Optional[str] = ...) -> None: ...

class LoginResponse(_message.Message):
    __slots__ = ("access_token", "expires_at_ms", "certificate_pem", "trust_bundle_pem", "spiffe_id")
    ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    TRUST_BUNDLE_PEM_FIELD_NUMBER: _ClassVar[int]
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    access_token: str
    expires_at_ms: int
    certificate_pem: bytes
    trust_bundle_pem: bytes
    spiffe_id: str
    def __init__(self, access_token: _Optional[str] = ..., expires_at_ms: _Optional[int] = ..., certificate_pem: _Optional[bytes] = ..., trust_bundle_pem: _Optional[bytes] = ..., spiffe_id: _Optional[str] = ...) -> None: ...

class WhoamiRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WhoamiResponse(_message.Message):
    __slots__ = ("spiffe_id", "role", "tenant", "certificate_not_after_ms", "server_version", "country", "clearance", "vouched_by", "claims_until_ms")
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_NOT_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    CLEARANCE_FIELD_NUMBER: _ClassVar[int]
    VOUCHED_BY_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    spiffe_id: str
    role: str
    tenant: str
    certificate_not_after_ms: int
    server_version: str
    country: str
    clearance: _common_pb2.Clearance
    vouched_by: str
    claims_until_ms: int
    def __init__(self, spiffe_id: _Optional[str] = ..., role: _Optional[str] = ..., tenant: _Optional[str] = ..., certificate_not_after_ms: _Optional[int] = ..., server_version: _Optional[str] = ..., country: _Optional[str] = ..., clearance: _Optional[_Union[_common_pb2.Clearance, str]] = ..., vouched_by: _Optional[str] = ..., claims_until_ms: _Optional[int] = ...) -> None: ...

class CreateJoinTokenRequest(_message.Message):
    __slots__ = ("name", "ttl_ms", "country", "clearance")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    CLEARANCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    ttl_ms: int
    country: str
    clearance: _common_pb2.Clearance
    def __init__(self, name: _Optional[str] = ..., ttl_ms: _Optional[int] = ..., country: _Optional[str] = ..., clearance: _Optional[_Union[_common_pb2.Clearance, str]] = ...) -> None: ...

class CreateJoinTokenResponse(_message.Message):
    __slots__ = ("token", "expires_at_ms")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    token: str
    expires_at_ms: int
    def __init__(self, token: _Optional[str] = ..., expires_at_ms: _Optional[int] = ...) -> None: ...

class RevokeRequest(_message.Message):
    __slots__ = ("name", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RevokeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
