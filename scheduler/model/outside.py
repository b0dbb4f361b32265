"""What is outside the home zone and might be contacted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Contact(IntEnum):
    """Whether something outside is contacted. Numbers are the wire's."""

    UNSPECIFIED = 0
    BLOCKED = 1
    """It would be; settings keep it from that."""
    NOT_USED = 2
    """Nothing that runs contacts it."""
    DECLARED = 3
    """A site's facts, or an operator, say that something of it is there."""
    NOT_CONTROLLED = 4
    """It may be, and nothing of ours keeps it from that."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What keeps something from being contacted: an environment variable, a flag, a key of a
    configuration file. `value` is empty for a flag that takes none, or whose value differs; `file`
    is where in the source tree it is set."""

    name: str
    value: str
    file: str


@dataclass(frozen=True, slots=True)
class Dependency:
    """Something outside the home zone. Without `hosts`: any, or not stated. `site`: who declares
    it, with `countries`; empty where it is of the programs themselves."""

    name: str
    hosts: tuple[str, ...]
    program: str
    when: str
    needed: bool
    """Whether the running system needs it."""
    state: Contact
    detail: str
    settings: tuple[Setting, ...] = ()
    site: str = ""
    countries: tuple[str, ...] = ()
