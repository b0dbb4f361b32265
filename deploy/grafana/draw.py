"""A board as one page of HTML and SVG, laid out as Grafana lays it out, with nothing to load.

It shows what the queries answer, with the board's own titles, units, legends and thresholds, so
that a board can be looked at where there is no Grafana. It is a likeness: what Grafana's own
drawing makes of the board is another matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from deploy.grafana.answers import Picture, Series, Span
from deploy.grafana.model import COLUMNS, Board, Query, Unit
from deploy.grafana.units import shown, ticks

BOARD_PX = 1600
ROW_PX = 38
GAP_PX = 8
HEAD_PX = 30
LEGEND_PX = 64
TIME_HALF_PX = 20  # Half of what a moment's label takes.
AXIS_LEFT_PX, AXIS_BELOW_PX, EDGE_PX = 88, 20, 18
LEGEND_LINES, LEGEND_EDGE_PX, LEGEND_GAP_PX, CHARACTER_PX, MORE_PX = 3, 10, 42, 8, 110
ROWS_SHOWN = 60
TILES_SHOWN = 8
TICK_WIDTH_PX, TICK_HEIGHT_PX = 90, 42
TIME_STEPS_S = (10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)
COLOURS = (
    "#73bf69",
    "#f2cc0c",
    "#8ab8ff",
    "#ff780a",
    "#f2495c",
    "#5794f2",
    "#b877d9",
    "#e0b400",
    "#37872d",
    "#ffa6b0",
)
NAMED: Mapping[str, str] = {
    "green": "#73bf69",
    "yellow": "#fade2a",
    "orange": "#ff9830",
    "red": "#f2495c",
    "purple": "#b877d9",
    "blue": "#5794f2",
    "gray": "#808080",
}
"""Of Grafana's palette, by the names that boards use."""
STYLE = """
body{margin:0;background:#111217;color:#ccccdc;font:13px/1.35 'DejaVu Sans',sans-serif}
h1{font-size:18px;font-weight:500;margin:12px 8px 4px}
.when{margin:0 8px 8px;color:#8e8e99}
.row{display:flex;gap:8px;margin:0 8px 8px}
.panel{background:#181b1f;border:1px solid #25272c;border-radius:2px;overflow:hidden;
 box-sizing:border-box;display:flex;flex-direction:column}
.panel h2{font-size:13px;font-weight:500;margin:0;padding:6px 10px 4px;height:20px;flex:none;
 white-space:nowrap}
.tiles{flex:1;display:flex;align-items:stretch;justify-content:space-around;min-height:0}
.tile{display:flex;flex-direction:column;align-items:center;justify-content:center;padding:0 6px;
 min-width:0;box-sizing:border-box}
.tile b{font-weight:500;font-size:34px;white-space:nowrap}
.tile.small b{font-size:24px}
.tile span{color:#ccccdc;font-size:12px;white-space:nowrap;max-width:100%;overflow:hidden;
 text-overflow:ellipsis}
.legend{padding:0 10px 6px;font-size:12px;line-height:18px;height:64px;box-sizing:border-box;
 overflow:hidden}
.legend span{white-space:nowrap;margin-right:14px;display:inline-block}
.legend i{display:inline-block;width:14px;height:4px;border-radius:2px;margin-right:6px;
 vertical-align:middle}
.legend em{font-style:normal;color:#8e8e99;margin-left:6px}
table{border-collapse:collapse;width:calc(100% - 20px);margin:0 10px;font-size:12px}
.rows{flex:1;overflow:hidden}
th,td{text-align:left;padding:4px 14px 4px 0;white-space:nowrap;border-bottom:1px solid #25272c}
th{color:#6e9fff;font-weight:500}
td.n,th.n{text-align:right}
.none{flex:1;display:flex;align-items:center;justify-content:center;color:#8e8e99}
text{fill:#9a9aa6;font-size:11px}
"""


@dataclass(frozen=True, slots=True)
class _Curve:
    name: str
    unit: Unit
    points: tuple[tuple[float, float], ...]
    colour: str


