"""How answers reach people and programs. Knows tables and documents, and nothing of jobs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import IO, Any, Literal, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sovctl.cli.documents import Document, error_document
from sovctl.errors import InvalidArgumentError, SovError
from sovshared import yamlio

UNBOUNDED_WIDTH = 100_000
"""Of output that no terminal shows: a pipe gets every cell whole, on one line."""

WRAPPED_WIDTH_MIN = 12
"""A column of sentences is no narrower, unless it says so."""
GAP_WIDTH = 2

_STYLES: Mapping[str, str] = {
    "QUEUED": "yellow",
    "PLACED": "cyan",
    "STARTING": "cyan",
    "RUNNING": "bold green",
    "SUCCEEDED": "green",
    "FAILED": "bold red",
    "LOST": "bold red",
    "CANCELLED": "magenta",
    "CANCELLING": "magenta",
    "PREEMPTING": "magenta",
    "up": "green",
    "down": "bold red",
    "cordoned": "magenta",
    "down cordoned": "bold red",
    "FAILED cordoned": "bold red",
    "OK": "green",
    "DEGRADED": "yellow",
    "UNKNOWN": "yellow",
    "yes": "green",
    "no": "red",
}


class Format(StrEnum):
    """Forms of output."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    `wide` ones are shown with `-o wide` only; `whole` ones never wrap, others are folded where
    there is no room, though not to less than `width_min`; names are `cut`. `spare` ones are left
    out where even that is too wide: the highest first.
    """

    header: str
    wide: bool = False
    whole: bool = True
    cut: bool = False
    width_min: int = WRAPPED_WIDTH_MIN
    spare: int = 0
    justify: Literal["left", "right"] = "left"


@dataclass(frozen=True, slots=True)
class Listing:
    """Things of one kind: a row, a document and a name for each."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    documents: Sequence[Document]
    names: Sequence[str]
    empty: str = "nothing found"


