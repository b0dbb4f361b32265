"""Whether new work may start on a node, and whether what runs there may go on."""

from __future__ import annotations

from enum import IntEnum


class Health(IntEnum):
    """Ordered by how much it forbids.

    DEGRADED and UNKNOWN: no new work; what runs may finish. FAILED: what runs is stopped as well.
    """

    OK = 0
    DEGRADED = 1
    UNKNOWN = 2
    FAILED = 3