def page(board: Board, rows: Sequence[Sequence[Picture]], span: Span) -> str:
    """The whole page."""
    when = f"{_moment(span.from_s)} to {_moment(span.to_s)} UTC"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f"<title>{escape(board.title)}</title><style>{STYLE}</style></head>",
        f'<body style="width:{BOARD_PX}px"><h1>{escape(board.title)}</h1>',
        f'<p class="when">{when}</p>',
    ]
    for row, pictures in zip(board.rows, rows, strict=True):
        width = COLUMNS // len(row.panels) * (BOARD_PX - 2 * GAP_PX) // COLUMNS - GAP_PX
        parts.append('<div class="row">')
        parts += [_panel(p, width, row.height * ROW_PX - GAP_PX, span) for p in pictures]
        parts.append("</div>")
    return "".join([*parts, "</body></html>\n"])


def _panel(picture: Picture, width: int, height: int, span: Span) -> str:
    panel = picture.panel
    if not any(series for _, series in picture.answers):
        body = '<div class="none">No data</div>'
    elif panel.kind == "stat":
        body = _stat(picture)
    elif panel.kind == "table":
        body = _table(picture)
    else:
        body = _curves(picture, width - 2, height - 2, span)
    return (
        f'<div class="panel {panel.kind}" style="width:{width}px;height:{height}px"'
        f' title="{escape(panel.why)}"><h2>{escape(panel.title)}</h2>{body}</div>'
    )


def _stat(picture: Picture) -> str:
    panel = picture.panel
    named = list(_named(picture))
    tiles: list[str] = []
    for name, query, series in named[:TILES_SHOWN]:
        value = series.points[-1][1]
        over = panel.red_above is not None and value >= panel.red_above
        label = f"<span>{escape(name)}</span>" if len(named) > 1 else ""
        text = shown(value, query.unit or panel.unit)
        tiles.append(
            f'<div class="tile{" small" if len(named) > 2 else ""}">{label}'
            f'<b style="color:{NAMED["red" if over else "green"]}">{escape(text)}</b></div>'
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _table(picture: Picture) -> str:
    """Queries side by side, a row for each set of labels, as Grafana's `merge` joins them."""
    labels = [name for name, _ in picture.panel.labels]
    cells = {
        (n, tuple(s.labels.get(name, "") for name in labels)): s.points[-1][1]
        for n, (_, series) in enumerate(picture.answers)
        for s in series
    }
    keys = sorted({key for _, key in cells})
    head = "".join(f"<th>{escape(title)}</th>" for _, title in picture.panel.labels)
    head += "".join(f'<th class="n">{escape(q.legend)}</th>' for q, _ in picture.answers)
    lines: list[str] = []
    for key in keys[:ROWS_SHOWN]:
        line = "".join(f"<td>{escape(value)}</td>" for value in key)
        for n, (query, _) in enumerate(picture.answers):
            value = cells.get((n, key))
            text = "" if value is None else _cell(query, value, picture.panel.unit)
            line += f'<td class="n">{escape(text)}</td>'
        lines.append(f"<tr>{line}</tr>")
    return f'<div class="rows"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _cell(query: Query, value: float, unit: Unit) -> str:
    return dict(query.words).get(int(value)) or shown(value, query.unit or unit)


def _named(picture: Picture) -> Iterator[tuple[str, Query, Series]]:
    """Every series with the name that its legend gives it."""
    for query, answers in picture.answers:
        for series in answers:
            yield legend(query.legend, series.labels), query, series


def legend(template: str, labels: Mapping[str, str]) -> str:
    """A legend with its labels filled in; without a template, the labels themselves."""
    if not template:
        return ", ".join(f"{k}={v}" for k, v in labels.items()) or "value"
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), template).strip()


def _curves(picture: Picture, width: int, height: int, span: Span) -> str:
    panel = picture.panel
    curves: list[_Curve] = []
    for n, (name, query, series) in enumerate(_named(picture)):
        points = tuple(p for p in series.points if p[1] == p[1])
        colour = NAMED.get(dict(panel.colours).get(name, ""), COLOURS[n % len(COLOURS)])
        curves.append(_Curve(name, query.unit or panel.unit, points, colour))
    drawn = _stacked(curves) if panel.stacked else [(curve.points, ()) for curve in curves]
    plot = height - HEAD_PX - LEGEND_PX
    chart = _chart(curves, drawn, (width, plot), span, panel.unit)
    return chart + _legend(curves, width)


