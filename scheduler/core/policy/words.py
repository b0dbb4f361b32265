"""Conditions as sentences, for people: pages of a policy, and what a denial says was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from scheduler.model.residency import Assurance, Party, Tier
from scheduler.model.rules import Condition, NamedSet, Op

_DAY_MS = 24 * 3600 * 1000
_SETS = {
    NamedSet.WORK: "the jurisdictions of the work",
    NamedSet.ALLOWED: "the jurisdictions that the policy or an agreement allows",
    NamedSet.HOME: "the work's own jurisdictions as the policy allows them",
    NamedSet.TOLERATED: "the countries whose compulsion the work tolerates",
    NamedSet.MARKINGS: "the markings of the work",
}


def listed(values: Iterable[str]) -> str:
    """Values with commas, or "none"."""
    return ", ".join(values) or "none"


def percent(milli_percent: int) -> str:
    """A share in percent, exactly."""
    whole, thousandths = divmod(milli_percent, 1000)
    return f"{whole}.{thousandths:03}".rstrip("0").rstrip(".") + " %"


def stake(party: Party) -> str:
    """What somebody holds."""
    return ("at most " if party.at_most else "") + percent(party.stake_milli_percent)


def age(ms: int) -> str:
    """A span of time, in days where it is whole days."""
    return f"{ms // _DAY_MS} days" if ms % _DAY_MS == 0 else f"{ms} ms"


def tier(number: int) -> str:
    """A tier's name."""
    return Tier(number).name if number in tuple(Tier) else str(number)


def condition(it: Condition) -> str:
    """`it` in words."""
    return _SAID[it.op](it, listed((*it.values, *(_SETS[name] for name in it.sets))))


_SAID: dict[Op, Callable[[Condition, str], str]] = {
    Op.ALL: lambda it, among: " and ".join(_inner(part) for part in it.parts) or "always",
    Op.ANY: lambda it, among: " or ".join(_inner(part) for part in it.parts) or "never",
    Op.TIER_AT_LEAST: lambda it, among: f"the work is {tier(it.number)} or above",
    Op.TIER_AT_MOST: lambda it, among: f"the work is {tier(it.number)} or below",
    Op.MARKED: lambda it, among: f"the work is marked {among if it.values else 'at all'}",
    Op.OF_KIND: lambda it, among: f"the work touches data of kind {among if it.values else 'any'}",
    Op.EACH_IN: lambda it, among: f"{it.fact} is in {among}",
    Op.COVERS: lambda it, among: f"{it.fact} includes {among}",
    Op.ACCREDITED: lambda it, among: (
        f"the site is accredited for {tier(it.number) if it.number else 'the tier of the work'}"
    ),
    Op.PARENTS_IN: lambda it, among: (
        f"every parent with more than {percent(it.number)} is under the law of {among}"
    ),
    Op.KNOWN: lambda it, among: _known(it),
    Op.AGREED: lambda it, among: (
        f"an agreement in force{f' ({among})' if it.values else ''} opens the country to the work"
    ),
}


def _inner(part: Condition) -> str:
    words = condition(part)
    return f"({words})" if part.op in (Op.ALL, Op.ANY) and len(part.parts) > 1 else words


def _known(it: Condition) -> str:
    words: list[str] = []
    if it.number:
        words.append(f"{Assurance(it.number).name} or better")
    if it.age_ms is not None:
        words.append(f"at most {age(it.age_ms)} old")
    return f"{it.fact} is {' and '.join(words) or 'known'}"
