"""Writes the answers of stories anew: `python -m tests.scenarios.rewrite [NAME ...]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.scenarios.story import Story
from tests.scenarios.test_scenarios import STORIES, told_again


def main(names: list[str]) -> None:
    """Every story, or those named."""
    for path in STORIES:
        if names and path.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            story = Story(Path(folder) / "store.db")
            try:
                path.write_text(told_again(path, story.execute))
            finally:
                story.close()


if __name__ == "__main__":
    main(sys.argv[1:])
