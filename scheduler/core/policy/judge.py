"""A policy made into a function: from what is known of a site to a verdict.

The simple equivalent walks the policy's rules for every question. Here a policy becomes a judge
once, a judge makes a case of each requirement once (its rules, as closures over ready sets), and a
site is one pass over the closures. What a denial says is found only where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from scheduler.core.policy import agreed, words
from scheduler.core.policy.base import MAY_BE_EMPTY, REACHES_THE_WORK, is_base, rules_of
from scheduler.core.policy.quality import Need, fact_faults, sound
from scheduler.model.agreements import Agreement
from scheduler.model.fleet import Site
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import (
    Assurance,
    Deny,
    Fact,
    FactKey,
    Permit,
    Policy,
    Requirement,
    Tier,
    Verdict,
)
from scheduler.model.rules import JOINTS, Condition, FactRule, NamedSet, Op, Rule

CASES_MAX = 4_096
"""Requirements that a judge remembers the rules for; beyond it they are all forgotten."""
JUDGES_MAX = 8
"""Policies whose judges are kept: the one in force, and those it is compared with."""

Facts = Mapping[FactKey, Fact]
Sets = Mapping[NamedSet, frozenset[str]]
Holds = Callable[[Site, Facts, int], bool]
"""Whether a condition holds at a site, of facts that may be relied on, at a moment."""

_WHO = dict(REACHES_THE_WORK)


@dataclass(frozen=True, slots=True)
class _Applied:
    """A rule that is about this work."""

    rule: Rule
    holds: Holds


class _Bench:
    """The rules about this work, as they stand under one agreement, or under none."""

    def __init__(
        self, policy: Policy, about: list[Rule], work: Requirement, under: Agreement | None
    ) -> None:
        self.name = under.name if under else ""
        self.sets = named_sets(policy, work, under)
        self.rules = tuple(_Applied(r, _compiled(r.require, work, self.sets, under)) for r in about)
        self._under = under
        self._holds = tuple(applied.holds for applied in self.rules)

    def is_open(self, site: Site, now_ms: int) -> bool:
        """Whether the agreement is in force and opens `site`."""
        under = self._under
        return under is not None and agreed.in_force(under, now_ms) and agreed.opens(under, site)

    def permits(self, site: Site, facts: Facts, now_ms: int) -> bool:
        """Whether every rule holds, of facts that may be relied on."""
        return all(holds(site, facts, now_ms) for holds in self._holds)


class Judge:
    """What one policy says of any work at any site."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.rules = rules_of(policy)
        self._cases: dict[Requirement, Case] = {}

    def case(self, requirement: Requirement) -> Case:
        """The rules that are about this work, ready to be asked of sites."""
        known = self._cases.get(requirement)
        if known is None:
            if len(self._cases) >= CASES_MAX:
                self._cases.clear()
            known = self._cases[requirement] = Case(self.policy, self.rules, requirement)
        return known


