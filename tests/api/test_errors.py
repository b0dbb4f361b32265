"""Refusals as they travel: every denial arrives, whatever its kind, within bounds."""

from google.rpc import error_details_pb2, status_pb2

from scheduler.api.errors import DETAILS_BYTES_MAX, internal_status, status_of
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid

DENIALS = (
    Denial(Reason.JURISDICTION, "narvik-1 is in NO", "narvik-1"),
    Denial(Reason.QUOTA_LIMIT, "limit 8", "trust-a"),
    Denial(Reason.INVALID_ARGUMENT, "found 0, allowed 1 to 4096", "spec.resources.nodes"),
)


def info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    found = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(found)
    return found


def violations(status: status_pb2.Status) -> list[tuple[str, str, str]]:
    for detail in status.details:
        found = error_details_pb2.PreconditionFailure()
        if detail.Unpack(found):
            return [(v.type, v.subject, v.description) for v in found.violations]
    return []


def test_every_denial_arrives_in_order() -> None:
    refused = Refused(Code.FAILED_PRECONDITION, Reason.JURISDICTION, "no site may", DENIALS)
    status = status_of(refused)
    assert (status.code, status.message) == (9, "no site may")
    assert (info(status).reason, info(status).domain) == ("JURISDICTION", "sovapi")
    assert violations(status) == [(d.reason, d.subject, d.detail) for d in DENIALS]


def test_faulty_fields_and_quota_are_said_again_for_general_clients() -> None:
    refused = Refused(Code.FAILED_PRECONDITION, Reason.QUOTA_LIMIT, "no", DENIALS)
    kinds = [d.type_url.rpartition(".")[2] for d in status_of(refused).details]
    assert kinds == ["ErrorInfo", "BadRequest", "QuotaFailure", "PreconditionFailure"]
    bad = error_details_pb2.BadRequest()
    assert status_of(invalid(DENIALS[2])).details[1].Unpack(bad)
    assert bad.field_violations[0].field == "spec.resources.nodes"


def test_when_to_try_again_is_told() -> None:
    refused = Refused(Code.UNAVAILABLE, Reason.UNAVAILABLE, "later", retry_after_ms=1500)
    retry = error_details_pb2.RetryInfo()
    assert status_of(refused).details[-1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 1500


def test_more_denials_than_fit_are_counted() -> None:
    many = tuple(Denial(Reason.NODES_BUSY, "x" * 300, f"site-{n}") for n in range(500))
    refused = Refused(Code.FAILED_PRECONDITION, Reason.NODES_BUSY, "y" * 50_000, many)
    status = status_of(refused)
    kept = violations(status)
    assert 10 < len(kept) < 500
    assert info(status).metadata["denials_left_out"] == str(500 - len(kept))
    assert status.ByteSize() < DETAILS_BYTES_MAX + 2_000


def test_a_bug_tells_its_request_id_and_nothing_else() -> None:
    status = internal_status("r-1")
    assert status.code == 13
    assert info(status).metadata["request_id"] == "r-1"
