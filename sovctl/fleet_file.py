"""The fleet file: sites, what is known of them, and their nodes; `sovctl fleet apply` sends it.

A file is the whole fleet: what is not in it is taken away. Nodes are written in groups that are
alike. Every fact names how well it is known, by whom and since when; the facts of a site are
written as in the file that the site's own guard reads.

What nobody stated is marked: a fact by a `source` that begins with "assumed", anything else by its
name in the site's `assumed`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PlainValidator, model_validator

from sovapi.v1 import fleet_pb2
from sovctl.fleet_values import (
    NODES_MAX,
    Stake,
    parse_moment,
    parse_pue_milli,
    parse_stake,
)
from sovctl.node_groups import NodeGroup, node_to_proto
from sovctl.spec import FactName
from sovctl.spec_fields import Assurance, Country, Written, matching
from sovctl.spec_values import (
    contradiction,
    listed,
    parse_percent_milli,
)

SITES_MAX = 10_000
GROUPS_MAX = 10_000
CARBON_G_PER_KWH_MAX = 5_000
PRICE_PENCE_PER_MWH_MAX = 10_000_000
PARENTS_MAX = 100
VALUES_MAX = 200
ASSUMED_MAX = 50

ASSUMED = "assumed"
"""How the source of a fact begins that nobody stated."""

TIERS = ("OFFICIAL", "SECRET", "TOP_SECRET")

_SITE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

PARENTS = "ultimate_parents"


Moment: TypeAlias = Annotated[int | str, PlainValidator(parse_moment)]
Percent: TypeAlias = Annotated[int | str | Decimal, PlainValidator(parse_percent_milli)]
"""Written in percent, held in thousandths of a percent."""

Pue: TypeAlias = Annotated[int | str | Decimal, PlainValidator(parse_pue_milli)]

Text: TypeAlias = Annotated[str, Field(max_length=200)]

SiteId: TypeAlias = Annotated[
    str, matching(_SITE, "up to 63 lower-case letters, digits and '-', such as exch-london-1")
]


class Parent(Written):
    """Somebody above the operator, with the stake held through the chain.

    "24.5%", or "at most 25%" where only that is known: the bound is judged as if it were held.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    country: Country
    stake: Annotated[Stake, PlainValidator(parse_stake)]


class FactEntry(Written):
    """One fact: a `value`, several `values`, or the `parties` of ultimate_parents.

    An empty list of parties or markings says that there are none, and that this is known.
    """

    value: str | None = None
    values: Annotated[Sequence[str], Field(max_length=VALUES_MAX)] | None = None
    parties: Annotated[Sequence[Parent], Field(max_length=PARENTS_MAX)] | None = None
    assurance: Assurance
    source: Annotated[str, Field(max_length=500)] = ""
    observed: Moment
    expires: Moment | None = None
    digest: Annotated[str, Field(max_length=200)] = ""

    @model_validator(mode="after")
    def _one_way(self) -> FactEntry:
        given = sum(part is not None for part in (self.value, self.values, self.parties))
        if given != 1:
            raise contradiction(f"{given} of value, values, parties", "exactly one")
        return self

    def all_values(self) -> tuple[str, ...]:
        """The values, however they were written."""
        return (self.value,) if self.value is not None else tuple(self.values or ())


class Roles(Written):
    """Names of who does what; the facts of the same names say whose law reaches them."""

    landlord: Text = ""
    facility_operator: Text = ""
    service_operator: Text = ""
    offtaker: Text = ""


class Energy(Written):
    """What energy costs at a site, and what is emitted for it. Where work fits at several sites
    alike it goes where both cost least; nothing else is decided by them."""

    carbon_g_per_kwh: Annotated[int, Field(ge=0, le=CARBON_G_PER_KWH_MAX)]
    """CO2e."""
    price_pence_per_mwh: Annotated[int, Field(ge=0, le=PRICE_PENCE_PER_MWH_MAX)]
    source: Annotated[str, Field(min_length=1, max_length=200)]
    observed: Moment


