"""A self-assessment, made of what the control plane shows now: no statement without its evidence.

Two views of the same evidence. The fourteen cloud security principles of the NCSC (their names are
the NCSC's, the sentences ours), each with what this system can show about it, or that it can show
nothing. And a vector of sovereignty: for each objective the level of the weakest site that takes
work, beside the least that the policy in force asks. One number over all of it would hide the
weakest; there is none.

Levels are those of facts: 0 nothing that may be relied on, 1 DECLARED, 2 AUDITED, 3 ATTESTED,
4 MEASURED. A fact that is expired, or names a country that the policy does not allow, is level 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sovapi.v1 import audit_pb2, common_pb2, fleet_pb2, policy_pb2

LABEL = (
    "This is a self-assessment by the operator's own system. Nobody else has examined it, and it is"
    " no certification, and no statement of the NCSC."
)
NO_EVIDENCE = "no evidence"
EVIDENCE_MAX = 20
"""References that one statement names; how many there were is said as well."""
Make: TypeAlias = "Callable[[Sources, Sequence[fleet_pb2.Site]], Statement]"
LEVELS = ("NONE", "DECLARED", "AUDITED", "ATTESTED", "MEASURED")


@dataclass(frozen=True, slots=True)
class Sources:
    """What the control plane showed at `at_ms`. `refused`: what the caller may not look at."""

    at_ms: int
    policy: policy_pb2.Policy
    sites: Sequence[fleet_pb2.Site]
    nodes: Sequence[fleet_pb2.Node]
    leaves: Mapping[str, tuple[int, int]]
    """Of each kind of audit leaf: how many, and the index of the newest."""
    checkpoint: audit_pb2.Checkpoint | None
    certificates: Sequence[audit_pb2.CertificateLine]
    gaps: int
    dependencies: Sequence[fleet_pb2.ExternalDependency]
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence and where it comes from; without evidence it says only that there is none."""

    text: str
    evidence: tuple[str, ...]
    evidence_total: int

    @property
    def shown(self) -> bool:
        """Whether there is anything to show for it."""
        return self.evidence_total > 0


@dataclass(frozen=True, slots=True)
class Principle:
    """One of the fourteen."""

    number: int
    name: str
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Objective:
    """One component of the vector: the level found, and the least that the policy asks."""

    name: str
    level: int
    least: int
    weakest: str
    evidence: tuple[str, ...]

    @property
    def met(self) -> bool:
        """Whether the weakest is as good as the policy asks."""
        return self.level >= self.least


@dataclass(frozen=True, slots=True)
class Assessment:
    """The whole."""

    at_ms: int
    policy_revision: int
    objectives: tuple[Objective, ...]
    principles: tuple[Principle, ...]
    refused: tuple[str, ...]


OBJECTIVES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("where work is", ("country",)),
    ("whose law reaches it", ("landlord", "facility_operator", "service_operator")),
    ("who owns the operators", ("ultimate_parents",)),
    ("who can touch it", ("support_desk",)),
    ("who holds the keys", ("key_custodian",)),
    ("where logs and copies flow", ("sinks",)),
    ("what it is accredited for", ("accreditation", "markings")),
)
"""Objectives that facts about sites speak of."""
OF_NODES: tuple[tuple[str, str], ...] = (
    ("where nodes were measured", "location"),
    ("what attests the hardware", "attestation"),
)
_NOT_COUNTRIES = frozenset({"accreditation", "markings", "ultimate_parents"})
_MAY_BE_EMPTY = frozenset({"markings", "ultimate_parents"})


def assess(found: Sources) -> Assessment:
    """The assessment of what was found."""
    active = [site for site in found.sites if site.status == fleet_pb2.SITE_STATUS_ACTIVE]
    objectives = [_of_sites(found, active, name, keys) for name, keys in OBJECTIVES]
    objectives += [_of_nodes(found, name, key) for name, key in OF_NODES]
    principles = tuple(
        Principle(number, name, tuple(make(found, active) for make in says))
        for number, (name, says) in enumerate(PRINCIPLES, start=1)
    )
    return Assessment(
        found.at_ms, found.policy.revision, tuple(objectives), principles, found.refused
    )


