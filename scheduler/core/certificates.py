"""What a residency certificate says: where a job was, under which facts and which policy, and
whether that is what was asked for.

A stay at a site is cut wherever the site's facts or the policy changed while it lasted, or time
alone changed what a fact is worth; each piece is judged again by `residency.permits`, and pieces
that come out alike are one interval. The verdict is over all intervals:

IN_BOUNDS       every one was where, and under whose law, the work asks
OUT_OF_BOUNDS   one was not: it says which, and what stood against it
INDETERMINATE   of one it is not known what was known of the site then
NOT_PLACED      it was nowhere: refused, or over before it had a place
PER_TASK        it is an array, and each of its tasks has a certificate
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from scheduler.core import residency
from scheduler.core.egress import AttemptEgress, Control, overall
from scheduler.model.fleet import Site
from scheduler.model.ids import NodeId, SiteId
from scheduler.model.reasons import Denial
from scheduler.model.residency import Deny, Fact, FactKey, Policy, Requirement

PIECES_MAX = 1_000
"""Pieces of one stay; beyond it the rest of the stay counts as not known."""
DENIALS_MAX = 100
"""Reasons that one interval, or a refusal, lists; how many there were is said as well."""
EGRESS_LIMITS = {
    Control.CONTROLLED: "What left the job by its nodes' network was held to a list and counted by "
    "its nodes; devices that pass by the network of the kernel (InfiniBand, RoCE) are not seen.",
    Control.NOT_CONTROLLED: "Network egress of the job was not controlled: copies that it sent "
    "itself are not seen.",
    Control.NOT_KNOWN: "What left the job while it ran is not known of every process: how some "
    "ended was lost.",
}
LIMITS = (
    "The log proves what was recorded, when and unaltered; it does not prove that it was true.",
    "What is known of a site is as good as the assurance of each fact says.",
    "Where the hardware is was not measured, and nothing attests it or the software that ran.",
    "Access by a site's staff outside the control plane is not recorded.",
)


_Then = TypeVar("_Then", "FactsThen", "PolicyThen")


class Bounds(StrEnum):
    """Whether work was where it asked to be."""

    IN_BOUNDS = "IN_BOUNDS"
    OUT_OF_BOUNDS = "OUT_OF_BOUNDS"
    INDETERMINATE = "INDETERMINATE"
    NOT_PLACED = "NOT_PLACED"
    PER_TASK = "PER_TASK"


@dataclass(frozen=True, slots=True)
class Stay:
    """An attempt at its site, from its placement until nothing of it was there any more."""

    attempt: int
    site: SiteId
    nodes: tuple[NodeId, ...]
    placed_at_ms: int
    started_at_ms: int
    ended_at_ms: int


@dataclass(frozen=True, slots=True)
class FactsThen:
    """What was known of a site from `at_ms` on."""

    at_ms: int
    digest: str
    site: Site


@dataclass(frozen=True, slots=True)
class PolicyThen:
    """The policy in force from `at_ms` on; `digest` is of the whole policy as it is stored."""

    at_ms: int
    digest: str
    policy: Policy


@dataclass(frozen=True, slots=True)
class Interval:
    """A time at a site during which one verdict held. Times are UTC milliseconds."""

    stay: Stay
    from_ms: int
    to_ms: int
    bounds: Bounds
    country: str
    facts_digests: tuple[str, ...]
    policy_revision: int
    denials: tuple[Denial, ...]


@dataclass(frozen=True, slots=True)
class Egress:
    """What a job was allowed to reach, and what each attempt did."""

    allowed: tuple[str, ...] = ()
    attempts: tuple[AttemptEgress, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """All that a certificate is made of, besides its place in the tenant's sequence."""

    job: str
    tenant: str
    outcome: str
    reason: str | None
    spec_digest: str
    bundle_digest: str
    submitted_at_ms: int
    issued_at_ms: int
    requirement: Requirement
    policy: PolicyThen
    intervals: tuple[Interval, ...]
    facts: Mapping[SiteId, Sequence[FactsThen]]
    egress: Egress = Egress()
    denials: tuple[Denial, ...] = ()
    """Why it was refused."""
    array: str | None = None
    task: int | None = None
    tasks: int = 0


