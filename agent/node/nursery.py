"""Forks shims ahead of their need: a process that has loaded all that a shim loads, and waits.

Starting an interpreter is most of what starting a shim costs. This one is started with an empty
environment and through `COMMAND`, as a shim is, so it has seen nothing of whoever started it; it
reads no spec and knows of a rank only its directory. Each order on its channel is one such
directory, with the writing end of a pipe that stays open until the rank runs or never will.

It ends when its channel does, which is when its executor ends. The shims do not: each is a session
of its own from its first moment, and asks nothing of its parent.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
from typing import NoReturn

from agent.node import shim

COMMAND = (  # Run with -c; the arguments are the directory that holds this package, and a socket.
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from agent.node.nursery import main; main(int(sys.argv[2]))"
)
HOME_BYTES_MAX = 4096


def main(descriptor: int) -> None:
    """Fork a shim for every order, until there can be no more."""
    signal.signal(signal.SIGCHLD, _reap)
    gc.freeze()  # What is here is every shim's, and no collection shall copy its pages.
    with socket.socket(fileno=descriptor) as channel:
        while True:
            home, descriptors, _, _ = socket.recv_fds(channel, HOME_BYTES_MAX, 1)
            if not home:
                return
            if os.fork() == 0:
                channel.close()
                _be_shim(os.fsdecode(home), descriptors[0])
            for end in descriptors:
                os.close(end)


def _be_shim(home: str, ready: int) -> NoReturn:
    """The forked process, to its end."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        shim.detached(home, ready)
    finally:
        os._exit(0)  # Nothing of the nursery's may run here, whatever happened.


def _reap(*_: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
