"""Whether work may be at a site: the only place where jurisdiction is interpreted.

`permits` answers with every reason against a site, never only the first. What it decides:

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
* Agreements are named by work that relies on them. None is known yet, so any name denies.

Time only takes away: with facts and policy unchanged, a site once denied stays denied. That is
what lets a verdict be kept until `next_change_ms`.
"""

from __future__ import annotations

from scheduler.model.fleet import Site
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import (
    Assurance,
    Deny,
    Fact,
    FactKey,
    Party,
    Permit,
    Policy,
    Requirement,
    Tier,
    Verdict,
)

_REACHES_THE_WORK: tuple[tuple[FactKey, str], ...] = (
    (FactKey.LANDLORD, "the landlord"),
    (FactKey.FACILITY_OPERATOR, "the facility's operator"),
    (FactKey.SERVICE_OPERATOR, "the service's operator"),
    (FactKey.SUPPORT_DESK, "a support desk"),
    (FactKey.KEY_CUSTODIAN, "the key custodian"),
    (FactKey.SINKS, "a sink of logs, metrics or backups"),
)
_MAY_BE_EMPTY = frozenset({FactKey.ULTIMATE_PARENTS, FactKey.MARKINGS})


def permits(requirement: Requirement, site: Site, policy: Policy, now_ms: int) -> Verdict:
    """Whether `site` may hold work with `requirement`: Permit, or Deny with every reason.

    Reasons come in a fixed order: the requirement itself, the facts' quality, where, under whose
    law, tier, markings.
    """
    needed = needed_facts(requirement)
    usable: dict[FactKey, Fact] = {}
    denials = [*requirement_denials(requirement)]
    for key in needed:
        fact, faults = _usable_fact(key, requirement, site, policy, now_ms)
        denials += faults
        if fact is not None:
            usable[key] = fact
    home = frozenset(requirement.jurisdictions) & frozenset(policy.allowed_jurisdictions)
    denials += _country_denials(requirement, site, policy, usable)
    denials += _compulsion_denials(requirement, site, policy, usable, home)
    denials += _tier_denials(requirement, site, policy, usable)
    denials += _marking_denials(requirement, site, usable)
    return Deny(tuple(denials)) if denials else Permit(needed)


def needed_facts(requirement: Requirement) -> tuple[FactKey, ...]:
    """The facts that a verdict on `requirement` relies on, in the order they are judged."""
    needed = [
        FactKey.COUNTRY,
        *(key for key, _ in _REACHES_THE_WORK),
        FactKey.ULTIMATE_PARENTS,
        FactKey.ACCREDITATION,
    ]
    if requirement.markings:
        needed.append(FactKey.MARKINGS)
    return tuple(needed)


def next_change_ms(site: Site, policy: Policy, now_ms: int) -> int | None:
    """The first moment after `now_ms` at which time alone changes what a fact is worth.

    A verdict reached at `now_ms` holds before that moment, and for good when there is none.
    """
    moments: list[int] = []
    for fact in site.facts:
        if fact.expires_at_ms is not None:
            moments.append(fact.expires_at_ms)
        if policy.fact_max_age_ms is not None:
            moments.append(fact.observed_at_ms + policy.fact_max_age_ms + 1)
    return min((moment for moment in moments if moment > now_ms), default=None)


