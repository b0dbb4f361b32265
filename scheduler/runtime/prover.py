"""Starts the process that proves, once for each question, and believes only an answer in time.

The solver takes memory that the control plane does not have; its process ends with its answer. One
that dies, hangs or is beyond its memory has proved nothing.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from multiprocessing.connection import Connection

from scheduler.model.proofs import NO_LOOSER, Finding, Proof, Standing, ToProve
from scheduler.model.residency import Policy

CLAIM_MS_MAX = 5_000
"""For each claim."""
ANSWER_S_MAX = 60
"""For all of them, with the start of the process."""
PROGRAM = "scheduler.proof"

_log = logging.getLogger(__name__)


class Prover:
    """Proves one change of policy at a time."""

    def __init__(self, *, claim_ms_max: int = CLAIM_MS_MAX) -> None:
        self._claim_ms_max = claim_ms_max
        self._turn = asyncio.Lock()

    async def prove(self, before: Policy, after: Policy) -> Proof:
        """What can be proved of `after` where `before` is in force."""
        async with self._turn:
            asked = ToProve(before, after, self._claim_ms_max)
            return await asyncio.to_thread(_prove, asked)


def _prove(asked: ToProve) -> Proof:
    ours, theirs = socket.socketpair()
    with theirs:
        child = subprocess.Popen(
            [sys.executable, "-m", PROGRAM, str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
        )
    try:
        with Connection(ours.detach()) as pipe:
            pipe.send(asked)
            if not pipe.poll(ANSWER_S_MAX):
                return _nothing(f"no answer within {ANSWER_S_MAX} s")
            proof: Proof = pipe.recv()
            return proof
    except (EOFError, OSError):
        return _nothing("the proving process ended without an answer")
    finally:
        child.kill()
        child.wait()


def _nothing(why: str) -> Proof:
    _log.warning("nothing was proved of a policy: %s", why)
    return Proof((Finding(NO_LOOSER, why, Standing.UNKNOWN),))
