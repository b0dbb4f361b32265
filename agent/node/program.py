"""Starts a rank's program beside the process that made everything ready for it.

To execute a program in a process's own place, the kernel first takes down all the memory of that
process: of a whole interpreter, more than a millisecond in which the program waits. So the program
is a child that has none of its own until it executes, and leads a session of its own. Its parent
stays until it ends, asleep, and passes on what it is sent: whoever asks the kernel to be told of a
parent's end, as a program may, is not told of one before.

Where there is no namespace that ends with the rank the program takes the place of that process.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Collection, Mapping, Sequence
from typing import NoReturn

from agent.node import confine

NOT_FOUND_CODE, NOT_EXECUTABLE_CODE = 127, 126
"""How a shell ends whose command is not there, or cannot be executed."""


def run(argv: Sequence[str], env: Mapping[str, str], forwarded: Collection[int]) -> int:
    """Run it to its end, passing on the signals `forwarded`; its wait status. OSError or ValueError
    if it cannot be executed.
    """
    # Before there is a child: the word of its end must not go by.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = _spawn(argv, env)
    while True:
        number = signal.sigwait({signal.SIGCHLD, *forwarded})
        if number != signal.SIGCHLD:
            confine.send_session(pid, number)
        elif (ended := os.waitpid(pid, os.WNOHANG))[0]:
            return ended[1]


def cannot_run(name: str, error: OSError | ValueError) -> NoReturn:
    """End this process as a shell does whose command cannot be executed, saying why."""
    why = error.strerror if isinstance(error, OSError) else str(error)
    os.write(2, f"sov: cannot run {name!r}: {why}\n".encode())
    missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
    os._exit(NOT_FOUND_CODE if missing else NOT_EXECUTABLE_CODE)


def _spawn(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Start it, found as `os.execvpe` finds it, with no signal blocked."""
    name = argv[0]
    folders = [""] if os.path.dirname(name) else os.get_exec_path(env)
    absent, refused = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), None
    for place in (os.path.join(folder, name) for folder in folders):
        try:
            os.stat(place)  # What is not there shall not cost a process.
            return os.posix_spawn(place, list(argv), env, setsid=True, setsigmask=())
        except (FileNotFoundError, NotADirectoryError) as error:
            absent = error
        except OSError as error:
            refused = refused or error
    raise refused or absent
