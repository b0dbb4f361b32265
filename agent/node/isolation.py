"""How far a node can isolate a rank: found by doing it, with the shim that will do it for tenants.

The level is a fact of the node: none < pidns < uid (< container, which this release does not
reach). What runs here is a real rank in a spool of its own, beside the node's; a level counts only
if the rank that ran under it says it saw what it should and could not see what it should not.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.node.launcher import LEVELS, run_shim
from agent.node.spool import Phase, RankStatus, Rendezvous, Spool

PROBE_UID = 260_000  # Above the uids of jobs.
PROBE_S = 30
KEY = "probe.1.0"

# Says, line by line, what a rank of that level sees. The shell's own pid is 3: the init and what
# made it ready come before it.
PROBE = """
echo pid $$
echo uid $(id -u)
echo secret $(cat "$SECRET" 2>/dev/null)
echo spool $(ls "$SPOOL" 2>/dev/null)
echo privileges $(grep NoNewPrivs /proc/self/status | tr -dc 0-9)
touch here && echo work ok
"$INTERPRETER" -c 'print("interpreter ok")'
"""


@dataclass(frozen=True, slots=True)
class Reached:
    """The highest level that worked, and why the next one did not."""

    level: str
    why_not_more: str


def probe(folder: Path, interpreter: Path) -> Reached:
    """The highest level that ranks reach whose spool lies in `folder` and whose Python is that one.

    `folder` must be where the node's spool will be: a path that a job's user cannot pass
    through is what most often keeps a node from `uid`.
    """
    reached = Reached("none", "")
    for level in LEVELS[1:]:
        if trouble := _trouble(level, folder, interpreter):
            return Reached(reached.level, f"{level}: {trouble}")
        reached = Reached(level, "")
    return reached


def _trouble(level: str, folder: Path, interpreter: Path) -> str:
    """Why `level` cannot be had; empty when it can."""
    root = Path(tempfile.mkdtemp(prefix=".probe-", dir=folder))
    root.chmod(0o711)
    spool = Spool(root / "spool")
    try:
        end = _run(spool, level, root, interpreter)
        if end.phase is not Phase.OVER:
            return f"the probe did not end in {PROBE_S} s"
        said = spool.read_log(KEY, 0, 1 << 16).data.decode(errors="replace")
        return end.detail or _judge(level, said)
    except OSError as error:
        return str(error)
    finally:
        _stop(spool)
        shutil.rmtree(root, ignore_errors=True)


def _run(spool: Spool, level: str, root: Path, interpreter: Path) -> RankStatus:
    secret = root / "secret"
    secret.mkdir(mode=0o755)
    (secret / "token").write_text("leaked")
    spool.prepare(KEY, Rendezvous("127.0.0.1", 1))
    work = spool.home(KEY) / "work"
    user = PROBE_UID if level == "uid" else None
    if user is not None:
        os.chown(work, user, user)
    seen = {"SECRET": secret / "token", "SPOOL": spool.root, "INTERPRETER": interpreter}
    spec: Mapping[str, object] = {
        "argv": ["/bin/sh", "-c", PROBE],
        "env": {"PATH": "/usr/bin:/bin"} | {name: str(path) for name, path in seen.items()},
        "cwd": str(work.resolve()),
        "isolation": level,
        "uid": user,
        "gid": user,
        "grace_ms": 0,
        "time_limit_ms": PROBE_S * 1000,
        "hide": [str(spool.root), str(secret)],
    }
    spool.write_spec(KEY, spec)
    spool.open_gate(KEY)
    run_shim(spool, KEY)
    give_up_at = time.monotonic() + PROBE_S
    while spool.status(KEY).phase is not Phase.OVER and time.monotonic() < give_up_at:
        time.sleep(0.02)
    return spool.status(KEY)


def _stop(spool: Spool) -> None:
    give_up_at = time.monotonic() + PROBE_S
    while spool.stop(KEY, 0).phase is not Phase.OVER and time.monotonic() < give_up_at:
        time.sleep(0.02)


def _judge(level: str, said: str) -> str:
    """What is wrong with what the probe saw; empty when nothing is."""
    want = ["pid 3", "work ok"]
    if level == "uid":
        want += [f"uid {PROBE_UID}", "secret", "spool", "privileges 1", "interpreter ok"]
    lines = [line.strip() for line in said.splitlines()]
    missing = [line for line in want if line not in lines]
    if not missing:
        return ""
    return f"the probe did not say {', '.join(map(repr, missing))}; it said {said[-500:]!r}"
