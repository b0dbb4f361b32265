"""The fleet file: sites, what is known of them, and their nodes; `sovctl fleet apply` sends it.

A file is the whole fleet: what is not in it is taken away. Nodes are written in groups that are
alike. Every fact names how well it is known, by whom and since when; the facts of a site are
written as in the file that the site's own guard reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PlainValidator, model_validator

from sovapi.v1 import fleet_pb2
from sovctl.spec import Assurance, Bytes, Country, Cpus, Written, matching
from sovctl.spec_values import (
    contradiction,
    cpu_milli,
    listed,
    parse_bytes,
    parse_percent_milli,
    refusal,
)

SITES_MAX = 10_000
NODES_MAX = 100_000
"""Nodes of one fleet."""

GROUPS_MAX = 10_000
GPUS_MAX = 64
PARENTS_MAX = 100
VALUES_MAX = 200

TIERS = ("OFFICIAL", "SECRET", "TOP_SECRET")

_RANGE = re.compile(r"(?P<head>[a-z0-9.-]*)\[(?P<ranges>[0-9,-]+)\](?P<tail>[a-z0-9.-]*)")
_SITE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SLOT = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
_SLOTS_ALLOWED = "lower-case letters, digits, '.' and '-', with ranges such as n[01-16,20]"

FactName: TypeAlias = Literal[
    "country",
    "landlord",
    "facility_operator",
    "service_operator",
    "support_desk",
    "key_custodian",
    "accreditation",
    "markings",
    "sinks",
    "ultimate_parents",
]
PARENTS = "ultimate_parents"


def parse_moment(value: object) -> int:
    """UTC milliseconds of an ISO 8601 date (its first instant) or date and time with an offset."""
    allowed = "a date such as 2026-10-01, or a date and time with its offset, 2026-10-01T09:30Z"
    try:
        match value:
            case datetime():
                moment = value
            case date():
                moment = datetime.combine(value, time(), UTC)
            case str() if len(value) == len("2026-10-01"):
                moment = datetime.combine(date.fromisoformat(value), time(), UTC)
            case str():
                moment = datetime.fromisoformat(value)
            case _:
                raise refusal(value, allowed)
    except ValueError:
        raise refusal(value, allowed) from None
    if moment.tzinfo is None or not 1970 <= moment.year <= 9998:
        raise refusal(value, allowed)
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1000


def expand_slots(text: str) -> tuple[str, ...]:
    """`n[01-03,07]` as n01, n02, n03, n07; a name without a range is itself."""
    found = _RANGE.fullmatch(text)
    if found is None:
        if not _SLOT.fullmatch(text):
            raise refusal(text, _SLOTS_ALLOWED)
        return (text,)
    slots: list[str] = []
    for part in found["ranges"].split(","):
        first, _, last = part.partition("-")
        last = last or first
        if not first.isdecimal() or not last.isdecimal() or len(first) > 9 or len(last) > 9:
            raise refusal(text, _SLOTS_ALLOWED)
        if not int(first) <= int(last) < int(first) + NODES_MAX:
            raise refusal(text, f"{_SLOTS_ALLOWED}, ascending, at most {NODES_MAX} nodes")
        numbers = range(int(first), int(last) + 1)
        slots += [f"{found['head']}{n:0{len(first)}d}{found['tail']}" for n in numbers]
    if odd := next((slot for slot in slots if not _SLOT.fullmatch(slot)), None):
        raise refusal(odd, _SLOTS_ALLOWED)
    return tuple(slots)


def _slots(value: object) -> tuple[str, ...]:
    if not isinstance(value, str):
        raise refusal(value, _SLOTS_ALLOWED)
    return expand_slots(value)


Moment: TypeAlias = Annotated[int | str, PlainValidator(parse_moment)]
Slots: TypeAlias = Annotated[tuple[str, ...], PlainValidator(_slots)]
Percent: TypeAlias = Annotated[int | str | Decimal, PlainValidator(parse_percent_milli)]
"""Written in percent, held in thousandths of a percent."""

SiteId: TypeAlias = Annotated[
    str, matching(_SITE, "up to 63 lower-case letters, digits and '-', such as exch-london-1")
]


class Parent(Written):
    """Somebody above the operator, with the stake held through the chain ("24.5%")."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    country: Country
    stake: Percent


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


class NodeGroup(Written):
    """Nodes that are alike."""

    slots: Slots
    gpus: Annotated[int, Field(ge=0, le=GPUS_MAX)]
    gpu: Annotated[str, Field(max_length=64)] = ""
    pod: str = "pod-1"
    leaf: str = "leaf-1"
    nvlink_domain: str = ""
    cpu_arch: Literal["amd64", "arm64"] = "amd64"
    cpus: Cpus
    memory: Bytes
    interconnects: Annotated[
        Sequence[Literal["ethernet", "roce", "infiniband", "nvlink"]], Field(min_length=1)
    ] = ("ethernet",)

    @model_validator(mode="after")
    def _consistent(self) -> NodeGroup:
        if bool(self.gpus) != bool(self.gpu):
            raise contradiction(
                f"gpus {self.gpus} and gpu {self.gpu!r}",
                "gpu, the model, just where there are gpus",
            )
        return self


class Site(Written):
    """A site as declared."""

    id: SiteId
    name: Annotated[str, Field(max_length=200)] = ""
    status: Literal["active", "planned", "on_hold"]
    facts: Mapping[FactName, FactEntry]
    min_isolation: Literal["none", "pidns", "uid", "container"] = "uid"
    power_cap_w: Annotated[int, Field(ge=0)] | None = None
    nodes: Annotated[Sequence[NodeGroup], Field(max_length=GROUPS_MAX)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Site:
        for name in sorted(self.facts):
            _check_values(name, self.facts[name])
        slots = [slot for group in self.nodes for slot in group.slots]
        if len(slots) != len(set(slots)):
            twice = sorted({slot for slot in slots if slots.count(slot) > 1})
            raise contradiction(f"twice: {listed(twice)}", "each slot once")
        return self


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


def _node(slot: str, group: NodeGroup) -> fleet_pb2.NodeDeclaration:
    return fleet_pb2.NodeDeclaration(
        slot=slot,
        pod=group.pod,
        leaf=group.leaf,
        nvlink_domain=group.nvlink_domain,
        gpu_class=group.gpu,
        gpus=group.gpus,
        cpu_arch=f"CPU_ARCH_{group.cpu_arch.upper()}",
        cpu_milli=cpu_milli(group.cpus),
        memory_bytes=parse_bytes(group.memory),
        interconnects=[f"INTERCONNECT_{name.upper()}" for name in sorted(group.interconnects)],
    )


def _site(site: Site) -> fleet_pb2.SiteDeclaration:
    parents = site.facts.get(PARENTS)
    groups = {slot: group for group in site.nodes for slot in group.slots}
    return fleet_pb2.SiteDeclaration(
        id=site.id,
        display_name=site.name,
        status=f"SITE_STATUS_{site.status.upper()}",
        facts=[_fact(key, site.facts[key]) for key in sorted(site.facts)],
        ultimate_parents=[
            fleet_pb2.Party(
                name=party.name, country=party.country, stake_milli_percent=int(party.stake)
            )
            for party in ((parents.parties or ()) if parents is not None else ())
        ],
        nodes=[_node(slot, groups[slot]) for slot in sorted(groups)],
        min_isolation=f"ISOLATION_{site.min_isolation.upper()}",
        power_cap_w=site.power_cap_w,
    )