def intervals(
    requirement: Requirement,
    stays: Sequence[Stay],
    facts: Mapping[SiteId, Sequence[FactsThen]],
    policies: Sequence[PolicyThen],
) -> tuple[Interval, ...]:
    """Where work with `requirement` was, piece by piece, judged; histories are oldest first."""
    found: list[Interval] = []
    for stay in stays:
        before: Interval | None = None
        for piece in _pieces(requirement, stay, facts.get(stay.site, ()), policies):
            joined = None if before is None else _joined(before, piece)
            if joined is None:
                found.append(piece)
            else:
                found[-1] = joined
            before = found[-1]
    return tuple(found)


def verdict(account: Account) -> Bounds:
    """The worst of all intervals."""
    if account.tasks:
        return Bounds.PER_TASK
    held = {interval.bounds for interval in account.intervals}
    for worst in (Bounds.OUT_OF_BOUNDS, Bounds.INDETERMINATE, Bounds.IN_BOUNDS):
        if worst in held:
            return worst
    return Bounds.NOT_PLACED


def predicate(account: Account, tenant_seq: int, prev: str) -> dict[str, object]:
    """The predicate of the in-toto statement, as plain values."""
    of = account
    told: dict[str, object] = {
        "job": of.job,
        "tenant": of.tenant,
        "tenant_seq": tenant_seq,
        "prev": prev,
        "issued_at_ms": of.issued_at_ms,
        "submitted_at_ms": of.submitted_at_ms,
        "outcome": of.outcome,
        "reason": of.reason,
        "verdict": verdict(of).value,
        "requirement": _requirement(of.requirement),
        "policy": {
            "revision": of.policy.policy.revision,
            "name": of.policy.policy.name,
            "digest": of.policy.digest,
        },
        "decision": {
            "rules": list(residency.rules_about(of.requirement, of.policy.policy)),
            "facts": list(_relied_on(of)),
            "denials": [_denial(denial) for denial in of.denials[:DENIALS_MAX]],
            "denials_total": len(of.denials),
        },
        "intervals": [_interval(interval) for interval in of.intervals],
        "data": {"inputs": [], "outputs": [], "egress": _egress(of.egress)},
        "sinks": _sinks(of),
        "operator_access": [],
        "attestation": "NONE",
        "limits": _limits(of),
    }
    if of.tasks:
        told["tasks"] = of.tasks
    if of.array is not None:
        told["array"] = of.array
        told["task"] = of.task
    return told


def _limits(account: Account) -> list[str]:
    """What this certificate does not prove."""
    way_out = EGRESS_LIMITS.get(overall(account.egress.attempts))
    return [*LIMITS, *([] if way_out is None else [way_out])]


def _egress(egress: Egress) -> dict[str, object]:
    return {
        "control": overall(egress.attempts).value,
        "allowed": list(egress.allowed),
        "attempts": [
            {
                "attempt": each.attempt,
                "control": each.control.value,
                "denied": each.denied,
                "destinations": [
                    {
                        "destination": destination,
                        "connections": use.connections,
                        "sent_bytes": use.sent_bytes,
                        "received_bytes": use.received_bytes,
                    }
                    for destination, use in zip(egress.allowed, each.uses, strict=True)
                ],
            }
            for each in egress.attempts
        ],
    }


def _pieces(
    requirement: Requirement,
    stay: Stay,
    facts: Sequence[FactsThen],
    policies: Sequence[PolicyThen],
) -> Iterator[Interval]:
    """A stay, cut at every moment after which it may be judged otherwise."""
    moments = {stay.placed_at_ms, *(then.at_ms for then in (*facts, *policies))}
    at_ms, end_ms = stay.placed_at_ms, max(stay.ended_at_ms, stay.placed_at_ms)
    for _ in range(PIECES_MAX):
        known, policy = _as_of(facts, at_ms), _as_of(policies, at_ms)
        changes = [moment for moment in moments if moment > at_ms]
        if known is not None and policy is not None:
            change = residency.next_change_ms(known.site, policy.policy, at_ms)
            changes += [] if change is None else [change]
        to_ms = min([*changes, end_ms])
        yield _judged(requirement, stay, (at_ms, to_ms), known, policy)
        if to_ms >= end_ms:
            return
        at_ms = to_ms
    yield _judged(requirement, stay, (at_ms, end_ms), None, None)


def _judged(
    requirement: Requirement,
    stay: Stay,
    span: tuple[int, int],
    known: FactsThen | None,
    policy: PolicyThen | None,
) -> Interval:
    piece = Interval(stay, *span, Bounds.INDETERMINATE, "", (), 0, ())
    if known is None or policy is None:
        return piece
    found = residency.permits(requirement, known.site, policy.policy, span[0])
    denied = isinstance(found, Deny)
    return replace(
        piece,
        bounds=Bounds.OUT_OF_BOUNDS if denied else Bounds.IN_BOUNDS,
        country=_country(known.site),
        facts_digests=(known.digest,),
        policy_revision=policy.policy.revision,
        denials=found.denials if denied else (),
    )


