"""The import contracts and the bans of pyproject.toml catch what they are there to catch."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What is written into a copy of the source tree, and the contract that must notice.
VIOLATIONS = [
    pytest.param(
        "scheduler-layers",
        {"scheduler/model/sample.py": "import scheduler.core.sample"},
        id="the model imports the core",
    ),
    pytest.param("scheduler-layers", {"scheduler/unplaced.py": ""}, id="a module has no place"),
    pytest.param(
        "agent-layers",
        {"agent/node/sample.py": "import agent.site"},
        id="the node agent imports the site agent",
    ),
    pytest.param("agent-layers", {"agent/unplaced.py": ""}, id="an agent's module has no place"),
    pytest.param(
        "acyclic",
        {"sovctl/left.py": "import sovctl.right", "sovctl/right.py": "import sovctl.left"},
        id="two modules import each other",
    ),
    pytest.param(
        "programs-apart",
        {"sovctl/sample.py": "import scheduler"},
        id="the client imports the control plane",
    ),
    pytest.param(
        "shared-below",
        {"proto/sovshared/sample.py": "import agent"},
        id="shared code imports a program",
    ),
    pytest.param(
        "product-alone",
        {"agent/site/sample.py": "import deploy.local"},
        id="a program imports its deployment",
    ),
    pytest.param(
        "only-store-sql",
        {"scheduler/core/sample.py": "import sqlalchemy.sql"},
        id="the core speaks SQL",
    ),
    pytest.param(
        "only-edge-wire",
        {"scheduler/core/sample.py": "import sovapi.v1"},
        id="the core sees the wire",
    ),
    pytest.param(
        "only-solver-z3",
        {"scheduler/core/sample.py": "import z3"},
        id="the core loads the solver",
    ),
    pytest.param(
        "only-tokens-jose",
        {"scheduler/api/sample.py": "from joserfc import jws"},
        id="another module checks tokens",
    ),
    pytest.param(
        "proof-apart",
        {"scheduler/runtime/sample.py": "import scheduler.proof.prove"},
        id="the control plane loads what proves",
    ),
    pytest.param(
        "only-driver-ray",
        {"agent/node/sample.py": "import ray.util"},
        id="the node agent imports ray",
    ),
]

# What the linter is shown, where, and the words that must name the replacement.
BANNED = [
    pytest.param(
        "scheduler/core/sample.py",
        "import time\n\nx = time.time()\n",
        "TID251 `time.time` is banned: take `now` as an argument",
        id="the clock",
    ),
    pytest.param(
        "agent/site/sample.py",
        "from datetime import UTC, datetime\n\nx = datetime.now(UTC)\n",
        "take `now` as an argument",
        id="the calendar",
    ),
    pytest.param(
        "sovctl/sample.py",
        "import random\n\nx = random.random()\n",
        "take the value as an argument",
        id="randomness",
    ),
    pytest.param(
        "scheduler/control/sample.py",
        "from uuid import uuid4\n\nx = uuid4()\n",
        "take the id as an argument",
        id="ids",
    ),
    pytest.param(
        "tests/core/test_sample.py",
        "from unittest.mock import Mock\n\nx = Mock()\n",
        "second real implementation",
        id="mocks",
    ),
]


def linter(name: str) -> str:
    """The path of a program of this environment."""
    return str(Path(sys.executable).with_name(name))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the programs that a test may spoil."""
    ignore = shutil.ignore_patterns("__pycache__")
    for package in ("scheduler", "agent", "sovctl", "proto/sovapi", "proto/sovshared"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def kept(root: Path, contract: str) -> bool:
    """Whether the tree below `root` keeps `contract`."""
    done = subprocess.run(
        [linter("lint-imports"), "--no-cache", "--no-logo", "--contract", contract],
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'proto'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(r"Contracts: \d+ kept, \d+ broken", done.stdout), done.stdout + done.stderr
    return done.returncode == 0


@pytest.mark.parametrize(("contract", "files"), VIOLATIONS)
def test_a_contract_catches_its_violation(
    copy: Path, contract: str, files: Mapping[str, str]
) -> None:
    assert kept(copy, contract)
    (copy / "scheduler/core").mkdir(exist_ok=True)
    (copy / "scheduler/core/__init__.py").touch()
    (copy / "scheduler/core/sample.py").touch()
    for name, text in files.items():
        (copy / name).write_text(f"{text}\n")
    assert not kept(copy, contract)


def test_every_contract_has_a_violation_that_shows_it_works() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    names = {contract["id"] for contract in contracts["contracts"]}
    assert names == {case.values[0] for case in VIOLATIONS}


def test_no_layer_is_optional() -> None:
    """A layer in parentheses may be missing, or be renamed without anyone noticing."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [layer for contract in contracts["contracts"] for layer in contract.get("layers", [])]
    assert layers
    assert [layer for layer in layers if "(" in layer] == []


@pytest.mark.parametrize(("name", "text", "message"), BANNED)
def test_a_ban_names_the_replacement(name: str, text: str, message: str) -> None:
    done = lint(name, text)
    assert done.returncode == 1
    assert message in done.stdout


def test_a_clock_module_may_read_the_clock() -> None:
    assert lint("scheduler/runtime/clock.py", "import time\n\nx = time.time()\n").returncode == 0


def lint(name: str, text: str) -> subprocess.CompletedProcess[str]:
    """What ruff says to `text` if it stood in file `name`."""
    command = [linter("ruff"), "check", "--output-format=concise", "--stdin-filename", name, "-"]
    return subprocess.run(
        command, cwd=ROOT, input=text, capture_output=True, text=True, check=False
    )