def _of_sites(
    found: Sources, sites: Sequence[fleet_pb2.Site], name: str, keys: Sequence[str]
) -> Objective:
    """The weakest fact among `keys` of any site that takes work."""
    least = max([found.policy.min_assurance, *_asked(found.policy, keys)])
    graded = [
        (_level(found, site, key), f"fact {key} of {site.id}{_told(site, key)}")
        for site in sites
        for key in keys
    ]
    level, weakest = min(graded, default=(0, NO_EVIDENCE))
    return Objective(name, level, least, weakest, _some([said for _, said in graded]))


def _asked(policy: policy_pb2.Policy, keys: Iterable[str]) -> list[int]:
    return [rule.min_assurance for rule in policy.facts if rule.fact in tuple(keys)]


def _level(found: Sources, site: fleet_pb2.Site, key: str) -> int:
    stated = [fact for fact in site.facts if fact.key == key]
    if len(stated) != 1 or _expired(stated[0], found.at_ms):
        return 0
    fact, allowed = stated[0], set(found.policy.allowed_jurisdictions)
    values = set(fact.values)
    if key == "ultimate_parents":
        stake = found.policy.controlling_stake_milli_percent
        above = [p for p in site.ultimate_parents if p.stake_milli_percent > stake]
        values = {party.country for party in above}
    at_home = key in _NOT_COUNTRIES - {"ultimate_parents"} or values <= allowed
    stated_at_all = bool(fact.values) or key in _MAY_BE_EMPTY
    return int(fact.assurance) if at_home and stated_at_all else 0


def _expired(fact: fleet_pb2.Fact, at_ms: int) -> bool:
    return bool(fact.expires_at_ms) and at_ms >= fact.expires_at_ms


def _told(site: fleet_pb2.Site, key: str) -> str:
    """What a fact says, how sure it is, and its evidence."""
    stated = [fact for fact in site.facts if fact.key == key]
    if not stated:
        return ": not stated"
    fact = stated[0]
    said = ", ".join(fact.values) or "none"
    assurance = common_pb2.Assurance.Name(fact.assurance).removeprefix("ASSURANCE_")
    return f": {said} ({assurance}, by {fact.asserted_by or 'nobody'})"


def _of_nodes(found: Sources, name: str, key: str) -> Objective:
    """The weakest node: a fact that is not known of it is level 0."""
    least = max([0, *(rule.min_assurance for rule in found.policy.node_facts if rule.about == key)])
    graded = [(_node_level(found, node, key), f"fact {key} of {node.id}") for node in found.nodes]
    level, weakest = min(graded, default=(0, NO_EVIDENCE))
    known = [
        f"fact {key} of {node.id}: {fact.fact.values[0]} ({fact.fact.evidence_digest})"
        for node in found.nodes
        for fact in node.facts
        if fact.fact.key == key and fact.fact.values
    ]
    return Objective(name, level, least, weakest, _some(known))


def _node_level(found: Sources, node: fleet_pb2.Node, key: str) -> int:
    known = [fact.fact for fact in node.facts if fact.fact.key == key]
    if len(known) != 1 or _expired(known[0], found.at_ms):
        return 0
    return int(known[0].assurance)


def _some(evidence: Sequence[str]) -> tuple[str, ...]:
    return tuple(evidence[:EVIDENCE_MAX])


def _statement(text: str, evidence: Sequence[str]) -> Statement:
    return Statement(text if evidence else NO_EVIDENCE, _some(evidence), len(evidence))


def _nothing(_found: Sources, _sites: Sequence[fleet_pb2.Site]) -> Statement:
    return _statement("", ())


def _leaves(text: str, *kinds: str) -> Make:
    def make(found: Sources, _sites: Sequence[fleet_pb2.Site]) -> Statement:
        evidence = [
            f"audit leaf {found.leaves[kind][1]}: the newest of {found.leaves[kind][0]} {kind}"
            for kind in kinds
            if kind in found.leaves
        ]
        return _statement(text, evidence)

    return make


def _facts(text: str, *keys: str) -> Make:
    def make(_found: Sources, sites: Sequence[fleet_pb2.Site]) -> Statement:
        evidence = [
            f"fact {fact.key} of {site.id}{_told(site, fact.key)}"
            for site in sites
            for fact in site.facts
            if fact.key in keys
        ]
        return _statement(text, evidence)

    return make


