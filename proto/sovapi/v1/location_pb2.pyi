from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LocationTargetsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LocationTarget(_message.Message):
    __slots__ = ("agent", "address", "public_key")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    agent: str
    address: str
    public_key: bytes
    def __init__(self, agent: _Optional[str] = ..., address: _Optional[str] = ..., public_key: _Optional[bytes] = ...) -> None: ...

class LocationTargetsResponse(_message.Message):
    __slots__ = ("targets",)
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    targets: _containers.RepeatedCompositeFieldContainer[LocationTarget]
    def __init__(self, targets: _Optional[_Iterable[_Union[LocationTarget, _Mapping]]] = ...) -> None: ...

class ReportLocationsRequest(_message.Message):
    __slots__ = ("statements",)
    STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    statements: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, statements: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ReportLocationsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