class Case:
    """One requirement under one policy."""

    def __init__(self, policy: Policy, rules: tuple[Rule, ...], work: Requirement) -> None:
        about = [rule for rule in rules if applies(rule.when, work)]
        self.policy = policy
        self.work = work
        self.rule_ids = tuple(rule.id for rule in about)
        named = sorted(FactKey(rule.fact) for rule in work.facts)
        self.needed = tuple(dict.fromkeys((*needed_by(about), *named)))
        self._needs = tuple(need(key, policy, work) for key in self.needed)
        self._plain = _Bench(policy, about, work, None)
        self._benches = tuple(
            _Bench(policy, about, work, each) for each in agreed.relied_on(policy, work)
        )
        self._permit = Permit(self.needed)
        self._own = requirement_denials(work)
        self._data_sites = None if work.data_sites is None else frozenset(work.data_sites)

    def verdict(self, site: Site, now_ms: int) -> Verdict:
        """Permit, or Deny with every reason, in the order of the rules."""
        stated = {fact.key: fact for fact in site.facts}
        if (
            not self._own
            and self._has_data(site)
            and len(stated) == len(site.facts)
            and sound(stated, self._needs, now_ms)
        ):
            if self._plain.permits(site, stated, now_ms):
                return self._permit
            names = [
                bench.name
                for bench in self._benches
                if bench.is_open(site, now_ms) and bench.permits(site, stated, now_ms)
            ]
            if names:
                return Permit(self.needed, names[0], tuple(names[1:]))
        return self._deny(site, now_ms)

    def _has_data(self, site: Site) -> bool:
        """Whether all that the work reads lies there. No policy has a say in it."""
        return self._data_sites is None or site.id in self._data_sites

    def _deny(self, site: Site, now_ms: int) -> Deny:
        """Every reason, as the agreement has it that opens the site, if there is one."""
        bench = next((each for each in self._benches if each.is_open(site, now_ms)), self._plain)
        denials = [*self._own]
        if not self._has_data(site):
            lies = words.listed(self.work.data_sites or ())
            detail = f"what the work reads lies at: {lies}"
            denials.append(Denial(Reason.DATA_ELSEWHERE, detail, site.id))
        usable: dict[FactKey, Fact] = {}
        for asked in self._needs:
            fact, faults = fact_faults(asked, site, now_ms)
            denials += faults
            if fact is not None:
                usable[asked.key] = fact
        broken = [
            applied.rule
            for applied in bench.rules
            if _facts_of(applied.rule.require) <= usable.keys()
            and not applied.holds(site, usable, now_ms)
        ]
        if bench is self._plain and any(map(_may_be_agreed, broken)):
            denials += agreed.without_avail(self.policy, self.work, now_ms)
        for rule in broken:
            denials += self._told(rule, bench.sets, site, usable)
        assert denials, "what is not permitted has a reason"
        return Deny(tuple(denials))

    def _told(self, rule: Rule, sets: Sets, site: Site, usable: Facts) -> Iterator[Denial]:
        if is_base(rule):
            said = self._base_said(rule, sets, site, usable)
        else:
            said = self._pack_said(rule, site, usable)
        for detail in said:
            yield Denial(rule.reason, detail, site.id, rule.id)

    def _pack_said(self, rule: Rule, site: Site, usable: Facts) -> Iterator[str]:
        keys = sorted(_facts_of(rule.require))
        found = [f"{key} {words.listed(_shown(key, site, usable))}" for key in keys]
        about = "; ".join(found) or f"the work is {self.work.tier.name}"
        yield f"{rule.text}: needed {words.condition(rule.require)}, found {about} ({rule.cites})"

    def _base_said(self, rule: Rule, sets: Sets, site: Site, usable: Facts) -> Iterator[str]:
        it = rule.require
        if it.op is Op.TIER_AT_MOST:
            yield f"{self.work.tier.name}, control plane {words.tier(it.number)}"
            return
        key = FactKey(it.fact)
        fact = usable[key]
        allowed = _members(it, sets)
        bearable = words.listed(sorted(allowed))
        if it.op is Op.ACCREDITED:
            listed = words.listed(fact.values)
            yield f"accredited for {listed}, needed {self.work.tier.name}"
        elif it.op is Op.COVERS:
            for marking in sorted(allowed - frozenset(fact.values)):
                yield f"may not handle {marking}, may: {words.listed(fact.values)}"
        elif it.op is Op.PARENTS_IN:
            for party in sorted(site.parents):
                if party.stake_milli_percent > it.number and party.country not in allowed:
                    country = party.country or "a country that is not stated"
                    yield (
                        f"ultimate parent {party.name!r} ({words.stake(party)}) is under the law"
                        f" of {country}, needed {bearable}"
                    )
        else:
            for country in fact.values:
                if country not in allowed:
                    yield self._country_said(rule, key, country, bearable)

    def _country_said(self, rule: Rule, key: FactKey, country: str, bearable: str) -> str:
        if rule.reason is Reason.JURISDICTION:
            return f"the site is in {country}, needed {words.listed(self.work.jurisdictions)}"
        if rule.reason is Reason.JURISDICTION_NOT_ALLOWED:
            return f"the site is in {country}, policy {self.policy.name!r} allows {bearable}"
        where = country or "a country that is not stated"
        return f"{_WHO[key]} is under the law of {where}, needed {bearable}"


