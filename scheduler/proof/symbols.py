"""What a formula speaks of: one work and one site, as variables of the solver.

Work and sites range over finite universes, and lose nothing by it. Conditions are about single
values only (is this country among those?), so two countries that no policy names, and that the
work names or tolerates alike, are the same to every policy: four that nobody names stand for all.
Of a site's parents only the largest stake in each country counts. There is one agreement, or none:
a permit needs one at most, so what several open, one of them opens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from scheduler.core.policy.base import MAY_BE_EMPTY, rules_of
from scheduler.model.agreements import Instrument
from scheduler.model.fleet import Isolation
from scheduler.model.residency import Assurance, FactKey, NodeFactKey, Policy, Tier
from scheduler.model.rules import Condition, Op
from scheduler.proof.solver import (
    Formula,
    Number,
    either,
    equal,
    every,
    flag,
    implies,
    never,
    number,
)

UNNAMED_COUNTRIES = ("XA", "XB", "XC", "XD")
"""Codes that ISO 3166 leaves to users, and so no country's: asked for or not, tolerated or not."""
NOWHERE = ""
"""The country of a parent that states none."""
UNNAMED_MARKING = "UNNAMED"
UNNAMED_KIND = "unnamed"
UNKNOWN_ACCREDITATION = "?"
SPEAKS_FOR_IT = "for-it"
"""What a fact about a node says as far as it counts: that it is where its site is, or passed."""
STAKE_MAX = 100_000
AGE_MS_MAX = 1 << 50

_COUNTRIES = frozenset(FactKey) - {FactKey.ACCREDITATION, FactKey.MARKINGS}


class Universe:
    """The values that work and sites may have, given the policies that are spoken of."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        policies = tuple(policies)
        nodes = [node for policy in policies for node in _nodes(policy)]
        named = {country for policy in policies for country in policy.allowed_jurisdictions}
        named |= {v for n in nodes if n.op in (Op.EACH_IN, Op.PARENTS_IN) for v in n.values}
        # Sets of markings and of countries are written alike; a marking too many does no harm.
        marks = {v for n in nodes if n.op in (Op.COVERS, Op.EACH_IN, Op.MARKED) for v in n.values}
        kinds = {v for n in nodes if n.op is Op.OF_KIND for v in n.values}
        self.countries = (*sorted(named - {NOWHERE}), *UNNAMED_COUNTRIES)
        self.markings = (*sorted(marks), UNNAMED_MARKING)
        self.kinds = (*sorted(kinds), UNNAMED_KIND)

    def values(self, key: FactKey) -> tuple[str, ...]:
        """What the fact `key` may say."""
        if key is FactKey.ACCREDITATION:
            return (*(tier.name for tier in Tier if tier), UNKNOWN_ACCREDITATION)
        return self.markings if key is FactKey.MARKINGS else self.countries


def _nodes(policy: Policy) -> Iterator[Condition]:
    for rule in (*rules_of(policy), *policy.invariants):
        yield from rule.when.nodes()
        yield from rule.require.nodes()


class FactSymbols:
    """What is unknown of one fact."""

    def __init__(self, key: FactKey | NodeFactKey, values: tuple[str, ...]) -> None:
        self.key = key
        self.once = flag(f"{key}.stated_once")
        self.expired = flag(f"{key}.expired")
        self.assurance = number(f"{key}.assurance")
        self.age_ms = number(f"{key}.age_ms")
        self.values = {value: flag(f"{key}.is.{value}") for value in values}

    def bounds(self) -> list[Formula]:
        """What every fact keeps to."""
        return [
            self.assurance >= 0,
            self.assurance <= int(max(Assurance)),
            self.age_ms >= 0,
            self.age_ms <= AGE_MS_MAX,
        ]

    def usable(self, least: Number | int, max_age_ms: int | None) -> Formula:
        """Whether the fact may be relied on."""
        parts: list[Formula] = [self.once, never(self.expired), self.assurance >= least]
        if max_age_ms is not None:
            parts.append(self.age_ms <= max_age_ms)
        if self.key not in MAY_BE_EMPTY:
            parts.append(either(*self.values.values()))
        return every(*parts)


class Symbols:
    """One work, one site, one moment."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self.asked = _bools("work.jurisdictions", universe.countries)
        self.tolerated = _bools("work.tolerates", universe.countries)
        self.marked = _bools("work.markings", universe.markings)
        self.kinds = _bools("work.data_kinds", universe.kinds)
        self.tier = number("work.tier")
        self.min_assurance = number("work.min_assurance")
        self.agreed = flag("agreement.is_about_work_and_site")
        self.instruments = _bools("agreement.instrument", tuple(Instrument))
        self.opened = _bools("agreement.opens", universe.countries)
        self.facts = {
            key: FactSymbols(key, universe.values(key))
            for key in FactKey
            if key is not FactKey.ULTIMATE_PARENTS
        }
        parents = FactKey.ULTIMATE_PARENTS
        self.facts[parents] = FactSymbols(parents, ())
        self.stakes = {
            country: number(f"parents.stake.{country or 'nowhere'}")
            for country in (*universe.countries, NOWHERE)
        }
        self.isolation = number("node.isolation")
        self.of_node = {key: FactSymbols(key, (SPEAKS_FOR_IT,)) for key in NodeFactKey}

    def bounds(self) -> list[Formula]:
        """What every world keeps to."""
        own = [
            self.tier >= 0,
            self.tier <= int(max(Tier)),
            self.min_assurance >= int(Assurance.DECLARED),
            self.min_assurance <= int(max(Assurance)),
            self.isolation >= 0,
            self.isolation <= int(max(Isolation)),
        ]
        for stake in self.stakes.values():
            own += [stake >= 0, stake <= STAKE_MAX]
        for one in Instrument:
            others = [self.instruments[other] for other in Instrument if other is not one]
            own.append(implies(self.instruments[one], never(either(*others))))
        own.append(either(*self.instruments.values()))
        for country, said in self.facts[FactKey.COUNTRY].values.items():
            own.append(implies(every(self.agreed, said), self.opened[country]))
        facts = (*self.facts.values(), *self.of_node.values())
        return own + [bound for fact in facts for bound in fact.bounds()]

    def plainer(self) -> list[list[Formula]]:
        """What makes a world plainer to read, in groups that are tried whole and then singly."""
        told: list[list[Formula]] = [
            [never(each) for each in flags.values()]
            for flags in (self.tolerated, self.marked, self.kinds)
        ]
        told.append([never(self.agreed)])
        told.append([never(each) for each in self.opened.values()])
        told.append([equal(stake, 0) for stake in self.stakes.values()])
        told.append([equal(self.min_assurance, int(Assurance.DECLARED))])
        told.append([equal(self.isolation, int(max(Isolation)))])
        told.append([never(self.asked[country]) for country in UNNAMED_COUNTRIES])
        told.append([never(each) for each in self.asked.values()])
        for fact in self.facts.values():
            told.append([never(fact.values[v]) for v in UNNAMED_COUNTRIES if v in fact.values])
            told.append([never(each) for each in fact.values.values()])
            told.append([fact.once, never(fact.expired), equal(fact.age_ms, 0)])
            told.append([equal(fact.assurance, int(Assurance.ATTESTED))])
        told += [[never(fact.once)] for fact in self.of_node.values()]
        told.append([equal(self.tier, int(Tier.OFFICIAL))])
        return told


def _bools(name: str, values: tuple[str, ...]) -> dict[str, Formula]:
    return {value: flag(f"{name}.{value}") for value in values}