def _stacked(
    curves: Sequence[_Curve],
) -> list[tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]]:
    """Each curve on top of those before it, with the line below it."""
    times = sorted({at for curve in curves for at, _ in curve.points})
    below = dict.fromkeys(times, 0.0)
    made: list[tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]] = []
    for curve in curves:
        own = dict(curve.points)
        under = tuple(below.items())
        below = {at: below[at] + own.get(at, 0.0) for at in times}
        made.append((tuple(below.items()), under))
    return made


def _chart(
    curves: Sequence[_Curve],
    drawn: Sequence[tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]],
    size: tuple[int, int],
    span: Span,
    unit: Unit,
) -> str:
    width, height = size
    top = max((value for line, _ in drawn for _, value in line), default=0.0)
    levels = ticks(0.0, top, max(2, height // TICK_HEIGHT_PX))
    left, right, bottom = AXIS_LEFT_PX, width - EDGE_PX, height - AXIS_BELOW_PX
    seconds = max(1, span.to_s - span.from_s)

    def at_x(at: float) -> float:
        return round(left + (at - span.from_s) / seconds * (right - left), 1)

    def at_y(value: float) -> float:
        return round(bottom - value / levels[-1] * (bottom - EDGE_PX), 1)

    parts = [f'<svg width="{width}" height="{height}">']
    for level in levels:
        y = at_y(level)
        parts.append(f'<path d="M{left} {y}H{right}" stroke="#2b2e35"/>')
        label = escape(shown(level, unit))
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{label}</text>')
    for at in _times(span, (right - left) // TICK_WIDTH_PX):
        text = _moment(at)[11:16]
        # Beside the left edge it would run into the lowest value's label.
        anchor = "start" if at_x(at) < left + TIME_HALF_PX else "middle"
        parts.append(f'<text x="{at_x(at)}" y="{height - 5}" text-anchor="{anchor}">{text}</text>')
    for curve, (line, under) in zip(curves, drawn, strict=True):
        for run in _runs([at for at, _ in line], span.step_s):
            path = " ".join(f"{at_x(at)},{at_y(value)}" for at, value in line[run])
            if under:
                back = " ".join(f"{at_x(at)},{at_y(v)}" for at, v in reversed(under[run]))
                fill = f'fill="{curve.colour}" opacity="0.2"'
                parts.append(f'<polygon points="{path} {back}" {fill}/>')
            parts.append(f'<polyline points="{path}" fill="none" stroke="{curve.colour}"/>')
            if run.stop - run.start == 1:
                x, y = path.split(",")
                parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{curve.colour}"/>')
    return "".join([*parts, "</svg>"])


def _runs(times: Sequence[float], step_s: int) -> Iterator[slice]:
    """Stretches without a gap: what was not there is not drawn."""
    start = 0
    for n in range(1, len(times) + 1):
        if n == len(times) or times[n] - times[n - 1] > 1.5 * step_s:
            if n > start:
                yield slice(start, n)
            start = n


def _times(span: Span, count_max: int) -> Iterator[int]:
    """Round times within the span, far enough apart to be read."""
    room = (span.to_s - span.from_s) / max(1, count_max)
    step = next((s for s in TIME_STEPS_S if s >= room), TIME_STEPS_S[-1])
    first = -(-span.from_s // step) * step
    return iter(range(first, span.to_s, step))


def _legend(curves: Sequence[_Curve], width: int) -> str:
    """Each curve's name and newest value, as far as there is room; how many more there are."""
    words: list[str] = []
    line, left = 1, width - 2 * LEGEND_EDGE_PX
    told = [curve for curve in curves if curve.points]
    for n, curve in enumerate(told):
        value = shown(curve.points[-1][1], curve.unit)
        room = LEGEND_GAP_PX + CHARACTER_PX * (len(curve.name) + len(value) + 1)
        if room > left:
            line, left = line + 1, width - 2 * LEGEND_EDGE_PX
        left -= room
        last = n + 1 == len(told)
        if line > LEGEND_LINES or (line == LEGEND_LINES and left < MORE_PX and not last):
            words.append(f"<span>and {len(told) - n} more</span>")
            break
        words.append(
            f'<span><i style="background:{curve.colour}"></i>{escape(curve.name)}'
            f"<em>{escape(value)}</em></span>"
        )
    return f'<div class="legend">{"".join(words)}</div>'


def _moment(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M")
