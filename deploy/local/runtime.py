"""A Python with NumPy that any user of this machine can run: what demo jobs are executed with.

The interpreter of our own environment usually lies in a home directory that a job's user cannot
enter. This makes a relocatable copy of it, once; the copy's name says what is in it, so another
version is another copy. Programs find their library beside themselves, wherever the copy lies.
"""

from __future__ import annotations

import compileall
import fcntl
import hashlib
import importlib.metadata
import os
import py_compile
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

RECIPE = 2  # Part of the name: a copy made another way is another copy.
CHECK_S = 120
NOBODY = 65_534
LEFT_OUT = (  # Of the standard library: what no job needs, half of its size.
    *("site-packages", "dist-packages", "test", "tests", "idlelib", "idle_test", "ensurepip"),
    *("lib2to3", "tkinter", "turtledemo", "__pycache__"),
)
PACKAGES = ("numpy",)


class RuntimeCopyError(Exception):
    """The copy could not be made or does not run; the message says why."""


def ensure_runtime(parent: Path | None = None) -> Path:
    """The copy for this interpreter, made if it is not there; `bin/python` is in it.

    Two callers at once make one copy: the second waits for the first.
    """
    parent = parent or default_parent()
    made = parent / f"runtime-{fingerprint()}"
    if made.exists():
        return made
    parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _only_one(parent / ".runtime.lock"):
        if not made.exists():
            part = Path(tempfile.mkdtemp(prefix=".runtime-", dir=parent))
            try:
                _build(part)
                _check(part)
                os.rename(part, made)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return made


def default_parent() -> Path:
    """Where copies go: for root a place every user can enter, else the user's own data
    directory.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/sov")
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(data) / "sov"


def fingerprint() -> str:
    """What tells one copy from another: interpreter, where it came from, packages, recipe."""
    parts = [sys.version, sys.base_prefix, str(RECIPE), ",".join(LEFT_OUT)]
    parts += [f"{name}={importlib.metadata.version(name)}" for name in PACKAGES]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _build(target: Path) -> None:
    """Interpreter, shared library, standard library and packages, readable by everybody."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for folder in ("bin", "lib"):
        (target / folder).mkdir()
    program = target / "bin" / version
    shutil.copy2(Path(sys.base_prefix) / "bin" / version, program)
    _look_beside(program)
    for alias in ("python", "python3"):
        (target / "bin" / alias).symlink_to(version)
    ignore = shutil.ignore_patterns(*LEFT_OUT, "config-*", "*.a")
    library = target / "lib" / version
    shutil.copytree(sysconfig.get_path("stdlib", vars=_base()), library, ignore=ignore)
    packages = library / "site-packages"
    packages.mkdir()
    (library / "dist-packages").symlink_to("site-packages")  # Where Debian's interpreter looks.
    for name in PACKAGES:
        _copy_package(name, packages)
    for shared in sorted(_shared_libraries(Path(sys.base_prefix) / "lib")):
        shutil.copy2(shared, target / "lib" / shared.name)
    _compile(library)
    _open_to_all(target)


def _look_beside(program: Path) -> None:
    """Have the program look for its shared library beside itself, not where it was built.

    The search path stands in the program as a string; it is overwritten by a shorter one.
    """
    wanted = b"$ORIGIN/../lib"
    built_in = os.fsencode(Path(sys.base_prefix) / "lib")
    content = program.read_bytes()
    if b"\0" + built_in + b"\0" in content and len(built_in) >= len(wanted):
        padded = wanted.ljust(len(built_in), b"\0")
        program.write_bytes(content.replace(b"\0" + built_in + b"\0", b"\0" + padded + b"\0"))


def _base() -> dict[str, str]:
    return {"base": sys.base_prefix, "installed_base": sys.base_prefix}


def _copy_package(name: str, packages: Path) -> None:
    """Every file of an installed distribution that lies in site-packages."""
    distribution = importlib.metadata.distribution(name)
    for file in distribution.files or ():
        source = Path(str(distribution.locate_file(file)))
        wanted = ".." not in file.parts and not set(file.parts) & {"tests", "__pycache__"}
        if wanted and source.is_file():
            (packages / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, packages / file)


def _shared_libraries(folder: Path) -> Iterator[Path]:
    """The interpreter's own shared library, where it was built with one."""
    name = sysconfig.get_config_var("INSTSONAME")
    if isinstance(name, str) and name.startswith("libpython") and (folder / name).is_file():
        yield folder / name


def _compile(library: Path) -> None:
    """The bytecode of all of it: a job's user may not write it down, and would compile what it
    imports at each start anew. Unchecked, since a copy is never changed.
    """
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    # Some of a library is written for other versions, and is not there to be imported.
    compileall.compile_dir(library, quiet=2, invalidation_mode=mode, stripdir=library)


def _open_to_all(folder: Path) -> None:
    """Readable and enterable by everybody, writable by the owner."""
    folder.chmod(0o755)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place) / name
            if not path.is_symlink():
                runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if runs else 0o644)


def _check(folder: Path) -> None:
    """Run the copy as a job would: with nothing of ours in its environment, and not as root."""
    text = "import numpy, socket, ssl, ctypes, sys; print(sys.prefix, numpy.arange(3).sum())"
    user = NOBODY if os.geteuid() == 0 else None
    try:
        done = subprocess.run(
            [folder / "bin" / "python", "-B", "-c", text],
            env={"PATH": "/usr/bin:/bin"},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=CHECK_S,
            check=False,
            user=user,
            group=user,
            extra_groups=[] if user is not None else None,
        )
    except OSError as error:
        raise RuntimeCopyError(f"the copy in {folder} cannot be executed: {error}") from error
    if done.stdout.split() != [str(folder), "3"]:
        raise RuntimeCopyError(
            f"the copy of {sys.base_prefix} does not run by itself: exit code {done.returncode}, "
            f"output {done.stdout!r}, errors {done.stderr[-1000:]!r}"
        )


@contextmanager
def _only_one(path: Path) -> Generator[None]:
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
