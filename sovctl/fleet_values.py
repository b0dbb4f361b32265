"""Values of the fleet file as people write them: moments, ranges of slots, stakes, PUE."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from typing import NamedTuple

from pydantic_core import PydanticCustomError

from sovctl.spec_values import parse_cpus, parse_percent_milli, refusal

NODES_MAX = 100_000
"""Nodes of one fleet."""

PUE_MILLI_MIN, PUE_MILLI_MAX = 1_000, 5_000
AT_MOST = "at most "

_RANGE = re.compile(r"(?P<head>[a-z0-9.-]*)\[(?P<ranges>[0-9,-]+)\](?P<tail>[a-z0-9.-]*)")
_SLOT = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
SLOTS_ALLOWED = "lower-case letters, digits, '.' and '-', with ranges such as n[01-16,20]"


class Stake(NamedTuple):
    """A stake in thousandths of a percent, or the upper bound of one that is not known."""

    milli_percent: int
    at_most: bool = False


def parse_moment(value: object) -> int:
    """UTC milliseconds of an ISO 8601 date (its first instant) or date and time with an offset."""
    allowed = "a date such as 2026-10-01, or a date and time with its offset, 2026-10-01T09:30Z"
    try:
        match value:
            case datetime():
                moment = value
            case date():
                moment = datetime.combine(value, time(), UTC)
            case str() if len(value) == len("2026-10-01"):
                moment = datetime.combine(date.fromisoformat(value), time(), UTC)
            case str():
                moment = datetime.fromisoformat(value)
            case _:
                raise refusal(value, allowed)
    except ValueError:
        raise refusal(value, allowed) from None
    if moment.tzinfo is None or not 1970 <= moment.year <= 9998:
        raise refusal(value, allowed)
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1000


def expand_slots(text: str) -> tuple[str, ...]:
    """`n[01-03,07]` as n01, n02, n03, n07; a name without a range is itself."""
    found = _RANGE.fullmatch(text)
    if found is None:
        if not _SLOT.fullmatch(text):
            raise refusal(text, SLOTS_ALLOWED)
        return (text,)
    slots: list[str] = []
    for part in found["ranges"].split(","):
        first, _, last = part.partition("-")
        last = last or first
        if not first.isdecimal() or not last.isdecimal() or len(first) > 9 or len(last) > 9:
            raise refusal(text, SLOTS_ALLOWED)
        if not int(first) <= int(last) < int(first) + NODES_MAX:
            raise refusal(text, f"{SLOTS_ALLOWED}, ascending, at most {NODES_MAX} nodes")
        numbers = range(int(first), int(last) + 1)
        slots += [f"{found['head']}{n:0{len(first)}d}{found['tail']}" for n in numbers]
    if odd := next((slot for slot in slots if not _SLOT.fullmatch(slot)), None):
        raise refusal(odd, SLOTS_ALLOWED)
    return tuple(slots)


def parse_stake(value: object) -> Stake:
    """`24.5%`, or `at most 25%` where no more than that is known."""
    if isinstance(value, str) and value.startswith(AT_MOST):
        return Stake(parse_percent_milli(value.removeprefix(AT_MOST)), at_most=True)
    return Stake(parse_percent_milli(value))


def parse_pue_milli(value: object) -> int:
    """The power that a facility draws for each unit that its machines do: 1.2 as 1200."""
    allowed = "a number from 1 to 5 with at most three decimals, such as 1.2"
    try:
        milli = int(parse_cpus(value) * 1000)
    except PydanticCustomError:
        raise refusal(value, allowed) from None
    if not PUE_MILLI_MIN <= milli <= PUE_MILLI_MAX:
        raise refusal(value, allowed)
    return milli
