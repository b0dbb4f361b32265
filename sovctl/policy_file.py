"""The policy file, or pack: what is allowed at most, whatever work asks for.

Its first fields bound all work. `rules` narrow that further, each for the work it is about;
`invariants` are what is proved of the whole before it comes into force. Nothing has a loose
default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from sovapi.v1 import policy_pb2
from sovctl.fleet_file import Percent
from sovctl.spec import FactName, FactQuality, NodeFactQuality
from sovctl.spec_fields import (
    Assurance,
    Countries,
    Country,
    Duration,
    Names,
    NodeFactName,
    Tier,
    Written,
)
from sovctl.spec_proto import facts_to_proto, node_facts_to_proto
from sovctl.spec_values import contradiction, duration_ms
from sovctl.spec_values import listed as few

CONDITIONS_MAX = 50
RULES_MAX = 100
SIGNED_AS = b"sovereign policy pack v1\n"
"""Comes before a pack in what is signed: no signature of another statement is one of a pack."""

_TIERS: Mapping[str, int] = {"OFFICIAL": 1, "SECRET": 2, "TOP_SECRET": 3}
_ASSURANCES: Mapping[str, int] = {"DECLARED": 1, "AUDITED": 2, "ATTESTED": 3, "MEASURED": 4}

Id: TypeAlias = Annotated[str, Field(min_length=1, max_length=63)]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=500)]
Instrument: TypeAlias = Literal["approval", "contract", "memorandum", "treaty"]
SetName: TypeAlias = Literal["work", "allowed", "home", "tolerated"]
"""Countries that depend on the work: those it names, those the policy or an agreement allows, both
at once without agreements, and those whose compulsion it tolerates."""


class OneOf(Written):
    """A condition: exactly one of its fields is given."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = sorted(name for name in self.model_fields_set if getattr(self, name) is not None)
        if len(given) != 1:
            raise contradiction(
                few(given) or "nothing", "exactly one condition; join several by all"
            )
        return self


class About(OneOf):
    """Which work a rule is about; exactly one field of it."""

    tier_at_least: Tier | None = None
    tier_at_most: Tier | None = None
    marked: Names | None = None
    """One of these markings; an empty list: any marking."""
    data_kinds: Names | None = None
    """Data of one of these kinds; an empty list: of any kind."""
    all: Annotated[Sequence[About], Field(max_length=CONDITIONS_MAX)] | None = None
    any: Annotated[Sequence[About], Field(max_length=CONDITIONS_MAX)] | None = None

    def to_proto(self) -> policy_pb2.PolicyCondition:
        """The condition on the wire."""
        made = policy_pb2.PolicyCondition
        if self.all is not None:
            return made(op="all", parts=[part.to_proto() for part in self.all])
        if self.any is not None:
            return made(op="any", parts=[part.to_proto() for part in self.any])
        if self.marked is not None:
            return made(op="marked", values=sorted(self.marked))
        if self.data_kinds is not None:
            return made(op="of_kind", values=sorted(self.data_kinds))
        if self.tier_at_least is not None:
            return made(op="tier_at_least", number=_TIERS[self.tier_at_least])
        assert self.tier_at_most is not None, "one of the fields is given"
        return made(op="tier_at_most", number=_TIERS[self.tier_at_most])


class EachIn(Written):
    """Every country that a fact names is one of these, or of these sets."""

    fact: FactName
    countries: Annotated[Sequence[Country], Field(max_length=300)] = ()
    sets: Annotated[Sequence[SetName], Field(max_length=4)] = ()


class ParentsIn(Written):
    """Everybody with more than a stake is under the law of one of these, or of these sets."""

    above: Percent
    countries: Annotated[Sequence[Country], Field(max_length=300)] = ()
    sets: Annotated[Sequence[SetName], Field(max_length=4)] = ()


class Known(Written):
    """A fact is at least so sure and so fresh."""

    fact: FactName
    min_assurance: Assurance | None = None
    max_age: Duration | None = None


