from sovapi.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AuditLeaf(_message.Message):
    __slots__ = ("index", "kind", "tenant", "canonical_json", "salt", "leaf_hash", "at_ms")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    CANONICAL_JSON_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    LEAF_HASH_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    index: int
    kind: str
    tenant: str
    canonical_json: bytes
    salt: bytes
    leaf_hash: bytes
    at_ms: int
    def __init__(self, index: _Optional[int] = ..., kind: _Optional[str] = ..., tenant: _Optional[str] = ..., canonical_json: _Optional[bytes] = ..., salt: _Optional[bytes] = ..., leaf_hash: _Optional[bytes] = ..., at_ms: _Optional[int] = ...) -> None: ...

class ListLeavesRequest(_message.Message):
    __slots__ = ("page", "tenant", "job_id")
    PAGE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    page: _common_pb2.PageRequest
    tenant: str
    job_id: str
    def __init__(self, page: _Optional[_Union[_common_pb2.PageRequest, _Mapping]] = ..., tenant: _Optional[str] = ..., job_id: _Optional[str] = ...) -> None: ...

class ListLeavesResponse(_message.Message):
    __slots__ = ("leaves", "next_page_token")
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    leaves: _containers.RepeatedCompositeFieldContainer[AuditLeaf]
    next_page_token: str
    def __init__(self, leaves: _Optional[_Iterable[_Union[AuditLeaf, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetCheckpointRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("tree_size", "root_hash", "signed_note")
    TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    ROOT_HASH_FIELD_NUMBER: _ClassVar[int]
    SIGNED_NOTE_FIELD_NUMBER: _ClassVar[int]
    tree_size: int
    root_hash: bytes
    signed_note: bytes
    def __init__(self, tree_size: _Optional[int] = ..., root_hash: _Optional[bytes] = ..., signed_note: _Optional[bytes] = ...) -> None: ...

class ProveInclusionRequest(_message.Message):
    __slots__ = ("index", "tree_size")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    index: int
    tree_size: int
    def __init__(self, index: _Optional[int] = ..., tree_size: _Optional[int] = ...) -> None: ...

class ProveInclusionResponse(_message.Message):
    __slots__ = ("tree_size", "path")
    TREE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    tree_size: int
    path: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, tree_size: _Optional[int] = ..., path: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ProveConsistencyRequest(_message.Message):
    __slots__ = ("from_size", "to_size")
    FROM_SIZE_FIELD_NUMBER: _ClassVar[int]
    TO_SIZE_FIELD_NUMBER: _ClassVar[int]
    from_size: int
    to_size: int
    def __init__(self, from_size: _Optional[int] = ..., to_size: _Optional[int] = ...) -> None: ...

class ProveConsistencyResponse(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, path: _Optional[_Iterable[bytes]] = ...) -> None: ...

class AddCosignatureRequest(_message.Message):
    __slots__ = ("signed_note",)
    SIGNED_NOTE_FIELD_NUMBER: _ClassVar[int]
    signed_note: bytes
    def __init__(self, signed_note: _Optional[bytes] = ...) -> None: ...

class AddCosignatureResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCertificateRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class GetCertificateResponse(_message.Message):
    __slots__ = ("dsse_envelope_json", "tlog_proof")
    DSSE_ENVELOPE_JSON_FIELD_NUMBER: _ClassVar[int]
    TLOG_PROOF_FIELD_NUMBER: _ClassVar[int]
    dsse_envelope_json: bytes
    tlog_proof: bytes
    def __init__(self, dsse_envelope_json: _Optional[bytes] = ..., tlog_proof: _Optional[bytes] = ...) -> None: ...

class GetTrustRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetTrustResponse(_message.Message):
    __slots__ = ("trust_yaml", "trust")
    TRUST_YAML_FIELD_NUMBER: _ClassVar[int]
    TRUST_FIELD_NUMBER: _ClassVar[int]
    trust_yaml: bytes
    trust: bytes
    def __init__(self, trust_yaml: _Optional[bytes] = ..., trust: _Optional[bytes] = ...) -> None: ...

class ListCertificatesRequest(_message.Message):
    __slots__ = ("page", "tenant")
    PAGE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    page: _common_pb2.PageRequest
    tenant: str
    def __init__(self, page: _Optional[_Union[_common_pb2.PageRequest, _Mapping]] = ..., tenant: _Optional[str] = ...) -> None: ...

class CertificateLine(_message.Message):
    __slots__ = ("tenant", "tenant_seq", "job_id", "verdict", "outcome", "digest", "prev", "issued_at_ms")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TENANT_SEQ_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PREV_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    tenant_seq: int
    job_id: str
    verdict: str
    outcome: str
    digest: str
    prev: str
    issued_at_ms: int
    def __init__(self, tenant: _Optional[str] = ..., tenant_seq: _Optional[int] = ..., job_id: _Optional[str] = ..., verdict: _Optional[str] = ..., outcome: _Optional[str] = ..., digest: _Optional[str] = ..., prev: _Optional[str] = ..., issued_at_ms: _Optional[int] = ...) -> None: ...

class ListCertificatesResponse(_message.Message):
    __slots__ = ("certificates", "next_page_token")
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    certificates: _containers.RepeatedCompositeFieldContainer[CertificateLine]
    next_page_token: str
    def __init__(self, certificates: _Optional[_Iterable[_Union[CertificateLine, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
