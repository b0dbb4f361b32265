"""The likeness of the boards: units, legends, tables, and that a crowded board can be read."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.grafana import show
from deploy.grafana.answers import Picture, Series, Span, chosen
from deploy.grafana.boards import BOARDS
from deploy.grafana.draw import legend, page
from deploy.grafana.fleet_board import FLEET
from deploy.grafana.model import Board, Panel, Query, Row, Unit
from deploy.grafana.tenant_board import LARGEST
from deploy.grafana.units import shown, ticks
from tests.conftest import service
from tests.services.chromium import faults_of

SPAN = Span(1_700_000_000, 1_700_003_600)
SITES = 43
LABELS = {"reason": "INTERCONNECT_UNAVAILABLE", "code": "NVML_NOT_ANSWERING", "severity": "unknown"}


@pytest.mark.parametrize(
    ("value", "unit", "want"),
    [
        (0.754, "percentunit", "75.4%"),
        (1.0, "percentunit", "100%"),
        (119_992, "locale", "119,992"),
        (0.5, "locale", "0.5"),
        (5_600, "watt", "5.6 kW"),
        (2_300_000, "watt", "2.3 MW"),
        (0.0316, "s", "31.6 ms"),
        (90, "s", "1.5 min"),
        (0, "s", "0 s"),
        (36, "celsius", "36 °C"),
        (0.00344, "ops", "0.00344 ops/s"),
        (200_000, "opm", "200 kops/min"),
        (float("nan"), "none", "no value"),
    ],
)
def test_numbers_have_their_units(value: float, unit: Unit, want: str) -> None:
    assert shown(value, unit) == want


@pytest.mark.parametrize(("high", "count"), [(0, 4), (1, 4), (7, 3), (0.003, 4), (1234, 5)])
def test_ticks_are_round_few_and_span_everything(high: float, count: int) -> None:
    found = ticks(0, high, count)
    assert found[0] == 0
    assert found[-1] >= high
    assert len(found) <= count + 2


def test_a_legend_is_its_template_or_the_labels() -> None:
    labels = {"site": "a", "state": "ok"}
    assert legend("{{site}} {{none}}", labels) == "a"
    assert legend("", labels) == "site=a, state=ok"
    assert legend("", {}) == "value"


def test_what_is_chosen_stands_for_its_variable_and_all_for_the_others() -> None:
    assert chosen('up{site=~"$site"}', FLEET, {}) == 'up{site=~".*"}'
    assert chosen('up{site=~"$site"}', FLEET, {"site": "exch-a"}) == 'up{site=~"exch-a"}'


def test_a_table_joins_its_queries_by_their_labels_and_says_words_for_numbers() -> None:
    queries = (Query("a", "link", words=((1, "up"), (0, "down"))), Query("b", "power", unit="watt"))
    panel = Panel("Sites", "", queries, kind="table", labels=(("site", "where"),))
    answers = (
        (Series({"site": "x"}, ((0, 1),)), Series({"site": "y"}, ((0, 0),))),
        (Series({"site": "y", "job": "dropped"}, ((0, 4_000),)),),
    )
    picture = Picture(panel, tuple(zip(queries, answers, strict=True)))
    text = page(Board("u", "B", (Row((panel,)),)), [[picture]], SPAN)
    head = '<th>where</th><th class="n">link</th><th class="n">power</th>'
    assert head in text
    assert '<td>x</td><td class="n">up</td><td class="n"></td>' in text
    assert '<td>y</td><td class="n">down</td><td class="n">4 kW</td>' in text


def test_a_gap_is_not_bridged() -> None:
    panel = Panel("Curve", "", (Query("a", "a"),))
    times = [*range(SPAN.from_s, SPAN.from_s + 60, 15), SPAN.from_s + 900]
    series = Series({}, tuple((float(at), 1.0) for at in times))
    picture = Picture(panel, ((panel.queries[0], (series,)),))
    text = page(Board("u", "B", (Row((panel,)),)), [[picture]], SPAN)
    assert text.count("<polyline") == 2
    assert text.count("<circle") == 1


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--choose", "sight=a"], "allowed site=VALUE, tenant=VALUE"),
        (["--choose", "site"], "--choose: found 'site'"),
        (["--minutes", "0"], "--minutes: found '0', allowed 1 to"),
        ([], "http://127.0.0.1:9/api/v1/query"),
    ],
)
def test_what_cannot_be_shown_is_said(
    words: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show.main(["--prometheus", "http://127.0.0.1:9", *words]) == 2
    assert fault in capsys.readouterr().err


def crowded(panel: Panel) -> Picture:
    """A panel as a large fleet would fill it: many long names, large numbers."""
    places = [f"exch-wolverhampton-{n}" for n in range(SITES)]
    grouped = any("{{" in query.legend for query in panel.queries) or panel.kind == "table"
    grouped = grouped and panel.kind != "stat"
    names = places if grouped else places[: LARGEST if panel.queries[0].legend else 1]

    def series(name: str, n: int) -> Series:
        labels = {**LABELS, "site": name, "tenant": f"department/{name}", "state": name}
        labels |= {"job": name, "outcome": name, "gpu_class": "GB200-NVL72", "health": name}
        points = [(SPAN.from_s + s, 12_345.678 * (n + 1)) for s in range(0, 3600, SPAN.step_s)]
        return Series(labels, tuple(points if panel.kind == "timeseries" else points[-1:]))

    made = tuple(series(name, n) for n, name in enumerate(names))
    return Picture(panel, tuple((query, made) for query in panel.queries))


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_a_crowded_board_can_be_read(name: str, tmp_path: Path) -> None:
    chromium = service("chromium", "chromium")
    board = BOARDS[name]
    rows = [[crowded(panel) for panel in row.panels] for row in board.rows]
    file = tmp_path / "crowded.html"
    file.write_text(page(board, rows, SPAN))
    assert "\n".join(faults_of(chromium, file, tmp_path)) == ""


def test_what_cannot_be_read_is_found(tmp_path: Path) -> None:
    chromium = service("chromium", "chromium")
    panel = Panel("A title " * 40, "", (Query("a", "a"),))
    empty = replace(panel, title="Empty")
    line = Series({}, ((SPAN.from_s - 10_000, 1.0), (SPAN.from_s - 9_999, 1.0)))
    board = Board("u", "B", (Row((panel, empty)),))
    rows = [[Picture(p, ((panel.queries[0], (line,)),)) for p in (panel, empty)]]
    file = tmp_path / "bad.html"
    file.write_text(page(board, rows, SPAN))
    faults = faults_of(chromium, file, tmp_path)
    assert any(fault.endswith("h2 is too wide") for fault in faults)
    assert "Empty: nothing is drawn" in faults
