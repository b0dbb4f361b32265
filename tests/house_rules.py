"""The house rules that no linter knows, as functions from a text to what is wrong with it."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import TypeAlias

FUNCTION_LINES_MAX = 70
FILE_LINES_SOFT = 400
FILE_LINES_HARD = 600
FIRST_PARTY = frozenset(
    {"scheduler", "agent", "sovctl", "sovapi", "sovshared", "contract_check"}
    | {"deploy", "bench", "tests"}
)

# Written in pieces, so that this file keeps its own rule.
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
ADDRESS = re.compile(
    r"pypi\." r"org|pythonhosted\." r"org|registry\.(?:npm" r"js|yarn" r"pkg)"
    r"|(?:extra-)?index-url\s*[= ]\s*\S+:/" r"/"
)  # fmt: skip
HOME = re.compile(r"(?:^|[\s\"'`=(:,\[])/(?:ro" r"ot|ho" r"me/\w+|Us" r"ers/\w+)/")

HELP_BLOCK = re.compile(r"<!-- sovctl --help -->\n+```\w*\n(?P<text>.*?)\n```", re.S)
REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?\s*(?P<rest>.*)$")

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(source: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _imported(node: ast.AST) -> Sequence[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or "."]
    return []


def long_functions(source: str) -> Sequence[str]:
    """Functions over the limit, docstring included."""
    lengths = [(f, (f.end_lineno or f.lineno) - f.lineno + 1) for f in _functions(source)]
    return [
        f"line {f.lineno}: {f.name} has {lines} lines, allowed are {FUNCTION_LINES_MAX}"
        for f, lines in lengths
        if lines > FUNCTION_LINES_MAX
    ]


def long_file(source: str, *, excuse: str | None) -> Sequence[str]:
    """Whether a file is too long. An `excuse` lifts the soft limit, and must still be needed."""
    lines = len(source.splitlines())
    if lines > FILE_LINES_HARD:
        return [f"{lines} lines, allowed are {FILE_LINES_HARD}"]
    if lines > FILE_LINES_SOFT:
        return [] if excuse else [f"{lines} lines: split it, or name the reason in LONG_FILES"]
    return [] if excuse is None else [f"{lines} lines need no exception"]


def hidden_imports(source: str) -> Sequence[str]:
    """First-party imports inside a function: the usual cover for an import cycle."""
    found = {
        (node.lineno, name)
        for function in _functions(source)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in _imported(node)
        if name.split(".")[0] in FIRST_PARTY
    }
    return [f"line {line}: imports {name} inside a function" for line, name in sorted(found)]


def foreign_imports(source: str, *, own: Set[str]) -> Sequence[str]:
    """Imports that are neither of the standard library nor of the packages in `own`."""
    names = {name for node in ast.walk(ast.parse(source)) for name in _imported(node)}
    allowed = {name for name in names if any(f"{name}.".startswith(f"{o}.") for o in own)}
    standard = {name for name in names if name.split(".")[0] in sys.stdlib_module_names}
    return [f"imports {name}" for name in sorted(names - allowed - standard)]


def _lines_with(pattern: re.Pattern[str], text: str) -> Sequence[str]:
    return [
        f"line {number}: {found[0].strip()}"
        for number, line in enumerate(text.splitlines(), start=1)
        if (found := pattern.search(line)) is not None
    ]


def unfinished(text: str) -> Sequence[str]:
    """Marks of work put off."""
    return _lines_with(UNFINISHED, text)


def places(text: str) -> Sequence[str]:
    """Package index addresses and paths that exist on somebody's machine only."""
    return [*_lines_with(ADDRESS, text), *_lines_with(HOME, text)]


def requirement_places(text: str) -> Sequence[str]:
    """What in a compiled requirement file is not a name, a version or a hash."""
    code = [line.split(" #")[0].strip() for line in text.splitlines() if line.strip()[:1] != "#"]
    wrong = re.compile(r":/" r"/|^-|\bfile:|(?:^|[\s=@])\.{0,2}/")
    return [line for line in code if not line.startswith("--hash=sha256:") and wrong.search(line)]


def unhashed(text: str) -> Sequence[str]:
    """Compiled requirements without an exact version or without a hash."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [line for line in joined.splitlines() if line.strip() and line.strip()[0] != "#"]
    return [line for line in lines if "==" not in line or "--hash=sha256:" not in line]


def canonical(name: str) -> str:
    """A distribution's name in the form in which two spellings are equal."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required(text: str) -> Mapping[str, str]:
    """Name and version specifier of every requirement in a requirement file."""
    found = (REQUIREMENT.match(line) for line in text.splitlines() if not line.startswith("-"))
    return {
        canonical(match["name"]): match["rest"].split(";")[0].strip(" \\")
        for match in found
        if match is not None
    }


def declared(pyproject: str, extra: str) -> Set[str]:
    """Names that the project asks for with `extra`: its own dependencies and the extra's."""
    project = tomllib.loads(pyproject)["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"][extra]]
    return {canonical(re.split(r"[\s<>=!~\[;]", line, maxsplit=1)[0]) for line in lines}


def unlisted(names: Sequence[str], index: str) -> Sequence[str]:
    """Design records that the index does not link to, and links that lead nowhere."""
    linked = set(re.findall(r"\]\((?:\./)?([^)/#:]+\.md)\)", index))
    missing = [f"{name} is not in the index" for name in sorted(set(names) - linked)]
    dangling = [f"the index links to {name}" for name in sorted(linked - set(names))]
    return [*missing, *dangling]


def enum_values(source: str, name: str) -> Sequence[str]:
    """Values of the string enum `name`; an empty one is a mistake of the caller."""
    classes = [n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == name]
    values = [
        member.value.value
        for member in (classes[0].body if classes else [])
        if isinstance(member, ast.Assign)
        and isinstance(member.value, ast.Constant)
        and isinstance(member.value.value, str)
    ]
    assert values, f"no string enum {name}"
    return values


def undocumented(values: Sequence[str], text: str) -> Sequence[str]:
    """Values that no row, item or heading of `text` opens with, and rows for no value."""
    explained = set(re.findall(r"^(?:\||[-*]|#+)\s*`([A-Z][A-Z0-9_]*)`", text, re.M))
    missing = [f"{value} is not documented" for value in sorted(set(values) - explained)]
    return [*missing, *(f"{name} does not exist" for name in sorted(explained - set(values)))]


def help_differs(readme: str, printed: str) -> Sequence[str]:
    """How the README's block of help differs from what the program prints."""
    block = HELP_BLOCK.search(readme)
    if block is None:
        return ["the README has no block after <!-- sovctl --help -->"]
    shown, wanted = (
        [line.rstrip() for line in t.strip().splitlines()] for t in (block["text"], printed)
    )
    return [] if shown == wanted else ["the README's help is not what `sovctl --help` prints"]
