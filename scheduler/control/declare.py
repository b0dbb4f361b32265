"""Declarations: tenant tree and fleet, each replaced as a whole by what a file says.

Each answers the difference, line by line and sorted; a dry run answers that alone. What cannot be
taken away because work stands on it is refused, with everything that stands in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from enum import Enum
from typing import Any, TypeVar

from scheduler.control import declaration_rules as rules
from scheduler.control import evidence, joint
from scheduler.core import tree_rules
from scheduler.model.fleet import Node, Site
from scheduler.model.identity import Principal
from scheduler.model.ids import NodeId, SiteId, TenantPath, site_of
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid, not_found
from scheduler.model.tenancy import Tenant
from scheduler.store.store import Snapshot, Txn

SHOWN_CHARACTERS_MAX = 120
"""A value in a difference is cut to this."""


class UnknownClasses(Enum):
    """What becomes of GPU classes that no declared node has."""

    REFUSE = "refuse"
    WARN = "warn"


Declaration = tuple[Site, tuple[Node, ...]]
"""A site and its nodes, as one file declares them."""
T = TypeVar("T")


def apply_tenants(
    txn: Txn,
    principal: Principal,
    tenants: Sequence[Tenant],
    *,
    reason: str,
    dry_run: bool,
    now_ms: int,
    unknown_classes: UnknownClasses = UnknownClasses.REFUSE,
) -> tuple[str, ...]:
    """Makes the tenant tree what was said."""
    check_tenants(txn, tenants, unknown_classes)
    held = joint.held_in(txn)
    tenants = joint.standing(tenants, held, txn.tenancy.policy(), now_ms)
    before = {tenant.path: tenant for tenant in txn.tenancy.tenants()}
    after = {tenant.path: tenant for tenant in tenants}
    _refuse_busy(_busy_tenants(txn, sorted(set(before) - set(after))))
    changes = difference(before, after)
    if changes and not dry_run:
        whole = sorted(tenants, key=lambda tenant: tenant.path)
        txn.tenancy.replace_tenants(whole)
        joint.tell(txn, held, now_ms)
        evidence.applied(txn.audit, "tenants", principal, reason, changes, now_ms)
    return changes


def check_tenants(
    read: Snapshot, tenants: Sequence[Tenant], unknown_classes: UnknownClasses
) -> None:
    """Refuses a tree that makes no sense, whole, with every fault."""
    faults = (*rules.tenant_faults(tenants), *tree_rules.tree_faults(tenants))
    faults += joint.faults(tenants, read.tenancy.policy())
    if unknown_classes is UnknownClasses.REFUSE:
        faults += _unknown_classes(read, tenants)
    if faults:
        raise invalid(*faults)


def tenant_difference(read: Snapshot, tenants: Sequence[Tenant]) -> tuple[str, ...]:
    """What applying a tree would change."""
    before = {tenant.path: tenant for tenant in read.tenancy.tenants()}
    return difference(before, {tenant.path: tenant for tenant in tenants})


def tenant_warnings(read: Snapshot, tenants: Sequence[Tenant]) -> tuple[str, ...]:
    """What is no fault of a tree and yet looks wrong beside the fleet as it is declared."""
    unknown = [f"{fault.subject}: {fault.detail}" for fault in _unknown_classes(read, tenants)]
    capacity_milli = read.fleet.capacity_milli()
    return (*unknown, *tree_rules.overcommitted(tenants, capacity_milli))


def _unknown_classes(read: Snapshot, tenants: Sequence[Tenant]) -> tuple[Denial, ...]:
    declared = read.fleet.gpu_classes()
    # Before a fleet is declared, nothing is known that a class could be held against.
    return tree_rules.unknown_classes(tenants, declared) if declared else ()


def apply_fleet(
    txn: Txn,
    principal: Principal,
    declarations: Sequence[Declaration],
    *,
    reason: str,
    dry_run: bool,
    now_ms: int,
) -> tuple[str, ...]:
    """Makes the declared fleet what was said; reports and cordons stay."""
    check_fleet(declarations, now_ms)
    sites_before, nodes_before = _by_name(declared(txn))
    sites, nodes = _by_name(declarations)
    _refuse_busy(
        [
            *_busy_sites(txn, sorted(set(sites_before) - set(sites))),
            *_busy_nodes(txn, unsettled(nodes_before, nodes)),
        ]
    )
    changes = (*difference(sites_before, sites), *difference(nodes_before, nodes))
    if changes and not dry_run:
        _write(sites_before, sites, txn.fleet.put_site, txn.fleet.put_site, txn.fleet.remove_site)
        _write(nodes_before, nodes, txn.fleet.add_node, txn.fleet.put_node, txn.fleet.remove_node)
        evidence.applied(txn.audit, "fleet", principal, reason, changes, now_ms)
        for site, at in sorted(declarations, key=lambda declared: declared[0].id):
            if sites_before.get(site.id) != sites[site.id]:
                evidence.site_declared(txn.audit, site, at, now_ms)
                txn.certificates.know(site, now_ms)
    return changes


def check_fleet(declarations: Sequence[Declaration], now_ms: int) -> None:
    """Refuses a fleet that makes no sense, whole, with every fault."""
    if faults := rules.fleet_faults(declarations, now_ms):
        raise invalid(*faults)


def declared(read: Snapshot) -> tuple[Declaration, ...]:
    """The fleet in force, by id, without cordons."""
    at: dict[SiteId, list[Node]] = {}
    for entry in read.fleet.nodes():
        at.setdefault(site_of(entry.node.id), []).append(
            replace(entry.node, cordoned=False, facts=())
        )
    return tuple(
        (replace(entry.site, cordoned=False), tuple(at.get(entry.site.id, ())))
        for entry in read.fleet.sites()
    )


def declared_without(read: Snapshot, lost: Sequence[SiteId]) -> tuple[Declaration, ...]:
    """The fleet in force but for some sites, each of which must be declared."""
    fleet = declared(read)
    known = {site.id for site, _ in fleet}
    for site in lost:
        if site not in known:
            raise not_found("site", site[:200])
    gone = frozenset(lost)
    return tuple(entry for entry in fleet if entry[0].id not in gone)


def fleet_difference(
    before: Sequence[Declaration], after: Sequence[Declaration]
) -> tuple[str, ...]:
    """What would change from one fleet to another."""
    sites, nodes = _by_name(before)
    then_sites, then_nodes = _by_name(after)
    return (*difference(sites, then_sites), *difference(nodes, then_nodes))


def _by_name(fleet: Sequence[Declaration]) -> tuple[dict[SiteId, Site], dict[NodeId, Node]]:
    sites = {site.id: replace(site, cordoned=False) for site, _ in fleet}
    nodes = {node.id: replace(node, cordoned=False) for _, at in fleet for node in at}
    return sites, nodes


def difference(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> tuple[str, ...]:
    """What is added (+), removed (-) and changed (~, field by field), sorted by name."""
    lines: list[str] = []
    for name in sorted({*before, *after}):
        if name not in before:
            lines.append(f"+ {name}")
        elif name not in after:
            lines.append(f"- {name}")
        elif before[name] != after[name]:
            lines += _changed(name, before[name], after[name])
    return tuple(lines)


def _changed(name: str, before: Any, after: Any) -> list[str]:
    return [
        f"~ {name} {field.name}: {_shown(old)} -> {_shown(new)}"
        for field in fields(after)
        if (old := getattr(before, field.name)) != (new := getattr(after, field.name))
    ]


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}…"


def _write(
    before: Mapping[Any, T],
    after: Mapping[Any, T],
    add: Callable[[T], None],
    put: Callable[[T], None],
    remove: Callable[[Any], None],
) -> None:
    for name in sorted(set(before) - set(after)):
        remove(name)
    for name in sorted(set(after) & set(before)):
        if before[name] != after[name]:
            put(after[name])
    for name in sorted(set(after) - set(before)):
        add(after[name])  # Last, and one after the other: the store adds them many at once.


def unsettled(before: Mapping[NodeId, Node], after: Mapping[NodeId, Node]) -> dict[NodeId, str]:
    """Nodes that are gone, or have become something that work on them was not placed for."""
    found: dict[NodeId, str] = {}
    for name, old in before.items():
        new = after.get(name)
        if new is None:
            found[name] = "cannot be removed"
        elif _kind(new) != _kind(old) or new.gpus < old.gpus:
            found[name] = "cannot become another kind of node"
    return found


def _kind(node: Node) -> tuple[object, ...]:
    """What work that was placed on a node relies on; where GPUs are cut, the numbers of its units
    count from that of its GPUs."""
    return node.gpu_class, node.cpu_arch, node.mig, node.gpus if node.mig else None


def _busy_tenants(txn: Txn, removed: Sequence[TenantPath]) -> list[Denial]:
    queued = txn.ledger().queued_jobs
    live = txn.attempts.live_tenants() if removed else frozenset[TenantPath]()
    faults: list[Denial] = []
    for path in removed:
        holds = any(tenant == path or tenant.startswith(f"{path}/") for tenant in live)
        if queued.get(path, 0) or holds:
            detail = "cannot be removed: it has jobs that are not over"
            faults.append(Denial(Reason.ILLEGAL_TRANSITION, detail, path))
    return faults


def _busy_sites(txn: Txn, removed: Sequence[SiteId]) -> list[Denial]:
    return [
        Denial(Reason.ILLEGAL_TRANSITION, f"cannot be removed: {live} attempts are there", site)
        for site in removed
        if (live := len(txn.attempts.live_at(site)))
    ]


def _busy_nodes(txn: Txn, unsettled: Mapping[NodeId, str]) -> list[Denial]:
    held = txn.attempts.occupants(unsettled)
    return [
        Denial(Reason.ILLEGAL_TRANSITION, f"{unsettled[node]}: {len(held[node])} hold it", node)
        for node in sorted(held)
    ]


def _refuse_busy(faults: Sequence[Denial]) -> None:
    if faults:
        raise Refused(
            Code.FAILED_PRECONDITION,
            Reason.ILLEGAL_TRANSITION,
            "; ".join(f"{fault.subject}: {fault.detail}" for fault in faults),
            tuple(faults),
        )
