"""Who may use a GPU of this node: whole, or the parts of those who share it, never more than it is.

A rank that has a GPU whole holds its lock file alone. Ranks that share one hold it together, and
each as many of the file's first thousand bytes as it was given thousandths: the kernel counts them,
and lets go of them when the shim that holds them is gone. The standard library only: shims use it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Mapping
from typing import Any

from agent.node.clock import boot_ms

WHOLE_MILLI = 1000
WAIT_MS = 3000
"""A killed predecessor lets go of its GPU a moment after its record."""
POLL_S = 0.02
MPS_PIPES = "CUDA_MPS_PIPE_DIRECTORY"
"""In the raylet's environment where the node runs NVIDIA's Multi-Process Service."""


def lock_gpus(spec: Mapping[str, Any]) -> list[int]:
    """Holds what a rank was given of its GPUs: Ray counts GPUs, only this knows which.

    What is not free in time is an OSError.
    """
    held: list[int] = []
    folder = os.path.join("..", "gpu")
    if gpus := spec.get("gpus", []):
        os.makedirs(folder, 0o700, exist_ok=True)
    for index in gpus:
        fd = os.open(os.path.join(folder, f"{index}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        give_up_at = boot_ms() + WAIT_MS
        while not _hold(fd, int(spec.get("gpu_milli", WHOLE_MILLI))):
            if boot_ms() >= give_up_at:
                raise OSError(errno.EBUSY, f"GPU {index} is held by another rank")
            time.sleep(POLL_S)
        held.append(fd)
    return held


def limits(milli: int, node: Mapping[str, str]) -> dict[str, object]:
    """What a rank is told of its part of a GPU. MPS enforces it where the environment of `node`
    says that it runs; elsewhere a share is what the job promises to keep to."""
    told: dict[str, object] = {"SOV_GPU_MILLI": milli}
    if milli < WHOLE_MILLI and node.get(MPS_PIPES):
        told[MPS_PIPES] = node[MPS_PIPES]
        told["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = max(1, milli * 100 // WHOLE_MILLI)
    return told


def _hold(fd: int, milli: int) -> bool:
    """Whether the lock, or so many thousandths of it, could be had now; else nothing is held."""
    whole = milli >= WHOLE_MILLI
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if whole else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if whole:
        return True
    missing = milli
    for byte in range(WHOLE_MILLI):
        missing -= _lock_byte(fd, byte)
        if not missing:
            return True
    _range(fd, fcntl.F_UNLCK, 0, WHOLE_MILLI)
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _lock_byte(fd: int, byte: int) -> bool:
    try:
        _range(fd, fcntl.F_WRLCK, byte, 1)
    except BlockingIOError:
        return False
    return True


def _range(fd: int, kind: int, start: int, length: int) -> None:
    """Locks bytes for the open file, not the process: a fork or another descriptor keeps it."""
    # struct flock: type, whence, start, length, pid (0 for locks of open files).
    wanted = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
