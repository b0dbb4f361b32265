"""The simulated fleet: its sites and nodes, drawn from the seed, in every form somebody reads.

One truth per site; the operator's declaration and the site's own file of facts are made from it,
and reach the control plane and the guard at times of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import yaml

from scheduler.model.fleet import CpuArch, Interconnect, Node, Site, SiteStatus
from scheduler.model.ids import GpuClass, SiteId, TenantPath, node_id
from scheduler.model.residency import Assurance, Fact, FactKey, Party, Policy
from scheduler.model.tenancy import GpuQuota, Tenant
from tests.sim.clock import WALL_AT_START_MS
from tests.sim.node import NodeShape
from tests.sim.seeds import Dice
from tests.sim.truth import LAWS, Grade, Law, SiteTruth

ANCHOR = "exch-anchor-1"
"""A site whose facts never change: something is always permitted somewhere."""
DAY_MS = 24 * 3600 * 1000
MIDNIGHT_MS = (WALL_AT_START_MS // DAY_MS + 1) * DAY_MS
"""Facts expire at midnights: a site's own file names days."""

GB_LAWS: Mapping[str, str] = dict.fromkeys(LAWS, "GB")
H100, A100 = "H100", "A100"


@dataclass(frozen=True, slots=True)
class SitePlan:
    """A site as drawn."""

    truth: SiteTruth
    gpu_class: str
    shapes: tuple[NodeShape, ...]
    min_isolation: str = "none"


def draw_fleet(dice: Dice) -> tuple[SitePlan, ...]:
    """Four or five sites that differ in law, tier, size and hardware."""
    parents = (("Exchange plc", "GB", 100_000),)
    kinds = [
        SiteTruth(ANCHOR, "GB", GB_LAWS, parents, "OFFICIAL", ("SENSITIVE",)),
        SiteTruth("exch-usowned-1", "GB", GB_LAWS, (("Halls Inc.", "US", 60_000),)),
        SiteTruth("exch-oslo-1", "NO", dict.fromkeys(LAWS, "NO"), (("Fjell AS", "NO", 100_000),)),
        SiteTruth(
            "exch-changing-1",
            "GB",
            {**GB_LAWS, "support_desk": dice.pick(("GB", "GB", "NO"))},
            (("Minor Inc.", "US", 20_000), ("Major plc", "GB", 80_000)),
            "SECRET",
            ("SENSITIVE", "HEALTH"),
        ),
    ]
    if dice.chance(500):
        weak = {"country": Grade("DECLARED"), "sinks": Grade("DECLARED")}
        kinds.append(SiteTruth("exch-weak-1", "GB", GB_LAWS, parents, grades=weak))
    return tuple(_with_nodes(truth, dice.fork(truth.site)) for truth in kinds)


def _with_nodes(truth: SiteTruth, dice: Dice) -> SitePlan:
    gpus = dice.pick((2, 4, 8))
    count = dice.between(2, 3)
    shapes = tuple(NodeShape(f"n{number:02}", gpus) for number in range(1, count + 1))
    return SitePlan(truth, A100 if truth.site == "exch-oslo-1" else H100, shapes)


def declared(truth: SiteTruth, status: SiteStatus = SiteStatus.ACTIVE) -> Site:
    """The site as the operator declares it."""
    facts = [_fact(truth, FactKey(key), (country,)) for key, country in truth.laws.items()]
    facts += [
        _fact(truth, FactKey.COUNTRY, (truth.country,)),
        _fact(truth, FactKey.ACCREDITATION, (truth.accreditation,)),
        _fact(truth, FactKey.MARKINGS, truth.markings),
        _fact(truth, FactKey.ULTIMATE_PARENTS, ()),
    ]
    stated = [fact for fact in facts if truth.grade(fact.key.value).stated]
    parents = tuple(Party(*parent) for parent in truth.parents)
    ordered = tuple(sorted(stated, key=lambda fact: fact.key.value))
    return Site(SiteId(truth.site), status, ordered, parents)


