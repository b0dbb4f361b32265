"""Values as people write them: "4h", "512GiB", 0.5 CPUs. Exact: no value passes through a float.

Knows nothing of fields. Every parser refuses with what is allowed, in pydantic's own error type,
so that the fault reaches people with the path of its field.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import cast

from pydantic_core import PydanticCustomError

DURATION_MAX = timedelta(days=3650)
BYTES_MAX = 1 << 60
BARE_BYTES_MIN = 1 << 20
CPUS_MAX = 100_000
TEN_DAYS_MS = 10 * 86_400_000
LISTED_MAX = 10
TEXT_CHARS_MAX = 64  # No quantity needs more to be written down.

DURATION_ALLOWED = "a number with its unit, such as 90s, 4h, 1h30m or 5ms (us, ms, s, m, h, d)"
BYTES_ALLOWED = "a size with its unit, such as 512GiB or 80GB (B, kB, MB, GB, TB, KiB, MiB, ...)"
CPUS_ALLOWED = "a number of CPUs with at most three decimals, such as 8 or 0.5"
PERCENT_ALLOWED = "a percentage from 0 to 100 with at most three decimals, such as 100% or 24.5%"

_DURATION_UNITS = {
    "us": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_DURATION_PART = re.compile(r"(\d{1,12})(us|ms|s|m|h|d)")
_DURATION = re.compile(r"(?:\d{1,12}(?:us|ms|s|m|h|d))+")

MIG_PROFILE = re.compile(r"[1-9]g\.[0-9]{1,3}gb(\+me)?")
"""The form of a MIG profile's name; which of them there are, the control plane knows."""

_BYTES_UNITS: Mapping[str, int] = {
    "B": 1,
    **{f"{p}B": 1000**n for n, p in enumerate(("k", "M", "G", "T", "P"), start=1)},
    **{f"{p}iB": 1024**n for n, p in enumerate(("K", "M", "G", "T", "P"), start=1)},
}
_BYTES = re.compile(r"(\d{1,20}(?:\.\d{1,6})?) ?([kKMGTP]?i?B)")


def refusal(found: object, allowed: str) -> PydanticCustomError:
    """A fault of one value. `found` is quoted short: it may be anything."""
    return PydanticCustomError(
        "not_allowed",
        "found {found}, allowed {allowed}",
        {"found": shown(found), "allowed": allowed},
    )


def contradiction(found: str, allowed: str) -> PydanticCustomError:
    """A fault between several values; `found` is a phrase."""
    return PydanticCustomError(
        "not_allowed", "found {found}, allowed {allowed}", {"found": found, "allowed": allowed}
    )


def listed(names: Collection[str]) -> str:
    """The first few of some names, for an error."""
    first, rest = list(names)[:LISTED_MAX], len(list(names)) - LISTED_MAX
    return ", ".join(first) + (f" and {rest} more" if rest > 0 else "")


def shown(value: object) -> str:
    """A value as an error may quote it: one line, never long."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(cast(list[object], value))}"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[: TEXT_CHARS_MAX - 1]}…"


def parse_duration(value: object) -> timedelta:
    """A length of time of at least 1 us; a timedelta passes as it is."""
    if isinstance(value, timedelta):
        found = value
    elif isinstance(value, str) and len(value) <= TEXT_CHARS_MAX and _DURATION.fullmatch(value):
        parts = cast(list[tuple[str, str]], _DURATION_PART.findall(value))
        if len({unit for _, unit in parts}) != len(parts):
            raise refusal(value, f"{DURATION_ALLOWED}; each unit once")
        try:
            found = sum((int(n) * _DURATION_UNITS[unit] for n, unit in parts), timedelta())
        except OverflowError:
            raise refusal(value, f"at most {DURATION_MAX.days}d") from None
    else:
        raise refusal(value, DURATION_ALLOWED)
    if not timedelta(0) <= found <= DURATION_MAX:
        raise refusal(value, f"between 0s and {DURATION_MAX.days}d")
    return found


def duration_us(value: timedelta | str) -> int:
    """Whole microseconds."""
    return parse_duration(value) // timedelta(microseconds=1)


def duration_ms(value: timedelta | str) -> int:
    """Whole milliseconds, rounded up: a limit of 1 us is not "no limit"."""
    return -(-duration_us(value) // 1000)


def parse_bytes(value: object) -> int:
    """A number of bytes. Less than a MiB without a unit is a forgotten unit, and refused."""
    number = value if isinstance(value, int) and not isinstance(value, bool) else -1
    if number == 0 or BARE_BYTES_MIN <= number <= BYTES_MAX:
        return number
    if isinstance(value, str) and len(value) <= TEXT_CHARS_MAX:
        found = _BYTES.fullmatch(value)
        if found and found[2] in _BYTES_UNITS:
            count = Decimal(found[1]) * _BYTES_UNITS[found[2]]
            if count != count.to_integral_value() or count > BYTES_MAX:
                raise refusal(value, f"a whole number of bytes, at most {BYTES_MAX}")
            return int(count)
    raise refusal(value, BYTES_ALLOWED)


def _parse_milli(value: object, allowed: str, unit_count_max: int) -> int:
    """Thousandths of a number written as 2, "2", 0.5 or "0.5"."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise refusal(value, allowed)
    text = str(value)
    try:
        # str() of a float is the number that was written; the float itself may be off.
        milli = Decimal(text) * 1000 if len(text) <= TEXT_CHARS_MAX else None
    except InvalidOperation:
        milli = None
    if milli is None or not milli.is_finite() or milli != milli.to_integral_value():
        raise refusal(value, allowed)
    if not 0 <= milli <= unit_count_max * 1000:
        raise refusal(value, f"{allowed}, from 0 to {unit_count_max}")
    return int(milli)


def parse_cpus(value: object) -> Decimal:
    """A number of CPUs, exact to a thousandth."""
    return Decimal(_parse_milli(value, CPUS_ALLOWED, CPUS_MAX)) / 1000


def cpu_milli(cpus: int | str | Decimal) -> int:
    """Thousandths of a CPU."""
    return int(parse_cpus(cpus) * 1000)


def parse_percent_milli(value: object) -> int:
    """Thousandths of a percent."""
    number = value.removesuffix("%") if isinstance(value, str) else value
    return _parse_milli(number, PERCENT_ALLOWED, 100)


def parse_gpu_milli(value: object) -> int:
    """Thousandths of a GPU."""
    return _parse_milli(value, "a number of GPUs with at most three decimals", 10_000_000)


def format_duration_ms(duration_in_ms: int) -> str:
    """Short and exact enough for people: the two largest units."""
    if duration_in_ms < 1000:
        return f"{max(duration_in_ms, 0)}ms"
    rest, parts = duration_in_ms // 1000, list[str]()
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    shown_units = 1 if duration_in_ms >= TEN_DAYS_MS else 2
    return "".join(p for p in parts[:shown_units] if not p.startswith("0"))


def format_bytes(count_bytes: int) -> str:
    """Binary units with one decimal where it matters."""
    size, unit = Decimal(count_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    text = str(size.quantize(Decimal("0.1")))
    return f"{text.removesuffix('.0')} {unit}"


def format_milli(milli: int) -> str:
    """Thousandths as a number: 4000 is "4", 500 is "0.5"."""
    whole, part = divmod(milli, 1000)
    return str(whole) if not part else f"{whole}.{part:03d}".rstrip("0")
