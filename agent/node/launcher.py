"""Starting a shim: the one way in which a rank's processes come to be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agent.node import shim
from agent.node.spool import Spool

LEVELS = ("none", "pidns", "uid")  # The isolation a shim can give, weakest first.
SHIM_START_S = 20


def run_shim(spool: Spool, key: str) -> None:
    """Start a shim for a key whose gate is open; back when the rank runs, or never will.

    A second shim for one key is harmless: only the first to bind its socket goes on.
    """
    package = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-I", "-S", "-c", shim.COMMAND, package, str(spool.home(key))]
    quiet = subprocess.DEVNULL
    subprocess.run(
        command, env={}, stdin=quiet, stdout=quiet, stderr=quiet, timeout=SHIM_START_S, check=True
    )