def admission_denials(requirement: Requirement, policy: Policy) -> tuple[Denial, ...]:
    """What stands against `requirement` wherever it would run: refuse it at the door."""
    denials = [*requirement_denials(requirement)]
    allowed = frozenset(policy.allowed_jurisdictions)
    for country in sorted(frozenset(requirement.jurisdictions) - allowed):
        denials.append(
            Denial(
                Reason.JURISDICTION_NOT_ALLOWED,
                f"{country} is not allowed by policy {policy.name!r}"
                f" (allowed: {_listed(policy.allowed_jurisdictions)})",
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


def requirement_denials(requirement: Requirement) -> tuple[Denial, ...]:
    """What makes `requirement` one that no site can meet. An empty one permits nothing."""
    denials: list[Denial] = []
    if not requirement.jurisdictions:
        denials.append(
            Denial(
                Reason.REQUIREMENT_EMPTY,
                "no jurisdiction is named, and none is not all: name at least one",
                "residency.jurisdictions",
            )
        )
    if requirement.tier is Tier.UNSPECIFIED:
        denials.append(
            Denial(Reason.REQUIREMENT_EMPTY, "no tier is named", "residency.tier"),
        )
    for name in sorted(frozenset(requirement.agreements)):
        denials.append(
            Denial(
                Reason.AGREEMENT_UNKNOWN,
                f"agreement {name!r} is not in force here",
                "residency.agreements",
            )
        )
    return tuple(denials)


def _usable_fact(
    key: FactKey, requirement: Requirement, site: Site, policy: Policy, now_ms: int
) -> tuple[Fact | None, list[Denial]]:
    """The fact `key` of `site` when it may be relied on, and otherwise all that is wrong."""
    stated = [fact for fact in site.facts if fact.key is key]
    if len(stated) != 1:
        found = "it is not stated" if not stated else f"it is stated {len(stated)} times"
        return None, [_deny(Reason.FACT_MISSING, site, f"{key} is needed: {found}")]
    fact = stated[0]
    denials: list[Denial] = []
    if key not in _MAY_BE_EMPTY and not [value for value in fact.values if value]:
        denials.append(_deny(Reason.FACT_MISSING, site, f"{key} is needed: it has no value"))
    if fact.expires_at_ms is not None and now_ms >= fact.expires_at_ms:
        overdue_ms = now_ms - fact.expires_at_ms
        denials.append(_deny(Reason.FACT_EXPIRED, site, f"{key} expired {overdue_ms} ms ago"))
    age_ms = now_ms - fact.observed_at_ms
    if policy.fact_max_age_ms is not None and age_ms > policy.fact_max_age_ms:
        detail = f"{key} was observed {age_ms} ms ago, allowed {policy.fact_max_age_ms} ms"
        denials.append(_deny(Reason.FACT_TOO_OLD, site, detail))
    least = max(requirement.min_assurance, policy.min_assurance, Assurance.DECLARED)
    if fact.assurance < least:
        detail = f"{key} is {fact.assurance.name}, needed {Assurance(least).name}"
        denials.append(_deny(Reason.FACT_TOO_WEAK, site, detail))
    return (None if denials else fact), denials


def _country_denials(
    requirement: Requirement, site: Site, policy: Policy, usable: dict[FactKey, Fact]
) -> list[Denial]:
    fact = usable.get(FactKey.COUNTRY)
    denials: list[Denial] = []
    for country in fact.values if fact else ():
        if country not in requirement.jurisdictions:
            detail = f"the site is in {country}, needed {_listed(requirement.jurisdictions)}"
            denials.append(_deny(Reason.JURISDICTION, site, detail))
        if country not in policy.allowed_jurisdictions:
            detail = (
                f"the site is in {country}, policy {policy.name!r} allows"
                f" {_listed(policy.allowed_jurisdictions)}"
            )
            denials.append(_deny(Reason.JURISDICTION_NOT_ALLOWED, site, detail))
    return denials


def _compulsion_denials(
    requirement: Requirement,
    site: Site,
    policy: Policy,
    usable: dict[FactKey, Fact],
    home: frozenset[str],
) -> list[Denial]:
    """Everybody above or beside the work whose country's law is neither home nor tolerated."""
    bearable = home | frozenset(requirement.tolerate_foreign_compulsion)
    found: list[tuple[str, str]] = []
    for key, who in _REACHES_THE_WORK:
        if fact := usable.get(key):
            found += [(who, country) for country in fact.values]
    if FactKey.ULTIMATE_PARENTS in usable:
        found += [
            (f"ultimate parent {party.name!r} ({_stake(party)})",
             party.country)
            for party in sorted(site.parents)
            if party.stake_milli_percent > policy.controlling_stake_milli_percent
        ]  # fmt: skip
    return [
        _deny(
            Reason.FOREIGN_COMPULSION,
            site,
            f"{who} is under the law of {country or 'a country that is not stated'},"
            f" needed {_listed(sorted(bearable))}",
        )
        for who, country in found
        if not country or country not in bearable
    ]


def _tier_denials(
    requirement: Requirement, site: Site, policy: Policy, usable: dict[FactKey, Fact]
) -> list[Denial]:
    denials: list[Denial] = []
    if requirement.tier > policy.control_plane_tier:
        detail = f"{requirement.tier.name}, control plane {policy.control_plane_tier.name}"
        denials.append(_deny(Reason.TIER_ABOVE_CONTROL_PLANE, site, detail))
    if fact := usable.get(FactKey.ACCREDITATION):
        # A site with several accreditations counts by the least of them.
        tiers = [Tier.__members__.get(value, Tier.UNSPECIFIED) for value in fact.values]
        if min(tiers) < requirement.tier or min(tiers) is Tier.UNSPECIFIED:
            detail = f"accredited for {_listed(fact.values)}, needed {requirement.tier.name}"
            denials.append(_deny(Reason.TIER_ABOVE_SITE, site, detail))
    return denials


def _marking_denials(
    requirement: Requirement, site: Site, usable: dict[FactKey, Fact]
) -> list[Denial]:
    fact = usable.get(FactKey.MARKINGS)
    if fact is None:
        return []
    return [
        _deny(Reason.MARKING, site, f"may not handle {marking}, may: {_listed(fact.values)}")
        for marking in sorted(frozenset(requirement.markings) - frozenset(fact.values))
    ]


def _deny(reason: Reason, site: Site, detail: str) -> Denial:
    return Denial(reason, detail, site.id)


def _listed(values: tuple[str, ...] | list[str]) -> str:
    return ", ".join(values) or "none"


def _stake(party: Party) -> str:
    return ("at most " if party.at_most else "") + _percent(party.stake_milli_percent)


def _percent(milli_percent: int) -> str:
    whole, thousandths = divmod(milli_percent, 1000)
    return f"{whole}.{thousandths:03}".rstrip("0").rstrip(".") + " %"
