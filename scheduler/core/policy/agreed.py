"""What one agreement has to do with some work: whether it is about it, in force, and opens a site.

Whatever is not said to be inside is outside.
"""

from __future__ import annotations

from collections.abc import Iterator

from scheduler.core.policy.words import listed
from scheduler.model.agreements import Agreement
from scheduler.model.fleet import Site
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import FactKey, Policy, Requirement, Tier

_SUBJECT = "residency.agreements"


def relied_on(policy: Policy, work: Requirement) -> tuple[Agreement, ...]:
    """The agreements that may open something to `work`, whatever the time, in order of names."""
    return tuple(
        each
        for each in sorted(policy.agreements, key=lambda one: one.name)
        if each.name in work.agreements and not any(_outside(each, policy, work))
    )


def in_force(agreement: Agreement, now_ms: int) -> bool:
    """Whether it is, at `now_ms`."""
    return agreement.valid_from_ms <= now_ms < agreement.valid_until_ms


def covers(agreement: Agreement, tenant: str) -> bool:
    """Whether it is about work of `tenant`."""
    paths = agreement.scope.tenants
    return not paths or any(_is_below(tenant, path) for path in paths)


def opens(agreement: Agreement, site: Site) -> bool:
    """Whether `site` is in a country, and one of the sites, that it opens."""
    countries = [fact.values for fact in site.facts if fact.key is FactKey.COUNTRY]
    return (
        len(countries) == 1
        and frozenset(agreement.jurisdictions).issuperset(countries[0])
        and (not agreement.sites or site.id in agreement.sites)
    )


def without_avail(policy: Policy, work: Requirement, now_ms: int) -> tuple[Denial, ...]:
    """Why each agreement that `work` names opens nothing to it; none for those that do."""
    known = {each.name: each for each in policy.agreements}
    found: list[Denial] = []
    for name in sorted(frozenset(work.agreements)):
        agreement = known.get(name)
        if agreement is None:
            detail = f"agreement {name!r} is not in force here"
            found.append(Denial(Reason.AGREEMENT_UNKNOWN, detail, _SUBJECT))
            continue
        for detail in _outside(agreement, policy, work):
            said = f"agreement {name!r}: {detail}"
            found.append(Denial(Reason.AGREEMENT_SCOPE, said, _SUBJECT))
        if not in_force(agreement, now_ms):
            ended = now_ms >= agreement.valid_until_ms
            when = f"ended at {agreement.valid_until_ms}"
            said = when if ended else f"begins at {agreement.valid_from_ms}"
            detail = f"agreement {name!r} {said}, it is {now_ms} (UTC milliseconds)"
            found.append(Denial(Reason.AGREEMENT_EXPIRED, detail, _SUBJECT))
    return tuple(found)


def unknown(policy: Policy, work: Requirement) -> tuple[Denial, ...]:
    """The agreements that `work` names and nobody knows here."""
    known = {each.name for each in policy.agreements}
    return tuple(
        Denial(Reason.AGREEMENT_UNKNOWN, f"agreement {name!r} is not in force here", _SUBJECT)
        for name in sorted(frozenset(work.agreements) - known)
    )


def _outside(agreement: Agreement, policy: Policy, work: Requirement) -> Iterator[str]:
    """Every respect in which `work` is not what it is about."""
    scope = agreement.scope
    if agreement.instrument not in policy.instruments:
        honoured = listed(sorted(policy.instruments))
        yield f"it is a {agreement.instrument}, policy {policy.name!r} honours: {honoured}"
    if work.tier > scope.tier_max:
        yield f"it is for work up to {Tier(scope.tier_max).name}, found {work.tier.name}"
    if work.kind not in scope.kinds:
        yield f"it is for {listed(scope.kinds)} work, found {work.kind or 'no kind'}"
    if not covers(agreement, work.tenant):
        yield "it is for other tenants"
    for what, has, may in (
        ("marking", work.markings, scope.markings),
        ("data of kind", work.data_kinds, scope.data_kinds),
    ):
        for value in sorted(frozenset(has) - frozenset(may)):
            yield f"{what} {value} is outside it, inside: {listed(may)}"


def _is_below(tenant: str, path: str) -> bool:
    return tenant == path or tenant.startswith(f"{path}/")