class Site(Written):
    """A site as declared.

    `roles`, `cooling`, `pue` and `note` describe it; no verdict reads them. `assumed` names what of
    all this nobody stated: a field of the site, `roles.FIELD` or `nodes.FIELD`.
    """

    id: SiteId
    name: Annotated[str, Field(max_length=200)] = ""
    status: Literal["active", "planned", "on_hold"]
    facts: Mapping[FactName, FactEntry]
    min_isolation: Literal["none", "pidns", "uid", "container"] = "uid"
    power_cap_w: Annotated[int, Field(ge=0)] | None = None
    energy: Energy | None = None
    roles: Roles = Roles()
    cooling: Text = ""
    pue: Pue | None = None
    note: Annotated[str, Field(max_length=1000)] = ""
    assumed: Annotated[Sequence[str], Field(max_length=ASSUMED_MAX)] = ()
    nodes: Annotated[Sequence[NodeGroup], Field(max_length=GROUPS_MAX)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Site:
        for name in sorted(self.facts):
            _check_values(name, self.facts[name])
        slots = [slot for group in self.nodes for slot in group.slots]
        if len(slots) != len(set(slots)):
            twice = sorted({slot for slot in slots if slots.count(slot) > 1})
            raise contradiction(f"twice: {listed(twice)}", "each slot once")
        for name in self.assumed:
            if name not in self._stated():
                raise contradiction(
                    f"assumed {name!r}", "names of what the site states, such as nodes.cpus"
                )
        return self

    def _stated(self) -> set[str]:
        """What `assumed` may name; facts are marked by their source."""
        stated = self.model_fields_set - {"id", "facts", "assumed"}
        stated |= {f"roles.{name}" for name in self.roles.model_fields_set}
        return stated | {f"nodes.{name}" for g in self.nodes for name in g.model_fields_set}

    def all_assumed(self) -> tuple[str, ...]:
        """Everything that nobody stated, facts included."""
        marked = [k for k, entry in self.facts.items() if entry.source.startswith(ASSUMED)]
        return tuple(sorted({*self.assumed, *(f"facts.{key}" for key in marked)}))


class Fleet(Written):
    """A whole fleet."""

    sites: Annotated[Sequence[Site], Field(max_length=SITES_MAX)]

    @model_validator(mode="after")
    def _consistent(self) -> Fleet:
        ids = [site.id for site in self.sites]
        if len(ids) != len(set(ids)):
            twice = sorted({site for site in ids if ids.count(site) > 1})
            raise contradiction(f"twice: {listed(twice)}", "each site once")
        nodes = sum(len(group.slots) for site in self.sites for group in site.nodes)
        if nodes > NODES_MAX:
            raise contradiction(f"{nodes} nodes", f"at most {NODES_MAX}")
        return self

    def to_proto(self) -> list[fleet_pb2.SiteDeclaration]:
        """The declarations on the wire, by site id."""
        return [_site(site) for site in sorted(self.sites, key=lambda site: site.id)]


def _check_values(name: str, entry: FactEntry) -> None:
    """Where a fact's values are parties, countries or tiers, they must look like it."""
    values = entry.all_values()
    if (name == PARENTS) != (entry.parties is not None):
        raise contradiction(f"facts.{name}", f"parties in facts.{PARENTS} and nowhere else")
    if name == "accreditation":
        if len(values) != 1 or values[0] not in TIERS:
            raise contradiction(
                f"facts.accreditation {listed(values)}", f"one of {', '.join(TIERS)}"
            )
    elif name != "markings":
        for value in values:
            if not re.fullmatch("[A-Z]{2}", value):
                raise contradiction(
                    f"facts.{name} {value!r}", "two capital letters, a country such as GB"
                )


def _moment(value: int | str | None) -> int:
    return 0 if value is None else parse_moment(value) if isinstance(value, str) else value


def _fact(key: str, entry: FactEntry) -> fleet_pb2.Fact:
    return fleet_pb2.Fact(
        key=key,
        values=entry.all_values(),
        assurance=f"ASSURANCE_{entry.assurance}",
        asserted_by=entry.source,
        evidence_digest=entry.digest,
        observed_at_ms=_moment(entry.observed),
        expires_at_ms=_moment(entry.expires),
    )


def _energy(energy: Energy) -> fleet_pb2.SiteEnergy:
    return fleet_pb2.SiteEnergy(
        carbon_g_per_kwh=energy.carbon_g_per_kwh,
        price_pence_per_mwh=energy.price_pence_per_mwh,
        source=energy.source,
        observed_at_ms=_moment(energy.observed),
    )


def _site(site: Site) -> fleet_pb2.SiteDeclaration:
    parents = site.facts.get(PARENTS)
    groups = {slot: (at, group) for group in site.nodes for at, slot in enumerate(group.slots)}
    return fleet_pb2.SiteDeclaration(
        id=site.id,
        display_name=site.name,
        status=f"SITE_STATUS_{site.status.upper()}",
        facts=[_fact(key, site.facts[key]) for key in sorted(site.facts)],
        ultimate_parents=[
            fleet_pb2.Party(
                name=party.name,
                country=party.country,
                stake_milli_percent=party.stake.milli_percent,
                at_most=party.stake.at_most,
            )
            for party in ((parents.parties or ()) if parents is not None else ())
        ],
        nodes=[node_to_proto(slot, *groups[slot]) for slot in sorted(groups)],
        min_isolation=f"ISOLATION_{site.min_isolation.upper()}",
        power_cap_w=site.power_cap_w,
        energy=None if site.energy is None else _energy(site.energy),
        profile=fleet_pb2.SiteProfile(
            landlord=site.roles.landlord,
            facility_operator=site.roles.facility_operator,
            service_operator=site.roles.service_operator,
            offtaker=site.roles.offtaker,
            cooling=site.cooling,
            pue_milli=None if site.pue is None else int(site.pue),
            note=site.note,
            assumed=site.all_assumed(),
        ),
    )
