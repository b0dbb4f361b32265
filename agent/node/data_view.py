"""Datasets in a rank's view of the file system: read-only, where the job asked for them.

Used between fork and exec, in a mount namespace of the rank's own: nobody else sees any of it, and
it is gone with the rank. Standard library only.
"""

from __future__ import annotations

import os

from agent.node import confine

ROOM = "size=64k,mode=0755"
READ_ONLY = confine.MS_RDONLY | confine.MS_NOSUID | confine.MS_NODEV


def show(inputs: list[list[str]], keep: list[str]) -> None:
    """Mount each input, a directory and the path where it is to be seen, read-only.

    The topmost folder of each path is an empty one of the rank's own, so that nothing is made in
    the node's folders but that one, if it lacks it; `keep` stays reachable below it.
    """
    if not inputs:
        return
    os.umask(0)
    sources = [(os.open(source, os.O_PATH | os.O_DIRECTORY), target) for source, target in inputs]
    tops = sorted({"/" + target.split("/")[1] for _, target in sources})
    kept = [
        (os.open(path, os.O_PATH | os.O_DIRECTORY), path)
        for path in sorted(keep)
        if confine.within(path, tops)
    ]
    for top in tops:
        os.makedirs(top, 0o755, exist_ok=True)
        confine.mount("tmpfs", top, "tmpfs", confine.MS_NOSUID | confine.MS_NODEV, ROOM)
    for fd, path in kept:
        _bind(fd, path)
    for fd, target in sources:
        if target in tops:
            confine.mount(f"/proc/self/fd/{fd}", target, None, confine.MS_BIND)
        else:
            _bind(fd, target)
        again = READ_ONLY | confine.MS_REMOUNT | confine.MS_BIND
        confine.mount("none", target, None, again)
        os.close(fd)
    for top in {*tops} - {target for _, target in sources}:
        confine.mount("none", top, None, READ_ONLY | confine.MS_REMOUNT)


def _bind(fd: int, target: str) -> None:
    os.makedirs(target, 0o755, exist_ok=True)
    confine.mount(f"/proc/self/fd/{fd}", target, None, confine.MS_BIND | confine.MS_REC)
