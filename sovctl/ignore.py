"""`.sovignore`: which files of a working directory stay behind.

A subset of gitignore: blank lines and `#` comments; `*`, `?`, `[...]` within a name; `**` for any
number of directories; a leading `/` (or one in the middle) ties a pattern to the top; a trailing
`/` means directories only; `!` takes a match back, the last match wins. Only the file at the top of
the directory is read, and nothing below an ignored directory can be taken back. `.git` and
`__pycache__` are ignored unless a `!` says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

IGNORE_FILE = ".sovignore"
IGNORE_BYTES_MAX = 256 * 1024
RULES_MAX = 1000
RULE_CHARS_MAX = 1024
ALWAYS = (".git", "__pycache__/")


class IgnoreInvalid(ValueError):
    """A line that cannot be a pattern; the message names it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the file."""

    pattern: re.Pattern[str]
    directories_only: bool
    takes_back: bool


def _translate(glob: str) -> str:
    """A glob over `/`-separated names as a regular expression without nested repetition."""
    out: list[str] = []
    at = 0
    while at < len(glob):
        rest = glob[at:]
        if rest.startswith("**/"):
            out.append("(?:[^/]+/)*")
            at += 3
        elif rest == "**":
            out.append(".+")
            at += 2
        elif rest[0] == "*":
            out.append("[^/]*")
            at += len(rest) - len(rest.lstrip("*"))
        elif rest[0] == "?":
            out.append("[^/]")
            at += 1
        elif rest[0] == "[" and "]" in rest[2:]:
            end = rest.index("]", 2)
            inner = rest[1:end].replace("\\", "\\\\").replace("[", "\\[")
            negated = inner[0] in "!^"
            out.append(f"[{'^/' if negated else ''}{inner[1:] if negated else inner}]")
            at += end + 1
        elif rest[0] == "\\" and len(rest) > 1:
            out.append(re.escape(rest[1]))
            at += 2
        else:
            out.append(re.escape(rest[0]))
            at += 1
    return "".join(out)


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
    glob = text.lstrip("/")
    if not glob:
        return None
    body = _translate(glob)
    try:
        pattern = re.compile(body if tied else f"(?:[^/]+/)*{body}")
    except re.error as error:
        raise IgnoreInvalid(f"found {line.strip()!r}, allowed a file pattern ({error})") from None
    return Rule(pattern, directories_only, takes_back)


def parse(text: str) -> tuple[Rule, ...]:
    """The rules of a file, after those that always hold."""
    lines = text.splitlines()
    if len(lines) > RULES_MAX:
        raise IgnoreInvalid(f"found {len(lines)} lines, allowed {RULES_MAX}")
    rules: list[Rule] = []
    for number, line in enumerate((*ALWAYS, *lines), start=1 - len(ALWAYS)):
        if len(line) > RULE_CHARS_MAX:
            raise IgnoreInvalid(f"line {number}: longer than {RULE_CHARS_MAX} characters")
        try:
            rule = parse_rule(line)
        except IgnoreInvalid as error:
            raise IgnoreInvalid(f"line {number}: {error}") from None
        if rule is not None:
            rules.append(rule)
    return tuple(rules)


def is_ignored(rules: Sequence[Rule], path: str, *, is_directory: bool) -> bool:
    """Whether `path`, relative to the top and with `/`, stays behind."""
    ignored = False
    for rule in rules:
        if rule.directories_only and not is_directory:
            continue
        if rule.takes_back == ignored and rule.pattern.fullmatch(path):
            ignored = not rule.takes_back
    return ignored
