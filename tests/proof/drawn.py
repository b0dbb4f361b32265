"""Policies and worlds drawn at random from a seed: wide enough to meet every kind of rule."""

from __future__ import annotations

from random import Random

from scheduler.model.agreements import Agreement, Instrument, Scope
from scheduler.model.fleet import Isolation, Site, SiteStatus
from scheduler.model.ids import SiteId, TenantPath
from scheduler.model.residency import (
    Assurance,
    Fact,
    FactKey,
    NodeFact,
    NodeFactKey,
    Party,
    Policy,
    Requirement,
    Tier,
)
from scheduler.model.rules import Condition, FactRule, NamedSet, Op, Rule
from scheduler.proof.symbols import UNNAMED_COUNTRIES, UNNAMED_KIND, UNNAMED_MARKING
from scheduler.proof.worlds import AGREEMENT, KIND, NOW_MS, World

COUNTRIES = ("GB", "NO", "US")
MARKINGS = ("SENSITIVE", "PATIENT")
KINDS = ("personal", "health")
_COUNTRY_FACTS = tuple(sorted(frozenset(FactKey) - {FactKey.ACCREDITATION, FactKey.MARKINGS}))


EVERYTHING = Policy(
    allowed_jurisdictions=COUNTRIES,
    rules=(
        Rule("m", "", "", Condition(Op.COVERS, FactKey.MARKINGS, MARKINGS)),
        Rule("k", "", "", Condition(Op.OF_KIND, values=KINDS)),
    ),
)
"""Names whatever a world may have, so that a formula has a variable for it."""


def _some(draw: Random, values: tuple[str, ...], one_in: int = 2) -> tuple[str, ...]:
    return tuple(value for value in values if draw.randrange(one_in) == 0)


def condition_of_work(draw: Random) -> Condition:
    """What a rule is about."""
    match draw.randrange(6):
        case 0:
            return Condition(Op.TIER_AT_LEAST, number=draw.randint(1, 3))
        case 1:
            return Condition(Op.TIER_AT_MOST, number=draw.randint(1, 3))
        case 2:
            return Condition(Op.MARKED, values=_some(draw, MARKINGS))
        case 3:
            return Condition(Op.OF_KIND, values=_some(draw, KINDS))
        case _:
            op = draw.choice((Op.ALL, Op.ANY))
            parts = tuple(condition_of_work(draw) for _ in range(draw.randrange(3)))
            return Condition(op, parts=parts)


def condition(draw: Random, depth: int = 2) -> Condition:
    """What a rule demands."""
    sets = tuple(s for s in NamedSet if s is not NamedSet.MARKINGS and draw.randrange(4) == 0)
    match draw.randrange(9 if depth else 7):
        case 0:
            fact = draw.choice([k for k in _COUNTRY_FACTS if k is not FactKey.ULTIMATE_PARENTS])
            return Condition(Op.EACH_IN, fact, _some(draw, COUNTRIES), sets)
        case 1:
            return Condition(Op.COVERS, FactKey.MARKINGS, _some(draw, MARKINGS))
        case 2:
            return Condition(Op.ACCREDITED, FactKey.ACCREDITATION, number=draw.randrange(4))
        case 3:
            fact = FactKey.ULTIMATE_PARENTS
            stake = draw.choice((0, 10_000, 50_000))
            return Condition(Op.PARENTS_IN, fact, _some(draw, COUNTRIES), sets, number=stake)
        case 4:
            fact = draw.choice(tuple(FactKey))
            age_ms = draw.choice((None, 5, 100))
            return Condition(Op.KNOWN, fact, number=draw.randrange(5), age_ms=age_ms)
        case 5:
            return condition_of_work(draw)
        case 6:
            return Condition(Op.AGREED, values=_some(draw, tuple(Instrument)))
        case _:
            op = draw.choice((Op.ALL, Op.ANY))
            parts = tuple(condition(draw, depth - 1) for _ in range(draw.randint(1, 3)))
            return Condition(op, parts=parts)


def policy(draw: Random) -> Policy:
    """A policy with up to three rules of its own."""
    return Policy(
        allowed_jurisdictions=_some(draw, COUNTRIES, 1 if draw.randrange(2) else 2) or ("GB",),
        control_plane_tier=draw.choice((Tier.OFFICIAL, Tier.SECRET, Tier.TOP_SECRET)),
        controlling_stake_milli_percent=draw.choice((0, 25_000, 60_000)),
        min_assurance=Assurance(draw.randint(1, 2)),
        fact_max_age_ms=draw.choice((None, 50)),
        min_isolation=draw.randrange(3),
        facts=tuple(
            FactRule(key, draw.randrange(3), draw.choice((None, 20)))
            for key in FactKey
            if draw.randrange(8) == 0
        ),
        node_facts=tuple(
            FactRule(key, draw.randrange(5), draw.choice((None, 20)))
            for key in NodeFactKey
            if draw.randrange(8) == 0
        ),
        rules=tuple(
            Rule(f"rule-{n}", "a rule", "a draw", condition(draw), condition_of_work(draw))
            for n in range(draw.choice((0, 0, 1, 2, 3)))
        ),
        instruments=_some(draw, tuple(Instrument)),
    )


