"""What may be asked of a visit to a rank: the control plane refuses it first, the node again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

PORT_MAX = 65_535
WORDS_MAX = 1_000
COMMAND_BYTES_MAX = 64 * 1024
SIZE_MAX = 10_000
"""Rows or columns of a terminal."""

_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")


class Fault(NamedTuple):
    """What is wrong with a field."""

    field: str
    found: str
    allowed: str

    def __str__(self) -> str:
        """As whoever asked is told."""
        return f"{self.field}: found {self.found}, allowed {self.allowed}"


def command_faults(
    words: Sequence[str], *, rank: int, size: tuple[int, int], term: str
) -> list[Fault]:
    """Everything that is wrong with a command that is asked for; `size` of a terminal in rows and
    columns, `term` its kind."""
    size_bytes = sum(len(word.encode()) for word in words)
    in_size = all(0 <= number <= SIZE_MAX for number in size)
    is_term = not term or _TERM.fullmatch(term) is not None
    return [
        Fault(field, str(found), str(allowed))
        for field, holds, found, allowed in (
            ("command", words and words[0], "none", "a program and its arguments"),
            ("command", len(words) <= WORDS_MAX, f"{len(words)} words", WORDS_MAX),
            ("command", size_bytes <= COMMAND_BYTES_MAX, f"{size_bytes} bytes", COMMAND_BYTES_MAX),
            ("command", not any("\0" in word for word in words), "a zero byte", "none"),
            ("rank", rank >= 0, rank, "0 or more"),
            ("size", in_size, size, f"0 to {SIZE_MAX}"),
            ("term", is_term, repr(term[:80]), "a terminal's name"),
        )
        if not holds
    ]


def port_faults(port: int, *, field: str = "port", least: int = 1) -> list[Fault]:
    """What is wrong with a port's number."""
    return [] if least <= port <= PORT_MAX else [Fault(field, str(port), f"{least} to {PORT_MAX}")]
