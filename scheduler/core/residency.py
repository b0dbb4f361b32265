"""Whether work may be at a site: the only place where jurisdiction is interpreted.

`permits` answers with every reason against a site, never only the first. A policy is a tree of
rules (`policy/`): those of `policy/base.py`, which every policy has, and those of its pack, which
only narrow. What the former decide:

* A country is the exact ISO 3166-1 alpha-2 code. GB is the United Kingdom alone: the Crown
  dependencies (IM, JE, GG) and overseas territories have codes and law of their own, and are
  inside only where a requirement names them.
* Where work may be is what the requirement names AND the policy allows; either alone is not
  enough, and so an operator who narrows the policy narrows everything.
* A fact is usable when it is stated exactly once, is not expired, not older than the policy
  bears, and at least as assured as requirement and policy ask. Anything else denies with its own
  code. A fact with no value says nothing and counts as missing: no landlord named is not "no
  landlord". Two exceptions, because there an empty list is a statement: a site may have no parent
  (`ultimate_parents`), and may be cleared for no marking (`markings`).
* Whose law reaches the work: landlord, facility operator, service operator, every ultimate parent
  with more than the controlling stake, support desks, key custodian and the sinks of logs and
  backups must each be at home (in the countries of the line above) or in a country whose
  compulsion the work tolerates. A smaller stake is listed by the site and not judged. Where only
  an upper bound of a stake is known, the bound is judged.
* Tolerating a country's compulsion never widens where the work itself may be.
* An agreement opens countries that the policy closes, to work that names it and is inside its
  scope, while it is in force. It opens nothing that the owner does not name, and changes none of
  the other rules. A permit that needs one names it; two together open nothing that neither does.

A verdict holds until `next_change_ms`. Time only takes away, but for agreements that are yet to
begin.
"""

from __future__ import annotations

from dataclasses import replace

from scheduler.core.policy import agreed
from scheduler.core.policy.judge import Judges, max_age_ms, requirement_denials
from scheduler.core.policy.words import listed
from scheduler.model.fleet import Site
from scheduler.model.job import JobSpec
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import FactKey, Policy, Requirement, Verdict
from scheduler.model.rules import FactRule

__all__ = [
    "admission_denials",
    "asked_of",
    "country_of",
    "needed_facts",
    "next_change_ms",
    "permits",
    "requirement_denials",
    "rules_about",
    "under",
]

_JUDGES = Judges()
"""Those who judge; remembering changes how fast an answer comes, and not what it is."""
_DEFAULT = Policy()


def permits(requirement: Requirement, site: Site, policy: Policy, now_ms: int) -> Verdict:
    """Whether `site` may hold work with `requirement`: Permit, or Deny with every reason.

    Reasons come in a fixed order: the requirement itself, the facts' quality, where, under whose
    law, tier, markings, and then the rules of the policy's pack.
    """
    return _JUDGES.of(policy).case(requirement).verdict(site, now_ms)


def needed_facts(requirement: Requirement, policy: Policy = _DEFAULT) -> tuple[FactKey, ...]:
    """The facts that a verdict on `requirement` relies on, in the order they are judged."""
    return _JUDGES.of(policy).case(requirement).needed


def rules_about(requirement: Requirement, policy: Policy) -> tuple[str, ...]:
    """Ids of the rules of `policy` that are about work with `requirement`, in their order."""
    return _JUDGES.of(policy).case(requirement).rule_ids


def next_change_ms(
    site: Site, policy: Policy, now_ms: int, asked: tuple[FactRule, ...] = ()
) -> int | None:
    """The first moment after `now_ms` at which time alone changes what a fact is worth, or whether
    an agreement is in force. `asked` is what the work itself asks of facts (`Requirement.facts`).

    A verdict reached at `now_ms` holds before that moment, and for good when there is none.
    """
    moments: list[int] = []
    for fact in site.facts:
        if fact.expires_at_ms is not None:
            moments.append(fact.expires_at_ms)
        moments += [
            fact.observed_at_ms + age_ms + 1 for age_ms in max_age_ms(policy, fact.key, asked)
        ]
    for agreement in policy.agreements:
        moments += [agreement.valid_from_ms, agreement.valid_until_ms]
    return min((moment for moment in moments if moment > now_ms), default=None)


def asked_of(spec: JobSpec) -> Requirement:
    """What `spec` asks of a place, with what agreements must know of the work if it names any."""
    asked = spec.residency
    if not asked.agreements:
        return asked
    return replace(asked, tenant=spec.project, kind=spec.kind.name.lower())


def under(requirement: Requirement, agreement: str) -> Requirement:
    """What is asked of a place by work that was admitted there under `agreement`, or, if that is
    empty, under none: no other agreement speaks for it while it is there."""
    relied_on = (agreement,) if agreement else ()
    if requirement.agreements == relied_on:
        return requirement
    return replace(requirement, agreements=relied_on)


def admission_denials(requirement: Requirement, policy: Policy, now_ms: int) -> tuple[Denial, ...]:
    """What stands against `requirement` wherever it would run: refuse it at the door."""
    denials = [*requirement_denials(requirement), *agreed.unknown(policy, requirement)]
    allowed = frozenset(policy.allowed_jurisdictions).union(
        *(
            agreement.jurisdictions
            for agreement in agreed.relied_on(policy, requirement)
            if agreed.in_force(agreement, now_ms)
        )
    )
    outside = sorted(frozenset(requirement.jurisdictions) - allowed)
    if outside:
        told = agreed.without_avail(policy, requirement, now_ms)
        denials += [denial for denial in told if denial not in denials]
    for country in outside:
        denials.append(
            Denial(
                Reason.JURISDICTION_NOT_ALLOWED,
                f"{country} is not allowed by policy {policy.name!r}"
                f" (allowed: {listed(policy.allowed_jurisdictions)})",
                "residency.jurisdictions",
            )
        )
    if requirement.tier > policy.control_plane_tier:
        denials.append(
            Denial(
                Reason.TIER_ABOVE_CONTROL_PLANE,
                f"{requirement.tier.name} is above the control plane's own tier,"
                f" {policy.control_plane_tier.name}",
                "residency.tier",
            )
        )
    return tuple(denials)


def country_of(site: Site) -> str:
    """Where a site says it is; empty when it does not."""
    values = [fact.values for fact in site.facts if fact.key is FactKey.COUNTRY]
    return ",".join(values[0]) if values else ""
