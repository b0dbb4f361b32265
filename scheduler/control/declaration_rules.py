"""What may be declared at all: values of tenants, sites, nodes, policies; every fault at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from scheduler.core.policy import form
from scheduler.model import mig
from scheduler.model.fleet import (
    CpuArch,
    Interconnect,
    Isolation,
    Node,
    Site,
    SiteEnergy,
    SiteProfile,
    SiteStatus,
)
from scheduler.model.ids import GPU_INDEX_MAX, NAME_PATTERN, TENANT_DEPTH_MAX, slot_of
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import Assurance, Fact, FactKey, Policy, Tier
from scheduler.model.tenancy import QueueOrder, Tenant

TENANTS_MAX = 10_000
QUOTAS_MAX = 100
SITES_MAX = 1_000
NODES_PER_SITE_MAX = 20_000
NODES_MAX = 100_000
FACT_VALUES_MAX = 100
PARENTS_MAX = 100
AHEAD_MS_MAX = 14 * 3600 * 1000
"""How far ahead a fact may have been observed: dates are written where it is tomorrow already."""
TEXT_CHARACTERS_MAX = 200
NOTE_CHARACTERS_MAX = 1_000
ASSUMED_MAX = 100
PUE_MILLI_MAX = 5_000
WEIGHT_MAX = 1_000_000
QUEUED_JOBS_MAX = 1_000_000
CPU_MILLI_MAX = 100_000_000
MEMORY_BYTES_MAX = 1 << 60
NODE_WATTS_MAX = 1_000_000
CARBON_G_PER_KWH_MAX = 5_000
PRICE_PENCE_PER_MWH_MAX = 10_000_000
COUNTRY = re.compile(r"[A-Z]{2}")
GPU_CLASS = re.compile(r"\*|[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
FULL_STAKE_MILLI_PERCENT = 100_000

_COUNTRY_FACTS = frozenset(
    {
        FactKey.COUNTRY,
        FactKey.LANDLORD,
        FactKey.FACILITY_OPERATOR,
        FactKey.SERVICE_OPERATOR,
        FactKey.SUPPORT_DESK,
        FactKey.KEY_CUSTODIAN,
        FactKey.SINKS,
    }
)


def tenant_faults(tenants: Sequence[Tenant]) -> tuple[Denial, ...]:
    """Everything wrong with the values of a tree; its shape is `quota.tree_faults`' to judge."""
    return tuple(_tenants(tenants))


def fleet_faults(
    declarations: Sequence[tuple[Site, tuple[Node, ...]]], now_ms: int
) -> tuple[Denial, ...]:
    """Everything wrong with a fleet that is declared at `now_ms`."""
    return tuple(_fleet(declarations, now_ms))


def policy_faults(policy: Policy) -> tuple[Denial, ...]:
    """Everything wrong with a policy."""
    return tuple(_policy(policy))


def _tenants(tenants: Sequence[Tenant]) -> Iterator[Denial]:
    if len(tenants) > TENANTS_MAX:
        yield _fault("tenants", f"{len(tenants)}", f"at most {TENANTS_MAX}")
        return
    for at, tenant in enumerate(tenants):
        where = f"tenants[{at}]"
        parts = tenant.path.split("/")
        if len(parts) > TENANT_DEPTH_MAX or not all(map(NAME_PATTERN.fullmatch, parts)):
            allowed = f"1 to {TENANT_DEPTH_MAX} names joined by '/'"
            yield _fault(f"{where}.path", repr(tenant.path[:80]), allowed)
        if tenant.weight > WEIGHT_MAX:
            yield _fault(f"{where}.weight", str(tenant.weight), f"1 to {WEIGHT_MAX}")
        if not 0 <= tenant.max_queued_jobs <= QUEUED_JOBS_MAX:
            found = str(tenant.max_queued_jobs)
            yield _fault(f"{where}.max_queued_jobs", found, f"0 to {QUEUED_JOBS_MAX}")
        if tenant.queue_order is QueueOrder.UNSPECIFIED:
            yield _fault(f"{where}.queue_order", "none", "age or shortest")
        yield from _classes(f"{where}.quotas", [quota.gpu_class for quota in tenant.quotas])
        yield from _classes(f"{where}.budgets", [budget.gpu_class for budget in tenant.budgets])
        yield from _classes(f"{where}.shares", [share.gpu_class for share in tenant.shares])


def _classes(where: str, names: Sequence[str]) -> Iterator[Denial]:
    if len(names) > QUOTAS_MAX:
        yield _fault(where, str(len(names)), f"at most {QUOTAS_MAX}")
        return
    for n, name in enumerate(names):
        if not GPU_CLASS.fullmatch(name):
            yield _fault(f"{where}[{n}].gpu_class", repr(name[:80]), "a GPU model's name, or *")


