"""What the program's exit status says. Part of the public contract."""

from __future__ import annotations

from enum import IntEnum

from sovctl.errors import (
    InvalidArgumentError,
    JobFailedError,
    NotFoundError,
    PermissionDeniedError,
    RefusedError,
    SovError,
    UnavailableError,
)


class ExitCode(IntEnum):
    """Exit statuses."""

    DONE = 0
    FAILED = 1
    """The job failed, or the control plane has a fault."""
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    NOT_PERMITTED = 5
    UNREACHABLE = 6
    INTERRUPTED = 130


_BY_ERROR: tuple[tuple[type[SovError], ExitCode], ...] = (
    (JobFailedError, ExitCode.FAILED),
    (InvalidArgumentError, ExitCode.USAGE),
    (NotFoundError, ExitCode.NOT_FOUND),
    (PermissionDeniedError, ExitCode.NOT_PERMITTED),
    (UnavailableError, ExitCode.UNREACHABLE),
    (RefusedError, ExitCode.REFUSED),
)


def exit_code(error: SovError) -> ExitCode:
    """The status for an error."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), ExitCode.FAILED)


def job_exit_code(state: str) -> ExitCode:
    """The status after waiting for a job that ended so."""
    return ExitCode.DONE if state == "SUCCEEDED" else ExitCode.FAILED
