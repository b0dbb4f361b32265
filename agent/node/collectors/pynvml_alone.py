"""Imports pynvml without what it wants on Windows alone.

`ctypes.util` brings subprocess, tempfile and shutil: two megabytes of a process that has seventeen.
On Linux pynvml loads its library by its name.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


def _find_library(name: str) -> str | None:
    raise NotImplementedError(f"{name} is loaded by its name")


def _load() -> Any:
    name = "ctypes.util"
    if name in sys.modules or sys.platform != "linux":
        return __import__("pynvml")
    stand_in = ModuleType(name)
    stand_in.__dict__["find_library"] = _find_library
    sys.modules[name] = stand_in
    try:
        return __import__("pynvml")
    finally:
        del sys.modules[name]


nv: Any = _load()
