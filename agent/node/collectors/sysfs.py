"""Small reads from sysfs. What is absent or cannot be read is None: drivers differ."""

from __future__ import annotations

from pathlib import Path

VALUE_BYTES_MAX = 4096
ENTRIES_MAX = 256


def text(path: Path) -> str | None:
    """A file's content without its newline."""
    try:
        with path.open("rb") as file:
            return file.read(VALUE_BYTES_MAX).decode("ascii", errors="replace").strip()
    except OSError:
        return None


def number(path: Path) -> int | None:
    """A file's content as an integer. `N/A (no PMA)` and the like are None."""
    found = text(path)
    if found is None:
        return None
    try:
        return int(found, 0)
    except ValueError:
        return None


def leading_number(path: Path) -> int | None:
    """The integer that a file's content begins with, as in `4: ACTIVE`."""
    word = (text(path) or "").partition(":")[0].strip()
    return int(word) if word.isdigit() else None


def children(path: Path) -> tuple[Path, ...]:
    """A directory's entries by name, at most ENTRIES_MAX; none when it does not exist."""
    try:
        return tuple(sorted(path.iterdir())[:ENTRIES_MAX])
    except OSError:
        return ()
