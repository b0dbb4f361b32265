"""The interpreter copy that demo jobs run on."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local.runtime import ensure_runtime, fingerprint


@pytest.fixture(scope="module")
def parent() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sov-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_two_callers_make_one_copy_and_leave_nothing_else(parent: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ensure_runtime, [parent, parent])
    assert first == second == parent / f"runtime-{fingerprint()}"
    assert sorted(os.listdir(parent)) == [".runtime.lock", first.name]


def test_the_copy_is_made_once(parent: Path) -> None:
    made = ensure_runtime(parent)
    marker = made / "marker"
    marker.touch()
    assert ensure_runtime(parent) == made
    assert marker.exists()


@pytest.mark.parametrize("name", ["python", "python3"])
def test_any_user_runs_numpy_with_it_after_it_was_moved(parent: Path, name: str) -> None:
    moved = parent / f"elsewhere-{name}"
    shutil.copytree(ensure_runtime(parent), moved, symlinks=True)
    user = 65_534 if os.geteuid() == 0 else None
    text = "import numpy, os; print(os.getuid(), numpy.ones(3).sum(), numpy.__file__)"
    done = subprocess.run(
        [moved / "bin" / name, "-c", text],
        env={},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
        user=user,
        group=user,
    )
    uid, total, where = done.stdout.split()
    assert (int(uid), float(total)) == (65_534 if user is not None else os.geteuid(), 3.0)
    assert Path(where).is_relative_to(moved)


def test_nothing_is_compiled_when_a_job_imports_it(parent: Path) -> None:
    user = 65_534 if os.geteuid() == 0 else None
    text = "import numpy, sys; [print(m.__cached__) for m in sys.modules.values() if is_file(m)]"
    text = "is_file = lambda m: getattr(m, '__cached__', None); " + text
    done = subprocess.run(
        [ensure_runtime(parent) / "bin" / "python", "-B", "-c", text],
        env={},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
        user=user,
        group=user,
    )
    wanted = [Path(line) for line in done.stdout.splitlines() if line.endswith(".pyc")]
    assert len(wanted) > 20
    assert [path for path in wanted if not path.stat().st_mode & stat.S_IROTH] == []
