"""What nearly every servicer works with: the control plane, and how to read and write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scheduler.control.control import Control
from scheduler.core.job_ids import JobIdCodec
from scheduler.runtime.reader import Reader
from scheduler.runtime.writer import Writer


@dataclass(frozen=True, slots=True)
class Desk:
    """The machine without sockets, its store's two sides, and the clock."""

    control: Control
    writer: Writer
    reader: Reader
    codec: JobIdCodec
    now_ms: Callable[[], int]
