"""What a job may reach: how that is written, and what is told of it afterwards.

A destination is `host:port`: a name, or an address in its one spelling ([...] around IPv6). Names
are resolved where the work runs, each time it connects. An address that means the node itself, its
neighbours on the link or everybody is none: that way lie the node's own services.

CONTROLLED      every process of the attempt had a network that leads to these destinations only
NOT_CONTROLLED  some had their node's network
NOT_KNOWN       how some ended was lost, and with it what went out of them
NOTHING_RAN     there was nothing that could have reached anything
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from scheduler.model.ids import NodeId
from scheduler.model.job import Attempt, EgressUse, RankCause, RankEgress, RankStatus

DESTINATIONS_MAX = 16
ALLOWED = "host:port, such as data.example.org:443 or [2001:db8::7]:443"
OVERLAY = ipaddress.ip_network("198.18.0.0/15")
"""By addresses of this network, set aside for tests of networks, the nodes of a job find one
another."""

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LOST = (RankCause.LOST, RankCause.INFRASTRUCTURE)


class Control(StrEnum):
    """Whether a job's way out was controlled."""

    CONTROLLED = "CONTROLLED"
    NOT_CONTROLLED = "NOT_CONTROLLED"
    NOT_KNOWN = "NOT_KNOWN"
    NOTHING_RAN = "NOTHING_RAN"


_WORST_FIRST = (Control.NOT_CONTROLLED, Control.NOT_KNOWN, Control.CONTROLLED)


@dataclass(frozen=True, slots=True)
class AttemptEgress:
    """What went out of one attempt. `uses` in the order of the job's list."""

    attempt: int
    control: Control
    denied: int
    uses: tuple[EgressUse, ...]


def fault(destination: str) -> str | None:
    """What is allowed instead of this destination; None if it may be one."""
    host, colon, port = destination.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > 65_535:
        return ALLOWED
    if host.startswith("[") and host.endswith("]"):
        return _address_fault(host[1:-1], 6)
    if re.fullmatch(r"[0-9.]+", host):
        return _address_fault(host, 4)
    if not _NAME.fullmatch(host) or host.startswith("-"):
        return f"{ALLOWED}; names in small letters"
    if host == "localhost" or host.endswith(".localhost"):
        return "another host than the one it runs on"
    return None


def _address_fault(text: str, version: int) -> str | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ALLOWED
    if address.version != version or str(address) != text:
        return f"{ALLOWED}; an address in its shortest form"
    unfit = (address.is_loopback, address.is_link_local, address.is_multicast)
    mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None
    if any(unfit) or mapped or address.is_unspecified or address.is_reserved:
        return "an address of one host elsewhere"
    if address in OVERLAY:
        return f"an address outside {OVERLAY}, which the nodes of jobs use among themselves"
    return None


def of_attempt(attempt: Attempt, destinations: int) -> AttemptEgress:
    """What went out of an attempt of a job that may reach so many destinations."""
    ran = [rank for rank in attempt.ranks if rank.started_at_ms]
    by_node: dict[NodeId, RankEgress] = {}
    for rank in ran:
        if rank.egress is not None:
            by_node[rank.node] = _most(by_node.get(rank.node, RankEgress()), rank.egress)
    uses = [EgressUse()] * destinations
    for found in by_node.values():
        for at, use in enumerate(found.uses[:destinations]):
            uses[at] = _sum(uses[at], use)
    denied = sum(found.denied for found in by_node.values())
    return AttemptEgress(attempt.key.attempt, _control(ran), denied, tuple(uses))


def overall(attempts: Sequence[AttemptEgress]) -> Control:
    """What can be said of a job by what can be said of its attempts."""
    held = {attempt.control for attempt in attempts}
    return next((control for control in _WORST_FIRST if control in held), Control.NOTHING_RAN)


def _control(ran: Sequence[RankStatus]) -> Control:
    if not ran:
        return Control.NOTHING_RAN
    untold = [rank for rank in ran if rank.egress is None]
    if not untold:
        return Control.CONTROLLED
    lost = all(rank.cause in _LOST for rank in untold)
    return Control.NOT_KNOWN if lost else Control.NOT_CONTROLLED


def _most(one: RankEgress, other: RankEgress) -> RankEgress:
    """Of two looks at one network, which only counts upwards, the later."""
    return max(one, other, key=_counted)


def _counted(egress: RankEgress) -> int:
    moved = (use.connections + use.sent_bytes + use.received_bytes for use in egress.uses)
    return egress.denied + sum(moved)


def _sum(one: EgressUse, other: EgressUse) -> EgressUse:
    return EgressUse(
        connections=one.connections + other.connections,
        sent_bytes=one.sent_bytes + other.sent_bytes,
        received_bytes=one.received_bytes + other.received_bytes,
    )
