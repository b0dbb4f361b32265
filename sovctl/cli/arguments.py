"""The command line before it is parsed: global options anywhere, and a command after `--`.

`-o` is the form of the answer, and with verbs that fetch a file also where that goes: a word that
is no form is a file's name there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ARGUMENTS_MAX = 10_000

_WITH_VALUE = ("--context", "--output", "-o")
_FLAGS = ("--no-color", "--quiet", "-q")
_FORMS = frozenset({"table", "wide", "json", "yaml", "name"})
_FETCH_FILES = frozenset({("certificate",), ("audit", "trust")})


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What is parsed, and the words after `--`; None where there is no `--`."""

    options: tuple[str, ...]
    command: tuple[str, ...] | None


def split(argv: Sequence[str]) -> CommandLine:
    """Cuts at `--`, and moves global options to the front: `sovctl list -o json` works too."""
    words = list(argv)
    command = None
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], tuple(words[at + 1 :])
    files = any(_fetches(words, verb) for verb in _FETCH_FILES)
    front: list[str] = []
    rest: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        name = word.split("=", 1)[0]
        if word in _FLAGS or (name in _WITH_VALUE and "=" in word):
            front.append(word)
        elif files and word == "-o" and at < len(words) and words[at] not in _FORMS:
            rest += words[at - 1 : at + 1]
            at += 1
        elif word in _WITH_VALUE:
            front += words[at - 1 : at + 1]
            at += 1
        elif word.startswith("-o") and not word.startswith("--") and len(word) > 2:
            front += ["-o", word[2:].removeprefix("=")]
        else:
            rest.append(word)
    return CommandLine((*front, *rest), command)


def _fetches(words: Sequence[str], verb: tuple[str, ...]) -> bool:
    return any(tuple(words[n : n + len(verb)]) == verb for n in range(len(words)))