def _fleet(declarations: Sequence[tuple[Site, tuple[Node, ...]]], now_ms: int) -> Iterator[Denial]:
    nodes = sum(len(at) for _, at in declarations)
    if len(declarations) > SITES_MAX or nodes > NODES_MAX:
        found = f"{len(declarations)} sites with {nodes} nodes"
        yield _fault("sites", found, f"at most {SITES_MAX} and {NODES_MAX}")
        return
    seen: set[str] = set()
    for site, at in declarations:
        where = f"sites[{site.id[:80]}]"
        if site.id in seen:
            yield _fault(where, "it twice", "once")
        seen.add(site.id)
        yield from _site(where, site, now_ms)
        if len(at) > NODES_PER_SITE_MAX:
            yield _fault(f"{where}.nodes", str(len(at)), f"at most {NODES_PER_SITE_MAX}")
            continue
        slots: set[str] = set()
        for node in at:
            slot = slot_of(node.id)
            if slot in slots:
                yield _fault(f"{where}.nodes[{slot[:80]}]", "it twice", "once")
            slots.add(slot)
            yield from _node(f"{where}.nodes[{slot[:80]}]", node)
        yield from _spares(where, at)


def _site(where: str, site: Site, now_ms: int) -> Iterator[Denial]:
    if not NAME_PATTERN.fullmatch(site.id):
        yield _fault(f"{where}.id", repr(site.id[:80]), "a name as of a DNS label")
    if site.status is SiteStatus.UNSPECIFIED:
        yield _fault(f"{where}.status", "none", "active, planned or on_hold")
    if site.power_cap_w is not None and site.power_cap_w < 0:
        yield _fault(f"{where}.power_cap_w", str(site.power_cap_w), "from 0")
    if site.energy is not None:
        yield from _energy(f"{where}.energy", site.energy)
    if len(site.display_name) > TEXT_CHARACTERS_MAX:
        found = f"{len(site.display_name)} characters"
        yield _fault(f"{where}.display_name", found, f"at most {TEXT_CHARACTERS_MAX}")
    keys: set[FactKey] = set()
    for fact in site.facts:
        field = f"{where}.facts[{fact.key}]"
        if fact.key in keys:
            yield _fault(field, "it twice", "once")
        keys.add(fact.key)
        yield from _fact(field, fact, now_ms)
    yield from _parents(where, site)
    yield from _profile(f"{where}.profile", site.profile)


def _profile(where: str, profile: SiteProfile) -> Iterator[Denial]:
    for name in ("landlord", "facility_operator", "service_operator", "offtaker", "cooling"):
        length = len(getattr(profile, name))
        if length > TEXT_CHARACTERS_MAX:
            allowed = f"at most {TEXT_CHARACTERS_MAX}"
            yield _fault(f"{where}.{name}", f"{length} characters", allowed)
    if len(profile.note) > NOTE_CHARACTERS_MAX:
        found = f"{len(profile.note)} characters"
        yield _fault(f"{where}.note", found, f"at most {NOTE_CHARACTERS_MAX}")
    if profile.pue_milli is not None and not 1000 <= profile.pue_milli <= PUE_MILLI_MAX:
        found = str(profile.pue_milli)
        yield _fault(f"{where}.pue_milli", found, f"1000 to {PUE_MILLI_MAX}")
    if len(profile.assumed) > ASSUMED_MAX or any(
        len(name) > TEXT_CHARACTERS_MAX for name in profile.assumed
    ):
        found = f"{len(profile.assumed)} names"
        allowed = f"at most {ASSUMED_MAX} of {TEXT_CHARACTERS_MAX} characters"
        yield _fault(f"{where}.assumed", found, allowed)


def _parents(where: str, site: Site) -> Iterator[Denial]:
    if len(site.parents) > PARENTS_MAX:
        found = str(len(site.parents))
        yield _fault(f"{where}.ultimate_parents", found, f"at most {PARENTS_MAX}")
    for n, party in enumerate(site.parents[:PARENTS_MAX]):
        field = f"{where}.ultimate_parents[{n}]"
        if not COUNTRY.fullmatch(party.country):
            yield _fault(f"{field}.country", repr(party.country[:80]), "two capital letters")
        if not 0 <= party.stake_milli_percent <= FULL_STAKE_MILLI_PERCENT:
            found = str(party.stake_milli_percent)
            allowed = f"0 to {FULL_STAKE_MILLI_PERCENT}"
            yield _fault(f"{field}.stake_milli_percent", found, allowed)


