"""What every test may ask for: a program that must be installed, and nothing else.

With REQUIRE_SERVICES=1, as in CI, every skip is a failure: a suite that quietly skips what it
cannot run proves nothing about it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Generator

import pytest
from hypothesis import settings

from scheduler import compiled

# No deadline: a slow machine is not a failure. In CI a failure must be found again by anybody.
settings.register_profile("house", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("house")


def service(name: str, package: str) -> str:
    """The path of program `name`, or a skip that names the Debian `package` to install."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: apt-get install {package}")
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """A test that takes functions of the planner away runs where the sources do.

    Compiled modules call one another's functions directly, whatever a test puts in their place.
    """
    if not compiled.RUNS or pyfuncitem.get_closest_marker("interpreted") is None:
        return None
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", pyfuncitem.nodeid]
    environ = {**os.environ, compiled.SWITCH: compiled.SOURCES}
    root = pyfuncitem.config.rootpath
    done = subprocess.run(
        command, cwd=root, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(f"interpreted: {done.stdout}{done.stderr}", pytrace=False)
    return True


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure that gives the skip's reason."""
    if os.environ.get("REQUIRE_SERVICES") != "1" or not report.skipped:
        return
    if hasattr(report, "wasxfail"):  # An expected failure reports itself as skipped too.
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"nothing may be skipped with REQUIRE_SERVICES=1: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test fails where services are required."""
    report = yield
    refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """So does a file that skips itself whole."""
    report = yield
    refuse_skip(report)
    return report
