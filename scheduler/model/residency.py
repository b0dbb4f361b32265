"""Facts about sites, requirements of work, and the two possible verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TypeAlias

from scheduler.model.agreements import Agreement
from scheduler.model.ids import SiteId
from scheduler.model.reasons import Denial
from scheduler.model.rules import FactRule, Invariant, Rule


class Assurance(IntEnum):
    """How strongly a fact is known. Zero denies wherever the fact is needed."""

    UNSPECIFIED = 0
    DECLARED = 1
    AUDITED = 2
    ATTESTED = 3
    MEASURED = 4


class Tier(IntEnum):
    """Security classification of work and accreditation of sites. SENSITIVE is a marking."""

    UNSPECIFIED = 0
    OFFICIAL = 1
    SECRET = 2
    TOP_SECRET = 3


class NodeSharing(IntEnum):
    """Who may be on the same node at the same time."""

    UNSPECIFIED = 0
    NONE = 1
    TENANT = 2
    ANY = 3


class FactKey(StrEnum):
    """What can be known of a site. Values of a fact are strings; countries are ISO alpha-2."""

    COUNTRY = "country"
    LANDLORD = "landlord"
    """One value: the country whose law reaches the landlord."""
    FACILITY_OPERATOR = "facility_operator"
    """Country of the party that builds and runs the facility."""
    SERVICE_OPERATOR = "service_operator"
    """Country of the party that runs the cloud service on it."""
    ULTIMATE_PARENTS = "ultimate_parents"
    """Held as `Site.parents`; the fact carries assurance, source and dates of that list."""
    SUPPORT_DESK = "support_desk"
    """Countries from which the site is supported and administered."""
    KEY_CUSTODIAN = "key_custodian"
    ACCREDITATION = "accreditation"
    """The highest tier the site is accredited for, by name."""
    MARKINGS = "markings"
    """Markings the site may handle."""
    SINKS = "sinks"
    """Countries that logs, metrics and backups of the site flow to."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One graded statement about a site."""

    key: FactKey
    values: tuple[str, ...]
    assurance: Assurance
    asserted_by: str
    observed_at_ms: int
    expires_at_ms: int | None = None
    evidence_digest: str = ""


class NodeFactKey(StrEnum):
    """What can be known of a node, beside what is known of its site."""

    LOCATION = "location"
    """The first value is a verdict of `core.location`, the second the country it is about."""
    ATTESTATION = "attestation"
    """PASSED, FAILED or NONE: what a verifier said of the node's GPUs."""


REFUTING = frozenset({"CLAIM_FALSE", "FAILED"})
"""First values of facts about nodes that speak against the node, whoever asks."""


@dataclass(frozen=True, slots=True, order=True)
class Hearing:
    """How soon a node answered one landmark at best: round trip in microseconds, UTC time."""

    rtt_min_us: int
    landmark: str
    operator: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class NodeFact:
    """One graded statement about a node: as `Fact` is one about a site."""

    key: NodeFactKey
    values: tuple[str, ...]
    assurance: Assurance
    asserted_by: str
    observed_at_ms: int
    expires_at_ms: int | None = None
    evidence_digest: str = ""
    claim: str = ""
    """What was tested: what is refuted stays so for as long as the claim is the same."""
    detail: str = ""
    bound_m: int = 0
    """Of a location: within so many metres of a landmark."""
    heard: tuple[Hearing, ...] = ()
    """Of a location: the nearest landmarks that were answered."""

    def refutes(self) -> bool:
        """Whether this speaks against the node."""
        return self.values[:1] != () and self.values[0] in REFUTING


@dataclass(frozen=True, slots=True, order=True)
class Party:
    """Somebody above a site's operator, with the stake they hold through the chain."""

    name: str
    country: str
    stake_milli_percent: int
    at_most: bool = False
    """The stake is not known: this is its upper bound, and is judged as if it were held."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """What must hold of a site before work may be there. An empty one permits nothing.

    `tolerate_foreign_compulsion` lists countries whose law may reach the operator although they
    are not among `jurisdictions`; empty means none.
    """

    jurisdictions: tuple[str, ...]
    tier: Tier = Tier.OFFICIAL
    markings: tuple[str, ...] = ()
    tolerate_foreign_compulsion: tuple[str, ...] = ()
    agreements: tuple[str, ...] = ()
    node_sharing: NodeSharing = NodeSharing.TENANT
    min_assurance: Assurance = Assurance.DECLARED
    data_kinds: tuple[str, ...] = ()
    """Kinds of data that the work touches, such as personal or health: what rules and agreements
    may speak of beside tier and markings."""
    data_sites: tuple[SiteId, ...] | None = None
    """Where all that the work reads of the catalogue lies: it may be nowhere else. None: it reads
    nothing; empty: there is no such site. Never asked for, always found out (`core.data_rules`)."""
    node_facts: tuple[FactRule, ...] = ()
    """What must be known of every node, by the names of `NodeFactKey`; none: nothing."""
    facts: tuple[FactRule, ...] = ()
    """Facts of the site that must be known better than `min_assurance` and the policy ask, by the
    names of `FactKey`. One that is named here is needed, whether or not a rule speaks of it."""
    tenant: str = ""
    """Whose work it is, which agreements may ask: told where the work names one, else left out."""
    kind: str = ""
    """What sort of job it is, likewise."""

    def if_raised(self) -> Requirement | None:
        """Itself, where it is what inputs raised it to and not what was asked for."""
        return None if self.data_sites is None else self


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator allows at most, whatever work asks for. Revised as a whole."""

    revision: int = 1
    name: str = "gb-only"
    allowed_jurisdictions: tuple[str, ...] = ("GB",)
    control_plane_tier: Tier = Tier.OFFICIAL
    controlling_stake_milli_percent: int = 25_000
    """A stake of more than this is control (the UK's PSC threshold, 25 %)."""
    min_assurance: Assurance = Assurance.DECLARED
    fact_max_age_ms: int | None = None
    min_isolation: int = 0
    """Least `fleet.Isolation` of a node; the sites' own minimum applies as well."""
    facts: tuple[FactRule, ...] = ()
    """Facts that must be known better than the two fields above ask."""
    node_facts: tuple[FactRule, ...] = ()
    """What must be known of every node, by the names of `NodeFactKey`, whatever work asks."""
    rules: tuple[Rule, ...] = ()
    """What must hold besides: every rule only narrows what the fields above allow."""
    invariants: tuple[Invariant, ...] = ()
    """What is proved of this policy before it comes into force."""
    instruments: tuple[str, ...] = ()
    """The sorts of agreements that may open a jurisdiction (`agreements.Instrument`)."""
    agreements: tuple[Agreement, ...] = ()
    """Those that were applied and not revoked. They come and go by themselves, and not with the
    pack; each coming and going is a revision."""
    digest: str = ""
    """SHA-256 of the pack this came from, in hex; empty where it came from none."""
    signed_by: str = ""
    """Id of the key that signed the pack; empty: nobody did."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The site may hold the work. Names the facts this relied on."""

    relied_on: tuple[FactKey, ...]
    agreement: str = ""
    """The first agreement, by name, without which the site might not; empty: it needs none."""
    others: tuple[str, ...] = ()
    """Those each of which would do as well, where the caps of the first are met."""

    @property
    def agreements(self) -> tuple[str, ...]:
        """Each that opens the site by itself, by name; none where it needs none."""
        return (self.agreement, *self.others) if self.agreement else ()


@dataclass(frozen=True, slots=True)
class Deny:
    """The site may not, for each of these reasons; never empty."""

    denials: tuple[Denial, ...]


Verdict: TypeAlias = Permit | Deny