class Demand(OneOf):
    """What must hold of the site; exactly one field of it."""

    each_in: EachIn | None = None
    parents_in: ParentsIn | None = None
    known: Known | None = None
    accredited: Tier | None = None
    may_handle: Names | None = None
    """The site may handle all of these markings."""
    agreed: Annotated[Sequence[Instrument], Field(max_length=4)] | None = None
    """An agreement in force opens the country; one of these instruments, or any."""
    work: About | None = None
    """The work itself must be such."""
    all: Annotated[Sequence[Demand], Field(max_length=CONDITIONS_MAX)] | None = None
    any: Annotated[Sequence[Demand], Field(max_length=CONDITIONS_MAX)] | None = None

    def to_proto(self) -> policy_pb2.PolicyCondition:
        """The condition on the wire."""
        made = policy_pb2.PolicyCondition
        if self.all is not None:
            return made(op="all", parts=[part.to_proto() for part in self.all])
        if self.any is not None:
            return made(op="any", parts=[part.to_proto() for part in self.any])
        if self.work is not None:
            return self.work.to_proto()
        if self.may_handle is not None:
            return made(op="covers", fact="markings", values=sorted(self.may_handle))
        if self.agreed is not None:
            return made(op="agreed", values=sorted(self.agreed))
        if self.accredited is not None:
            return made(op="accredited", fact="accreditation", number=_TIERS[self.accredited])
        return self._of_fact()

    def _of_fact(self) -> policy_pb2.PolicyCondition:
        if (each := self.each_in) is not None:
            return policy_pb2.PolicyCondition(
                op="each_in",
                fact=each.fact,
                values=sorted(each.countries),
                sets=sorted(each.sets),
            )
        if (parents := self.parents_in) is not None:
            return policy_pb2.PolicyCondition(
                op="parents_in",
                fact="ultimate_parents",
                values=sorted(parents.countries),
                sets=sorted(parents.sets),
                number=int(parents.above),
            )
        known = self.known
        assert known is not None, "one of the fields is given"
        return policy_pb2.PolicyCondition(
            op="known",
            fact=known.fact,
            number=_ASSURANCES[known.min_assurance] if known.min_assurance else 0,
            age_ms=None if known.max_age is None else duration_ms(known.max_age),
        )


class Rule(Written):
    """Where `when` is true of the work (always, if left out), `require` must be of the site."""

    id: Id
    text: Text
    cites: Text
    when: About | None = None
    require: Demand


class Policy(Written):
    """The rules above the tenants' own requirements."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    allowed_jurisdictions: Annotated[Countries, Field(min_length=1)]
    control_plane_tier: Tier
    controlling_stake: Percent = 25_000
    min_assurance: Assurance
    fact_max_age: Duration | None = None
    min_isolation: Literal["none", "pidns", "uid", "container"] = "uid"
    agreements: Annotated[Sequence[Instrument], Field(max_length=4)] = ()
    """The sorts of agreements that may open a jurisdiction; none: nothing does."""
    facts: Mapping[FactName, FactQuality] = {}
    node_facts: Mapping[NodeFactName, NodeFactQuality] = {}
    """What must be known of every node, whatever work asks."""
    rules: Annotated[Sequence[Rule], Field(max_length=RULES_MAX)] = ()
    invariants: Annotated[Sequence[Rule], Field(max_length=RULES_MAX)] = ()

    def to_proto(self) -> policy_pb2.Policy:
        """The policy on the wire; revision and digest are the control plane's to give."""
        return policy_pb2.Policy(
            name=self.name,
            allowed_jurisdictions=sorted(self.allowed_jurisdictions),
            control_plane_tier=f"TIER_{self.control_plane_tier}",
            controlling_stake_milli_percent=int(self.controlling_stake),
            min_assurance=f"ASSURANCE_{self.min_assurance}",
            fact_max_age_ms=None if self.fact_max_age is None else duration_ms(self.fact_max_age),
            min_isolation=f"ISOLATION_{self.min_isolation.upper()}",
            instruments=sorted(self.agreements),
            facts=facts_to_proto(self.facts),
            node_facts=node_facts_to_proto(self.node_facts),
            rules=[
                policy_pb2.PolicyRule(
                    id=rule.id,
                    text=rule.text,
                    cites=rule.cites,
                    require=rule.require.to_proto(),
                    when=None if rule.when is None else rule.when.to_proto(),
                )
                for rule in self.rules
            ],
            invariants=[
                policy_pb2.PolicyInvariant(
                    id=each.id,
                    text=each.text,
                    cites=each.cites,
                    require=each.require.to_proto(),
                    when=None if each.when is None else each.when.to_proto(),
                )
                for each in self.invariants
            ],
        )

    def to_pack(self) -> bytes:
        """The policy as it is sent and signed."""
        return self.to_proto().SerializeToString(deterministic=True)
