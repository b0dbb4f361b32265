"""Whether a fact may be relied on: stated once, with a value, unexpired, fresh, and sure enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scheduler.model.fleet import Site
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import Assurance, Fact, FactKey


@dataclass(frozen=True, slots=True)
class Need:
    """How well one fact must be known."""

    key: FactKey
    least: int
    """The least assurance."""
    max_age_ms: int | None
    may_be_empty: bool


def sound(stated: Mapping[FactKey, Fact], needs: Iterable[Need], now_ms: int) -> bool:
    """Whether every one of `needs` is met; `stated` has each fact that is stated exactly once."""
    for need in needs:
        fact = stated.get(need.key)
        if fact is None or fact.assurance < need.least:
            return False
        expires_ms, max_age_ms = fact.expires_at_ms, need.max_age_ms
        if expires_ms is not None and now_ms >= expires_ms:
            return False
        if max_age_ms is not None and now_ms - fact.observed_at_ms > max_age_ms:
            return False
        if not need.may_be_empty and not any(fact.values):
            return False
    return True


def fact_faults(need: Need, site: Site, now_ms: int) -> tuple[Fact | None, list[Denial]]:
    """The fact when it may be relied on, and otherwise all that is wrong with it."""
    key = need.key
    stated = [fact for fact in site.facts if fact.key is key]
    if len(stated) != 1:
        found = "it is not stated" if not stated else f"it is stated {len(stated)} times"
        return None, [Denial(Reason.FACT_MISSING, f"{key} is needed: {found}", site.id)]
    fact = stated[0]
    denials: list[Denial] = []
    if not need.may_be_empty and not any(fact.values):
        denials.append(Denial(Reason.FACT_MISSING, f"{key} is needed: it has no value", site.id))
    if fact.expires_at_ms is not None and now_ms >= fact.expires_at_ms:
        overdue_ms = now_ms - fact.expires_at_ms
        denials.append(Denial(Reason.FACT_EXPIRED, f"{key} expired {overdue_ms} ms ago", site.id))
    age_ms = now_ms - fact.observed_at_ms
    if need.max_age_ms is not None and age_ms > need.max_age_ms:
        detail = f"{key} was observed {age_ms} ms ago, allowed {need.max_age_ms} ms"
        denials.append(Denial(Reason.FACT_TOO_OLD, detail, site.id))
    if fact.assurance < need.least:
        detail = f"{key} is {fact.assurance.name}, needed {Assurance(need.least).name}"
        denials.append(Denial(Reason.FACT_TOO_WEAK, detail, site.id))
    return (None if denials else fact), denials
