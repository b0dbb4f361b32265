"""What every test may ask for: a server that must be installed, and nothing else."""

import os
import shutil

import pytest


def service(name: str, package: str) -> str:
    """The path of program `name`, or a skip that names the Debian `package` to install.

    With REQUIRE_SERVICES=1, as in CI, a missing program is a failure: a suite that quietly
    skips what it cannot run proves nothing about it.
    """
    found = shutil.which(name)
    if found is not None:
        return found
    message = f"needs {name}: apt-get install {package}"
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