def _joined(before: Interval, after: Interval) -> Interval | None:
    """Two neighbours as one, if they say the same."""
    digests = tuple(dict.fromkeys((*before.facts_digests, *after.facts_digests)))
    grown = replace(before, to_ms=after.to_ms, facts_digests=digests)
    alike = replace(
        after, from_ms=before.from_ms, facts_digests=digests, policy_revision=grown.policy_revision
    )
    return grown if alike == grown else None


def _as_of(history: Sequence[_Then], at_ms: int) -> _Then | None:
    return next((then for then in reversed(history) if then.at_ms <= at_ms), None)


def _interval(interval: Interval) -> dict[str, object]:
    stay = interval.stay
    told: dict[str, object] = {
        "attempt": stay.attempt,
        "from": interval.from_ms,
        "to": interval.to_ms,
        "started": stay.started_at_ms or None,
        "site": stay.site,
        "country": interval.country,
        "nodes": list(stay.nodes),
        "verdict": interval.bounds.value,
        "facts": list(interval.facts_digests),
        "policy_revision": interval.policy_revision,
    }
    if interval.denials:
        told["denials"] = [_denial(denial) for denial in interval.denials[:DENIALS_MAX]]
        told["denials_total"] = len(interval.denials)
    return told


def _facts_used(account: Account) -> Iterator[FactsThen]:
    """What was known of the sites where the work was, each version once."""
    told: set[str] = set()
    for interval in account.intervals:
        for digest in interval.facts_digests:
            for then in account.facts[interval.stay.site]:
                if then.digest == digest and digest not in told:
                    told.add(digest)
                    yield then


def _relied_on(account: Account) -> Iterator[dict[str, object]]:
    """The facts that were judged, with their assurance, by the digest that intervals name."""
    needed = residency.needed_facts(account.requirement, account.policy.policy)
    for then in _facts_used(account):
        site = then.site
        by_key = {fact.key: fact for fact in site.facts}
        told: dict[str, object] = {
            "site": site.id,
            "digest": then.digest,
            "relied_on": [_fact(by_key[key]) for key in needed if key in by_key],
        }
        if FactKey.ULTIMATE_PARENTS in needed:
            told["parents"] = [
                [party.name, party.country, party.stake_milli_percent, party.at_most]
                for party in sorted(site.parents)
            ]
        yield told


def _sinks(account: Account) -> dict[str, object]:
    """Countries that logs, metrics and backups of each site flow to, by site."""
    return {
        then.site.id: sorted(value for fact in then.site.facts for value in _sink_of(fact))
        for then in _facts_used(account)
    }


def _sink_of(fact: Fact) -> tuple[str, ...]:
    return fact.values if fact.key is FactKey.SINKS else ()


def _fact(fact: Fact) -> dict[str, object]:
    return {
        "key": fact.key.value,
        "values": list(fact.values),
        "assurance": fact.assurance.name,
        "asserted_by": fact.asserted_by,
        "observed_at_ms": fact.observed_at_ms,
        "expires_at_ms": fact.expires_at_ms,
        "digest": fact.evidence_digest,
    }


def _requirement(requirement: Requirement) -> dict[str, object]:
    told: dict[str, object] = {
        "jurisdictions": list(requirement.jurisdictions),
        "tier": requirement.tier.name,
        "markings": list(requirement.markings),
        "tolerate_foreign_compulsion": list(requirement.tolerate_foreign_compulsion),
        "agreements": list(requirement.agreements),
        "node_sharing": requirement.node_sharing.name,
        "min_assurance": requirement.min_assurance.name,
        "data_kinds": list(requirement.data_kinds),
    }
    if requirement.data_sites is not None:
        told["data_sites"] = list(requirement.data_sites)
    return told


def _denial(denial: Denial) -> dict[str, object]:
    return {
        "reason": denial.reason.value,
        "detail": denial.detail,
        "subject": denial.subject,
        "rule": denial.rule,
    }


def _country(site: Site) -> str:
    countries = [fact.values for fact in site.facts if fact.key is FactKey.COUNTRY]
    return ",".join(countries[0]) if countries else ""
