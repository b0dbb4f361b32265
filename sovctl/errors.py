"""What can go wrong, as one tree of exceptions with stable reason codes.

Every error that the SDK raises on purpose is a `SovError`; programs tell them apart by class or by
`reason`, people read `message` and `details`. docs/reasons.md explains the reasons.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Denial:
    """One thing that stands against a request. `subject` is a site, a tenant or a field."""

    reason: str
    detail: str
    subject: str = ""


class SovError(Exception):
    """A request that did not succeed.

    Attributes:
        reason: Stable code, for programs.
        message: One sentence, for people.
        details: Everything that stands against the request, most important first.
        retry_after_ms: When the server said that trying again may help; else None.
    """

    default_reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        details: tuple[Denial, ...] = (),
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason or self.default_reason
        self.message = message
        self.details = details
        self.retry_after_ms = retry_after_ms


class InvalidArgumentError(SovError):
    """What was sent is malformed. Each detail's subject is a field's path."""

    default_reason = "INVALID_ARGUMENT"


class SpecError(InvalidArgumentError):
    """A file or a specification is malformed; found before anything was sent."""


class BundleError(InvalidArgumentError):
    """The working directory cannot be bundled."""


class ConfigError(InvalidArgumentError):
    """The client's own configuration is missing or malformed."""


class NotFoundError(SovError):
    """Absent, or not the caller's to know of."""

    default_reason = "NOT_FOUND"


class RefusedError(SovError):
    """Policy, quota or admission says no. The details hold every reason."""

    default_reason = "REFUSED"


class PermissionDeniedError(SovError):
    """The caller's identity may not do this."""

    default_reason = "PERMISSION_DENIED"


class UnauthenticatedError(PermissionDeniedError):
    """The caller's identity was not accepted."""

    default_reason = "UNAUTHENTICATED"


class UnavailableError(SovError):
    """The control plane could not be reached, or not in time."""

    default_reason = "UNAVAILABLE"


class DeadlineError(UnavailableError):
    """No answer within the call's deadline."""

    default_reason = "DEADLINE_EXCEEDED"


class JobFailedError(SovError):
    """`wait(check=True)` on a job that did not succeed; `reason` is the job's."""

    default_reason = "FAILED"


class InternalError(SovError):
    """A fault of the control plane; the message carries a request id for its operators."""
