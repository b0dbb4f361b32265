"""Numbers as Grafana writes them, by unit. For eyes alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from deploy.grafana.model import Unit

_THOUSANDS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIMES = ((86_400, "day"), (3_600, "hour"), (60, "min"))
_SMALL_TIMES = ((1e-3, "ms"), (1e-6, "µs"))


def shown(value: float, unit: Unit) -> str:
    """A value with its unit."""
    if not math.isfinite(value):
        return "no value" if math.isnan(value) else "∞"
    return _FORMS[unit](value)


def _short(value: float) -> str:
    """Three digits that matter, and never an exponent for what people read."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(digits, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scaled(value: float, unit: str) -> str:
    for size, prefix in _THOUSANDS:
        if abs(value) >= size:
            return f"{_short(value / size)} {prefix}{unit}"
    return f"{_short(value)} {unit}"


def _time(value: float) -> str:
    for size, unit in _TIMES:
        if abs(value) >= size:
            return f"{_short(value / size)} {unit}"
    for size, unit in _SMALL_TIMES:
        if 0 < abs(value) < size * 1000 and abs(value) >= size:
            return f"{_short(value / size)} {unit}"
    return f"{_short(value)} s"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value > 100 else _short(value)


_FORMS: Mapping[Unit, Callable[[float], str]] = {
    "none": _short,
    "locale": _number,
    "percentunit": lambda value: f"{_short(value * 100)}%",
    "s": _time,
    "watt": lambda value: _scaled(value, "W"),
    "bytes": lambda value: _scaled(value, "B"),
    "celsius": lambda value: f"{_short(value)} °C",
    "ops": lambda value: _scaled(value, "ops/s"),
    "opm": lambda value: _scaled(value, "ops/min"),
}


def ticks(low: float, high: float, count_max: int) -> tuple[float, ...]:
    """Round numbers that span `low` to `high`, at most `count_max` apart."""
    if high <= low:
        high = low + 1
    raw = (high - low) / max(1, count_max)
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * n for n in (1, 2, 5, 10) if size * n >= raw * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return tuple(n * step for n in range(first, last + 1))
