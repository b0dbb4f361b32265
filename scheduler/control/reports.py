"""What a site says, and what becomes of it. Messages may be lost, doubled or late: none is trusted
to be the next one, and a site's word counts for its own nodes and attempts only.

A report on an attempt that is over here is about the past: the site is told to forget what it has
ended, and to stop what it still runs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from scheduler.control import evidence, failures, recovery
from scheduler.control.knowing import attested, learn
from scheduler.control.life import short
from scheduler.control.reported import Found, take_attempts
from scheduler.model.fleet import NodeReport, SiteContact
from scheduler.model.ids import AttemptKey, NodeId, SiteId, site_of
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid, not_found
from scheduler.model.sitelink import SiteReport
from scheduler.store.store import Txn

ATTEMPTS_MAX = 20_000
"""Attempts in one report: more than a site's GPUs can hold."""
NODES_MAX = 20_000
TEXT_CHARACTERS_MAX = 200

_ADDRESS = re.compile(r"(\[[0-9a-f:]+\]|[a-z0-9][a-z0-9._-]*):[1-9][0-9]{0,4}", re.I | re.A)


@dataclass(frozen=True, slots=True)
class Hello:
    """A site's agent presents itself."""

    agent_version: str
    incarnation: str
    epoch: int
    generation: int
    metrics_address: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What is counted of a report, most of it what nobody could use: alarmed, not refused."""

    undeclared: tuple[NodeId, ...]
    foreign_nodes: tuple[NodeId, ...]
    implausible: tuple[AttemptKey, ...]
    """Attempts whose ranks cannot be theirs."""
    unanswered: int = 0
    """Attempts that nobody wants there, beyond what is answered."""
    egress_denied: int = 0
    """Tries to reach elsewhere that were denied, of which nobody had told before."""


class _Nodes(NamedTuple):
    """What was found of the nodes of a report."""

    foreign: list[NodeId]
    """Another site's."""
    undeclared: list[NodeId]
    rebooted: list[NodeId]


def site_hello(txn: Txn, site: SiteId, hello: Hello, epoch: int, now_ms: int) -> None:
    """A session with the agent of a declared site begins."""
    if txn.fleet.site(site) is None:
        raise not_found("site", site)
    _refuse_newer_epoch(hello.epoch, epoch)
    contact = _acknowledge(txn, txn.fleet.contact(site), hello.generation, now_ms)
    # Whatever earlier sessions confirmed, here all of it is looked at.
    txn.outbox.drop_forgotten(site, 0, contact.acked_generation)
    contact = replace(
        contact,
        connected=True,
        agent_version=hello.agent_version[:TEXT_CHARACTERS_MAX],
        incarnation=hello.incarnation[:TEXT_CHARACTERS_MAX],
        metrics_address=_address(hello.metrics_address),
    )
    txn.fleet.put_contact(contact, now_ms)


def site_gone(txn: Txn, site: SiteId, incarnation: str, now_ms: int) -> None:
    """A site's only session ended. One that another has replaced is not told of here: an agent
    keeps its incarnation from session to session, so its old one could end the new one."""
    contact = txn.fleet.contact(site)
    if contact.connected and contact.incarnation == incarnation:
        txn.fleet.put_contact(replace(contact, connected=False), now_ms)


def sites_gone(txn: Txn, present: Collection[SiteId], now_ms: int) -> None:
    """Nobody but `present` has a session: that one ended may not have been written at the time."""
    for entry in txn.fleet.sites():
        if entry.contact.connected and entry.site.id not in present:
            txn.fleet.put_contact(replace(entry.contact, connected=False), now_ms)


def site_report(txn: Txn, site: SiteId, report: SiteReport, epoch: int, now_ms: int) -> Heard:
    """Takes a site's word: its nodes, its attempts, the generation that it has."""
    (heard,) = site_reports(txn, ((site, report),), epoch, now_ms)
    if isinstance(heard, Refused):
        raise heard
    return heard


def site_reports(
    txn: Txn, told: Sequence[tuple[SiteId, SiteReport]], epoch: int, now_ms: int
) -> list[Heard | Refused]:
    """As `site_report` for each, in order; those of several sites are read and written together.

    One that is refused has changed nothing.
    """
    found: list[Heard | Refused] = []
    for some in _of_different_sites(told):
        refusals = [_refusal(txn, site, report, epoch) for site, report in some]
        good = [each for each, refusal in zip(some, refusals, strict=True) if refusal is None]
        heard = iter(_hear(txn, good, now_ms))
        found += [next(heard) if refusal is None else refusal for refusal in refusals]
    return found


