"""`python -m deploy.grafana.build`: writes the boards that are kept in `boards/`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from deploy.grafana.boards import BOARDS

FOLDER = Path(__file__).resolve().parent / "boards"


def texts() -> Iterator[tuple[Path, str]]:
    """Each board's file and what belongs into it."""
    for name, board in sorted(BOARDS.items()):
        yield FOLDER / name, json.dumps(board.document(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes every board."""
    for path, text in texts():
        path.write_text(text)
        sys.stdout.write(f"{path.name}\n")


if __name__ == "__main__":
    main()
