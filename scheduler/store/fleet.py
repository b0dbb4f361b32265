"""Sites and nodes: as declared, as last reported, as an operator left them; and sites' sessions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import delete, insert, select, update

from scheduler.core.node_facts import weaker
from scheduler.model.fleet import Node, NodeReport, Site, SiteContact, SiteStatus
from scheduler.model.ids import GpuClass, NodeId, SiteId, site_of
from scheduler.model.residency import NodeFact
from scheduler.store.bulk import IDS, How, Statement
from scheduler.store.codec import decode, encode
from scheduler.store.facts import facts_digest
from scheduler.store.link import Link
from scheduler.store.records import NodeEntry, SiteEntry
from scheduler.store.schema import NODES, SITE_STATE, SITES
from scheduler.store.scratch import ChangeKind, Memo, Scratch

_NODE = "SELECT id, body, cordoned, reason, report, reported_at_ms, facts FROM nodes"
_NODES = Statement(NODES, f"{_NODE} WHERE id IN {IDS}")
_NODES_AFTER = Statement(NODES, f"{_NODE} WHERE id > ? ORDER BY id LIMIT ?")
_NODES_OF_SITE = Statement(NODES, f"{_NODE} WHERE id > ? AND site = ? ORDER BY id LIMIT ?")
SITES_DECODED_MAX = 1_024
"""Declarations of sites that are remembered by their very text: all are looked at every second."""
ROWS_MAX = 1 << 62
"""Where a limit is to be given and none is meant."""
_KNOWN = Statement(NODES, "UPDATE nodes SET facts = ? WHERE id = ?", exact=True)
_SEEN = Statement(NODES, "UPDATE nodes SET reported_at_ms = ? WHERE id = ?", exact=True)
_REPORT = Statement(
    NODES, "UPDATE nodes SET report = ?, reported_at_ms = ? WHERE id = ?", exact=True
)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of a node, as it is stored."""

    facts: tuple[NodeFact, ...]


class FleetReader:
    """Finds sites and nodes."""

    def __init__(self, link: Link, memo: Memo) -> None:
        self._link = link
        self._memo = memo

    def site(self, site: SiteId) -> Site | None:
        """A declared site."""
        if site not in self._memo.sites:
            row = self._link.execute(select(SITES).where(SITES.c.id == site)).first()
            if row is None:
                return None
            self._memo.sites[site] = _site(row)
        return self._memo.sites[site]

    def times_known(self, site: SiteId) -> int:
        """How often, since this writer began, something else was found out about a node there."""
        return self._memo.times_known.get(site, 0)

    def facts_digest(self, site: Site) -> str:
        """Names the facts of a declared site as they are now."""
        known = self._memo.digests.get(site.id)
        if known is None:
            known = self._memo.digests[site.id] = facts_digest(site)
        return known

    def sites(self) -> tuple[SiteEntry, ...]:
        """All declared sites with their sessions, by id."""
        states = {row.site: row for row in self._link.execute(select(SITE_STATE))}
        entries: list[SiteEntry] = []
        for row in self._link.execute(select(SITES).order_by(SITES.c.id)):
            state = states.get(row.id)
            contact_at_ms = 0 if state is None else state.contact_at_ms
            contact = _contact(SiteId(row.id), state)
            entries.append(SiteEntry(_site(row), contact, contact_at_ms, row.reason))
        return tuple(entries)

    def contact(self, site: SiteId) -> SiteContact:
        """The session side of a site; generation 0 when there never was one."""
        return self._contact_and_time(site)[0]

    def _contact_and_time(self, site: SiteId) -> tuple[SiteContact, int]:
        known = self._memo.contacts.get(site)
        if known is None:
            row = self._link.execute(select(SITE_STATE).where(SITE_STATE.c.site == site)).first()
            known = _contact(site, row), 0 if row is None else row.contact_at_ms
            self._memo.contacts[site] = known
        return known

    def node(self, node: NodeId) -> NodeEntry | None:
        """A declared node."""
        return self.nodes_by_id([node]).get(node)

    def nodes_by_id(self, nodes: Iterable[NodeId]) -> dict[NodeId, NodeEntry]:
        """Those of `nodes` that are declared."""
        wanted = sorted(set(nodes))
        memo = self._memo.nodes
        for row in self._link.among(_NODES, [n for n in wanted if n not in memo]):
            memo[row[0]] = _node(row)
        return {n: memo[n] for n in wanted if n in memo}

    def nodes(
        self, site: SiteId | None = None, *, after: str = "", limit: int | None = None
    ) -> Iterator[NodeEntry]:
        """Declared nodes by id, of one site or all, from behind `after` on."""
        most = ROWS_MAX if limit is None else limit
        rows = (
            self._link.pages(_NODES_AFTER, (after, most))
            if site is None
            else self._link.pages(_NODES_OF_SITE, (after, site, most))
        )
        yield from map(_node, chain.from_iterable(rows))

    def ids_after(self, after: str, limit: int) -> tuple[NodeId, ...]:
        """The ids of the next declared nodes, by id, from behind `after` on."""
        query = select(NODES.c.id).where(NODES.c.id > after).order_by(NODES.c.id).limit(limit)
        return tuple(map(NodeId, self._link.execute(query).scalars()))

    def any_known(self, site: SiteId) -> bool:
        """Whether anything is known of any node of a site."""
        query = select(NODES.c.id).where(NODES.c.site == site, NODES.c.facts.is_not(None))
        return self._link.execute(query.limit(1)).first() is not None

    def capacity_milli(self) -> dict[GpuClass, int]:
        """What active sites are declared to have of each GPU class."""
        active = {e.site.id for e in self.sites() if e.site.status is SiteStatus.ACTIVE}
        found: dict[GpuClass, int] = {}
        for row in self._link.execute(select(NODES.c.site, NODES.c.body)):
            if row.site in active and (node := decode(Node, row.body)).gpus:
                found[node.gpu_class] = found.get(node.gpu_class, 0) + node.gpus * 1000
        return found

    def gpu_classes(self) -> frozenset[GpuClass]:
        """The GPU classes of all declared nodes, whatever becomes of their sites."""
        bodies = self._link.execute(select(NODES.c.body)).scalars()
        return frozenset(node.gpu_class for node in (decode(Node, b) for b in bodies) if node.gpus)

    def drains_due(self, now_ms: int) -> tuple[SiteId | NodeId, ...]:
        """Sites and nodes whose work is to go by now."""
        sites = select(SITES.c.id).where(SITES.c.drain_at_ms <= now_ms)
        nodes = select(NODES.c.id).where(NODES.c.drain_at_ms <= now_ms)
        due: list[SiteId | NodeId] = [SiteId(r.id) for r in self._link.execute(sites)]
        due += [NodeId(r.id) for r in self._link.execute(nodes)]
        return tuple(sorted(due))


