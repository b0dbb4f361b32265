"""Values that NVML gives by number, many in one call. The same request is made again and again, so
it is built once and read in place: taking it apart field by field costs more than NVML does.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable
from typing import Any

from agent.node.collectors.pynvml_alone import nv

# nvmlFieldValue_t: field, scope, time stamp, latency, type of value, result, value.
_ENTRY = struct.Struct("=IIqqII8s")
_VALUES = {
    1: struct.Struct("=I"),
    2: struct.Struct("=Q"),
    3: struct.Struct("=Q"),
    4: struct.Struct("=q"),
    5: struct.Struct("=i"),
    6: struct.Struct("=H"),
}
"""By nvmlValueType_t. 0 is a floating-point number, which nothing here asks for."""
LOST = frozenset({nv.NVML_ERROR_GPU_IS_LOST, nv.NVML_ERROR_RESET_REQUIRED})
"""The GPU does not answer any more."""


class FieldQuery:
    """The same values of one GPU. `wanted`: field and scope, 0 where a field has none."""

    def __init__(self, wanted: Iterable[tuple[int, int]]) -> None:
        entries = [_ENTRY.pack(field, scope, 0, 0, 0, 0, b"") for field, scope in wanted]
        self._count = ctypes.c_int(len(entries))
        self._entries = ctypes.create_string_buffer(b"".join(entries), len(entries) * _ENTRY.size)

    def ask(self, handle: Any) -> list[int | None]:
        """The values in the order asked for; None for one that this GPU does not give."""
        call = nv._nvmlGetFunctionPointer("nvmlDeviceGetFieldValues")
        nv._nvmlCheckReturn(call(handle, self._count, self._entries))
        return [_value(*entry[4:]) for entry in _ENTRY.iter_unpack(self._entries.raw)]


def _value(kind: int, result: int, value: bytes) -> int | None:
    if result in LOST:
        raise nv.NVMLError(result)
    reader = _VALUES.get(kind)
    if result != nv.NVML_SUCCESS or reader is None:
        return None
    return int(reader.unpack_from(value)[0])