def _of_different_sites(
    told: Sequence[tuple[SiteId, SiteReport]],
) -> Iterator[list[tuple[SiteId, SiteReport]]]:
    """`told` in order, in runs in which no site speaks twice: what it says next is about what its
    last word has changed."""
    run: dict[SiteId, SiteReport] = {}
    for site, report in told:
        if site in run:
            yield list(run.items())
            run = {}
        run[site] = report
    if run:
        yield list(run.items())


def _refusal(txn: Txn, site: SiteId, report: SiteReport, epoch: int) -> Refused | None:
    """Why a report is not listened to at all; None: it is."""
    try:
        _refuse_too_large(report)
        if txn.fleet.site(site) is None:
            raise not_found("site", site)
        _refuse_newer_epoch(report.epoch, epoch)
    except Refused as refused:
        return refused
    return None


def _hear(txn: Txn, told: Sequence[tuple[SiteId, SiteReport]], now_ms: int) -> list[Heard]:
    """Takes the word of sites, none of which speaks twice."""
    nodes = [_take_nodes(txn, site, report.nodes, now_ms) for site, report in told]
    attempts = take_attempts(txn, told, now_ms)
    return [
        _concluded(txn, site, report, of_nodes, of_attempts, now_ms)
        for (site, report), of_nodes, of_attempts in zip(told, nodes, attempts, strict=True)
    ]


def _concluded(
    txn: Txn, site: SiteId, report: SiteReport, nodes: _Nodes, attempts: Found, now_ms: int
) -> Heard:
    """What follows from a site's word on its nodes and attempts, and what it has confirmed."""
    for node in nodes.rebooted:
        recovery.conclude_reboot(txn, node, now_ms)
    failures.move_work(txn, site, report.nodes, now_ms)
    before = txn.fleet.contact(site)
    contact = _acknowledge(txn, before, report.generation, now_ms)
    txn.fleet.put_contact(contact, now_ms)
    # What was confirmed before was looked at when it was.
    txn.outbox.drop_forgotten(site, before.acked_generation, contact.acked_generation)
    if attempts.foreign:
        evidence.misreported(txn.audit, site, attempts.foreign, now_ms)
    return Heard(
        tuple(nodes.undeclared),
        tuple(nodes.foreign),
        tuple(attempts.implausible),
        unanswered=attempts.unanswered,
        egress_denied=attempts.egress_denied,
    )


def _acknowledge(txn: Txn, contact: SiteContact, held: int, now_ms: int) -> SiteContact:
    """What the site holds, believed: less than before means that it lost its journal."""
    if held <= contact.generation:
        return replace(contact, acked_generation=held)
    # Our store was put back to an older state. Start above all that the site ever saw.
    generation = txn.outbox.renumber(contact.site, held + 1)
    evidence.generations_renewed(txn.audit, contact.site, held, generation, now_ms)
    return replace(contact, generation=generation, acked_generation=0)


def _take_nodes(txn: Txn, site: SiteId, reports: Sequence[NodeReport], now_ms: int) -> _Nodes:
    """Takes a site's word on its nodes."""
    foreign = sorted(r.node for r in reports if site_of(r.node) != site)
    own = {r.node: r for r in reports if site_of(r.node) == site}
    declared = txn.fleet.nodes_by_id(own)
    rebooted: list[NodeId] = []
    for node, entry in declared.items():
        report = own[node]
        if entry.report is not None and entry.report.boot_id != report.boot_id:
            rebooted.append(node)
        told = replace(
            report,
            health_detail=short(report.health_detail),
            metrics_address=_address(report.metrics_address),
        )
        txn.fleet.put_report(told, now_ms)
        if told.attestation is not None:
            learn(txn, node, attested(told, told.attestation, now_ms), now_ms)
    return _Nodes(foreign, sorted(set(own) - set(declared)), rebooted)


def _address(told: str) -> str:
    """Where an agent says that it is scraped; nowhere, when that is no address."""
    return told if len(told) <= TEXT_CHARACTERS_MAX and _ADDRESS.fullmatch(told) else ""


def _refuse_newer_epoch(heard: int, epoch: int) -> None:
    if heard > epoch:
        raise Refused(
            Code.UNAVAILABLE,
            Reason.NOT_LEADER,
            f"the site has heard from epoch {heard}; ours is {epoch}",
        )


def _refuse_too_large(report: SiteReport) -> None:
    faults = [
        Denial(Reason.TOO_LARGE, f"found {len(found)}, allowed {limit}", field)
        for field, found, limit in (
            ("attempts", report.attempts, ATTEMPTS_MAX),
            ("nodes", report.nodes, NODES_MAX),
        )
        if len(found) > limit
    ]
    if faults:
        raise invalid(*faults)
