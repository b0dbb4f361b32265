"""Makes shims ahead of their need: whole but for the word whose rank they keep.

Starting an interpreter and forking three processes is most of what starting a rank costs. This one
is started with an empty environment and through `COMMAND`, as a shim is, so it has seen nothing of
whoever started it. It keeps a few spare shims, each with its init and its rank below it, that read
their orders from one channel: a rank's spool directory, with the writing end of a pipe that stays
open until the rank runs or never will.

All of it ends when the channel does, which is when its executor ends; a spare one ends with the
nursery. A shim that has taken an order does not: it is a session of its own from its first moment,
and owes its parent nothing.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import struct
import time
from typing import NoReturn

from agent.node import confine, shim
from agent.node.cradle import Cradle
from agent.node.rank_record import Room, room_ahead
from agent.node.warmth import take_memory

COMMAND = (  # Run with -c; the directory that holds this package, a socket, a level, a folder.
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from agent.node.nursery import main; main(int(sys.argv[2]), *sys.argv[3:])"
)
HOME_BYTES_MAX = 4096
SPARES = 2
QUIET_MS = 250
"""Spares are made up for once no order came for this long, or when there is none left: whoever has
just started needs the processor more."""
PAUSE_S = 0.5  # After a spare that ended by itself.
_PID = struct.Struct("=i")


def main(descriptor: int, level: str, rooms: str) -> None:
    """Keep spares until there can be no more orders; `rooms` is where they make their records'."""
    signal.signal(signal.SIGCHLD, _ignore)  # Not SIG_IGN: its arrival is to wake the poll below.
    waking, wake = os.pipe()
    taken, take = os.pipe()
    for end in (waking, wake, taken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    gc.freeze()  # What is here is every shim's, and no collection shall copy its pages.
    with socket.socket(fileno=descriptor) as channel:
        channel.set_inheritable(False)
        own = (waking, wake, taken, take, channel.fileno())
        events = select.poll()
        for fd, mask in ((channel.fileno(), 0), (taken, select.POLLIN), (waking, select.POLLIN)):
            events.register(fd, mask)
        spares: set[int] = set()
        quiet = True
        while True:
            while len(spares) < SPARES and (quiet or not spares):
                spares.add(_spare(channel, (level, rooms), take, own))
            ready = dict(events.poll(QUIET_MS if len(spares) < SPARES else None))
            if channel.fileno() in ready:  # Only a hang-up is told here: orders are the spares'.
                return
            quiet = taken not in ready
            _read(waking)
            ended = _reaped()  # Before we hear who took orders: what took one may have ended too.
            spares -= {pid for (pid,) in _PID.iter_unpack(_read(taken))}
            if lost := spares & ended:
                spares -= lost
                time.sleep(PAUSE_S)


def _ignore(*_: object) -> None:
    pass


def _read(pipe: int) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return os.read(pipe, _PID.size * 1024)
    return b""


def _reaped() -> set[int]:
    found: set[int] = set()
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            found.add(pid)
    return found


def _spare(channel: socket.socket, made: tuple[str, str], take: int, own: tuple[int, ...]) -> int:
    """Fork a shim that waits for an order; its pid."""
    parent = os.getpid()
    if pid := os.fork():
        return pid
    try:
        _be_shim(channel, made, take, own, parent)
    finally:
        os._exit(0)  # Nothing of the nursery's may run here, whatever happened.


def _be_shim(
    channel: socket.socket, made: tuple[str, str], take: int, own: tuple[int, ...], parent: int
) -> NoReturn:
    """The forked process, to its end. `made`: of what level, and where the rooms are."""
    level, rooms = made
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    shim.detach()
    confine.die_with_parent()
    if os.getppid() != parent:
        os._exit(0)
    cradle = None
    with contextlib.suppress(OSError):  # It is tried again with an order, which tells of it.
        cradle = Cradle(level, own)
    room = room_ahead(rooms)
    take_memory()
    home, descriptors, _, _ = socket.recv_fds(channel, HOME_BYTES_MAX, 1)
    if not home:
        _end(room)
    if cradle is not None:
        cradle.meet(os.fsdecode(home))
    confine.outlive_parent()
    with contextlib.suppress(OSError):  # The nursery may be gone.
        os.write(take, _PID.pack(os.getpid()))
    for fd in own:
        os.close(fd)
    os.chdir(home)
    if shim.read_spec()["isolation"] != level:  # Whoever waits will start one that can do it.
        _end(room)
    shim.keep_rank(descriptors[0], cradle, room)
    os._exit(0)


def _end(room: Room | None) -> NoReturn:
    """Without having kept a rank."""
    if room is not None:
        room.leave()
    os._exit(0)
