"""Just enough of Grafana's classic dashboard (schema 41) to say what a board shows, typed.

A board is a list of rows, a row a list of panels that share its width. What is left out takes
Grafana's own defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 41
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "sov-prometheus"}

Kind = Literal["timeseries", "stat", "table"]
Unit = Literal["none", "locale", "percentunit", "s", "watt", "celsius", "ops", "opm", "bytes"]
"""Grafana's own names. `locale` writes numbers out, with commas; `opm` is operations a minute."""

Colour = Literal["green", "yellow", "orange", "red", "purple", "blue", "gray"]


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and what each of its series is called; in a table, its column.

    `unit` differs from the panel's where it is given; `words` stand for values, such as up for 1.
    """

    expr: str
    legend: str = ""
    unit: Unit | None = None
    words: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `why` is what an operator reads when they wonder what it is for.

    `colours` are for series whose names have a meaning; `labels` are a table's first columns: each
    label, and what it is called there.
    """

    title: str
    why: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    unit: Unit = "none"
    stacked: bool = False
    red_above: float | None = None
    colours: tuple[tuple[str, Colour], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Variable:
    """What the reader chooses: the values of one label."""

    name: str
    label: str
    query: str


@dataclass(frozen=True, slots=True)
class Row:
    """Panels side by side."""

    panels: tuple[Panel, ...]
    height: int = 8


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard."""

    uid: str
    title: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = field(default=())

    def queries(self) -> Iterator[tuple[str, str]]:
        """Every expression with the title of its panel."""
        for row in self.rows:
            for panel in row.panels:
                for query in panel.queries:
                    yield panel.title, query.expr

    def document(self) -> dict[str, Any]:
        """What Grafana reads."""
        return {
            "uid": self.uid,
            "title": self.title,
            "tags": ["sovereign-compute"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "timezone": "utc",
            "templating": {"list": [_variable(variable) for variable in self.variables]},
            "panels": list(_panels(self.rows)),
        }


def _panels(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for row in rows:
        width = COLUMNS // len(row.panels)
        for place, panel in enumerate(row.panels):
            number += 1
            position = {"x": place * width, "y": top, "w": width, "h": row.height}
            yield _panel(number, panel, position)
        top += row.height


def _panel(number: int, panel: Panel, position: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.why,
        "datasource": DATASOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": _field(panel), "overrides": list(_overrides(panel))},
        "options": _options(panel),
        "transformations": _transformations(panel),
        "targets": [_target(panel, place, query) for place, query in enumerate(panel.queries)],
    }


def _field(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_above is not None:
        steps.append({"color": "red", "value": panel.red_above})
    found: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind == "timeseries":
        found["custom"] = {
            "fillOpacity": 20 if panel.stacked else 0,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    return found


def _overrides(panel: Panel) -> Iterator[dict[str, Any]]:
    """What differs by series or query: columns of a table go by names, curves by their query."""
    for name, colour in panel.colours:
        fixed = {"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}
        yield {"matcher": {"id": "byName", "options": name}, "properties": [fixed]}
    for place, query in enumerate(panel.queries):
        properties: list[dict[str, Any]] = []
        if query.unit is not None:
            properties.append({"id": "unit", "value": query.unit})
        if query.words:
            options = {str(value): {"text": word} for value, word in query.words}
            mappings = [{"type": "value", "options": options}]
            properties.append({"id": "mappings", "value": mappings})
        if not properties:
            continue
        by_name = {"id": "byName", "options": query.legend}
        by_query = {"id": "byFrameRefID", "options": _letter(place)}
        matcher = by_name if panel.kind == "table" else by_query
        yield {"matcher": matcher, "properties": properties}


def _transformations(panel: Panel) -> list[dict[str, Any]]:
    """The queries of a table become one: a row for each set of labels, a column for each query."""
    if panel.kind != "table":
        return []
    values = {f"Value #{_letter(n)}": query.legend for n, query in enumerate(panel.queries)}
    names = dict(panel.labels) | values
    order = {name: place for place, name in enumerate(names)}
    organize = {
        "excludeByName": {"Time": True},
        "indexByName": order,
        "renameByName": names,
    }
    return [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}]


def _letter(place: int) -> str:
    return chr(ord("A") + place)


def _options(panel: Panel) -> dict[str, Any]:
    match panel.kind:
        case "stat":
            reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
            return {"reduceOptions": reduce, "colorMode": "value", "graphMode": "none"}
        case "table":
            return {"showHeader": True}
        case "timeseries":
            return {
                "legend": {
                    "displayMode": "list",
                    "placement": "bottom",
                    "calcs": ["lastNotNull"],
                },
                "tooltip": {"mode": "multi", "sort": "desc"},
            }


def _target(panel: Panel, place: int, query: Query) -> dict[str, Any]:
    now = panel.kind != "timeseries"
    return {
        "refId": _letter(place),
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": now,
        "range": not now,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "type": "query",
        "name": variable.name,
        "label": variable.label,
        "datasource": DATASOURCE,
        "query": {"query": variable.query, "refId": "variable"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }
