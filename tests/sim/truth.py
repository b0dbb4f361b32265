"""What is true of each site at each instant, and the oracle that says what may be there.

The oracle is written from the words of `docs/residency.md` and the brief, not from the code it
checks, and shares nothing with it: plain strings and numbers, one function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tests.sim.clock import WALL_AT_START_MS

V = TypeVar("V")

ASSURANCES = ("DECLARED", "AUDITED", "ATTESTED", "MEASURED")
TIERS = ("OFFICIAL", "SECRET", "TOP_SECRET")
LAWS = (
    "landlord",
    "facility_operator",
    "service_operator",
    "support_desk",
    "key_custodian",
    "sinks",
)
ALWAYS_NEEDED = ("country", *LAWS, "ultimate_parents", "accreditation")


@dataclass(frozen=True, slots=True)
class Grade:
    """How well one fact is known. `ends_ms`: wall clock; None: it never expires."""

    assurance: str = "AUDITED"
    ends_ms: int | None = None
    stated: bool = True


@dataclass(frozen=True, slots=True)
class SiteTruth:
    """All facts about a site. Every party is named by its country."""

    site: str
    country: str
    laws: Mapping[str, str]
    parents: tuple[tuple[str, str, int], ...] = ()  # Name, country, stake in 1/1000 percent.
    accreditation: str = "OFFICIAL"
    markings: tuple[str, ...] = ()
    grades: Mapping[str, Grade] = field(default_factory=dict[str, Grade])

    def grade(self, key: str) -> Grade:
        """How well a fact is known."""
        return self.grades.get(key, Grade())


@dataclass(frozen=True, slots=True)
class Law:
    """What the operator allows at most."""

    countries: tuple[str, ...] = ("GB", "NO")
    controlling_stake: int = 25_000
    least_assurance: str = "DECLARED"


@dataclass(frozen=True, slots=True)
class Need:
    """What a job demands of a site."""

    countries: tuple[str, ...] = ("GB",)
    tolerates: tuple[str, ...] = ()
    tier: str = "OFFICIAL"
    markings: tuple[str, ...] = ()
    assurance: str = "DECLARED"


def objections(need: Need, truth: SiteTruth, law: Law, wall_ms: int) -> list[str]:
    """Everything that forbids the work at the site at that instant; empty: it may be there."""
    found: list[str] = []
    least = max(ASSURANCES.index(need.assurance), ASSURANCES.index(law.least_assurance))
    for key in (*ALWAYS_NEEDED, *(("markings",) if need.markings else ())):
        grade = truth.grade(key)
        if not grade.stated:
            found.append(f"{key} is not stated")
        if grade.ends_ms is not None and wall_ms >= grade.ends_ms:
            found.append(f"{key} has expired")
        if ASSURANCES.index(grade.assurance) < least:
            found.append(f"{key} is only {grade.assurance}")
    home = [country for country in need.countries if country in law.countries]
    if truth.country not in home:
        found.append(f"it is in {truth.country}")
    reach = [truth.laws[key] for key in LAWS]
    reach += [country for _, country, stake in truth.parents if stake > law.controlling_stake]
    found += [f"the law of {c} reaches it" for c in reach if c not in (*home, *need.tolerates)]
    if TIERS.index(truth.accreditation) < TIERS.index(need.tier):
        found.append(f"it is accredited for {truth.accreditation}")
    found += [f"it may not handle {m}" for m in need.markings if m not in truth.markings]
    return found


class History:
    """What was true of every site, and the law in force, from which instant on."""

    def __init__(self) -> None:
        self._sites: dict[str, list[tuple[int, SiteTruth]]] = {}
        self._laws: list[tuple[int, Law]] = []

    def site_becomes(self, now_ms: int, truth: SiteTruth) -> None:
        """From now on this is so."""
        self._sites.setdefault(truth.site, []).append((now_ms, truth))

    def law_becomes(self, now_ms: int, law: Law) -> None:
        """From now on this is allowed."""
        self._laws.append((now_ms, law))

    def site(self, name: str) -> SiteTruth:
        """What is true of a site now."""
        return self._sites[name][-1][1]

    @property
    def law(self) -> Law:
        """What is allowed now."""
        return self._laws[-1][1]

    def permitted_at(self, need: Need, site: str, at_ms: int, laws: Sequence[Law]) -> bool:
        """Whether the work may be at a site at an instant, under one of `laws`.

        At the instant of a change, before and after both count.
        """
        wall_ms = WALL_AT_START_MS + at_ms
        return any(
            not objections(need, truth, law, wall_ms)
            for truth in _during(self._sites[site], at_ms, at_ms)
            for law in laws
        )

    def laws_during(self, from_ms: int, to_ms: int) -> list[Law]:
        """What was allowed at some instant of a span."""
        return _during(self._laws, from_ms, to_ms)


def _during(versions: Sequence[tuple[int, V]], from_ms: int, to_ms: int) -> list[V]:
    found: list[V] = []
    for position, (since_ms, version) in enumerate(versions):
        last = position + 1 == len(versions)
        if since_ms <= to_ms and (last or versions[position + 1][0] >= from_ms):
            found.append(version)
    return found
