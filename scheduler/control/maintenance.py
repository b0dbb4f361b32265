"""Windows of time that operators declare: maintenance, and reservations ahead for one tenant.

No two windows share a node and a moment: one that would is refused, with every clash. Until a
window begins, work that would still run then is not placed on its nodes; when it begins, work that
may not be there is preempted with its grace, and queued again. When it is over it is forgotten. All
of it is audited.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from scheduler.control import evidence, recovery
from scheduler.control.life import Cause
from scheduler.core.windows import clashes
from scheduler.model.identity import Principal
from scheduler.model.ids import NAME_PATTERN, site_of
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid, not_found
from scheduler.model.window import Window, WindowAsked, WindowKind
from scheduler.store.store import Snapshot, Txn

WINDOWS_MAX = 10_000
NODES_MAX = 20_000
REASON_CHARACTERS_MAX = 500
AHEAD_MS_MAX = 366 * 24 * 3600 * 1000
"""How far ahead a window may end."""

_OURS = re.compile(r"window-[0-9]+")


def add(txn: Txn, principal: Principal, asked: WindowAsked, now_ms: int) -> Window:
    """Adds a window; refused whole, with every fault and every clash."""
    faults = list(_faults(txn, asked, now_ms))
    if faults:
        raise invalid(*faults)
    known = {window.id: window for window in txn.windows.all()}
    window = asked.window
    if window.id in known:
        raise Refused(
            Code.ALREADY_EXISTS, Reason.ALREADY_EXISTS, f"there is a window {window.id!r} already"
        )
    if len(known) >= WINDOWS_MAX:
        detail = f"{WINDOWS_MAX} windows are declared, allowed no more"
        raise Refused(Code.RESOURCE_EXHAUSTED, Reason.RESOURCE_EXHAUSTED, detail)
    window = replace(window, id=window.id or txn.windows.take_name(), added_by=principal.path)
    if asked.count:
        window = _choose(txn, asked, window, known)
    found = clashes(window, known)
    if found:
        denials = tuple(_clash(window, other) for other in found)
        message = "; ".join(f"{denial.subject}: {denial.detail}" for denial in denials)
        raise Refused(Code.FAILED_PRECONDITION, Reason.WINDOW, message, denials)
    txn.windows.put(window)
    evidence.window(txn.audit, "window_added", window, principal.path, window.reason, now_ms)
    return window


def remove(txn: Txn, principal: Principal, name: str, reason: str, now_ms: int) -> None:
    """Calls a window off, or ends it now."""
    window = txn.windows.get(name)
    if window is None:
        raise not_found("window", name[:200])
    txn.windows.remove(name)
    evidence.window(txn.audit, "window_removed", window, principal.path, reason[:500], now_ms)


def listed(read: Snapshot, kind: WindowKind) -> tuple[Window, ...]:
    """Windows by their beginning, of one kind or of both."""
    both = kind is WindowKind.UNSPECIFIED
    return tuple(w for w in read.windows.all() if both or w.kind is kind)


def turn(txn: Txn, now_ms: int) -> int:
    """Begins and ends the windows whose time has come; how many attempts were told to leave."""
    left = 0
    for window in txn.windows.due(now_ms):
        if window.ends_at_ms <= now_ms:
            txn.windows.remove(window.id)
            evidence.window(txn.audit, "window_ended", window, "", "", now_ms)
            continue
        left += _clear(txn, window, now_ms)
        begun = replace(window, begun=True)
        txn.windows.put(begun)
        evidence.window(txn.audit, "window_begun", begun, "", "", now_ms)
    return left


def _clear(txn: Txn, window: Window, now_ms: int) -> int:
    cause = Cause(f"{window.kind.name.lower()} window {window.id} has begun", window.added_by)
    live = {row.key: row for target in window.nodes for row in recovery.live_on(txn, target)}
    if not window.nodes:
        live = {row.key: row for row in recovery.live_on(txn, window.site)}
    rows = txn.jobs.rows(key.job for key in live)
    return sum(
        recovery.preempt(txn, live[key], cause, now_ms)
        for key in sorted(live)
        if not window.admits(rows[key.job].tenant)
    )


def _choose(txn: Txn, asked: WindowAsked, window: Window, known: dict[str, Window]) -> Window:
    """As many nodes as are asked for: those that nothing runs on first, then by name."""
    suiting = [
        entry.node.id
        for entry in txn.fleet.nodes(window.site)
        if not asked.gpu_class or entry.node.gpu_class == asked.gpu_class
    ]
    free = [node for node in suiting if not clashes(replace(window, nodes=(node,)), known)]
    if len(free) < asked.count:
        of = f" with {asked.gpu_class}" if asked.gpu_class else ""
        detail = (
            f"found {len(free)} nodes{of} at {window.site} that no other window has then,"
            f" needed {asked.count}"
        )
        denial = Denial(Reason.NODES_TOO_FEW, detail, "count")
        raise Refused(Code.FAILED_PRECONDITION, Reason.NODES_TOO_FEW, detail, (denial,))
    busy = {node for node, held in txn.attempts.occupants(free).items() if held}
    chosen = sorted(free, key=lambda node: (node in busy, node))[: asked.count]
    return replace(window, nodes=tuple(sorted(chosen)))


def _clash(window: Window, other: Window) -> Denial:
    common = sorted(set(window.nodes or other.nodes) & set(other.nodes or window.nodes))
    where = f"{len(common)} nodes, such as {common[0]}" if common else f"all of {window.site}"
    kind = other.kind.name.lower()
    return Denial(Reason.WINDOW, f"{kind} window {other.id} has {where} at that time", other.id)


def _faults(txn: Txn, asked: WindowAsked, now_ms: int) -> Iterator[Denial]:
    window = asked.window
    if window.id and (not NAME_PATTERN.fullmatch(window.id) or _OURS.fullmatch(window.id)):
        yield _fault("id", f"{window.id[:100]!r}", "a name in small letters, or none")
    if window.kind is WindowKind.UNSPECIFIED:
        yield _fault("kind", "nothing", "MAINTENANCE or RESERVED")
    yield from _time_faults(window, now_ms)
    if not 1 <= len(window.reason.strip()) <= REASON_CHARACTERS_MAX:
        found = f"{len(window.reason)} characters"
        yield _fault("reason", found, f"1 to {REASON_CHARACTERS_MAX}")
    paths = {tenant.path for tenant in txn.tenancy.tenants()}
    if window.kind is WindowKind.RESERVED and window.tenant not in paths:
        yield _fault("tenant", f"{window.tenant[:100]!r}", "a node of the tenant tree")
    if window.kind is WindowKind.MAINTENANCE and window.tenant:
        yield _fault("tenant", f"{window.tenant[:100]!r}", "none: nothing runs in maintenance")
    if txn.fleet.site(window.site) is None:
        yield _fault("target", f"{window.site[:100]!r}", "a declared site, or one of its nodes")
        return
    yield from _node_faults(txn, asked)


def _time_faults(window: Window, now_ms: int) -> Iterator[Denial]:
    if window.ends_at_ms <= window.starts_at_ms:
        yield _fault("to_ms", str(window.ends_at_ms), f"after from_ms, {window.starts_at_ms}")
    elif window.ends_at_ms <= now_ms:
        yield _fault("to_ms", str(window.ends_at_ms), f"after now, {now_ms}")
    if window.ends_at_ms > now_ms + AHEAD_MS_MAX:
        yield _fault("to_ms", str(window.ends_at_ms), f"at most {now_ms + AHEAD_MS_MAX}")
    if window.starts_at_ms < 0:
        yield _fault("from_ms", str(window.starts_at_ms), "0 (now) or later")


def _node_faults(txn: Txn, asked: WindowAsked) -> Iterator[Denial]:
    nodes = asked.window.nodes
    if len(nodes) > NODES_MAX:
        yield _fault("nodes", f"{len(nodes)} nodes", f"at most {NODES_MAX}")
        return
    if not 0 <= asked.count <= NODES_MAX:
        yield _fault("count", str(asked.count), f"0 to {NODES_MAX}")
    if nodes and asked.count:
        yield _fault("count", f"{asked.count} beside named nodes", "one or the other")
    if asked.gpu_class and not asked.count:
        yield _fault("gpu_class", f"{asked.gpu_class[:100]!r} without a count", "both or none")
    known = txn.fleet.nodes_by_id(nodes)
    for n, node in enumerate(nodes):
        if node not in known or site_of(node) != asked.window.site:
            yield _fault(f"nodes[{n}]", f"{node[:100]!r}", f"a node of {asked.window.site}")


def _fault(field: str, found: str, allowed: str) -> Denial:
    return Denial(Reason.INVALID_ARGUMENT, f"found {found}, allowed {allowed}", field)
