"""What a Prometheus answers to the queries of a board."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.grafana.model import Board, Panel, Query

REQUEST_S_MAX = 30
POINTS_MAX = 240
"""Of one series, whatever the span: more than a panel has room for are not asked for."""
STEP_S_MIN = 1
SERIES_MAX = 500
"""Of one query. A panel with more is not read by anybody."""


class NoAnswer(Exception):
    """Prometheus could not be asked, or would not answer; the message says what and why."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series: labels, and values by time in seconds of UTC. Values are for eyes alone."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when, in seconds of UTC."""

    from_s: int
    to_s: int

    @property
    def step_s(self) -> int:
        """Time between two points."""
        return max(STEP_S_MIN, (self.to_s - self.from_s) // POINTS_MAX)


@dataclass(frozen=True, slots=True)
class Picture:
    """A panel and what each of its queries answered."""

    panel: Panel
    answers: tuple[tuple[Query, tuple[Series, ...]], ...]

    def unanswered(self) -> tuple[str, ...]:
        """Queries without a single value."""
        return tuple(query.expr for query, series in self.answers if not series)


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One server, by the URL that its pages begin with."""

    url: str

    def time_s(self) -> int:
        """Its own clock, which its samples are dated by."""
        (found,) = self._get("query", {"query": "vector(time())"})
        return int(float(found["value"][1]))

    def now(self, expression: str, at_s: int) -> tuple[Series, ...]:
        """The value of each series at a moment."""
        found = self._get("query", {"query": expression, "time": str(at_s)})
        return _series(found, "value")

    def over(self, expression: str, span: Span) -> tuple[Series, ...]:
        """The values of each series over a span."""
        asked = {"start": span.from_s, "end": span.to_s, "step": span.step_s}
        words = {name: str(value) for name, value in asked.items()}
        found = self._get("query_range", {"query": expression, **words})
        return _series(found, "values")

    def _get(self, what: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
        url = f"{self.url.rstrip('/')}/api/v1/{what}"
        body = urllib.parse.urlencode(parameters).encode()
        try:
            with urllib.request.urlopen(url, body, timeout=REQUEST_S_MAX) as answer:  # noqa: S310
                found = json.load(answer)
        except (OSError, ValueError) as error:
            raise NoAnswer(f"{url}: {error}: {parameters['query']}") from None
        return found["data"]["result"]


def _series(found: list[dict[str, Any]], name: str) -> tuple[Series, ...]:
    made: list[Series] = []
    for row in found[:SERIES_MAX]:
        labels = {k: v for k, v in sorted(row["metric"].items()) if k != "__name__"}
        pairs = row["values"] if name == "values" else [row["value"]]
        made.append(Series(labels, tuple((float(at), float(value)) for at, value in pairs)))
    return tuple(sorted(made, key=lambda one: tuple(one.labels.items())))


def chosen(expression: str, board: Board, choices: Mapping[str, str]) -> str:
    """An expression with each variable of the board replaced: by its choice, or by all values."""
    for variable in board.variables:
        expression = expression.replace(f"${variable.name}", choices.get(variable.name, ".*"))
    return expression


def pictures(
    board: Board, server: Prometheus, span: Span, choices: Mapping[str, str]
) -> tuple[tuple[Picture, ...], ...]:
    """Every panel with its answers, by row, as Grafana asks: a span for curves, now for others."""

    def ask(panel: Panel, query: Query) -> tuple[Series, ...]:
        expression = chosen(query.expr, board, choices)
        if panel.kind == "timeseries":
            return server.over(expression, span)
        return server.now(expression, span.to_s)

    return tuple(
        tuple(Picture(p, tuple((q, ask(p, q)) for q in p.queries)) for p in row.panels)
        for row in board.rows
    )
