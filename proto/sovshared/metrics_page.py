"""A page of metrics in Prometheus's text format, written as it is read: no registry, no state.

Values are exact: integers, or decimals made from integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SAMPLES_MAX = 100_000

Kind = Literal["counter", "gauge"]


class MetricsPage:
    """Collects families in order; `text` is the page."""

    def __init__(self, common: Mapping[str, str]) -> None:
        self._common = dict(common)
        self._lines: list[str] = []

    def family(
        self,
        name: str,
        kind: Kind,
        text: str,
        samples: Iterable[tuple[Mapping[str, str], int | str | None]],
    ) -> None:
        """One family. Samples of None are not known and left out; a family of none is not told."""
        assert name.endswith("_total") == (kind == "counter"), f"{name} is misnamed"
        lines = [
            f"{name}{{{_labels({**self._common, **labels})}}} {value}"
            for labels, value in samples
            if value is not None
        ]
        if lines:
            self._lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines]
        assert len(self._lines) <= SAMPLES_MAX, "a page grew without bound"

    def text(self) -> bytes:
        """The whole page."""
        return ("\n".join(self._lines) + "\n").encode()


def thousandths(value: int | None) -> str | None:
    """`value` thousandths as a decimal: 1500 is 1.5."""
    if value is None:
        return None
    sign, size = ("-", -value) if value < 0 else ("", value)
    return f"{sign}{size // 1000}.{size % 1000:03d}"


def hundredths(value: int | None) -> str | None:
    """`value` hundredths as a decimal: 5 is 0.05."""
    return None if value is None else f"{value // 100}.{value % 100:02d}"


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
