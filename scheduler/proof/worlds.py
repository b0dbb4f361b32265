"""One work and one site, concrete: out of a solver's answer, and into a formula's variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from scheduler.core.node_facts import node_needs, suffices
from scheduler.core.policy import agreed
from scheduler.core.policy.words import listed, stake
from scheduler.core.residency import country_of, permits
from scheduler.model.agreements import Agreement, Instrument, Scope
from scheduler.model.fleet import Isolation, Site, SiteStatus
from scheduler.model.ids import SiteId
from scheduler.model.residency import (
    Assurance,
    Fact,
    FactKey,
    NodeFact,
    NodeFactKey,
    Party,
    Permit,
    Policy,
    Requirement,
    Tier,
)
from scheduler.proof.solver import Formula, Model, Value, Variable
from scheduler.proof.symbols import AGE_MS_MAX, SPEAKS_FOR_IT, FactSymbols, Symbols

NOW_MS = AGE_MS_MAX + 1
"""The moment at which every world is judged: no fact of one is older."""

AGREEMENT = "agreement"
"""The name of the one agreement that a world may have."""
KIND = "batch"


@dataclass(frozen=True, slots=True)
class World:
    """Work that asks for a site, and a node there."""

    work: Requirement
    site: Site
    isolation: Isolation = Isolation.UNSPECIFIED
    of_node: tuple[NodeFact, ...] = ()
    agreement: Agreement | None = None

    def permitted(self, policy: Policy) -> bool:
        """What the control plane itself would answer, were this agreement applied and no other."""
        if self.isolation < policy.min_isolation:
            return False
        needs = node_needs(self.work, policy)
        if not suffices(needs, self.of_node, country_of(self.site), NOW_MS):
            return False
        if self.agreement is not None or policy.agreements:
            policy = replace(policy, agreements=(self.agreement,) if self.agreement else ())
        return isinstance(permits(self.work, self.site, policy, NOW_MS), Permit)

    def lines(self) -> Iterator[str]:
        """The world in words, a line for each thing."""
        work, site = self.work, self.site
        yield f"work: {work.tier.name}, may be in {listed(work.jurisdictions)}"
        for name, values in (
            ("markings", work.markings),
            ("data of kind", work.data_kinds),
            ("tolerates the law of", work.tolerate_foreign_compulsion),
        ):
            if values:
                yield f"work: {name} {listed(values)}"
        if (it := self.agreement) is not None:
            yield f"work: relies on a {it.instrument} that opens {listed(it.jurisdictions)}"
        for fact in site.facts:
            parents = fact.key is FactKey.ULTIMATE_PARENTS
            said = [f"{p.country or 'not stated'} {stake(p)}" for p in site.parents]
            yield f"site: {fact.key} {listed(said if parents else fact.values)} ({_grade(fact)})"
        yield f"node: isolation {self.isolation.name.lower()}"
        for fact in self.of_node:
            yield f"node: {fact.key} {listed(fact.values)} ({_grade(fact)})"


def _grade(fact: Fact | NodeFact) -> str:
    age_ms = NOW_MS - fact.observed_at_ms
    expired = ", expired" if fact.expires_at_ms is not None else ""
    return f"{fact.assurance.name}, {age_ms} ms old{expired}"


def world_of(model: Model, at: Symbols) -> World:
    """The world that a solver found."""

    def chosen(flags: Mapping[str, Formula]) -> tuple[str, ...]:
        return tuple(value for value, each in flags.items() if model.true(each))

    facts = tuple(
        Fact(
            key,
            chosen(of.values),
            Assurance(model.value(of.assurance)),
            "somebody",
            observed_at_ms=NOW_MS - model.value(of.age_ms),
            expires_at_ms=NOW_MS if model.true(of.expired) else None,
        )
        for key, of in at.facts.items()
        if model.true(of.once)
    )
    work = Requirement(
        jurisdictions=chosen(at.asked),
        tier=Tier(model.value(at.tier)),
        markings=chosen(at.marked),
        tolerate_foreign_compulsion=chosen(at.tolerated),
        min_assurance=Assurance(model.value(at.min_assurance)),
        data_kinds=chosen(at.kinds),
        agreements=(AGREEMENT,) if model.true(at.agreed) else (),
        kind=KIND,
    )
    parents = tuple(
        Party(f"parent in {country or 'no stated country'}", country, held)
        for country, variable in at.stakes.items()
        if (held := model.value(variable)) > 0
    )
    site = Site(SiteId("site"), SiteStatus.ACTIVE, facts, parents)
    of_node = tuple(
        NodeFact(
            key,
            _said(key, model.true(of.values[SPEAKS_FOR_IT]), site),
            Assurance(model.value(of.assurance)),
            "somebody",
            observed_at_ms=NOW_MS - model.value(of.age_ms),
            expires_at_ms=NOW_MS if model.true(of.expired) else None,
        )
        for key, of in at.of_node.items()
        if model.true(of.once)
    )
    agreement = None
    if model.true(at.agreed):
        (instrument,) = chosen(at.instruments)
        agreement = about(work, Instrument(instrument), chosen(at.opened))
    return World(work, site, Isolation(model.value(at.isolation)), of_node, agreement)


def _said(key: NodeFactKey, speaks_for_it: bool, site: Site) -> tuple[str, ...]:
    """What a fact about a node says when it speaks for the node, and when it does not."""
    if key is NodeFactKey.LOCATION:
        return ("PROVED_IN" if speaks_for_it else "CLAIM_FALSE", country_of(site))
    return ("PASSED" if speaks_for_it else "FAILED",)


def about(work: Requirement, instrument: Instrument, opened: tuple[str, ...]) -> Agreement:
    """An agreement that is about `work`, in force, and opens these countries to it."""
    scope = Scope(int(max(Tier)), (work.kind,), (), work.markings, work.data_kinds)
    return Agreement(AGREEMENT, instrument, "", "", opened, scope, 0, NOW_MS + 1)


def values_of(world: World, at: Symbols) -> list[tuple[Variable, Value]]:
    """Every variable with what it is in `world`: what a formula is to be evaluated under."""
    work, site = world.work, world.site
    pairs: list[tuple[Variable, Value]] = [
        (at.tier, int(work.tier)),
        (at.min_assurance, int(work.min_assurance)),
        (at.isolation, int(world.isolation)),
    ]
    it = world.agreement
    pairs.append((at.agreed, it is not None and _is_about(it, world)))
    for flags, values in (
        (at.instruments, (it.instrument if it else Instrument.TREATY,)),
        (at.opened, it.jurisdictions if it else ()),
        (at.asked, work.jurisdictions),
        (at.tolerated, work.tolerate_foreign_compulsion),
        (at.marked, work.markings),
        (at.kinds, work.data_kinds),
    ):
        pairs += [(flag, value in values) for value, flag in flags.items()]
    for key, of in at.facts.items():
        pairs += _fact_values([fact for fact in site.facts if fact.key is key], of)
    for key, of in at.of_node.items():
        pairs += _of_node([fact for fact in world.of_node if fact.key is key], of, site)
    for country, variable in at.stakes.items():
        held = [p.stake_milli_percent for p in site.parents if p.country == country]
        pairs.append((variable, max(held, default=0)))
    return pairs


def _is_about(agreement: Agreement, world: World) -> bool:
    """Whether the control plane lets the work rely on it at the site, if its policy honours it."""
    honours = Policy(agreements=(agreement,), instruments=(agreement.instrument,))
    return (
        agreed.relied_on(honours, world.work) == (agreement,)
        and agreed.in_force(agreement, NOW_MS)
        and agreed.opens(agreement, world.site)
    )


def _fact_values(stated: list[Fact], of: FactSymbols) -> list[tuple[Variable, Value]]:
    once = len(stated) == 1
    fact = stated[0] if once else Fact(FactKey(of.key), (), Assurance.UNSPECIFIED, "", NOW_MS)
    expired = fact.expires_at_ms is not None and fact.expires_at_ms <= NOW_MS
    return [
        (of.once, once),
        (of.expired, expired),
        (of.assurance, int(fact.assurance)),
        (of.age_ms, NOW_MS - fact.observed_at_ms),
        *((flag, value in fact.values) for value, flag in of.values.items()),
    ]


def _of_node(stated: list[NodeFact], of: FactSymbols, site: Site) -> list[tuple[Variable, Value]]:
    once = len(stated) == 1
    key = NodeFactKey(of.key)
    fact = stated[0] if once else NodeFact(key, (), Assurance.UNSPECIFIED, "", NOW_MS)
    speaks_for_it = not fact.refutes() and fact.values == _said(key, True, site)
    return [
        (of.once, once),
        (of.expired, fact.expires_at_ms is not None and fact.expires_at_ms <= NOW_MS),
        (of.assurance, int(fact.assurance)),
        (of.age_ms, NOW_MS - fact.observed_at_ms),
        (of.values[SPEAKS_FOR_IT], speaks_for_it),
    ]
