"""`sovctl`, and `python -m sovctl`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

from sovctl.cli.exit_codes import ExitCode
from sovctl.cli.main import run


def main() -> None:
    """The console script."""
    leave(run(sys.argv[1:]))


def leave(status: int) -> NoReturn:
    """End the process now, everything said.

    An interpreter that ends in its usual way waits for its threads first, and then for gRPC's: one
    may be reading a directory that does not answer.
    """
    try:
        with suppress(BrokenPipeError):  # Whoever read the output has seen enough.
            sys.stdout.flush()
    except OSError as error:
        sys.stderr.write(f"error: standard output: {error.strerror}\n")
        status = status or ExitCode.FAILED
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
