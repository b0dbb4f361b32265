"""Rules over facts, as data: what a policy pack consists of.

A condition is a small tree. It is monotone by construction: there is no "not", so that a fact that
is lost can never make a condition true. What a rule is about (`when`) is said of the work alone;
what must hold (`require`) may be said of the site. One tree is evaluated in Python where work is
placed, and is handed to a solver where a policy is to be proved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from scheduler.model.reasons import Reason


class Op(StrEnum):
    """What a condition says. The fields that each uses are named; the others stay empty."""

    ALL = "all"
    """Every one of `parts`; none holds always."""
    ANY = "any"
    """One of `parts` at least; none never holds."""
    TIER_AT_LEAST = "tier_at_least"
    """The work's tier is `number` or higher."""
    TIER_AT_MOST = "tier_at_most"
    """The work's tier is `number` or lower."""
    MARKED = "marked"
    """The work bears one of `values`; with none named, any marking."""
    OF_KIND = "of_kind"
    """The work touches data of one of the kinds `values`; with none named, of any kind."""
    EACH_IN = "each_in"
    """Every value of `fact` is among `values` and `sets`."""
    COVERS = "covers"
    """The values of `fact` include all of `values` and `sets`."""
    ACCREDITED = "accredited"
    """The least tier that the site is accredited for is `number` or higher; 0: the work's own."""
    PARENTS_IN = "parents_in"
    """Every ultimate parent with a stake of more than `number` thousandths of a percent is under
    the law of a country among `values` and `sets`."""
    KNOWN = "known"
    """`fact` has at least the assurance `number`, and was observed at most `age_ms` ago."""
    AGREED = "agreed"
    """The site's country is one that an agreement in force opens to this work; where `values` are
    named, an agreement of one of these instruments."""


OF_WORK = frozenset({Op.TIER_AT_LEAST, Op.TIER_AT_MOST, Op.MARKED, Op.OF_KIND})
"""Said of the work, whatever the site."""
JOINTS = frozenset({Op.ALL, Op.ANY})


class NamedSet(StrEnum):
    """Countries, or markings, that depend on the work and the policy."""

    WORK = "work"
    """The jurisdictions that the work names."""
    ALLOWED = "allowed"
    """The jurisdictions that the policy allows, and those that an agreement opens to the work."""
    HOME = "home"
    """What the work names and the policy allows, agreements aside."""
    TOLERATED = "tolerated"
    """Countries whose compulsion the work tolerates."""
    MARKINGS = "markings"
    """The work's markings."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One node of the tree; `Op` says what its fields mean. `fact` is the name of a `FactKey`."""

    op: Op
    fact: str = ""
    values: tuple[str, ...] = ()
    sets: tuple[NamedSet, ...] = ()
    number: int = 0
    age_ms: int | None = None
    parts: tuple[Condition, ...] = ()

    def nodes(self) -> Iterator[Condition]:
        """This condition and all below it."""
        yield self
        for part in self.parts:
            yield from part.nodes()

    def is_of_work(self) -> bool:
        """Whether the work alone decides it."""
        return all(node.op in OF_WORK or node.op in JOINTS for node in self.nodes())


ALWAYS = Condition(Op.ALL)


@dataclass(frozen=True, slots=True)
class Rule:
    """Where `when` holds of the work, `require` must hold of site and work; else it is denied."""

    id: str
    text: str
    """The rule in a sentence, for people."""
    cites: str
    """Where it comes from: a law, a guidance, a decision."""
    require: Condition
    when: Condition = ALWAYS
    reason: Reason = Reason.POLICY_RULE


@dataclass(frozen=True, slots=True)
class Invariant:
    """What must be true of every permit that a policy can ever give; proved, not evaluated."""

    id: str
    text: str
    cites: str
    require: Condition
    when: Condition = ALWAYS


@dataclass(frozen=True, slots=True)
class FactRule:
    """How well one fact must be known, wherever it is needed; only stricter than the policy's."""

    fact: str
    min_assurance: int = 0
    max_age_ms: int | None = None
