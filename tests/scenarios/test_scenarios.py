"""Stories of operators and tenants, as text: what is done, and what they see.

A block is a command, a line `----`, and the answer; lines beginning with `#` tell the story.
`python -m tests.scenarios.rewrite` writes the answers anew: commit only what can be explained.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scenarios.story import Story

HERE = Path(__file__).parent
BLOCK = re.compile(r"^(?P<command>[^\n#][^\n]*)\n----\n(?:[^\n]+\n)*(?:\n|\Z)", re.M)
STORIES = sorted(HERE.glob("*.txt"))


def told_again(path: Path, execute: Callable[[str], str]) -> str:
    """The story with the answers that it gets now."""

    def block(found: re.Match[str]) -> str:
        return f"{found['command']}\n----\n{execute(found['command']).rstrip()}\n\n"

    return BLOCK.sub(block, path.read_text()).rstrip() + "\n"


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_story_goes_as_it_is_told(path: Path, tmp_path: Path) -> None:
    story = Story(tmp_path / "store.db")
    try:
        assert told_again(path, story.execute) == path.read_text()
    finally:
        story.close()


def test_a_story_that_goes_otherwise_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("site london\n----\nit rains\n")
    assert told_again(wrong, Story(tmp_path / "store.db").execute) != wrong.read_text()
