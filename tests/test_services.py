"""A missing program is a skip that says what to install, and a failure where none may miss."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import service

ROOT = Path(__file__).resolve().parent.parent
SKIPS_A_TEST = """
from tests.conftest import service

def test_it():
    service("sov-no-such-program", "a-package")
"""
SKIPS_ITS_FILE = """
import pytest
pytest.importorskip("sov_no_such_module")
"""
FAILS_AS_EXPECTED = """
import pytest

@pytest.mark.xfail
def test_it():
    assert False
"""


def run(folder: Path, text: str, required: str) -> subprocess.CompletedProcess[str]:
    """Run `text` as a test file under the suite's own conftest."""
    path = folder / "test_sample.py"
    path.write_text(text)
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-rs", "--rootdir", str(folder)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(path)],
        cwd=ROOT,
        env={**os.environ, "REQUIRE_SERVICES": required},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_program_that_is_there_is_found() -> None:
    assert service("git", "git").endswith("/git")


def test_a_missing_program_skips_with_its_package(tmp_path: Path) -> None:
    done = run(tmp_path, SKIPS_A_TEST, required="0")
    assert done.returncode == 0
    assert "1 skipped" in done.stdout
    assert "needs sov-no-such-program: apt-get install a-package" in done.stdout


@pytest.mark.parametrize("text", [SKIPS_A_TEST, SKIPS_ITS_FILE], ids=["a test", "a whole file"])
def test_a_skip_fails_where_services_are_required(tmp_path: Path, text: str) -> None:
    done = run(tmp_path, text, required="1")
    assert done.returncode != 0
    assert "nothing may be skipped with REQUIRE_SERVICES=1" in done.stdout


def test_the_failure_names_the_package(tmp_path: Path) -> None:
    assert "apt-get install a-package" in run(tmp_path, SKIPS_A_TEST, required="1").stdout


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    assert run(tmp_path, FAILS_AS_EXPECTED, required="1").returncode == 0
