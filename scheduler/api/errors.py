"""The one place where refusals become statuses.

A `Refused` becomes a `google.rpc.Status`: `ErrorInfo` with its reason, and every denial it carries.
Anything else is a bug: its traceback is logged under a request id, and the caller gets the id.
"""

from __future__ import annotations

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from scheduler.model.reasons import Code, Denial, Reason, Refused

ERROR_DOMAIN = "sovapi"
DETAILS_BYTES_MAX = 10 * 1024
"""All denials of one refusal. They travel in a trailer, which many clients bound at 16 KiB once it
is encoded in base64."""
DETAIL_CHARS_MAX = 500
MESSAGE_CHARS_MAX = 1000

_QUOTA_REASONS = frozenset(
    {
        Reason.QUOTA_LIMIT,
        Reason.QUOTA_GUARANTEE_LENT,
        Reason.QUOTA_BORROW,
        Reason.QUOTA_KEPT,
        Reason.BUDGET_EXHAUSTED,
        Reason.QUEUE_FULL,
    }
)


def status_of(refused: Refused) -> status_pb2.Status:
    """`refused` as it travels.

    `PreconditionFailure` holds every denial, in order (type is the reason code). Beside it, for
    clients that look for what they know, `BadRequest` repeats faulty fields and `QuotaFailure`
    quota.
    """
    status = status_pb2.Status(
        code=int(refused.code), message=_cut(refused.message, MESSAGE_CHARS_MAX)
    )
    info = error_details_pb2.ErrorInfo(reason=refused.reason, domain=ERROR_DOMAIN)
    kept = _fitting(refused.denials)
    if len(kept) < len(refused.denials):
        info.metadata["denials_left_out"] = str(len(refused.denials) - len(kept))
    _pack(status, info)
    for detail in _violations(kept):
        _pack(status, detail)
    if refused.retry_after_ms is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(refused.retry_after_ms)
        _pack(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def internal_status(request_id: str) -> status_pb2.Status:
    """A bug's status: nothing of the inside, and the id under which the log has it."""
    status = status_pb2.Status(
        code=code_pb2.INTERNAL, message=f"internal error; quote request id {request_id}"
    )
    info = error_details_pb2.ErrorInfo(reason=Reason.INTERNAL, domain=ERROR_DOMAIN)
    info.metadata["request_id"] = request_id
    _pack(status, info)
    return status


def _violations(denials: tuple[Denial, ...]) -> list[Message]:
    bad = error_details_pb2.BadRequest()
    quota = error_details_pb2.QuotaFailure()
    unmet = error_details_pb2.PreconditionFailure()
    for denial in denials:
        detail = _cut(denial.detail, DETAIL_CHARS_MAX)
        unmet.violations.add(type=denial.reason, subject=denial.subject, description=detail)
        if denial.reason is Reason.INVALID_ARGUMENT:
            bad.field_violations.add(field=denial.subject, description=detail, reason=denial.reason)
        if denial.reason in _QUOTA_REASONS:
            quota.violations.add(subject=denial.subject, description=detail)
    found: list[Message] = []
    if bad.field_violations:
        found.append(bad)
    if quota.violations:
        found.append(quota)
    if unmet.violations:
        found.append(unmet)
    return found


def _fitting(denials: tuple[Denial, ...]) -> tuple[Denial, ...]:
    """As many of `denials`, most important first, as a trailer has room for."""
    room = DETAILS_BYTES_MAX
    for n, denial in enumerate(denials):
        detail = _cut(denial.detail, DETAIL_CHARS_MAX).encode()
        size = len(denial.reason) + len(denial.subject.encode()) + len(detail) + 16
        twice = denial.reason is Reason.INVALID_ARGUMENT or denial.reason in _QUOTA_REASONS
        room -= 2 * size if twice else size
        if room < 0:
            return denials[:n]
    return denials


def _pack(status: status_pb2.Status, detail: Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


def _cut(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def unavailable(message: str, retry_after_ms: int) -> Refused:
    """Something that this call needs is away; trying again may help."""
    return Refused(Code.UNAVAILABLE, Reason.UNAVAILABLE, message, retry_after_ms=retry_after_ms)
