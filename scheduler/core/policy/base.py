"""The rules that every policy has, whatever its pack says: only their constants come from it.

In the order in which their denials are told: where, under whose law, tier, markings; then the
pack's own rules.
"""

from __future__ import annotations

from scheduler.model.reasons import Reason
from scheduler.model.residency import FactKey, Policy
from scheduler.model.rules import Condition, NamedSet, Op, Rule

REACHES_THE_WORK: tuple[tuple[FactKey, str], ...] = (
    (FactKey.LANDLORD, "the landlord"),
    (FactKey.FACILITY_OPERATOR, "the facility's operator"),
    (FactKey.SERVICE_OPERATOR, "the service's operator"),
    (FactKey.SUPPORT_DESK, "a support desk"),
    (FactKey.KEY_CUSTODIAN, "the key custodian"),
    (FactKey.SINKS, "a sink of logs, metrics or backups"),
)
BEARABLE = (NamedSet.HOME, NamedSet.TOLERATED)
MAY_BE_EMPTY = frozenset({FactKey.ULTIMATE_PARENTS, FactKey.MARKINGS})
"""Where an empty list is a statement: no parents, and cleared for no marking."""

_NCSC = (
    "NCSC cloud security principle 2: asset protection and resilience, location and jurisdiction"
)
_GSCP = "Government Security Classifications Policy, 2024"
_PSC = "Companies Act 2006, schedule 1A: significant control begins above 25 %"


def rules_of(policy: Policy) -> tuple[Rule, ...]:
    """Every rule of `policy`, in the order in which they are told."""
    return (*_base_rules(policy), *policy.rules)


def is_base(rule: Rule) -> bool:
    """Whether `rule` is one that every policy has."""
    return rule.reason is not Reason.POLICY_RULE


def _base_rules(policy: Policy) -> tuple[Rule, ...]:
    country = FactKey.COUNTRY
    return (
        Rule(
            "base/jurisdiction",
            "work is where its owner says that it may be",
            f"the owner's own requirement; {_NCSC}",
            Condition(Op.EACH_IN, country, sets=(NamedSet.WORK,)),
            reason=Reason.JURISDICTION,
        ),
        Rule(
            "base/jurisdiction-allowed",
            "work is where the policy, or an agreement in force, allows it to be",
            f"the operator's policy; {_NCSC}",
            Condition(Op.EACH_IN, country, sets=(NamedSet.ALLOWED,)),
            reason=Reason.JURISDICTION_NOT_ALLOWED,
        ),
        *(
            Rule(
                f"base/law-{key.replace('_', '-')}",
                f"{who} is under law that the work bears",
                _NCSC,
                Condition(Op.EACH_IN, key, sets=BEARABLE),
                reason=Reason.FOREIGN_COMPULSION,
            )
            for key, who in REACHES_THE_WORK
        ),
        Rule(
            "base/law-ultimate-parents",
            "everybody in control of the operator is under law that the work bears",
            f"{_PSC}; {_NCSC}",
            Condition(
                Op.PARENTS_IN,
                FactKey.ULTIMATE_PARENTS,
                sets=BEARABLE,
                number=policy.controlling_stake_milli_percent,
            ),
            reason=Reason.FOREIGN_COMPULSION,
        ),
        Rule(
            "base/tier-control-plane",
            "work is of no higher tier than the control plane that would hold it",
            _GSCP,
            Condition(Op.TIER_AT_MOST, number=policy.control_plane_tier),
            reason=Reason.TIER_ABOVE_CONTROL_PLANE,
        ),
        Rule(
            "base/tier-site",
            "work is of no higher tier than the site is accredited for",
            _GSCP,
            Condition(Op.ACCREDITED, FactKey.ACCREDITATION),
            reason=Reason.TIER_ABOVE_SITE,
        ),
        Rule(
            "base/markings",
            "a site may handle every marking that the work bears",
            f"{_GSCP}: markings are instructions for handling, apart from tiers",
            Condition(Op.COVERS, FactKey.MARKINGS, sets=(NamedSet.MARKINGS,)),
            when=Condition(Op.MARKED),
            reason=Reason.MARKING,
        ),
    )