def safe(text: str) -> str:
    """Text from elsewhere without what would steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def styled(cell: str) -> Text:
    """A cell, coloured where its word has a colour. Markup in it is plain text."""
    return Text(safe(cell), style=_STYLES.get(cell, ""))


def console_for(stream: TextIO, *, color: bool) -> Console:
    """A console as wide as the terminal, or without bound where there is none."""
    bounded = stream.isatty() or "COLUMNS" in os.environ
    return Console(
        file=stream,
        width=None if bounded else UNBOUNDED_WIDTH,
        no_color=not color or None,
        highlight=False,
        markup=False,
        emoji=False,
    )


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Table:
    """Plain columns with a header."""
    made = Table(box=None, pad_edge=False, padding=(0, GAP_WIDTH, 0, 0), header_style="bold")
    for n, column in enumerate(columns):
        made.add_column(
            column.header,
            no_wrap=column.whole,
            overflow="fold",
            justify=column.justify,
            min_width=_width_min(column, [row[n] for row in rows]),
        )
    for row in rows:
        made.add_row(*(styled(cell) for cell in row))
    return made


def fitted(listing: Listing, width: int, *, wide: bool = False) -> Table:
    """As many of the columns as fit into so many characters, and at least those that are needed."""
    shown = [n for n, column in enumerate(listing.columns) if wide or not column.wide]
    columns, rows = listing.columns, listing.rows

    def needed() -> int:
        widths = [_width_min(columns[n], [row[n] for row in rows]) for n in shown]
        return sum(widths) + GAP_WIDTH * (len(shown) - 1)

    spare = sorted((n for n in shown if columns[n].spare), key=lambda n: columns[n].spare)
    while spare and needed() > width:
        shown.remove(spare.pop())
    spare_width = max(0, width - needed())
    kept = [[_cut(columns[n], row[n], spare_width) for n in shown] for row in rows]
    whole = [replace(columns[n], whole=columns[n].whole or columns[n].cut) for n in shown]
    return table(whole, kept)


def _cut(column: Column, cell: str, spare_width: int) -> str:
    """A name that is longer than there is room for ends in dots; its id tells it from others."""
    room = column.width_min + spare_width
    text = Text(safe(cell))
    if column.cut and not column.whole and text.cell_len > room:
        text.truncate(room, overflow="ellipsis")
    return text.plain


def _width_min(column: Column, cells: Sequence[str]) -> int:
    natural = max([len(column.header), *map(cell_len, cells)])
    return natural if column.whole else min(natural, column.width_min)


@dataclass(slots=True)
class Output:
    """Where answers go, and in which form."""

    format: Format = Format.TABLE
    color: bool = True
    quiet: bool = False
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)

    @property
    def is_human(self) -> bool:
        """Whether tables are wanted."""
        return self.format in (Format.TABLE, Format.WIDE)

    def print(self, renderable: object) -> None:
        """Something for people, on standard output, without blanks at the ends of lines."""
        _print(self.stdout, renderable, color=self.color)

    def note(self, text: str) -> None:
        """A remark on standard error; none with --quiet."""
        if not self.quiet:
            _print(self.stderr, Text(safe(text)), color=self.color)

    def listing(self, listing: Listing) -> None:
        """Things of one kind, in the form that was asked for."""
        match self.format:
            case Format.NAME:
                self._lines(listing.names)
            case Format.JSON | Format.YAML:
                self.document(list(listing.documents))
            case Format.TABLE | Format.WIDE:
                if not listing.rows:
                    self.note(listing.empty)
                    return
                wide = self.format is Format.WIDE
                # A wide table is for wide terminals and for pipes: nothing in it is folded.
                if wide:
                    whole = [replace(column, whole=True, spare=0) for column in listing.columns]
                    listing = replace(listing, columns=whole)
                width = console_for(self.stdout, color=self.color).width
                self.print(fitted(listing, width, wide=wide))

    def document(self, document: Any) -> None:
        """Plain data as JSON or YAML."""
        self.stdout.write(_serialised(document, self.format))
        self.stdout.flush()

    def event(self, document: Document, name: str) -> None:
        """One of a stream of documents: a line of JSON, or a document of YAML, each."""
        match self.format:
            case Format.JSON:
                self.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
            case Format.YAML:
                self.stdout.write("---\n" + _serialised(document, self.format))
            case _:
                self._lines([name])
        self.stdout.flush()

    def result(self, document: Document, name: str, sentence: str) -> None:
        """The outcome of one action: a sentence, a document or a name."""
        match self.format:
            case Format.NAME:
                self._lines([name])
            case Format.JSON | Format.YAML:
                self.document(document)
            case Format.TABLE | Format.WIDE:
                if not self.quiet:
                    self.print(Text(safe(sentence)))

    def error(self, error: SovError) -> None:
        """What went wrong, with every reason, on standard error."""
        if self.format in (Format.JSON, Format.YAML):
            self.stderr.write(_serialised(error_document(error), self.format))
            self.stderr.flush()
            return
        head = Text("error: ", style="bold red") + Text(safe(error.message), style="")
        head.append(f" [{safe(error.reason)}]")
        _print(self.stderr, head, color=self.color)
        if error.details:
            _print(self.stderr, _details(error), color=self.color)

    def _lines(self, lines: Sequence[str]) -> None:
        self.stdout.writelines(f"{line}\n" for line in lines)
        self.stdout.flush()


def _details(error: SovError) -> Table:
    if isinstance(error, InvalidArgumentError):
        columns = [Column("FIELD"), Column("FAULT", whole=False)]
        return table(columns, [[d.subject or "-", d.detail] for d in error.details])
    columns = [Column("WHERE"), Column("REASON"), Column("DETAIL", whole=False)]
    return table(columns, [[d.subject or "-", d.reason, d.detail] for d in error.details])


def _serialised(document: Any, form: Format) -> str:
    if form is Format.YAML:
        return yamlio.dumps(document)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _print(stream: IO[str], renderable: object, *, color: bool) -> None:
    """Renders first, so that blanks which only pad a table do not reach files."""
    assert isinstance(stream, TextIO) or hasattr(stream, "write")
    console = console_for(stream, color=color)  # type: ignore[arg-type]
    if isinstance(renderable, Table):
        # A cut id is of no use: where the terminal is too narrow, it wraps the lines itself.
        widths = [column.min_width or 0 for column in renderable.columns]
        console.width = max(console.width, sum(widths) + GAP_WIDTH * (len(widths) - 1))
    with console.capture() as captured:
        console.print(renderable)
    text = captured.get()
    if not console.is_terminal:
        text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    stream.write(text)
    stream.flush()
