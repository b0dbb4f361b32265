"""The policy in force, and how another one takes its place: proved, or by an explicit override.

The proof itself is made by a process of its own before the transaction; here it is held against the
policy that is in force at that moment, and what stands against the change is told whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scheduler.control import declaration_rules as rules
from scheduler.control import evidence
from scheduler.control.declare import difference
from scheduler.model.identity import Principal
from scheduler.model.proofs import NO_LOOSER, Finding, Proof, Standing
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid
from scheduler.model.residency import Policy
from scheduler.store.store import Txn

OVERRIDE_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True)
class Proved:
    """What was proved of a change from `against`."""

    against: Policy
    proof: Proof


@dataclass(frozen=True, slots=True)
class Change:
    """A policy that shall come into force, and what speaks for it."""

    policy: Policy
    reason: str
    proved: Proved | None = None
    """None: nothing was proved."""
    override: str = ""
    """Why it shall come into force although it is looser than the one before, or not proved."""


def apply_policy(
    txn: Txn, principal: Principal, change: Change, *, dry_run: bool, now_ms: int
) -> tuple[tuple[str, ...], int]:
    """Puts a policy in force as the next revision; the difference, and the revision in force.

    What is not proved of the change stands against it, unless `override` says why it shall come
    into force all the same; that goes into the audit log with what was found. A proof counts for
    the policy alone that it was made against.
    """
    check(change.policy)
    before = txn.tenancy.policy()
    proposed = replace(change.policy, agreements=before.agreements)
    changes = differences(before, proposed)
    if not changes or dry_run:
        return changes, before.revision
    findings = _findings(before, change.proved)
    override = change.override.strip()
    if len(override) > OVERRIDE_CHARACTERS_MAX:
        found = f"found {len(override)} characters, allowed {OVERRIDE_CHARACTERS_MAX}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "override"))
    if not override:
        _refuse_unproved(findings)
    after = replace(proposed, revision=before.revision + 1)
    txn.tenancy.add_policy(after, now_ms)
    evidence.applied(txn.audit, "policy", principal, change.reason, changes, now_ms)
    evidence.policy_in_force(txn.audit, after, findings, override, now_ms)
    return changes, after.revision


def check(policy: Policy) -> None:
    """Refuses a policy that makes no sense, whole, with every fault."""
    if faults := rules.policy_faults(policy):
        raise invalid(*faults)


def differences(before: Policy, after: Policy) -> tuple[str, ...]:
    """What differs between two policies, their revisions aside."""
    return difference({"policy": before}, {"policy": replace(after, revision=before.revision)})


def _findings(before: Policy, proved: Proved | None) -> tuple[Finding, ...]:
    if proved is None or not proved.proof.findings:
        return (Finding(NO_LOOSER, "nothing was proved of it", Standing.UNKNOWN),)
    if proved.against != before:
        detail = f"revision {before.revision} came into force while this was proved: try again"
        raise Refused(Code.ABORTED, Reason.UNAVAILABLE, detail)
    return proved.proof.findings


def _refuse_unproved(findings: Sequence[Finding]) -> None:
    against = [finding for finding in findings if finding.standing is not Standing.PROVED]
    if not against:
        return
    denials = tuple(denial for finding in against for denial in _told(finding))
    first = against[0]
    message = (
        f"{_what(first)}: {first.text}; what would be permitted is shown below"
        if first.counterexample
        else f"{_what(first)}: {first.text}"
    )
    raise Refused(
        Code.FAILED_PRECONDITION,
        _reason(first),
        f"{message}. Keep what was dropped, or override with a reason",
        denials,
    )


def _told(finding: Finding) -> tuple[Denial, ...]:
    """A line for each part of the counterexample, so that it can be read."""
    reason = _reason(finding)
    lines = finding.counterexample or (finding.text,)
    return tuple(Denial(reason, line, finding.claim) for line in lines)


def _reason(finding: Finding) -> Reason:
    if finding.standing is Standing.UNKNOWN:
        return Reason.POLICY_NOT_PROVED
    return Reason.POLICY_LOOSER if finding.claim == NO_LOOSER else Reason.POLICY_INVARIANT


def _what(finding: Finding) -> str:
    match _reason(finding):
        case Reason.POLICY_NOT_PROVED:
            return f"{finding.claim} is not proved"
        case Reason.POLICY_LOOSER:
            return "the policy is looser than the one in force"
        case _:
            return f"invariant {finding.claim} does not hold"
