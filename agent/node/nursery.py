"""Makes shims and gates ahead of their need: whole but for the word whose they are.

Starting an interpreter and forking three processes is most of what starting a rank costs. This one
is started with an empty environment and through `COMMAND`, as a shim is, so it has seen nothing of
whoever started it. It keeps a few spares of each kind, a shim's with its init and its rank below
it, a gate's with its namespace. Those of a kind read their orders from one line: a folder, which is
a rank's in the spool or its attempt's network's, with the writing end of a pipe. A shim keeps that
open until the rank runs or never will; a gate says there whether it stands.

All of it ends when a line does, which is when its executor ends; a spare one ends with the nursery.
What has taken an order does not: it is a session of its own from its first moment, and owes its
parent nothing.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.node import confine, gate, shim
from agent.node.clock import boot_ms
from agent.node.cradle import Cradle
from agent.node.rank_record import Room, room_ahead
from agent.node.warmth import take_memory

COMMAND = (  # Run with -c; the directory that holds this package, two sockets, a level, a folder.
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from agent.node.nursery import main; main(int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])"
)
FOLDER_BYTES_MAX = 4096
SHIMS, GATES = 2, 1
"""Spares that are kept. A launch takes a shim for each of its ranks here, and one gate at most."""
QUIET_MS = 250
"""Spares are made up for once no order came for this long, or when there is none left: whoever has
just started needs the processor more."""
PAUSE_S = 0.5  # After a spare that ended by itself.
_PID = struct.Struct("=i")


@dataclass(frozen=True, slots=True)
class Orders:
    """Where a spare hears of its order."""

    line: socket.socket
    take: int
    own: tuple[int, ...]
    """What is open of the nursery's, and no business of whoever has an order."""

    def wait(self) -> tuple[bytes, int] | None:
        """A folder and the end of a pipe; None when there can be no more."""
        folder, descriptors, _, _ = socket.recv_fds(self.line, FOLDER_BYTES_MAX, 1)
        return (folder, descriptors[0]) if folder else None

    def taken(self) -> None:
        """The order is this process's now, and that process nobody's spare any more."""
        confine.outlive_parent()
        with contextlib.suppress(OSError):  # The nursery may be gone.
            os.write(self.take, _PID.pack(os.getpid()))
        for fd in self.own:
            os.close(fd)


@dataclass(slots=True)
class Brood:
    """The spares of one kind."""

    orders: Orders
    kept: int
    become: Callable[[Orders], None]
    spares: set[int] = field(default_factory=set[int])

    def make_up(self, *, quiet: bool) -> None:
        """Have all of them, or at least one."""
        while len(self.spares) < self.kept and (quiet or not self.spares):
            self.spares.add(_spare(self))


def main(shims: int, gates: int, level: str, rooms: str) -> None:
    """Keep spares until there can be no more orders; `rooms` is where they make their records'."""
    signal.signal(signal.SIGCHLD, _ignore)  # Not SIG_IGN: its arrival is to wake the poll below.
    waking, wake = os.pipe()
    taken, take = os.pipe()
    for end in (waking, wake, taken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    gc.freeze()  # What is here is every spare's, and no collection shall copy its pages.
    with socket.socket(fileno=shims) as for_shims, socket.socket(fileno=gates) as for_gates:
        lines = (for_shims, for_gates)
        own = (waking, wake, taken, take, *(line.fileno() for line in lines))
        for line in lines:
            line.set_inheritable(False)
        be_shim = functools.partial(_be_shim, level, rooms)
        broods = [Brood(Orders(for_shims, take, own), SHIMS, be_shim)]
        if level != "none":
            broods.append(Brood(Orders(for_gates, take, own), GATES, _be_gate))
        _keep(broods, waking, taken)


def _keep(broods: Sequence[Brood], waking: int, taken: int) -> None:
    """Make up for spares until a line is gone. What comes through `taken` took an order; `waking`
    has something when a process ended.
    """
    events = select.poll()
    for end in (waking, taken):
        events.register(end, select.POLLIN)
    lines = [brood.orders.line.fileno() for brood in broods]
    for line in lines:
        events.register(line, 0)  # Only a hang-up is told here: orders are the spares'.
    quiet_at_ms = boot_ms()
    while True:
        rest_ms = max(0, quiet_at_ms - boot_ms())
        for brood in broods:
            brood.make_up(quiet=rest_ms == 0)
        whole = all(len(brood.spares) == brood.kept for brood in broods)
        ready = dict(events.poll(None if whole else rest_ms))
        if any(line in ready for line in lines):
            return
        if taken in ready:  # Not so with an end: what has just started may be over soon.
            quiet_at_ms = boot_ms() + QUIET_MS
        _read(waking)
        ended = _reaped()  # Before we hear who took orders: what took one may have ended too.
        orderly = {pid for (pid,) in _PID.iter_unpack(_read(taken))}
        for brood in broods:
            brood.spares -= orderly
        if any(brood.spares & ended for brood in broods):
            for brood in broods:
                brood.spares -= ended
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


def _spare(brood: Brood) -> int:
    """Fork a process that waits for an order; its pid."""
    parent = os.getpid()
    if pid := os.fork():
        return pid
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        shim.detach()
        confine.die_with_parent()
        if os.getppid() == parent:
            brood.become(brood.orders)
    finally:
        os._exit(0)  # Nothing of the nursery's may run here, whatever happened.


def _be_shim(level: str, rooms: str, orders: Orders) -> None:
    """A shim of that level, to its end; `rooms` is where records are made."""
    cradle = None
    with contextlib.suppress(OSError):  # It is tried again with an order, which tells of it.
        cradle = Cradle(level, orders.own)
    room = room_ahead(rooms)
    take_memory()
    if (order := orders.wait()) is None:
        return _leave(room)
    home, ready = order
    if cradle is not None:
        cradle.meet(os.fsdecode(home))
    orders.taken()
    os.chdir(home)
    spec = shim.read_spec()
    if spec["isolation"] != level:  # Whoever waits will start one that can do it.
        return _leave(room)
    shim.keep_rank(ready, spec=spec, cradle=cradle, room=room)


def _leave(room: Room | None) -> None:
    """Without having kept a rank."""
    if room is not None:
        room.leave()


def _be_gate(orders: Orders) -> None:
    """A gate, to its end."""
    namespace = None
    with contextlib.suppress(OSError):  # As above.
        namespace = gate.made_ahead()
    take_memory()
    if (order := orders.wait()) is None:
        return
    folder, ready = order
    orders.taken()
    os.chdir(folder)
    gate.keep(ready, namespace)