def _fact(field: str, fact: Fact, now_ms: int) -> Iterator[Denial]:
    if fact.assurance is Assurance.UNSPECIFIED:
        yield _fault(f"{field}.assurance", "none", "declared, audited, attested or measured")
    if fact.observed_at_ms <= 0:
        yield _fault(f"{field}.observed_at_ms", str(fact.observed_at_ms), "a time after 1970")
    if fact.observed_at_ms > now_ms + AHEAD_MS_MAX:
        # Or it would be fresh for as long as somebody likes.
        found = f"{fact.observed_at_ms}, {fact.observed_at_ms - now_ms} ms from now"
        yield _fault(f"{field}.observed_at_ms", found, "a time that has come")
    if fact.expires_at_ms is not None and fact.expires_at_ms <= fact.observed_at_ms:
        yield _fault(f"{field}.expires_at_ms", str(fact.expires_at_ms), "later than observed")
    if not fact.asserted_by or len(fact.asserted_by) > TEXT_CHARACTERS_MAX:
        found = f"{len(fact.asserted_by)} characters"
        yield _fault(f"{field}.asserted_by", found, f"1 to {TEXT_CHARACTERS_MAX}")
    yield from _fact_values(field, fact)


def _fact_values(field: str, fact: Fact) -> Iterator[Denial]:
    if fact.key is FactKey.ULTIMATE_PARENTS and fact.values:
        # Nobody looks there: the parents are parties, with their stakes.
        yield _fault(f"{field}.values", str(len(fact.values)), "none: list ultimate_parents")
    if len(fact.values) > FACT_VALUES_MAX:
        yield _fault(f"{field}.values", str(len(fact.values)), f"at most {FACT_VALUES_MAX}")
    for value in fact.values[:FACT_VALUES_MAX]:
        if fact.key in _COUNTRY_FACTS and not COUNTRY.fullmatch(value):
            yield _fault(f"{field}.values", repr(value[:80]), "two capital letters each")
        if len(value) > TEXT_CHARACTERS_MAX:
            allowed = f"at most {TEXT_CHARACTERS_MAX} each"
            yield _fault(f"{field}.values", f"{len(value)} characters", allowed)
        if fact.key is FactKey.ACCREDITATION and value not in _tiers():
            yield _fault(f"{field}.values", repr(value[:80]), " or ".join(_tiers()))


def _node(where: str, node: Node) -> Iterator[Denial]:
    if not NAME_PATTERN.fullmatch(slot_of(node.id)):
        yield _fault(f"{where}.slot", repr(slot_of(node.id)[:80]), "a name as of a DNS label")
    if not 0 <= node.gpus <= GPU_INDEX_MAX + 1:
        yield _fault(f"{where}.gpus", str(node.gpus), f"0 to {GPU_INDEX_MAX + 1}")
    if node.gpus and (not GPU_CLASS.fullmatch(node.gpu_class) or node.gpu_class == "*"):
        yield _fault(f"{where}.gpu_class", repr(node.gpu_class[:80]), "a GPU model's name")
    if node.cpu_arch not in (CpuArch.AMD64, CpuArch.ARM64):
        yield _fault(f"{where}.cpu_arch", node.cpu_arch.name, "amd64 or arm64")
    if not 1 <= node.cpu_milli <= CPU_MILLI_MAX:
        yield _fault(f"{where}.cpu_milli", str(node.cpu_milli), f"1 to {CPU_MILLI_MAX}")
    if not 1 <= node.memory_bytes <= MEMORY_BYTES_MAX:
        yield _fault(f"{where}.memory_bytes", str(node.memory_bytes), f"1 to {MEMORY_BYTES_MAX}")
    if {Interconnect.UNSPECIFIED, Interconnect.ANY} & set(node.interconnects):
        yield _fault(f"{where}.interconnects", "any", "ethernet, roce, infiniband or nvlink")
    for name in ("pod", "leaf", "nvlink_domain"):
        found: str = getattr(node, name)
        if found and not NAME_PATTERN.fullmatch(found):
            yield _fault(f"{where}.{name}", repr(found[:80]), "a name as of a DNS label")
    yield from _watts(where, node)
    yield from _cuts(where, node)


def _energy(where: str, energy: SiteEnergy) -> Iterator[Denial]:
    for name, found, most in (
        ("carbon_g_per_kwh", energy.carbon_g_per_kwh, CARBON_G_PER_KWH_MAX),
        ("price_pence_per_mwh", energy.price_pence_per_mwh, PRICE_PENCE_PER_MWH_MAX),
    ):
        if not 0 <= found <= most:
            yield _fault(f"{where}.{name}", str(found), f"0 to {most}")
    if not energy.source or len(energy.source) > TEXT_CHARACTERS_MAX:
        found = f"{len(energy.source)} characters"
        yield _fault(f"{where}.source", found, f"1 to {TEXT_CHARACTERS_MAX}")
    if energy.observed_at_ms <= 0:
        yield _fault(f"{where}.observed_at_ms", str(energy.observed_at_ms), "a time after 1970")