def requirement_denials(work: Requirement) -> tuple[Denial, ...]:
    """What makes a requirement one that no site can meet. An empty one permits nothing."""
    denials: list[Denial] = []
    if not work.jurisdictions:
        denials.append(
            Denial(
                Reason.REQUIREMENT_EMPTY,
                "no jurisdiction is named, and none is not all: name at least one",
                "residency.jurisdictions",
            )
        )
    if work.tier is Tier.UNSPECIFIED:
        denials.append(Denial(Reason.REQUIREMENT_EMPTY, "no tier is named", "residency.tier"))
    return tuple(denials)


def _may_be_agreed(rule: Rule) -> bool:
    """Whether an agreement could make a rule hold."""
    return any(
        node.op is Op.AGREED or NamedSet.ALLOWED in node.sets for node in rule.require.nodes()
    )


def applies(when: Condition, work: Requirement) -> bool:
    """Whether a rule is about this work: decided by the work alone."""
    match when.op:
        case Op.ALL:
            return all(applies(part, work) for part in when.parts)
        case Op.ANY:
            return any(applies(part, work) for part in when.parts)
        case Op.TIER_AT_LEAST:
            return work.tier >= when.number
        case Op.TIER_AT_MOST:
            return work.tier <= when.number
        case Op.MARKED:
            return _touches(when.values, work.markings)
        case Op.OF_KIND:
            return _touches(when.values, work.data_kinds)
        case _:
            raise AssertionError(f"{when.op} is said of a site, and not of work alone")


def _touches(named: tuple[str, ...], has: tuple[str, ...]) -> bool:
    return bool(frozenset(named) & frozenset(has)) if named else bool(has)


def needed_by(rules: Iterable[Rule]) -> tuple[FactKey, ...]:
    """The facts that these rules speak of, in the order in which they first do."""
    found: dict[FactKey, None] = {}
    for rule in rules:
        for node in rule.require.nodes():
            found.update(dict.fromkeys(_own_facts(node)))
    return tuple(found)


def _own_facts(node: Condition) -> tuple[FactKey, ...]:
    if node.op is Op.AGREED:
        return (FactKey.COUNTRY,)
    return (FactKey(node.fact),) if node.fact else ()


def _facts_of(condition: Condition) -> frozenset[FactKey]:
    return frozenset(key for node in condition.nodes() for key in _own_facts(node))


def need(key: FactKey, policy: Policy, work: Requirement) -> Need:
    """How well `key` must be known: the strictest of what requirement, policy and pack ask."""
    own = [rule for rule in (*policy.facts, *work.facts) if rule.fact == key]
    least = max(
        work.min_assurance,
        policy.min_assurance,
        Assurance.DECLARED,
        *(rule.min_assurance for rule in own),
    )
    ages = [policy.fact_max_age_ms, *(rule.max_age_ms for rule in own)]
    known = [age for age in ages if age is not None]
    return Need(key, int(least), min(known) if known else None, key in MAY_BE_EMPTY)


def named_sets(policy: Policy, work: Requirement, under: Agreement | None = None) -> Sets:
    """What the sets of a tree mean for this work, where it relies on one agreement or on none."""
    asked, allowed = frozenset(work.jurisdictions), frozenset(policy.allowed_jurisdictions)
    return {
        NamedSet.WORK: asked,
        NamedSet.ALLOWED: allowed.union(under.jurisdictions) if under else allowed,
        NamedSet.HOME: asked & allowed,
        NamedSet.TOLERATED: frozenset(work.tolerate_foreign_compulsion),
        NamedSet.MARKINGS: frozenset(work.markings),
    }


