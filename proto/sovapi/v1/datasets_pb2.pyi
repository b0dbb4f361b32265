from sovapi.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DatasetLabel(_message.Message):
    __slots__ = ("jurisdictions", "tier", "markings", "data_kinds", "tolerate_foreign_compulsion")
    JURISDICTIONS_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    MARKINGS_FIELD_NUMBER: _ClassVar[int]
    DATA_KINDS_FIELD_NUMBER: _ClassVar[int]
    TOLERATE_FOREIGN_COMPULSION_FIELD_NUMBER: _ClassVar[int]
    jurisdictions: _containers.RepeatedScalarFieldContainer[str]
    tier: _common_pb2.Tier
    markings: _containers.RepeatedScalarFieldContainer[str]
    data_kinds: _containers.RepeatedScalarFieldContainer[str]
    tolerate_foreign_compulsion: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, jurisdictions: _Optional[_Iterable[str]] = ..., tier: _Optional[_Union[_common_pb2.Tier, str]] = ..., markings: _Optional[_Iterable[str]] = ..., data_kinds: _Optional[_Iterable[str]] = ..., tolerate_foreign_compulsion: _Optional[_Iterable[str]] = ...) -> None: ...

class Dataset(_message.Message):
    __slots__ = ("name", "sites", "label", "transfer_basis", "shared_with", "version", "digest", "size_bytes", "job", "inputs", "declared_by", "changed_at_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_BASIS_FIELD_NUMBER: _ClassVar[int]
    SHARED_WITH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    DECLARED_BY_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    sites: _containers.RepeatedScalarFieldContainer[str]
    label: DatasetLabel
    transfer_basis: str
    shared_with: _containers.RepeatedScalarFieldContainer[str]
    version: str
    digest: str
    size_bytes: int
    job: str
    inputs: _containers.RepeatedScalarFieldContainer[str]
    declared_by: str
    changed_at_ms: int
    def __init__(self, name: _Optional[str] = ..., sites: _Optional[_Iterable[str]] = ..., label: _Optional[_Union[DatasetLabel, _Mapping]] = ..., transfer_basis: _Optional[str] = ..., shared_with: _Optional[_Iterable[str]] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., size_bytes: _Optional[int] = ..., job: _Optional[str] = ..., inputs: _Optional[_Iterable[str]] = ..., declared_by: _Optional[str] = ..., changed_at_ms: _Optional[int] = ...) -> None: ...

class ApplyDatasetsRequest(_message.Message):
    __slots__ = ("datasets", "dry_run", "reason")
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    datasets: _containers.RepeatedCompositeFieldContainer[Dataset]
    dry_run: bool
    reason: str
    def __init__(self, datasets: _Optional[_Iterable[_Union[Dataset, _Mapping]]] = ..., dry_run: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class ApplyDatasetsResponse(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, changes: _Optional[_Iterable[str]] = ...) -> None: ...

class ListDatasetsRequest(_message.Message):
    __slots__ = ("page",)
    PAGE_FIELD_NUMBER: _ClassVar[int]
    page: _common_pb2.PageRequest
    def __init__(self, page: _Optional[_Union[_common_pb2.PageRequest, _Mapping]] = ...) -> None: ...

class ListDatasetsResponse(_message.Message):
    __slots__ = ("datasets", "next_page_token")
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    datasets: _containers.RepeatedCompositeFieldContainer[Dataset]
    next_page_token: str
    def __init__(self, datasets: _Optional[_Iterable[_Union[Dataset, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetDatasetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RemoveDatasetRequest(_message.Message):
    __slots__ = ("name", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RemoveDatasetResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
