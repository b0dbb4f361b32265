"""Reading and writing what a spool is made of: documents, control sockets, traces of processes.

The layout and its meaning are in `spool.py`; here is only how each kind of thing is done safely.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import cast

from agent.node.clock import boot_id, start_ticks
from agent.node.rank_record import sync_folder

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024

Document = dict[str, object]


class SpoolError(Exception):
    """The spool cannot do what was asked; the message says why."""


def survivors(home: Path) -> Iterator[int]:
    """Processes of a rank whose shim is gone, found by their environment (which they could
    clear). The mark is the rank's directory: keys may be the same in two spools of one machine.
    """
    mark = f"SOV_RANK_DIR={home.resolve()}".encode()
    for name in sorted(os.listdir("/proc")):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    yield int(name)


def kill_survivors(home: Path) -> None:
    for pid in survivors(home):
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(pid)
            try:
                if pid in survivors(home):  # Seen again with the handle held: it is that process.
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)


def gate_of(home: Path) -> str:
    try:
        return os.readlink(home / "gate")
    except FileNotFoundError:
        return ""


def listening(home: Path) -> bool:
    """Whether somebody holds `ctl`: the shim, or the init for a moment after it."""
    with _ctl_address(home) as address, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True


def send_order(home: Path, order: Document) -> bool:
    with _ctl_address(home) as address, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        try:
            sender.sendto(json.dumps(order).encode(), address)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except BlockingIOError:  # Its queue is full of orders it will get to; ours is repeated.
            return True
        return True


@contextlib.contextmanager
def _ctl_address(home: Path) -> Generator[str]:
    """The socket's path through a descriptor: the plain one may be longer than the 107 bytes
    allowed.
    """
    folder = os.open(home, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/ctl"
    finally:
        os.close(folder)


def kept_by_someone(started: Document) -> bool:
    """Whether shim or init lives: the init is reaped only when its whole namespace is gone."""
    if started.get("boot_id") != boot_id():
        return False
    pairs = ((started.get(f"{who}_pid"), started.get(f"{who}_ticks")) for who in ("shim", "init"))
    return any(
        isinstance(pid, int) and start_ticks(pid) == ticks is not None for pid, ticks in pairs
    )


def number(value: object) -> int:
    if not isinstance(value, int):
        raise SpoolError(f"a spool document holds {value!r} where a number belongs")
    return value


def number_or_none(value: object) -> int | None:
    return None if value is None else number(value)


def read_document(path: Path) -> Document:
    """A document of ours, or nothing: absent, blank and torn ones read as absent."""
    try:
        with open(path, "rb") as file:
            doc: object = json.loads(file.read(DOCUMENT_BYTES_MAX) or b"null")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return cast("Document", doc) if isinstance(doc, dict) else {}


def size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _whole(home: Path, name: str, doc: Mapping[str, object]) -> Path:
    """A whole file that nobody looks at yet."""
    path = home / f".{name}.{os.getpid()}.{time.monotonic_ns()}"
    body = json.dumps(doc).encode()
    if len(body) > DOCUMENT_BYTES_MAX:
        raise SpoolError(f"{name} has {len(body)} bytes: at most {DOCUMENT_BYTES_MAX}")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "wb") as file:
        file.write(body)
    return path


def _durable(home: Path, name: str, doc: Mapping[str, object]) -> Path:
    """A durable file that nobody looks at yet."""
    path = _whole(home, name, doc)
    with open(path, "rb") as file:
        os.fsync(file)
    return path


def put(home: Path, name: str, doc: Mapping[str, object]) -> None:
    """Put a document down, whole. A node that goes down soon after may lose it, or its content."""
    os.rename(_whole(home, name, doc), home / name)


def put_once(home: Path, name: str, doc: Mapping[str, object]) -> None:
    """As `put`, unless the document exists: the first one stands."""
    if not (home / name).exists():
        _link(_whole(home, name, doc), home / name)


def publish(home: Path, name: str, doc: Mapping[str, object]) -> None:
    """Put a document down, whole and durable before anybody sees it."""
    os.rename(_durable(home, name, doc), home / name)
    sync_folder(home)


def publish_once(home: Path, name: str, doc: Mapping[str, object]) -> None:
    """As `publish`, unless the document exists: the first one stands."""
    if not (home / name).exists():
        _link(_durable(home, name, doc), home / name)
        sync_folder(home)


def _link(path: Path, name: Path) -> None:
    with contextlib.suppress(FileExistsError):
        os.link(path, name)
    path.unlink()


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
