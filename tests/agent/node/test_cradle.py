"""What waits below a shim: it runs after both words and not before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.node.rig import LEVELS

HOLD_S = 30
HOLD = """
import os, select, signal, sys
from agent.node.cradle import FORWARDED, Cradle
signal.pthread_sigmask(signal.SIG_SETMASK, FORWARDED)
level, home, *words = sys.argv[1:]
cradle = Cradle(level, ())
says = {
    "meet": lambda: cradle.meet(home),
    "go": cradle.go,
    "give_up": cradle.give_up,
    "wait": lambda: select.select([cradle.pidfd], [], []),
}
for word in words:
    says[word]()
os.waitpid(cradle.init, 0)
print(os.read(cradle.report, 4096).decode().partition("\\n")[0])
"""


def held(home: Path, level: str, *words: str) -> str:
    """What a cradle that is told these words reports."""
    command = [sys.executable, "-c", HOLD, level, str(home), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HOLD_S, check=True)
    return done.stdout.strip()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path


def put_spec(home: Path, level: str, **changes: object) -> Path:
    """A spec whose rank leaves a mark in its directory; where the mark will be."""
    mark = home / "work" / "mark"
    spec = {"argv": ["touch", str(mark)], "env": {"PATH": "/usr/bin:/bin"}, "isolation": level}
    spec |= {"cwd": str(home / "work"), **changes}
    (home / "spec.json").write_text(json.dumps(spec))
    return mark


KNOWN = [level for level in LEVELS if level != "uid"]  # No user of a job's here.


@pytest.mark.parametrize("level", KNOWN)
def test_a_rank_runs_once_it_is_told_to_go(home: Path, level: str) -> None:
    mark = put_spec(home, level)
    assert json.loads(held(home, level, "meet", "go")) == {"status": 0}
    assert mark.exists()


@pytest.mark.parametrize("level", KNOWN)
def test_a_rank_leads_a_session_of_its_own_and_hears_every_signal(home: Path, level: str) -> None:
    text = "import os, signal, sys; own = os.getsid(0) == os.getpgrp() == os.getpid(); "
    text += "sys.exit(not own or len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
    put_spec(home, level, argv=[sys.executable, "-c", text])
    assert json.loads(held(home, level, "meet", "go")) == {"status": 0}


@pytest.mark.parametrize("level", KNOWN)
def test_a_rank_that_is_ready_runs_nothing_when_it_is_given_up(home: Path, level: str) -> None:
    mark = put_spec(home, level)
    held(home, level, "meet", "give_up")
    assert not mark.exists()


def test_a_rank_that_cannot_get_ready_says_so_and_hears_no_more(home: Path) -> None:
    put_spec(home, "none", cwd=str(home / "absent"))
    assert "absent" in json.loads(held(home, "none", "meet", "wait", "go"))["failed"]


def test_a_rank_of_another_isolation_runs_nothing(home: Path) -> None:
    mark = put_spec(home, "uid")
    held(home, "none", "meet", "wait", "go")
    assert not mark.exists()


# As HOLD, but the init comes to tie itself to the shim only when that was killed, both words said.
LATE = """
import os, signal, sys, time
from agent.node import confine
from agent.node.clock import start_ticks
from agent.node.cradle import FORWARDED, Cradle
signal.pthread_sigmask(signal.SIG_SETMASK, FORWARDED)
level, home = sys.argv[1:]
tie, shim = confine.die_with_parent, os.getpid()

def late():
    if os.getppid() in (0, shim):  # 0: it is beyond the namespace.
        while start_ticks(shim) is not None:
            time.sleep(0.01)
    tie()

confine.die_with_parent = late
cradle = Cradle(level, ())
cradle.meet(home)
cradle.go()
os.kill(shim, signal.SIGKILL)
"""


@pytest.mark.parametrize("level", KNOWN)
def test_nothing_runs_if_the_shim_is_killed_before_its_init_is_tied_to_it(
    home: Path, level: str
) -> None:
    mark = put_spec(home, level)
    over, alive = os.pipe()  # A program that ran would hold it, too.
    with open(over, "rb") as reading:
        with open(alive, "wb") as writing:
            command = [sys.executable, "-c", LATE, level, str(home)]
            held_by_all = (writing.fileno(),)
            subprocess.run(command, pass_fds=held_by_all, timeout=HOLD_S, check=False)
        assert reading.read() == b""
    assert not mark.exists()
