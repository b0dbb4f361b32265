"""A rank's own root: an unpacked image, and of the node nothing but what the rank was given.

Used between fork and exec, in a mount namespace of the rank's own. The image is the lower half of
an overlay and is never written; what the rank writes outside of its own folders is in memory, and
gone with it. Every name is looked up after the change of root, so that a link in the image leads
nowhere but within it. Standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import glob
import os
import struct
from collections.abc import Mapping
from typing import Any

from agent.node import confine, network

WRITTEN_BYTES_MAX = 256 * 1024 * 1024
"""What a rank may write outside of its own folders; it is memory."""
ROOT = "root"  # Of the image's directory, the tree; of the staging place, the overlay.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
CARDS = ("/dev/nvidia*", "/dev/nvidia-caps/*", "/dev/infiniband/*")
LINKS = {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}
LOCALHOST = "127.0.0.1 localhost\n::1 localhost\n"
RESOLVING = ("/etc/hosts", "/etc/resolv.conf")
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the rank's own

_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # On every architecture; Linux 5.12.
_HERE, _CLONE, _EMPTY_PATH = -100, 0x1, 0x1000
_FROM_EMPTY, _TO_LINKED = 0x4, 0x10
_MNT_DETACH = 2
READ_ONLY, NO_EXEC = 0x1 | 0x2 | 0x4, 0x8
"""Attributes of a mount: without devices and set-user-ID bits, and read-only."""
_PLAIN = confine.MS_NOSUID | confine.MS_NODEV | confine.MS_NOEXEC
_SYSCALL = ctypes.CDLL(None, use_errno=True).syscall
_SYSCALL.restype = ctypes.c_long


def hold(spec: Mapping[str, Any]) -> list[int]:
    """Keeps the image of a rank, if it has one, from being removed while these are open."""
    if not (place := spec.get("image")):
        return []
    held = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    if not os.path.samestat(os.fstat(held), os.stat(place)):
        raise OSError(errno.ESTALE, "its image was removed meanwhile")
    return [held]


def enter(spec: Mapping[str, Any]) -> None:
    """Makes the image the root of this process, with what the rank is to see of the node in it.

    Working directory, checkpoints and inputs are where they are outside. Nothing leads back to the
    node's root afterwards, while anything is still made; /proc, which would, is mounted last.
    """
    os.umask(0)
    folders = [(_clone(path), path) for path in (spec["cwd"], *spec.get("keep", []))]
    folders += [(_clone(path, READ_ONLY), target) for path, target in spec.get("inputs", [])]
    folders.append((_clone("/sys", READ_ONLY | NO_EXEC), "/sys"))
    devices = [(_clone(path), path) for path in _devices()]
    names = [(_clone(path, READ_ONLY | NO_EXEC), target) for path, target in _names(spec)]
    old = os.open("/", os.O_PATH | os.O_DIRECTORY)
    _change_root(spec["image"])
    os.fchdir(old)
    confine.check(confine.LIBC.umount2(b".", _MNT_DETACH), "unmount the node's root")
    os.chdir("/")
    os.close(old)
    _make_devices()
    if not os.path.isdir("/tmp"):  # noqa: S108 - the image's
        os.mkdir("/tmp", 0o1777)  # noqa: S108
    for tree, target in folders:
        os.makedirs(target, 0o755, exist_ok=True)
        _attach(tree, target)
    _write_hosts()
    for tree, target in (*devices, *names):
        _make_file(target)
        _attach(tree, target)
    os.makedirs("/proc", 0o755, exist_ok=True)
    confine.mount("proc", "/proc", "proc", _PLAIN)


def _change_root(image: str) -> None:
    """The overlay of an image becomes the root; the node's lies beneath it until it is unmounted.

    Staged in the image's own directory, which is covered for us alone.
    """
    tree = os.open(os.path.join(image, ROOT), os.O_PATH | os.O_DIRECTORY)
    room = f"size={WRITTEN_BYTES_MAX},mode=0700"
    confine.mount("tmpfs", image, "tmpfs", confine.MS_NOSUID | confine.MS_NODEV, room)
    os.chdir(image)
    for name in ("upper", "work", ROOT):
        os.mkdir(name, 0o755)
    layers = f"lowerdir=/proc/self/fd/{tree},upperdir=upper,workdir=work"
    confine.mount("overlay", ROOT, "overlay", confine.MS_NOSUID | confine.MS_NODEV, layers)
    os.close(tree)
    os.chdir(ROOT)
    machine = os.uname().machine
    if machine not in _PIVOT_ROOT:
        raise OSError(errno.ENOSYS, f"images are not run on {machine}")
    confine.check(_call(_PIVOT_ROOT[machine], b".", b"."), "pivot root")


def _clone(path: str, attributes: int = 0) -> int:
    """A mount of what is at `path`, nowhere yet."""
    flags = _CLONE | os.O_CLOEXEC
    tree = _call(_OPEN_TREE, _HERE, os.fsencode(path), flags)
    if tree < 0:
        confine.check(-1, f"mount of {path}")
    if attributes:
        wanted = struct.pack("QQQQ", attributes, 0, 0, 0)
        done = _call(_MOUNT_SETATTR, tree, b"", _EMPTY_PATH, wanted, len(wanted))
        confine.check(done, f"mount attributes of {path}")
    return tree


def _attach(tree: int, target: str) -> None:
    """A mount that is nowhere yet is at `target`."""
    done = _call(_MOVE_MOUNT, tree, b"", _HERE, os.fsencode(target), _FROM_EMPTY | _TO_LINKED)
    confine.check(done, f"mount {target}")
    os.close(tree)


def _call(number: int, *words: int | bytes) -> int:
    """A system call that the C library may not have."""
    return int(_SYSCALL(*(ctypes.c_long(w) if isinstance(w, int) else w for w in (number, *words))))


def _devices() -> list[str]:
    """Of the node's devices those that do no harm, and its cards', which it shows to all ranks."""
    cards = sorted(path for pattern in CARDS for path in glob.glob(pattern))
    plain = [path for name in DEVICES if os.path.exists(path := f"/dev/{name}")]
    return [*plain, *(path for path in cards if not os.path.isdir(path))]


def _names(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Which file of the node is to be which for the rank: what tells the names of its network."""
    if hosts := spec.get("hosts"):
        return [(hosts, "/etc/hosts")]
    if spec.get("network") != network.SHARED:
        return []
    return [(name, name) for name in RESOLVING if os.path.exists(name)]


def _make_devices() -> None:
    os.makedirs("/dev", 0o755, exist_ok=True)
    confine.mount("tmpfs", "/dev", "tmpfs", _PLAIN, "size=64k,mode=0755")
    os.mkdir(SHARED_MEMORY, 0o1777)
    plain = confine.MS_NOSUID | confine.MS_NODEV
    confine.mount("tmpfs", SHARED_MEMORY, "tmpfs", plain, "mode=1777")
    for name, below in LINKS.items():
        os.symlink(f"/proc/self/fd{below}", f"/dev/{name}")


def _write_hosts() -> None:
    """Which name the rank itself has, where nothing else is to be reached by one."""
    _make_file("/etc/hosts")
    with open("/etc/hosts", "w", encoding="ascii") as file:
        file.write(LOCALHOST)


def _make_file(path: str) -> None:
    """An own one of that name, if it is not there; a link in its place leads who knows where."""
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    if os.path.islink(path):
        os.unlink(path)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o644))