class FleetWriter(FleetReader):
    """Changes the fleet and tells the change log."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.link, scratch.memo)
        self._scratch = scratch

    def put_site(self, site: Site) -> None:
        """Declares a site, or declares it anew; an operator's cordon stays as it is."""
        body = encode(replace(site, cordoned=False))
        known = update(SITES).where(SITES.c.id == site.id).values(body=body)
        if self._link.execute(known).rowcount == 0:
            row = {
                "id": site.id,
                "body": body,
                "cordoned": False,
                "reason": "",
                "drain_at_ms": None,
            }
            self._link.execute(insert(SITES), row)
        self._scratch.declared()
        self._site_changed(site.id)

    def remove_site(self, site: SiteId) -> None:
        """The site is no longer declared. Its session's numbers stay: they never go backwards."""
        self._link.execute(delete(SITES).where(SITES.c.id == site))
        self._scratch.declared()
        self._site_changed(site)

    def cordon_site(
        self, site: SiteId, cordoned: bool, reason: str, drain_at_ms: int | None = None
    ) -> None:
        """Closes a site to new work, or opens it. Work still there at `drain_at_ms` is to go."""
        change = update(SITES).where(SITES.c.id == site)
        values = {"cordoned": cordoned, "reason": reason, "drain_at_ms": drain_at_ms}
        self._link.execute(change.values(values))
        self._site_changed(site)

    def add_node(self, node: Node) -> None:
        """Declares a node that was not declared before."""
        row = {
            "id": node.id,
            "site": site_of(node.id),
            "body": encode(replace(node, cordoned=False, facts=())),
            "cordoned": False,
            "reason": "",
            "drain_at_ms": None,
            "report": None,
            "reported_at_ms": None,
            "facts": None,
        }
        self._link.add(NODES, row)
        self._scratch.declared()
        self._node_changed(node.id)

    def put_node(self, node: Node) -> None:
        """Declares a node, or declares it anew; its report, cordon and facts stay."""
        body = encode(replace(node, cordoned=False, facts=()))
        known = update(NODES).where(NODES.c.id == node.id).values(body=body)
        if self._link.execute(known).rowcount == 0:
            self.add_node(node)
            return
        self._scratch.declared()
        self._node_changed(node.id)

    def remove_node(self, node: NodeId) -> None:
        """The node is no longer declared."""
        self._link.execute(delete(NODES).where(NODES.c.id == node))
        self._scratch.declared()
        self._node_changed(node)

    def cordon_node(
        self, node: NodeId, cordoned: bool, reason: str, drain_at_ms: int | None = None
    ) -> None:
        """Closes a node to new work, or opens it. Work still there at `drain_at_ms` is to go."""
        change = update(NODES).where(NODES.c.id == node)
        values = {"cordoned": cordoned, "reason": reason, "drain_at_ms": drain_at_ms}
        self._link.execute(change.values(values))
        self._node_changed(node)

    def drained(self, target: SiteId | NodeId) -> None:
        """What was to go from a site or node was told to; it stays closed."""
        table = NODES if "/" in target else SITES
        self._link.execute(update(table).where(table.c.id == target).values(drain_at_ms=None))

    def put_report(self, report: NodeReport, now_ms: int) -> None:
        """What a declared node says of itself now."""
        entry = self.node(report.node)
        assert entry is not None, f"{report.node} is not declared"
        if entry.report == report:
            self._link.do(_SEEN, (now_ms, report.node))
        else:
            self._link.do(_REPORT, (encode(report), now_ms, report.node))
            self._node_changed(report.node)
        nodes = self._memo.nodes
        nodes[report.node] = replace(entry, report=report, reported_at_ms=now_ms)
        self._scratch.undo.append(lambda: nodes.pop(report.node, None))

    def put_node_facts(self, node: NodeId, facts: tuple[NodeFact, ...]) -> None:
        """What is known of a declared node is now this."""
        kept = encode(_Facts(tuple(sorted(facts, key=lambda fact: fact.key))))
        entry = self.node(node)
        if entry is None or weaker(entry.node.facts, facts):
            of = self._memo.times_known
            of[site_of(node)] = of.get(site_of(node), 0) + 1
        self._link.do(_KNOWN, (kept, node))
        self._node_changed(node)

    def put_contact(self, contact: SiteContact, contact_at_ms: int) -> None:
        """The session of a site is now as said."""
        before = self.contact(contact.site)
        assert contact.generation >= before.generation, "generations never go backwards"
        self._save_contact(contact, contact_at_ms)
        if contact.connected != before.connected:
            self._scratch.changed(ChangeKind.SITE, contact.site)

    def next_generation(self, site: SiteId) -> int:
        """A generation of `site` that nothing has had yet."""
        contact, contact_at_ms = self._contact_and_time(site)
        following = contact.generation + 1
        self._save_contact(replace(contact, generation=following), contact_at_ms)
        return following

    def _save_contact(self, contact: SiteContact, contact_at_ms: int) -> None:
        row = {
            "site": contact.site,
            "connected": contact.connected,
            "generation": contact.generation,
            "acked_generation": contact.acked_generation,
            "agent_version": contact.agent_version,
            "incarnation": contact.incarnation,
            "contact_at_ms": contact_at_ms,
            "metrics_address": contact.metrics_address,
        }
        self._link.add(SITE_STATE, row, How.REPLACE)
        contacts = self._memo.contacts
        before = contacts.get(contact.site)
        if before is None or before[0].generation != contact.generation:
            self._scratch.desired_of.add(contact.site)
        contacts[contact.site] = contact, contact_at_ms
        self._scratch.undo.append(lambda: contacts.pop(contact.site, None))

    def _site_changed(self, site: SiteId) -> None:
        memo = self._memo

        def forget() -> None:
            memo.sites.clear()
            memo.digests.clear()

        forget()
        self._scratch.undo.append(forget)
        self._scratch.changed(ChangeKind.SITE, site)

    def _node_changed(self, node: NodeId) -> None:
        self._forget_node(node)
        self._scratch.changed(ChangeKind.NODE, node)

    def _forget_node(self, node: NodeId) -> None:
        memo = self._memo
        memo.nodes.pop(node, None)
        self._scratch.forget_records((node,))
        self._scratch.undo.append(lambda: memo.nodes.clear())


def _site(row: Any) -> Site:
    return _site_of(row.body, bool(row.cordoned))


@lru_cache(maxsize=SITES_DECODED_MAX)
def _site_of(body: str, cordoned: bool) -> Site:
    return replace(decode(Site, body), cordoned=cordoned)


def _node(row: Any) -> NodeEntry:
    """An entry from the columns of `_NODES`."""
    _, body, cordoned, reason, report, reported_at_ms, facts = row
    node = decode(Node, body)
    if cordoned or facts is not None:
        known = () if facts is None else decode(_Facts, facts).facts
        node = replace(node, cordoned=bool(cordoned), facts=known)
    return NodeEntry(
        node=node,
        report=None if report is None else decode(NodeReport, report),
        reported_at_ms=reported_at_ms,
        cordon_reason=reason,
    )


def _contact(site: SiteId, row: Any) -> SiteContact:
    if row is None:
        return SiteContact(site, connected=False, generation=0, acked_generation=0)
    return SiteContact(
        site=site,
        connected=row.connected,
        generation=row.generation,
        acked_generation=row.acked_generation,
        agent_version=row.agent_version,
        incarnation=row.incarnation,
        metrics_address=row.metrics_address,
    )