def _fact(truth: SiteTruth, key: FactKey, values: tuple[str, ...]) -> Fact:
    grade = truth.grade(key.value)
    return Fact(
        key, values, Assurance[grade.assurance], "operator", WALL_AT_START_MS, grade.ends_ms
    )


def declared_nodes(plan: SitePlan) -> tuple[Node, ...]:
    """The nodes of a site as the operator declares them."""
    site = SiteId(plan.truth.site)
    return tuple(
        Node(
            id=node_id(site, shape.slot),
            pod="pod-1",
            leaf=f"leaf-{1 + number // 2}",
            nvlink_domain="",
            gpu_class=GpuClass(plan.gpu_class),
            gpus=shape.gpus,
            cpu_arch=CpuArch.AMD64,
            cpu_milli=shape.cpu_milli,
            memory_bytes=shape.memory_bytes,
            interconnects=(Interconnect.ETHERNET,),
        )
        for number, shape in enumerate(plan.shapes)
    )


def write_facts(truth: SiteTruth, path: Path) -> None:
    """The site's own file, replaced as a whole."""
    facts: dict[str, object] = {}
    values: dict[str, Sequence[str]] = {key: [country] for key, country in truth.laws.items()}
    values |= {
        "country": [truth.country],
        "accreditation": [truth.accreditation],
        "markings": list(truth.markings),
    }
    for key in (*values, "ultimate_parents"):
        grade = truth.grade(key)
        fact: dict[str, object] = {"assurance": grade.assurance}
        if key == "ultimate_parents":
            fact["parties"] = [
                {"name": name, "country": country, "stake": f"{stake // 1000}%"}
                for name, country, stake in truth.parents
            ]
        else:
            fact["values"] = values[key]
        if grade.ends_ms is not None:
            day = datetime.fromtimestamp(grade.ends_ms / 1000, UTC).date()
            fact["expires"] = day.isoformat()
        if grade.stated:
            facts[key] = fact
    part = path.with_suffix(".part")
    part.write_text(yaml.safe_dump({"site": truth.site, "facts": facts}, sort_keys=True))
    part.rename(path)


def policy_of(law: Law) -> Policy:
    """The policy in the control plane's words."""
    return Policy(
        name="simulated",
        allowed_jurisdictions=law.countries,
        controlling_stake_milli_percent=law.controlling_stake,
        min_assurance=Assurance[law.least_assurance],
    )


@dataclass(frozen=True, slots=True)
class TenantPlan:
    """One node of the tenant tree; limits by GPU class or "*", in whole GPUs."""

    path: str
    limits: Mapping[str, int]
    weight: int = 1

    def declared(self) -> Tenant:
        """As the operator declares it."""
        quotas = [
            GpuQuota(GpuClass(name), limit_milli=gpus * 1000) for name, gpus in self.limits.items()
        ]
        return Tenant(TenantPath(self.path), weight=self.weight, quotas=tuple(sorted(quotas)))


def draw_tenants(dice: Dice) -> tuple[TenantPlan, ...]:
    """Two organisations, three projects."""
    return (
        TenantPlan("trust-a", {"*": dice.between(8, 24)}, 2),
        TenantPlan("trust-a/genomics", {H100: dice.between(4, 8)}),
        TenantPlan("trust-a/radiology", {}, 3),
        TenantPlan("uni-b", {H100: dice.between(6, 16)}),
        TenantPlan("uni-b/physics", {"*": dice.between(6, 12)}),
    )


def weakened(truth: SiteTruth, dice: Dice) -> SiteTruth:
    """Something about the site that forbids more than before, or for a time allows more."""
    grades = dict(truth.grades)
    match dice.between(0, 4):
        case 0:
            grades["country"] = Grade("AUDITED", ends_ms=MIDNIGHT_MS)
        case 1:
            return replace(truth, parents=(("Buyer Inc.", "US", 51_000),))
        case 2:
            grades["service_operator"] = Grade(stated=False)
        case 3:
            return replace(truth, laws={**truth.laws, "sinks": "US"})
        case _:
            grades["landlord"] = Grade("DECLARED")
    return replace(truth, grades=grades)
