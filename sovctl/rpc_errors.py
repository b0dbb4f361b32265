"""From a gRPC status with its details to the exception that programs catch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from sovctl.errors import (
    DeadlineError,
    Denial,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RefusedError,
    SovError,
    UnauthenticatedError,
    UnavailableError,
)

DETAILS_MAX = 1000
STATUS_KEY = "grpc-status-details-bin"

MessageT = TypeVar("MessageT", bound=Message)

_BY_CODE: dict[grpc.StatusCode, type[SovError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.FAILED_PRECONDITION: RefusedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RefusedError,
    grpc.StatusCode.ALREADY_EXISTS: RefusedError,
    grpc.StatusCode.ABORTED: RefusedError,
    grpc.StatusCode.UNIMPLEMENTED: RefusedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
}


def _details(status: status_pb2.Status, kind: type[MessageT]) -> list[MessageT]:
    """The status's details of one kind, in the server's order."""
    suffix = f"/{kind.DESCRIPTOR.full_name}"
    found = [detail for detail in status.details if detail.type_url.endswith(suffix)]
    return [kind.FromString(detail.value) for detail in found]


def _denials(status: status_pb2.Status, reason: str) -> tuple[Denial, ...]:
    """Every violation in the details, each once."""
    denials = [
        Denial(v.type or reason, v.description, v.subject)
        for failure in _details(status, error_details_pb2.PreconditionFailure)
        for v in failure.violations
    ]
    denials += [
        Denial(v.reason or reason, v.description, v.field)
        for request in _details(status, error_details_pb2.BadRequest)
        for v in request.field_violations
    ]
    # QuotaFailure says again for general clients what a precondition said with its own reason.
    told = {(denial.subject, denial.detail) for denial in denials}
    denials += [
        Denial(reason, v.description, v.subject)
        for failure in _details(status, error_details_pb2.QuotaFailure)
        for v in failure.violations
        if (v.subject, v.description) not in told
    ]
    return tuple(dict.fromkeys(denials))[:DETAILS_MAX]


def _retry_after_ms(status: status_pb2.Status) -> int | None:
    for retry in _details(status, error_details_pb2.RetryInfo):
        return retry.retry_delay.ToMilliseconds()
    return None


def _info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    for info in _details(status, error_details_pb2.ErrorInfo):
        return info
    return error_details_pb2.ErrorInfo()


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    """The google.rpc.Status that the server attached; None when it attached none."""
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:  # Somebody between us and the server meddled with it.
                return None
    return None


def _local_message(code: grpc.StatusCode, error: grpc.aio.AioRpcError, endpoint: str) -> str:
    """For statuses that gRPC itself made, and that say nothing about whom we talked to."""
    said = (error.details() or code.name).strip()
    if code is grpc.StatusCode.UNAVAILABLE:
        return f"control plane at {endpoint} cannot be reached: {said}"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"control plane at {endpoint} did not answer in time"
    return said


def cut_off(error: grpc.aio.AioRpcError) -> bool:
    """Whether gRPC failed to send on a call that the server had ended meanwhile, and lost its
    status over that: the server's own internal errors have details."""
    return error.code() is grpc.StatusCode.INTERNAL and _status(error) is None


def sov_error(error: grpc.aio.AioRpcError, endpoint: str) -> SovError:
    """The exception for a failed call to `endpoint`."""
    code = error.code()
    make: Callable[..., SovError] = _BY_CODE.get(code, InternalError)
    status = _status(error)
    if status is None:
        return make(_local_message(code, error, endpoint))
    info = _info(status)
    reason, left_out = info.reason, info.metadata.get("denials_left_out", "")
    return make(
        (status.message or code.name) + (f" (and {left_out} more reasons)" if left_out else ""),
        reason=reason,
        details=_denials(status, reason),
        retry_after_ms=_retry_after_ms(status),
    )
