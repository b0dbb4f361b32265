"""What the kernel does for a rank's isolation: namespaces, mounts, identity, limits, process trees.

Used by the shim and its children, between fork and exec: standard library only, nothing slow to
import, every failed step an OSError that names it. Levels: `none` (no namespace), `pidns` (own pid
and mount namespace, own /proc), `uid` (that, own user, sensitive paths covered).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import stat
from typing import Any

NEWPID, NEWNS = 0x20000000, 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mount.argtypes = (ctypes.c_char_p,) * 3 + (ctypes.c_ulong, ctypes.c_char_p)
LIBC.prctl.argtypes = (ctypes.c_int,) + (ctypes.c_ulong,) * 4


def check(result: int, what: str) -> None:
    """Raise the C library's errno, naming the step that failed."""
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def prctl(option: int, value: int, what: str) -> None:
    """One prctl, or OSError."""
    check(LIBC.prctl(option, value, 0, 0, 0), what)


def mount(
    source: str, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    """One mount, or OSError naming the target."""
    words = [
        word.encode() if word is not None else None for word in (source, target, kind, options)
    ]
    check(LIBC.mount(words[0], words[1], words[2], flags, words[3]), f"mount {target}")


def processes() -> dict[int, tuple[int, int]]:
    """pid -> (parent, session) of every live process in sight."""
    found: dict[int, tuple[int, int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:
                    fields = stat.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if fields[0] not in (b"Z", b"X"):
                found[int(name)] = (int(fields[1]), int(fields[3]))
    return found


def descendants(root: int) -> list[int]:
    """Every live process below `root`."""
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in processes().items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return sorted(found)


def send(pid: int, number: int) -> None:
    """Signal a process that may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def send_session(session: int, number: int) -> None:
    """Signal every process of a session, whatever process groups it made."""
    for pid, (_, its_session) in sorted(processes().items()):
        if its_session == session:
            send(pid, number)


def own_pids() -> None:
    """The next child is PID 1 of a namespace of its own."""
    check(LIBC.unshare(NEWPID), "unshare pid namespace")


def own_mounts() -> None:
    """A mount namespace of our own, with the /proc of our pid namespace."""
    check(LIBC.unshare(NEWNS), "unshare mount namespace")
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own."""
    prctl(PR_SET_CHILD_SUBREAPER, 1, "child subreaper")


def usual_priority() -> None:
    """Run as others do: Ray puts its workers behind everybody, and who they start inherits it."""
    with contextlib.suppress(PermissionError):  # Without root one can only go further back.
        if os.getpriority(os.PRIO_PROCESS, 0) > 0:
            os.setpriority(os.PRIO_PROCESS, 0, 0)


def die_with_parent() -> None:
    """SIGKILL when the parent thread ends."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, "parent death signal")


def outlive_parent() -> None:
    """Take `die_with_parent` back."""
    prctl(PR_SET_PDEATHSIG, 0, "no parent death signal")


def within(path: str, folders: list[str]) -> bool:
    """Whether `path` is one of `folders` or lies below one."""
    return any(f"{path}/".startswith(folder.rstrip("/") + "/") for folder in folders)


def hide(paths: list[str], keep: list[str]) -> None:
    """Cover `paths` with emptiness, leaving `keep` reachable at their own places.

    Kept directories are opened before anything is covered and bound back over empty stand-ins.
    """
    os.umask(0)
    kept = [(path, os.open(path, os.O_PATH | os.O_DIRECTORY)) for path in sorted(keep)]
    found, covered = _places(paths), list[str]()
    for path in sorted(found):
        if not within(path, covered):
            covered.append(path)
    for path in covered:
        if not found[path]:
            mount("/dev/null", path, None, MS_BIND)
            continue
        mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,mode=0711")
    for path, fd in kept:
        if within(path, covered):
            os.makedirs(path, 0o711, exist_ok=True)
            mount(f"/proc/self/fd/{fd}", path, None, MS_BIND | MS_REC)
        os.close(fd)
    for path in covered:
        if found[path]:
            mount("none", path, None, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)


def _places(paths: list[str]) -> dict[str, bool]:
    """Where those of `paths` that there are really lie, and whether each is a folder. Asked of the
    kernel: to find the way step by step takes longer than to cover them."""
    found: dict[str, bool] = {}
    for path in paths:
        try:
            fd = os.open(path, os.O_PATH)
        except OSError:
            continue
        found[os.readlink(f"/proc/self/fd/{fd}")] = stat.S_ISDIR(os.fstat(fd).st_mode)
        os.close(fd)
    return found


def drop_privileges(spec: dict[str, Any]) -> None:
    """Become the job's own user for good; no program may give privileges back."""
    os.setgroups([])
    os.setresgid(spec["gid"], spec["gid"], spec["gid"])
    os.setresuid(spec["uid"], spec["uid"], spec["uid"])
    prctl(PR_SET_NO_NEW_PRIVS, 1, "no_new_privs")


def limit_resources(spec: dict[str, Any]) -> None:
    """Set the rlimits of the spec (name -> value); core files are off unless it says otherwise."""
    for name, value in sorted({"core": 0, **spec.get("rlimits", {})}.items()):
        number = getattr(resource, "RLIMIT_" + name.upper())
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))
