"""What a residency certificate says: where a job was, under which facts and which policy, and
whether that is what was asked for.

`stays.py` cuts and judges where the work was; the verdict is over all intervals:

IN_BOUNDS       every one was where, and under whose law, the work asks
OUT_OF_BOUNDS   one was not: it says which, and what stood against it
INDETERMINATE   of one it is not known what was known of the site then
NOT_PLACED      it was nowhere: refused, or over before it had a place
PER_TASK        it is an array, and each of its tasks has a certificate
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from scheduler.core import custody, residency
from scheduler.core.data_told import Data, data_told
from scheduler.core.egress import Control, overall
from scheduler.core.node_history import EVIDENCE_MAX, Histories, NodeThen, evidence, spells_of
from scheduler.core.stays import Bounds, FactsThen, Interval, PolicyThen
from scheduler.model.agreements import Agreement
from scheduler.model.ids import NodeId, SiteId
from scheduler.model.operator_access import OperatorUse
from scheduler.model.reasons import Denial
from scheduler.model.residency import (
    Assurance,
    Fact,
    FactKey,
    NodeFactKey,
    Requirement,
)
from scheduler.model.rules import FactRule
from scheduler.model.tenancy import Share

DENIALS_MAX = 100
"""Reasons that one interval, or a refusal, lists; how many there were is said as well."""
USES_MAX = 1_000
"""Uses of operators' access that one certificate lists; how many there were is said as well."""
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
    "Access by a site's staff outside the control plane is not recorded.",
)
NOT_MEASURED = "Where the hardware is was not measured all the time, of every node."
MEASURED = (
    "Location is that of a holder of each node's location key: where a copy of the key was, it "
    "would have been measured instead of the node."
)
NOT_ATTESTED = "Nothing attests the hardware, or the software that ran, on every node."
ATTESTED = "GPUs were attested by a verifier that each node ran: it is the node's own word."


@dataclass(frozen=True, slots=True)
class Account:
    """All that a certificate is made of, besides its place in the tenant's sequence."""

    job: str
    tenant: str
    outcome: str
    reason: str | None
    spec_digest: str
    bundle_digest: str
    image: str
    """That it ran in, or was to: by digest; empty: none."""
    submitted_at_ms: int
    issued_at_ms: int
    requirement: Requirement
    policy: PolicyThen
    intervals: tuple[Interval, ...]
    facts: Mapping[SiteId, Sequence[FactsThen]]
    data: Data = field(default_factory=Data)
    nodes: Histories = field(default_factory=dict[NodeId, tuple[NodeThen, ...]])
    """What was known of the nodes where it was."""
    agreements: tuple[Agreement, ...] = ()
    """Those that admitted it somewhere, as they were then."""
    shares: tuple[Share, ...] = ()
    """What its project was given by others, as of the end."""
    denials: tuple[Denial, ...] = ()
    """Why it was refused."""
    operator_uses: tuple[OperatorUse, ...] = ()
    """Each time that an operator touched it, until now."""
    array: str | None = None
    task: int | None = None
    tasks: int = 0
    customer_keys: bool = False  # What it ran had to be opened with its tenant's.


def verdict(account: Account) -> Bounds:
    """The worst of all intervals."""
    if account.tasks:
        return Bounds.PER_TASK
    if len(account.intervals) == 1:
        return account.intervals[0].bounds
    held = {interval.bounds for interval in account.intervals}
    for worst in (Bounds.OUT_OF_BOUNDS, Bounds.INDETERMINATE, Bounds.IN_BOUNDS):
        if worst in held:
            return worst
    return Bounds.NOT_PLACED


def predicate(of: Account, tenant_seq: int, prev: str) -> dict[str, object]:
    """The predicate of the in-toto statement, as plain values."""
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
        "intervals": [interval_told(interval) for interval in of.intervals],
        "data": data_told(of.data),
        "sinks": _sinks(of),
        "operator_access": [_use(use) for use in of.operator_uses[:USES_MAX]],
        "operator_access_total": len(of.operator_uses),
        "keys": custody.told(of.customer_keys, (i.stay for i in of.intervals)),
        **_of_nodes(of),
    }
    if of.agreements:
        told["agreements"] = [_agreement(agreement) for agreement in of.agreements]
    if of.shares:
        told["joint"] = [_share(share) for share in of.shares]
    if of.tasks:
        told["tasks"] = of.tasks
    if of.array is not None:
        told["array"] = of.array
        told["task"] = of.task
    return told