def _spares(where: str, nodes: Sequence[Node]) -> Iterator[Denial]:
    """The nodes of an NVLink domain say the same of how many are kept free, and not all are."""
    racks: dict[tuple[str, str, str], list[Node]] = {}
    for node in nodes:
        racks.setdefault((node.pod, node.leaf, node.nvlink_domain), []).append(node)
    for rack, inside in sorted(racks.items()):
        counts = sorted({node.nvlink_spares for node in inside})
        field = f"{where}.nodes.nvlink_spares"
        if len(counts) > 1:
            found = f"{', '.join(map(str, counts))} in {'/'.join(rack)}"
            yield _fault(field, found, "one number for all nodes of a domain")
        elif not 0 <= counts[0] < len(inside):
            found = f"{counts[0]} of {len(inside)} nodes in {'/'.join(rack)}"
            yield _fault(field, found, f"0 to {len(inside) - 1}")


def _cuts(where: str, node: Node) -> Iterator[Denial]:
    """GPUs are cut as GPUs can be, and all units of a node have a number."""
    if len(node.mig) + node.gpus > GPU_INDEX_MAX + 1:
        found = f"{node.gpus} GPUs and {len(node.mig)} instances"
        yield _fault(f"{where}.mig", found, f"at most {GPU_INDEX_MAX + 1} together")
    for gpu, profiles in mig.cut(node.mig[: GPU_INDEX_MAX + 1]).items():
        if not 0 <= gpu < node.gpus:
            yield _fault(f"{where}.mig", f"GPU {gpu}", f"0 to {node.gpus - 1}")
        unknown = sorted({name for name in profiles if not mig.is_profile(name)})
        for name in unknown:
            yield _fault(f"{where}.mig", repr(name[:80]), f"profiles: {', '.join(mig.profiles())}")
        if not unknown and not mig.lies_on_one(profiles):
            found = f"{', '.join(profiles)} on GPU {gpu}"
            yield _fault(f"{where}.mig", found, "instances that fit on one GPU, by its placements")


def _watts(where: str, node: Node) -> Iterator[Denial]:
    for name, watts in (("base_w", node.base_w), ("gpu_w", node.gpu_w)):
        if watts is not None and not 0 <= watts <= NODE_WATTS_MAX:
            yield _fault(f"{where}.{name}", str(watts), f"0 to {NODE_WATTS_MAX}")


def _policy(policy: Policy) -> Iterator[Denial]:
    if not policy.name or len(policy.name) > TEXT_CHARACTERS_MAX:
        found = f"{len(policy.name)} characters"
        yield _fault("policy.name", found, f"1 to {TEXT_CHARACTERS_MAX}")
    if not policy.allowed_jurisdictions:
        yield _fault("policy.allowed_jurisdictions", "none", "at least one country")
    for country in policy.allowed_jurisdictions:
        if not COUNTRY.fullmatch(country):
            found = repr(country[:80])
            yield _fault("policy.allowed_jurisdictions", found, "two capital letters each")
    if policy.control_plane_tier is Tier.UNSPECIFIED:
        yield _fault("policy.control_plane_tier", "none", " or ".join(_tiers()))
    if not 0 <= policy.controlling_stake_milli_percent <= FULL_STAKE_MILLI_PERCENT:
        found = str(policy.controlling_stake_milli_percent)
        allowed = f"0 to {FULL_STAKE_MILLI_PERCENT}"
        yield _fault("policy.controlling_stake_milli_percent", found, allowed)
    if policy.min_assurance is Assurance.UNSPECIFIED:
        allowed = "declared, audited, attested or measured"
        yield _fault("policy.min_assurance", "none", allowed)
    if policy.fact_max_age_ms is not None and policy.fact_max_age_ms <= 0:
        yield _fault("policy.fact_max_age_ms", str(policy.fact_max_age_ms), "from 1")
    if policy.min_isolation not in tuple(Isolation):
        yield _fault("policy.min_isolation", str(policy.min_isolation), "a level of isolation")
    yield from form.faults(policy)


def _tiers() -> list[str]:
    return [tier.name for tier in Tier if tier is not Tier.UNSPECIFIED]


def _fault(field: str, found: str, allowed: str) -> Denial:
    return Denial(Reason.INVALID_ARGUMENT, f"found {found}, allowed {allowed}", field)