def _policy(found: Sources, _sites: Sequence[fleet_pb2.Site]) -> Statement:
    policy = found.policy
    signed = f", signed by {policy.signed_by}" if policy.signed_by else ", signed by nobody"
    told = [f"policy revision {policy.revision} ({policy.name}){signed}"] if policy.revision else []
    text = f"Work may be in {', '.join(policy.allowed_jurisdictions)} at most"
    return _statement(f"{text}, under {len(policy.rules)} rules of the operator's own.", told)


def _isolation(found: Sources, _sites: Sequence[fleet_pb2.Site]) -> Statement:
    levels: dict[str, int] = {}
    for node in found.nodes:
        name = common_pb2.Isolation.Name(node.isolation).removeprefix("ISOLATION_").lower()
        levels[name] = levels.get(name, 0) + 1
    told = [f"{count} nodes report isolation {name}" for name, count in sorted(levels.items())]
    return _statement("Jobs on one node are kept apart as each node reports.", told)


def _outside(found: Sources, _sites: Sequence[fleet_pb2.Site]) -> Statement:
    told = [
        f"endpoint {each.name} of {each.site or each.program}: "
        f"{fleet_pb2.ContactState.Name(each.state).removeprefix('CONTACT_STATE_')}"
        for each in found.dependencies
    ]
    return _statement("These are all endpoints outside the home zone that would be met.", told)


def _log(found: Sources, _sites: Sequence[fleet_pb2.Site]) -> Statement:
    head = found.checkpoint
    if head is None or not head.tree_size:
        return _nothing(found, ())
    signatures = head.signed_note.decode("utf-8", "replace").count("\n— ")
    told = [f"checkpoint of {head.tree_size} leaves, root {head.root_hash.hex()[:16]}"]
    text = f"Every decision is in one log; its head bears {signatures} signatures."
    return _statement(text, told)


def _certificates(found: Sources, _sites: Sequence[fleet_pb2.Site]) -> Statement:
    verdicts: dict[str, int] = {}
    for line in found.certificates:
        verdicts[line.verdict] = verdicts.get(line.verdict, 0) + 1
    told = [f"{count} certificates say {verdict}" for verdict, count in sorted(verdicts.items())]
    text = f"Work that is over has certificates; their sequences have {found.gaps} breaks."
    return _statement(text, told)


def _identities(found: Sources, _sites: Sequence[fleet_pb2.Site]) -> Statement:
    told = [f"session of site {site.id}, agent {site.agent_version}" for site in found.sites
            if site.connected]  # fmt: skip
    return _statement("Sites speak to the control plane over mutual TLS only.", told)


PRINCIPLES: tuple[tuple[str, tuple[Make, ...]], ...] = (
    ("Data in transit protection", (_identities,)),
    (
        "Asset protection and resilience",
        (
            _facts("Sites say where they stand, and whither logs flow.", "country", "sinks"),
            _policy,
        ),
    ),
    ("Separation between customers", (_isolation,)),
    ("Governance framework", (_leaves("Policies come into force on record.", "policy_in_force"),)),
    (
        "Operational security",
        (_leaves("What operators do to nodes is on record.", "cordoned", "drained", "fenced"),),
    ),
    ("Personnel security", (_facts("Sites say from where they are supported.", "support_desk"),)),
    ("Secure development", (_nothing,)),
    (
        "Supply chain security",
        (
            _facts(
                "Sites say whose law reaches whoever is behind them.",
                "landlord",
                "facility_operator",
                "service_operator",
                "ultimate_parents",
            ),
        ),
    ),
    (
        "Secure user management",
        (_leaves("Tenants and their quotas are declared on record.", "tenants_applied"),),
    ),
    ("Identity and authentication", (_identities,)),
    ("External interface protection", (_outside,)),
    (
        "Secure service administration",
        (
            _leaves("Declarations name who made them and why.", "fleet_applied", "tenants_applied"),
            _leaves("Operators' access to tenants' data is on record.", "operator_access_used"),
        ),
    ),
    ("Audit information and alerting for customers", (_log, _certificates)),
    (
        "Secure use of the service",
        (_leaves("Work that may run nowhere is refused, with reasons.", "job_refused"),),
    ),
)
"""The fourteen, in their order, and what can be shown about each."""