def _limits(account: Account) -> Iterator[str]:
    """What this certificate does not prove, whatever was known of its nodes."""
    yield from LIMITS
    way_out = EGRESS_LIMITS.get(overall(account.data.egress.attempts))
    if way_out is not None:
        yield way_out


def interval_told(interval: Interval) -> dict[str, object]:
    """A time at a site as plain values."""
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
    if stay.agreement:
        told["agreement"] = stay.agreement
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


def _of_nodes(account: Account) -> dict[str, object]:
    """What was known of the nodes, whether all were attested, and what all of it does not prove."""
    stays = [(i.stay.nodes, i.from_ms, i.to_ms) for i in account.intervals]
    spells = spells_of(stays, account.nodes)
    located = _all_through(account, spells, NodeFactKey.LOCATION, "PROVED_IN")
    attested = _all_through(account, spells, NodeFactKey.ATTESTATION, "PASSED")
    return {
        "node_evidence": [evidence(spell) for spell in spells[:EVIDENCE_MAX]],
        "node_evidence_total": len(spells),
        "location": "MEASURED" if located else "NOT_MEASURED",
        "attestation": "ATTESTED" if attested else "NONE",
        "limits": [
            *_limits(account),
            MEASURED if located else NOT_MEASURED,
            ATTESTED if attested else NOT_ATTESTED,
        ],
    }


def _all_through(
    account: Account, spells: Sequence[NodeThen], key: NodeFactKey, value: str
) -> bool:
    """Whether this was known of every node at every moment that work was there."""
    if not account.intervals:
        return False
    of_key: dict[NodeId, list[NodeThen]] = {}
    for spell in spells:
        if spell.fact.key is key:
            of_key.setdefault(spell.node, []).append(spell)
    return all(
        _covers(of_key.get(node, []), value, interval.from_ms, interval.to_ms)
        for interval in account.intervals
        for node in interval.stay.nodes
    )


def _covers(spells: Sequence[NodeThen], value: str, from_ms: int, to_ms: int) -> bool:
    """Whether one spell says `value` from `from_ms` until `to_ms` without having lapsed."""
    return any(
        spell.fact.values[:1] == (value,)
        and spell.since_ms <= from_ms
        and (spell.fact.expires_at_ms is None or to_ms <= spell.fact.expires_at_ms)
        and not any(from_ms < later.since_ms < to_ms for later in spells)
        for spell in spells
    )


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
        "node_facts": [_quality(rule) for rule in requirement.node_facts],
        "facts": [_quality(rule) for rule in requirement.facts],
    }
    if requirement.data_sites is not None:
        told["data_sites"] = list(requirement.data_sites)
    return told


def _quality(rule: FactRule) -> dict[str, object]:
    return {
        "fact": rule.fact,
        "min_assurance": Assurance(rule.min_assurance).name,
        "max_age_ms": rule.max_age_ms,
    }


def _agreement(agreement: Agreement) -> dict[str, object]:
    """What somebody who has the signed document needs to know it by."""
    return {
        "name": agreement.name,
        "instrument": agreement.instrument.value,
        "document": f"sha256:{agreement.digest}",
        "parties": [[each.party, each.country, each.key_id] for each in agreement.signatories],
        "valid_from_ms": agreement.valid_from_ms,
        "valid_until_ms": agreement.valid_until_ms,
    }


def _share(share: Share) -> dict[str, object]:
    return {
        "of": share.of,
        "agreement": share.agreement,
        "gpu_class": share.gpu_class,
        "guarantee_milli": share.guarantee_milli,
        "limit_milli": share.limit_milli,
        "since_ms": share.since_ms,
    }


def _use(use: OperatorUse) -> dict[str, object]:
    return {
        "at_ms": use.at_ms,
        "grant": use.grant,
        "action": use.action,
        "reason": use.reason,
        "break_glass": use.break_glass,
        "country": use.country,
        "clearance": use.clearance,
    }


def _denial(denial: Denial) -> dict[str, object]:
    return {
        "reason": denial.reason.value,
        "detail": denial.detail,
        "subject": denial.subject,
        "rule": denial.rule,
    }
