from sovapi.v1 import sitelink_pb2 as _sitelink_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SignedGrant(_message.Message):
    __slots__ = ("grant", "signature", "key", "key_signature")
    GRANT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    KEY_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    grant: bytes
    signature: bytes
    key: bytes
    key_signature: bytes
    def __init__(self, grant: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., key: _Optional[bytes] = ..., key_signature: _Optional[bytes] = ...) -> None: ...

class PlacementGrant(_message.Message):
    __slots__ = ("format", "issuer", "job_id", "attempt", "site", "generation", "nodes", "policy_revision", "requirement_digest", "work_digest", "terms_digest", "not_before_ms", "not_after_ms")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    WORK_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TERMS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_MS_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    format: int
    issuer: str
    job_id: str
    attempt: int
    site: str
    generation: int
    nodes: _containers.RepeatedCompositeFieldContainer[_sitelink_pb2.PlacedNode]
    policy_revision: int
    requirement_digest: bytes
    work_digest: bytes
    terms_digest: bytes
    not_before_ms: int
    not_after_ms: int
    def __init__(self, format: _Optional[int] = ..., issuer: _Optional[str] = ..., job_id: _Optional[str] = ..., attempt: _Optional[int] = ..., site: _Optional[str] = ..., generation: _Optional[int] = ..., nodes: _Optional[_Iterable[_Union[_sitelink_pb2.PlacedNode, _Mapping]]] = ..., policy_revision: _Optional[int] = ..., requirement_digest: _Optional[bytes] = ..., work_digest: _Optional[bytes] = ..., terms_digest: _Optional[bytes] = ..., not_before_ms: _Optional[int] = ..., not_after_ms: _Optional[int] = ...) -> None: ...

class GrantKey(_message.Message):
    __slots__ = ("public_key", "number", "oldest", "not_before_ms", "not_after_ms")
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    OLDEST_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_MS_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    public_key: bytes
    number: int
    oldest: int
    not_before_ms: int
    not_after_ms: int
    def __init__(self, public_key: _Optional[bytes] = ..., number: _Optional[int] = ..., oldest: _Optional[int] = ..., not_before_ms: _Optional[int] = ..., not_after_ms: _Optional[int] = ...) -> None: ...
