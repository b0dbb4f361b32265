"""What the kernel counts and limits a process by beside its own limits: its control groups, and how
readily it is killed for memory. Standard library only: the program that enters a rank loads this.
"""

from __future__ import annotations

import os

CONTROL_GROUPS = "/sys/fs/cgroup"


def share(pid: int) -> None:
    """Be counted and limited with `pid` from now on. Raises OSError: then this process is not, and
    what it does would be at somebody else's cost."""
    with open(f"/proc/{pid}/oom_score_adj", encoding="ascii") as theirs:
        readiness = theirs.read()
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as own:
        own.write(readiness)
    mine = _groups("self")
    for hierarchy, path in sorted(_groups(str(pid)).items()):
        if mine.get(hierarchy) != path:
            place = f"{CONTROL_GROUPS}/{hierarchy}{path}/cgroup.procs"
            with open(os.path.normpath(place), "w", encoding="ascii") as members:
                members.write("0")


def _groups(pid: str) -> dict[str, str]:
    """The path of a process's group in each hierarchy, by where that is mounted."""
    found: dict[str, str] = {}
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            number, controllers, path = line.rstrip("\n").split(":", 2)
            if number == "0" and os.path.isdir(f"{CONTROL_GROUPS}/unified"):
                controllers = "unified"
            found[controllers.removeprefix("name=")] = path
    return found
