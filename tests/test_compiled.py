"""Compiled modules run if they are of exactly these sources, and decide what the sources decide."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from scheduler import compiled

ROOT = Path(__file__).resolve().parent.parent
HISTORIES = 60
FROM_WHERE = """
import scheduler
from scheduler.core import planner
print(scheduler.compiled.RUNS, not planner.__file__.endswith(".py"))
"""
FIELDS = """
import copyreg
import pickle
from dataclasses import is_dataclass
from importlib import import_module
from typing import get_type_hints

from scheduler import compiled
from scheduler.model.ids import JobId, SiteId
from scheduler.model.plan import QueuedJob
from scheduler.model.residency import Requirement
from tests.core.builders import job_class

assert compiled.RUNS
modules = [import_module(compiled.name_of(path)) for path in compiled.to_compile()]
kinds = [k for m in modules for k in vars(m).values() if isinstance(k, type) and is_dataclass(k)]
assert len(kinds) > 50
assert not [kind for kind in kinds if kind not in copyreg.dispatch_table]
assert get_type_hints(QueuedJob)["id"] is JobId
assert get_type_hints(Requirement)["data_sites"] == tuple[SiteId, ...] | None
job = QueuedJob(JobId(7), job_class("trust-a/pathology"), 1, 1)
assert pickle.loads(pickle.dumps(job)) == job
"""
VALUES = """
import pickle
from scheduler.model.ids import JobId
from scheduler.model.plan import PlanBudget, QueuedJob
from scheduler.model.reasons import Denial, Reason
from tests.core.builders import job_class

of = job_class("trust-a/pathology")
values = [PlanBudget(3), QueuedJob(JobId(7), of, 1, 1), Denial(Reason.QUOTA_LIMIT, "full"), of]
"""
SOURCES = {compiled.SWITCH: compiled.SOURCES}
BOTH: tuple[Mapping[str, str], ...] = ({}, SOURCES)

pytestmark = pytest.mark.skipif(
    not (compiled.BUILT / compiled.digest()).is_dir(),
    reason="needs the compiled planner: a C compiler, Python's headers and make compile",
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the sources that a plan takes, and of what was compiled from them."""
    beyond = (f"{name.replace('.', '/')}.py".removeprefix("scheduler/") for name in compiled.BEYOND)
    for part in ("__init__.py", "compiled.py", *compiled.ROOMS, *beyond):
        at = compiled.PACKAGE / part
        to = tmp_path / "scheduler" / part
        if at.is_dir():
            shutil.copytree(at, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(at, to)
    whole = compiled.digest()
    shutil.copytree(compiled.BUILT / whole, tmp_path / "build" / "compiled" / whole)
    return tmp_path


def python(root: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, with the package of that folder and what else the tests have."""
    known = {**os.environ, compiled.SWITCH: ""}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env={**known, "PYTHONPATH": str(root), **environ},
        capture_output=True,
        text=True,
        check=True,
    )


def runs(root: Path, **environ: str) -> tuple[str, str]:
    """What a process says of where its planner comes from, and what it warns of."""
    done = python(root, "-c", FROM_WHERE, **environ)
    return done.stdout.strip(), done.stderr


def test_what_was_compiled_from_these_sources_runs(copy: Path) -> None:
    assert runs(copy) == ("True True", "")


def test_what_was_compiled_from_other_sources_does_not_run(copy: Path) -> None:
    source = copy / "scheduler" / "core" / "units.py"
    text = source.read_text()
    source.write_text(text + "# A word more.\n")
    said, warned = runs(copy)
    assert said == "False False"
    assert "RuntimeWarning: the planner was compiled from other sources" in warned
    source.write_text(text)
    assert runs(copy) == ("True True", "")


def test_a_module_more_or_fewer_makes_other_sources(copy: Path) -> None:
    more = copy / "scheduler" / "model" / "policy.py"
    more.write_text("")
    assert runs(copy)[0] == "False False"
    more.unlink()
    (copy / "scheduler" / "core" / "policy" / "words.py").rename(more)
    done = python(copy, "-c", "import scheduler; print(scheduler.compiled.RUNS)")
    assert done.stdout.strip() == "False"


def test_the_sources_run_if_somebody_says_so_or_nothing_was_compiled(copy: Path) -> None:
    assert runs(copy, **SOURCES) == ("False False", "")
    shutil.rmtree(copy / "build")
    assert runs(copy) == ("False False", "")


def test_both_make_the_same_plans() -> None:
    walk = ("-W", "error", "-m", "tests.histories", "--count", str(HISTORIES))
    said = [python(ROOT, *walk, **environ).stdout.splitlines() for environ in BOTH]
    assert said[0][-1].startswith("digest of the plans: ")
    assert said[0][1:] == said[1][1:], "the first line says how long it took"


def test_every_compiled_dataclass_knows_its_fields_and_how_it_is_pickled() -> None:
    """One that did not would be made, sent, and refuse to be filled where it arrives."""
    python(ROOT, "-W", "error", "-c", FIELDS)


@pytest.mark.parametrize("sender", BOTH)
@pytest.mark.parametrize("receiver", BOTH)
def test_values_travel_between_processes_of_both_kinds(
    sender: Mapping[str, str], receiver: Mapping[str, str]
) -> None:
    sent = python(ROOT, "-c", f"{VALUES}print(pickle.dumps(values).hex())", **sender).stdout
    heard = f"{VALUES}assert pickle.loads(bytes.fromhex({sent.strip()!r})) == values"
    python(ROOT, "-c", heard, **receiver)