def world(draw: Random) -> World:
    """A world in which each thing is as likely good as not, so that permits are not rare."""
    good = draw.randrange(2) == 0
    odd = 60 if good else 4
    home = draw.choice(COUNTRIES)
    countries = (*COUNTRIES, *UNNAMED_COUNTRIES)
    work = Requirement(
        jurisdictions=_some(draw, COUNTRIES, 1 if good else 2) + _some(draw, UNNAMED_COUNTRIES, 9),
        tier=Tier(draw.randint(1, 2) if good else draw.randint(0, 3)),
        markings=_some(draw, (*MARKINGS, UNNAMED_MARKING), 6),
        tolerate_foreign_compulsion=_some(draw, countries, 4),
        min_assurance=Assurance(1 if good else draw.randint(1, 3)),
        data_kinds=_some(draw, (*KINDS, UNNAMED_KIND), 3),
        agreements=_some(draw, (AGREEMENT, "none-such")),
        tenant=draw.choice(("", "trust", "trust/lab")),
        kind=draw.choice((KIND, KIND, "service")),
    )
    parents = tuple(
        Party(f"parent {n}", draw.choice((*countries, "")), draw.randint(0, 100_000))
        for n in range(draw.randrange(1 if good else 4))
    )
    facts = tuple(_fact(draw, key, home, odd) for key in FactKey if draw.randrange(odd * 2))
    if draw.randrange(odd * 2) == 0:
        facts += facts[:1]
    site = Site(SiteId("drawn"), SiteStatus.ACTIVE, facts, parents)
    of_node = tuple(_of_node(draw, key, home, odd) for key in NodeFactKey if draw.randrange(odd))
    agreement = None if draw.randrange(4) == 0 else _agreement(draw, odd)
    return World(work, site, Isolation(draw.randint(1 if good else 0, 3)), of_node, agreement)


def _of_node(draw: Random, key: NodeFactKey, home: str, odd: int) -> NodeFact:
    bad = draw.randrange(odd) == 0
    passed = ("FAILED" if bad else "PASSED",)
    located = ("CLAIM_FALSE" if bad else "PROVED_IN", home if draw.randrange(odd) else "US")
    return NodeFact(
        key,
        passed if key is NodeFactKey.ATTESTATION else located,
        Assurance(draw.choice((3, 4)) if draw.randrange(odd) else draw.randrange(5)),
        "somebody",
        NOW_MS - (draw.randint(0, 4) if draw.randrange(odd) else draw.randint(0, 200)),
        NOW_MS if draw.randrange(odd * 3) == 0 else None,
    )


def _agreement(draw: Random, odd: int) -> Agreement:
    """One that is as likely about the work, in force and about the site as not."""
    every = odd > 9
    return Agreement(
        AGREEMENT,
        draw.choice(tuple(Instrument)),
        "",
        "",
        _some(draw, COUNTRIES, 1 if every else 2) + _some(draw, UNNAMED_COUNTRIES, 3),
        Scope(
            tier_max=draw.randint(2 if every else 1, 3),
            kinds=(KIND,) if draw.randrange(9) else ("service",),
            tenants=() if draw.randrange(3) else (TenantPath("trust"),),
            markings=_some(draw, (*MARKINGS, UNNAMED_MARKING), 1 if every else 2),
            data_kinds=_some(draw, (*KINDS, UNNAMED_KIND), 1 if every else 2),
        ),
        valid_from_ms=NOW_MS + (1 if draw.randrange(odd) == 0 else 0),
        valid_until_ms=NOW_MS + (0 if draw.randrange(odd) == 0 else 1),
        sites=() if draw.randrange(odd) else ("elsewhere",),
    )


def _fact(draw: Random, key: FactKey, home: str, odd: int) -> Fact:
    return Fact(
        key,
        _said(draw, key, home, odd),
        Assurance(draw.choice((2, 3, 4)) if draw.randrange(odd) else draw.randrange(5)),
        "somebody",
        NOW_MS - (draw.randint(0, 4) if draw.randrange(odd) else draw.randint(0, 200)),
        NOW_MS if draw.randrange(odd * 3) == 0 else None,
    )


def _said(draw: Random, key: FactKey, home: str, odd: int) -> tuple[str, ...]:
    if key is FactKey.ULTIMATE_PARENTS:
        return ()
    if key is FactKey.ACCREDITATION:
        if draw.randrange(odd):
            return draw.choice((("SECRET",), ("TOP_SECRET",)))
        return draw.choice((("OFFICIAL",), ("?",), ("?", "SECRET"), ("SECRET", "OFFICIAL")))
    if key is FactKey.MARKINGS:
        every = (*MARKINGS, UNNAMED_MARKING)
        return every if draw.randrange(3) else _some(draw, every)
    if draw.randrange(odd):
        return (home,)
    return _some(draw, (*COUNTRIES, *UNNAMED_COUNTRIES), 3)
