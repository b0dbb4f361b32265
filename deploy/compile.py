"""`python -m deploy.compile`: has mypyc compile the planner; nothing to do the second time.

Needs a C compiler and Python's headers. Without them it says so and leaves the planner
interpreted, unless `--require`.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Protocol

from scheduler import compiled

ROOT = compiled.PACKAGE.parent
WORK = ROOT / "build" / "mypyc"
"""The C code; kept for whoever wants to read it."""
GROUP = "planner"
"""What the library of all modules is named by."""
OPTIMISE = "1"
"""What more gcc does takes half as long again, and plans hardly faster."""


class Extension(Protocol):
    """What mypyc would have setuptools build."""

    name: str
    sources: list[str]
    include_dirs: list[str]
    extra_compile_args: list[str]


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m deploy.compile", description=__doc__)
    parser.add_argument("--require", action="store_true", help="fail where it cannot be compiled")
    required = parser.parse_args().require
    if os.environ.get(compiled.SWITCH) == compiled.SOURCES:
        return
    missing = _missing()
    if missing:
        sys.stderr.write(f"{missing} is missing: the planner runs interpreted, slower\n")
        sys.exit(required)
    target = compiled.BUILT / compiled.digest()
    if not target.is_dir():
        _build(target)


def _missing() -> str:
    """What there is not of what compiling takes, if anything."""
    if not shutil.which(_tool("CC")):
        return "a C compiler (gcc)"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python.h (python3-dev)"
    return ""


def _tool(name: str) -> str:
    """A program of the interpreter's own build, unless the environment names another."""
    return os.environ.get(name) or str(sysconfig.get_config_var(name)).split()[0]


def _build(target: Path) -> None:
    """Compiles into `target`, which is there whole or not at all, and drops what is older."""
    started = time.monotonic()
    shutil.rmtree(WORK, ignore_errors=True)
    ready = WORK / "ready"
    ready.mkdir(parents=True)
    extensions = _generated()
    if compiled.digest() != target.name:
        raise SystemExit("the planner's sources changed while they were read: compile them again")
    objects = {name: WORK / f"{number}.o" for number, name in enumerate(_c_files(extensions))}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as hands:
        made = [hands.submit(_object, extensions[0], *pair) for pair in objects.items()]
        for each in made:
            each.result()
        linked = [hands.submit(_linked, each, objects, ready) for each in extensions]
        for each in linked:
            each.result()
    (ready / compiled.ANNOTATIONS).write_text(json.dumps(_annotations()), encoding="utf-8")
    compiled.BUILT.mkdir(exist_ok=True)
    for older in compiled.BUILT.iterdir():
        shutil.rmtree(older)
    ready.rename(target)
    taken_s = round(time.monotonic() - started)
    sys.stderr.write(f"compiled {len(extensions) - 1} modules of the planner in {taken_s} s\n")


def _generated() -> Sequence[Extension]:
    """The C code: a library with all modules, and for each a few lines that fetch it from there."""
    wanted = [str(path.relative_to(ROOT)) for path in compiled.to_compile()]
    # Imported only where there is something to compile: that takes longer than finding out.
    from mypyc.build import mypycify

    os.chdir(ROOT)
    said = StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            return mypycify(
                wanted,
                opt_level=OPTIMISE,
                debug_level="0",
                multi_file=True,
                group_name=GROUP,
                target_dir=str(WORK),
            )
    except SystemExit as error:
        raise SystemExit(said.getvalue()) from error


def _annotations() -> Mapping[str, Mapping[str, str]]:
    """What the classes' attributes are annotated with, word for word."""
    found: dict[str, dict[str, str]] = {}
    for source in compiled.to_compile():
        for made in ast.parse(source.read_text(encoding="utf-8")).body:
            if isinstance(made, ast.ClassDef):
                found[f"{compiled.name_of(source)}.{made.name}"] = {
                    line.target.id: ast.unparse(line.annotation)
                    for line in made.body
                    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
                }
    return found


def _c_files(extensions: Sequence[Extension]) -> Sequence[str]:
    """All that is to be compiled, the longest first, so that no core waits for the last."""
    files = {source for extension in extensions for source in extension.sources}
    return sorted(files, key=lambda name: (-Path(name).stat().st_size, name))


def _object(library: Extension, source: str, target: Path) -> None:
    """Compiles one file of C."""
    places = [sysconfig.get_path("include"), *library.include_dirs]
    flags = ["-fPIC", "-fwrapv", "-DNDEBUG", *(f"-I{place}" for place in places)]
    _run(_tool("CC"), *flags, *library.extra_compile_args, "-c", source, "-o", str(target))


def _linked(extension: Extension, objects: Mapping[str, Path], at: Path) -> None:
    """Makes the file that the interpreter loads."""
    parts = [str(objects[source]) for source in extension.sources]
    _run(_tool("CC"), "-shared", *parts, "-o", str(at / f"{extension.name}{compiled.SUFFIX}"))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


if __name__ == "__main__":
    main()