def _members(it: Condition, sets: Sets) -> frozenset[str]:
    return frozenset(it.values).union(*(sets[name] for name in it.sets))


def _shown(key: FactKey, site: Site, usable: Facts) -> tuple[str, ...]:
    if key is FactKey.ULTIMATE_PARENTS:
        return tuple(f"{p.name} ({p.country}, {words.stake(p)})" for p in sorted(site.parents))
    return usable[key].values


def _compiled(it: Condition, work: Requirement, sets: Sets, under: Agreement | None) -> Holds:
    """`it` as a function. It is asked only of facts that may be relied on, and, where the work
    relies on an agreement, only of sites which that opens."""
    if it.op in JOINTS:
        parts = tuple(_compiled(part, work, sets, under) for part in it.parts)
        if it.op is Op.ALL:
            return lambda site, facts, now_ms: all(p(site, facts, now_ms) for p in parts)
        return lambda site, facts, now_ms: any(p(site, facts, now_ms) for p in parts)
    if it.is_of_work():
        holds = applies(it, work)
        return lambda site, facts, now_ms: holds
    if it.op is Op.AGREED:
        held = under is not None and (not it.values or under.instrument in it.values)
        return lambda site, facts, now_ms: held
    return _of_fact(it, FactKey(it.fact), work, _members(it, sets))


def _of_fact(it: Condition, key: FactKey, work: Requirement, among: frozenset[str]) -> Holds:
    match it.op:
        case Op.EACH_IN:
            return lambda site, facts, now_ms: among.issuperset(facts[key].values)
        case Op.COVERS:
            return lambda site, facts, now_ms: among.issubset(facts[key].values)
        case Op.ACCREDITED:
            # Work of no stated tier is accredited nowhere.
            least = it.number or max(work.tier, Tier.OFFICIAL)
            return lambda site, facts, now_ms: _least_tier(facts[key]) >= least
        case Op.PARENTS_IN:
            stake = it.number
            return lambda site, facts, now_ms: all(
                party.country in among
                for party in site.parents
                if party.stake_milli_percent > stake
            )
        case _:
            assert it.op is Op.KNOWN, f"{it.op} is of no fact"
            sure, age_ms = it.number, it.age_ms
            return lambda site, facts, now_ms: (
                facts[key].assurance >= sure
                and (age_ms is None or now_ms - facts[key].observed_at_ms <= age_ms)
            )


def _least_tier(fact: Fact) -> int:
    """A site with several accreditations counts by the least; one that nobody knows counts none."""
    return min(
        (int(Tier.__members__.get(value, Tier.UNSPECIFIED)) for value in fact.values), default=0
    )


def max_age_ms(policy: Policy, fact: FactKey, asked: tuple[FactRule, ...]) -> tuple[int, ...]:
    """The ages at which `fact` changes its worth under any rule of `policy`, to work that asks for
    facts as `asked` says."""
    ages = [policy.fact_max_age_ms] if policy.fact_max_age_ms is not None else []
    own = (*policy.facts, *asked)
    ages += [r.max_age_ms for r in own if r.fact == fact and r.max_age_ms is not None]
    for rule in policy.rules:
        ages += [
            node.age_ms
            for node in rule.require.nodes()
            if node.op is Op.KNOWN and node.fact == fact and node.age_ms is not None
        ]
    return tuple(sorted({*ages}))


class Judges:
    """The judges of a few policies, by identity: a policy is one frozen object while it is in
    force, and to hash it whole for every question would cost more than the question."""

    def __init__(self) -> None:
        self._kept: dict[int, Judge] = {}

    def of(self, policy: Policy) -> Judge:
        """The judge of `policy`. It is kept, and keeps `policy`, so that no other has its id."""
        judge = self._kept.get(id(policy))
        if judge is None:
            if len(self._kept) >= JUDGES_MAX:
                self._kept.clear()
            judge = self._kept[id(policy)] = Judge(policy)
        return judge
