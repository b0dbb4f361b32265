"""`python -m deploy.grafana.show --prometheus URL`: draws both boards with what a Prometheus says.

Each board becomes one page in the folder of `--out`, which any browser shows; where Chromium is
installed, `chromium --headless --screenshot=fleet.png --window-size=1600,2400 fleet.html` makes a
picture of it. Exit status 1 when a query answers nothing, and which.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.grafana.answers import NoAnswer, Picture, Prometheus, Span, pictures
from deploy.grafana.boards import BOARDS
from deploy.grafana.draw import page

MINUTES_MAX = 31 * 24 * 60


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m deploy.grafana.show", description=__doc__)
    made.add_argument("--prometheus", required=True, metavar="URL", help="http://HOST:PORT")
    made.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="default: here")
    made.add_argument("--minutes", default="60", metavar="N", help="how far back; default 60")
    made.add_argument(
        "--choose", action="append", default=[], metavar="NAME=VALUE", help="such as site=exch-a"
    )
    return made


def choices_of(words: Sequence[str]) -> Mapping[str, str]:
    """What was chosen for each variable, or ValueError."""
    known = sorted({v.name for board in BOARDS.values() for v in board.variables})
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in known or not equals or not value:
            allowed = ", ".join(f"{each}=VALUE" for each in known)
            raise ValueError(f"--choose: found {word!r}, allowed {allowed}")
        found[name] = value
    return found


def minutes_of(word: str) -> int:
    """How far back, or ValueError."""
    if not word.isdecimal() or not 1 <= int(word) <= MINUTES_MAX:
        raise ValueError(f"--minutes: found {word!r}, allowed 1 to {MINUTES_MAX}")
    return int(word)


def draw_all(
    server: Prometheus, span: Span, choices: Mapping[str, str], out: Path
) -> Mapping[str, Sequence[Sequence[Picture]]]:
    """Writes a page for each board; answers what is on them."""
    made: dict[str, Sequence[Sequence[Picture]]] = {}
    for name, board in sorted(BOARDS.items()):
        rows = pictures(board, server, span, choices)
        (out / name).with_suffix(".html").write_text(page(board, rows, span))
        made[name] = rows
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The program; its exit code."""
    options = parser().parse_args(argv)
    server = Prometheus(options.prometheus)
    try:
        choices = choices_of(options.choose)
        minutes = minutes_of(options.minutes)
        now_s = server.time_s()
        options.out.mkdir(parents=True, exist_ok=True)
        made = draw_all(server, Span(now_s - minutes * 60, now_s), choices, options.out)
    except (NoAnswer, ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    empty = [
        f"{name}: {picture.panel.title}: no data: {expression}\n"
        for name, rows in made.items()
        for row in rows
        for picture in row
        for expression in picture.unanswered()
    ]
    sys.stdout.writelines(f"{options.out / Path(name).stem}.html\n" for name in sorted(made))
    sys.stderr.writelines(empty)
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main())
