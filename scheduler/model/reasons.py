"""Why something was refused or waits: one stable list, and the one exception that crosses layers.

`docs/reasons.md` explains each to people; a test keeps the two equal. Values are public API.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Reason(StrEnum):
    """Stable code of a refusal, a wait or an end."""

    # What was asked for is malformed.
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    TOO_LARGE = "TOO_LARGE"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT"
    FEATURE_NOT_AVAILABLE = "FEATURE_NOT_AVAILABLE"
    # Who asks.
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    LOGIN_REFUSED = "LOGIN_REFUSED"
    JOIN_TOKEN_INVALID = "JOIN_TOKEN_INVALID"  # noqa: S105 - a reason code
    IDENTITY_REVOKED = "IDENTITY_REVOKED"
    ACCESS_NOT_GRANTED = "ACCESS_NOT_GRANTED"
    ACCESS_NOT_ALLOWED = "ACCESS_NOT_ALLOWED"
    ACCESS_SAME_PERSON = "ACCESS_SAME_PERSON"
    # The state of things.
    UNAVAILABLE = "UNAVAILABLE"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    NOT_LEADER = "NOT_LEADER"
    ILLEGAL_TRANSITION = "ILLEGAL_TRANSITION"
    INTERNAL = "INTERNAL"
    # Residency: each of these denies a site.
    JURISDICTION = "JURISDICTION"
    JURISDICTION_NOT_ALLOWED = "JURISDICTION_NOT_ALLOWED"
    FOREIGN_COMPULSION = "FOREIGN_COMPULSION"
    TIER_ABOVE_SITE = "TIER_ABOVE_SITE"
    TIER_ABOVE_CONTROL_PLANE = "TIER_ABOVE_CONTROL_PLANE"
    MARKING = "MARKING"
    AGREEMENT_UNKNOWN = "AGREEMENT_UNKNOWN"
    AGREEMENT_SCOPE = "AGREEMENT_SCOPE"
    AGREEMENT_EXPIRED = "AGREEMENT_EXPIRED"
    AGREEMENT_GPUS = "AGREEMENT_GPUS"
    AGREEMENT_GPU_HOURS = "AGREEMENT_GPU_HOURS"
    FACT_MISSING = "FACT_MISSING"
    FACT_EXPIRED = "FACT_EXPIRED"
    FACT_TOO_OLD = "FACT_TOO_OLD"
    FACT_TOO_WEAK = "FACT_TOO_WEAK"
    REQUIREMENT_EMPTY = "REQUIREMENT_EMPTY"
    POLICY_RULE = "POLICY_RULE"
    DATA_ELSEWHERE = "DATA_ELSEWHERE"
    # What the work reads.
    DATA_UNLABELLED = "DATA_UNLABELLED"
    DATA_ZONE = "DATA_ZONE"
    DATA_APART = "DATA_APART"
    # What is known of a node: each of these denies it.
    NODE_REFUTED = "NODE_REFUTED"
    NODE_FACTS = "NODE_FACTS"
    # A change of policy.
    POLICY_LOOSER = "POLICY_LOOSER"
    POLICY_INVARIANT = "POLICY_INVARIANT"
    POLICY_NOT_PROVED = "POLICY_NOT_PROVED"
    # Capacity at a site, now or ever.
    SITE_NOT_ACTIVE = "SITE_NOT_ACTIVE"
    SITE_DISCONNECTED = "SITE_DISCONNECTED"
    SITE_CORDONED = "SITE_CORDONED"
    GPU_CLASS = "GPU_CLASS"
    CPU_ARCH = "CPU_ARCH"
    INTERCONNECT = "INTERCONNECT"
    ISOLATION = "ISOLATION"
    NODE_SHAPE = "NODE_SHAPE"
    NODES_TOO_FEW = "NODES_TOO_FEW"
    NODES_UNHEALTHY = "NODES_UNHEALTHY"
    NODES_BUSY = "NODES_BUSY"
    NODE_SHARING = "NODE_SHARING"
    SPARE_NODES = "SPARE_NODES"
    POWER_CAP = "POWER_CAP"
    TOPOLOGY = "TOPOLOGY"
    SPREAD = "SPREAD"
    # Quota and order.
    QUOTA_LIMIT = "QUOTA_LIMIT"
    QUOTA_GUARANTEE_LENT = "QUOTA_GUARANTEE_LENT"
    QUOTA_BORROW = "QUOTA_BORROW"
    QUOTA_KEPT = "QUOTA_KEPT"
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"
    QUEUE_FULL = "QUEUE_FULL"
    BEHIND_OTHERS = "BEHIND_OTHERS"
    PLAN_BUDGET = "PLAN_BUDGET"
    BACKING_OFF = "BACKING_OFF"
    DEPENDENCY = "DEPENDENCY"
    WINDOW = "WINDOW"
    # How an attempt or a job ended.
    EXIT_NONZERO = "EXIT_NONZERO"
    SIGNALLED = "SIGNALLED"
    TIME_LIMIT = "TIME_LIMIT"
    REPLICA_ENDED = "REPLICA_ENDED"
    REPLICA_WORN = "REPLICA_WORN"
    CANCELLED = "CANCELLED"
    PREEMPTED = "PREEMPTED"
    RESIDENCY_LOST = "RESIDENCY_LOST"
    LEASE_LAPSED = "LEASE_LAPSED"
    NODE_RUNTIME_LOST = "NODE_RUNTIME_LOST"
    NODE_LOST = "NODE_LOST"
    NODE_FAILED = "NODE_FAILED"
    RANK_LOST = "RANK_LOST"
    START_FAILED = "START_FAILED"
    GUARD_REFUSED = "GUARD_REFUSED"
    GRANT_REFUSED = "GRANT_REFUSED"
    KEY_WITHHELD = "KEY_WITHHELD"
    OPERATOR_FENCE = "OPERATOR_FENCE"
    RETRIES_EXHAUSTED = "RETRIES_EXHAUSTED"
    DEPENDENCY_FAILED = "DEPENDENCY_FAILED"
    TASKS_FAILED = "TASKS_FAILED"
    DATA_MISSING = "DATA_MISSING"
    IMAGE_UNAVAILABLE = "IMAGE_UNAVAILABLE"


class Code(IntEnum):
    """Canonical RPC status codes that a refusal can carry, numbered as gRPC does."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True, order=True)
class Denial:
    """One reason against something. `subject` is a site, a tenant or a field; it may be empty.

    `rule` is the id of the rule that says so, where one does: `sovctl policy show` has its text
    and where it comes from.
    """

    reason: Reason
    detail: str
    subject: str = ""
    rule: str = ""


class Refused(Exception):
    """A request that cannot be granted: the only exception that crosses layers.

    `denials` lists everything that stands against it, most important first; for bad input each
    denial's `subject` is the field's path.
    """

    def __init__(
        self,
        code: Code,
        reason: Reason,
        message: str,
        denials: tuple[Denial, ...] = (),
        *,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.denials = denials
        self.retry_after_ms = retry_after_ms


def invalid(*faults: Denial) -> Refused:
    """Bad input: every fault found, each naming its field."""
    message = "; ".join(f"{f.subject}: {f.detail}" if f.subject else f.detail for f in faults)
    return Refused(Code.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT, message, faults)


def not_found(what: str, name: str) -> Refused:
    """Absent, or not the caller's to know of: the two are never told apart."""
    return Refused(Code.NOT_FOUND, Reason.NOT_FOUND, f"{what} {name!r} not found")
