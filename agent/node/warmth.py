"""Has a process's memory at hand before it is needed. Standard library only: shims load this.

A forked process shares its memory until it writes, and then gets it page by page, each at the price
of a fault: most of what a spare shim, and its rank, would take from order to program. One that
waits may as well have all of it.
"""

from __future__ import annotations

import ctypes

MADV_POPULATE_READ, MADV_POPULATE_WRITE = 22, 23  # Linux 5.14.
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def take_memory() -> None:
    """Have every page that this process has mapped: its own to write, a file's to read.

    What the kernel does not give, one before 5.14 gives nothing, comes with its fault as ever.
    """
    with open("/proc/self/maps", encoding="ascii", errors="replace") as file:
        lines = file.readlines()
    for line in lines:
        place, rights, *_ = line.split(maxsplit=2)
        first, _, end = place.partition("-")
        advice = MADV_POPULATE_WRITE if rights[1] == "w" else MADV_POPULATE_READ
        if rights[0] == "r":
            LIBC.madvise(int(first, 16), int(end, 16) - int(first, 16), advice)
