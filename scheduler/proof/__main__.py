"""`python -m scheduler.proof FD`: one question over a pipe, one answer, and the end."""

from __future__ import annotations

import resource
import sys
from multiprocessing.connection import Connection

from scheduler.model.proofs import ToProve
from scheduler.proof.prove import prove

MEMORY_BYTES_MAX = 1 << 30
"""Of address space: a proof that wants more ends this process, and is none."""


def main() -> None:
    """Proves what is asked."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    with Connection(int(sys.argv[1])) as pipe:
        asked: ToProve = pipe.recv()
        pipe.send(prove(asked))


if __name__ == "__main__":
    main()
