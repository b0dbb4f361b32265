"""The picture that `sovctl top` shows: live on a terminal, once anywhere else."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Group, RenderableType
from rich.text import Text

from sovapi.v1 import fleet_pb2
from sovctl import clock
from sovctl.cli import fleet_tables
from sovctl.cli.job_verbs import moment
from sovctl.cli.live import LiveView
from sovctl.cli.output import Format, Listing, Output, console_for, fitted, safe

WIDE_COLUMNS_MIN = 100
"""A terminal of fewer columns gets fewer of them."""

UNFIT_SHOWN = 10
HEAD_LINES = 8
"""The time, the fleet in sum, a blank and the header of the sites."""
SITES_SHOWN_MIN = 3


class TopView(LiveView):
    """Shows the fleet as it was last heard of."""

    def __init__(self, output: Output) -> None:
        console = console_for(output.stdout, color=output.color)
        super().__init__(console, wanted=output.is_human, screen=True)
        self._output = output
        self._found: fleet_pb2.OverviewResponse | None = None
        self._at_ms = 0
        self._trouble = ""

    @property
    def can_live(self) -> bool:
        """Whether somebody is looking at a terminal."""
        return self._wanted

    def show(self, found: fleet_pb2.OverviewResponse) -> None:
        """The fleet as it is now."""
        self._found, self._at_ms, self._trouble = found, clock.now_ms(), ""
        self._refresh()

    def trouble(self, message: str) -> None:
        """Nothing was heard; the last picture stays, with its time."""
        self._trouble = message
        self._refresh()

    def print(self, found: fleet_pb2.OverviewResponse) -> None:
        """One picture, whole."""
        self._found, self._at_ms = found, clock.now_ms()
        for part in self._parts(found, lines_max=None):
            self._output.print(part)

    def _view(self) -> Group:
        if self._found is None:
            return Group(Text(safe(self._trouble) or "asking ..."))
        return Group(*self._parts(self._found, lines_max=self._console.height))

    def _parts(
        self, found: fleet_pb2.OverviewResponse, *, lines_max: int | None
    ) -> list[RenderableType]:
        # One line, whatever is said: the height of the rest is counted on.
        when = Text(moment(self._at_ms), style="dim", no_wrap=True, overflow="ellipsis")
        if self._trouble:
            when.append(f"  {safe(self._trouble)}", style="bold red")
        parts: list[RenderableType] = [when, Text("\n".join([*fleet_tables.head(found), ""]))]
        sites = fleet_tables.busy_sites(found)
        unfit = fleet_tables.unfit_nodes(found.unfit[:UNFIT_SHOWN])
        below = len(unfit.rows) + 3 if unfit.rows else 0
        room = None if lines_max is None else lines_max - HEAD_LINES - below - 1
        parts += self._cut(sites, None if room is None else max(room, SITES_SHOWN_MIN))
        if unfit.rows:
            parts += [Text(""), fitted(unfit, self._console.width)]
            if found.unfit_total > len(unfit.rows):
                parts.append(Text(f"and {found.unfit_total - len(unfit.rows)} more", style="dim"))
        return parts

    def _cut(self, sites: Listing, room: int | None) -> list[RenderableType]:
        """The table of sites, as wide and as long as there is room."""
        if not sites.rows:
            return [Text(sites.empty)]
        wide = self._output.format is Format.WIDE or self._console.width >= WIDE_COLUMNS_MIN
        more = 0 if room is None or len(sites.rows) <= room else len(sites.rows) - room + 1
        rows = sites.rows[: len(sites.rows) - more]
        seen = replace(sites, rows=rows)
        parts: list[RenderableType] = [fitted(seen, self._console.width, wide=wide)]
        if more:
            parts.append(Text(f"and {more} more sites", style="dim"))
        return parts
