"""`.sovignore`: which files of a working directory stay behind.

A subset of gitignore: blank lines and `#` comments; `*`, `?`, `[...]` within a name (a backslash
escapes nothing); `**` for any number of directories; a leading `/` (or one in the middle) ties a
pattern to the top; a trailing `/` means directories only; `!` takes a match back, the last match
wins. Only the file at the top of the directory is read, and nothing below an ignored directory can
be taken back. `.git` and `__pycache__` are ignored unless a `!` says otherwise.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

IGNORE_FILE = ".sovignore"
IGNORE_BYTES_MAX = 256 * 1024
RULES_MAX = 1000
RULE_CHARS_MAX = 1024
ALWAYS = (".git", "__pycache__/")


class IgnoreInvalid(ValueError):
    """A file with too many or too long lines; the message says which."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the file, name by name. None stands for `**`."""

    names: tuple[re.Pattern[str] | None, ...]
    directories_only: bool
    takes_back: bool

    def matches(self, path: Sequence[str]) -> bool:
        """Whether the names fit. Time grows with the product of both lengths, and no faster."""
        reached = {0}
        for n, name in enumerate(self.names, start=1):
            if name is None:  # At the end it stands for something, elsewhere also for nothing.
                first = min(reached) + (n == len(self.names))
                reached = set(range(first, len(path) + 1))
            else:
                reached = {at + 1 for at in reached if at < len(path) and name.match(path[at])}
            if not reached:
                return False
        return len(path) in reached


def parse_rule(line: str) -> Rule | None:
    """The rule that a line states, if it states one."""
    text = line.rstrip("\r\n").rstrip(" ")
    if not text or text.startswith("#"):
        return None
    takes_back = text.startswith("!")
    text = text[1:] if takes_back else text
    directories_only = text.endswith("/")
    text = text.rstrip("/")
    tied = "/" in text
    words = [word for word in text.split("/") if word]
    if not words:
        return None
    # fnmatch makes expressions that do not backtrack from one star into another.
    names = [None if word == "**" else re.compile(fnmatch.translate(word)) for word in words]
    return Rule(tuple(names if tied else [None, *names]), directories_only, takes_back)


def parse(text: str) -> tuple[Rule, ...]:
    """The rules of a file, after those that always hold."""
    lines = text.splitlines()
    if len(lines) > RULES_MAX:
        raise IgnoreInvalid(f"found {len(lines)} lines, allowed {RULES_MAX}")
    rules: list[Rule] = []
    for number, line in enumerate((*ALWAYS, *lines), start=1 - len(ALWAYS)):
        if len(line) > RULE_CHARS_MAX:
            raise IgnoreInvalid(f"line {number}: longer than {RULE_CHARS_MAX} characters")
        rule = parse_rule(line)
        if rule is not None:
            rules.append(rule)
    return tuple(rules)


def is_ignored(rules: Sequence[Rule], path: str, *, is_directory: bool) -> bool:
    """Whether `path`, relative to the top and with `/`, stays behind."""
    ignored = False
    names = path.split("/")
    for rule in rules:
        if rule.directories_only and not is_directory:
            continue
        if rule.takes_back == ignored and rule.matches(names):
            ignored = not rule.takes_back
    return ignored
