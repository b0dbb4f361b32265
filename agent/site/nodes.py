"""What is known of each node: its agent's word, its spool, and whether its raylet answers."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from agent.site.events import (
    NodeConnected,
    NodeDisconnected,
    NodeReported,
    RuntimeChanged,
    SpoolReported,
)
from agent.site.state import NodeView
from sovapi.v1 import jobs_pb2 as jobs
from sovapi.v1.jobs_pb2 import RankStatus
from sovapi.v1.nodelink_pb2 import SpoolEntry
from sovapi.v1.sitelink_pb2 import NodeReport

RANKS_MAX = 8192  # In one node's spool; twice what a spool holds.

NodeEvent: TypeAlias = (
    NodeConnected | NodeDisconnected | NodeReported | SpoolReported | RuntimeChanged
)
LIVING = (jobs.RANK_PHASE_STARTING, jobs.RANK_PHASE_RUNNING)

_NUMBER = r"(0|[1-9][0-9]{0,8})"
_KEY = re.compile(rf"[a-z0-9][a-z0-9-]{{0,63}}\.{_NUMBER}\.{_NUMBER}")
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Node:
    boot_id: str = ""
    agent_version: str = ""
    connected: bool = False
    told: bool = False  # The whole spool, since it connected.
    ranks: dict[str, RankStatus] = field(default_factory=dict[str, RankStatus])
    report: NodeReport | None = None
    runtime_alive: bool | None = None
    runtime_dead_since_ms: int = 0


class Nodes:
    """Every node that was heard of since this agent began."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}

    def absorb(self, event: NodeEvent, now_ms: int) -> None:
        """Take in one event."""
        match event:
            case NodeConnected():
                node = self._node(event.slot)
                node.connected, node.told = True, False
                node.boot_id, node.agent_version = event.boot_id, event.agent_version
            case NodeDisconnected():
                node = self._node(event.slot)
                node.connected = node.told = False
            case NodeReported():
                self._node(event.slot).report = event.report
            case SpoolReported():
                self._spool_told(event)
            case RuntimeChanged():
                self._runtime_changed(event.alive, now_ms)

    def living(self, event: SpoolReported) -> tuple[str, ...]:
        """Rank keys that this report shows to live in the node's present boot."""
        if not self._node(event.slot).told:
            return ()
        return tuple(
            entry.key
            for entry in event.report.entries
            if _sound(event.slot, entry) and not entry.gone and entry.status.phase in LIVING
        )

    def views(self, now_ms: int) -> dict[str, NodeView]:
        """Every node as reconcile sees it."""
        return {slot: self._view(node, now_ms) for slot, node in self._nodes.items()}

    def can_start(self, slots: Iterable[str]) -> bool:
        """Whether all of these nodes have told of their spools, and their raylets answer."""
        nodes = [self._node(slot) for slot in slots]
        return all(node.told and node.runtime_alive for node in nodes)

    def boot_id(self, slot: str) -> str:
        """The boot that the node's agent last told of."""
        return self._node(slot).boot_id

    def isolation(self, slot: str) -> int:
        """How well the node isolates; 0 when it has not said."""
        report = self._node(slot).report
        return report.isolation if report is not None else 0

    def reports(self) -> dict[str, NodeReport]:
        """What to tell the control plane of each node."""
        return {slot: self._report(slot, self._nodes[slot]) for slot in sorted(self._nodes)}

    def check(self) -> None:
        """What must hold."""
        assert all(node.connected or not node.told for node in self._nodes.values())

    def _node(self, slot: str) -> _Node:
        return self._nodes.setdefault(slot, _Node())

    def _spool_told(self, event: SpoolReported) -> None:
        node = self._node(event.slot)
        if not node.connected or not (event.report.full or node.told):
            return
        if event.report.full:
            node.ranks, node.told = {}, True
        for entry in event.report.entries:
            full = len(node.ranks) >= RANKS_MAX and entry.key not in node.ranks
            if not _sound(event.slot, entry) or (full and not entry.gone):
                _log.warning("node %s told of %.80r, which cannot be", event.slot, entry.key)
            elif entry.gone:
                node.ranks.pop(entry.key, None)
            else:
                node.ranks[entry.key] = entry.status

    def _runtime_changed(self, alive: frozenset[str] | None, now_ms: int) -> None:
        for slot in sorted(self._nodes.keys() | (alive or frozenset())):
            node = self._node(slot)
            if alive is not None and slot not in alive and node.runtime_alive is not False:
                node.runtime_dead_since_ms = now_ms
            node.runtime_alive = None if alive is None else slot in alive

    def _view(self, node: _Node, now_ms: int) -> NodeView:
        dead_ms = max(1, now_ms - node.runtime_dead_since_ms)
        runtime = {None: None, True: 0, False: dead_ms}[node.runtime_alive]
        return NodeView(node.boot_id, node.told, node.ranks, runtime)

    def _report(self, slot: str, node: _Node) -> NodeReport:
        told = NodeReport()
        if node.report is not None:
            told.CopyFrom(node.report)
        told.slot, told.boot_id, told.agent_version = slot, node.boot_id, node.agent_version
        told.agent_connected = node.connected
        told.runtime_alive = node.runtime_alive is True
        return told


def _sound(slot: str, entry: SpoolEntry) -> bool:
    """Whether an entry can be one of this node's: a key as we write them, with its own status.

    A node's word counts for itself alone. Another spelling of a number would be another node's
    rank to whoever reads it.
    """
    key = _KEY.fullmatch(entry.key)
    if key is None or entry.gone:
        return key is not None
    return entry.status.node in ("", slot) and str(entry.status.rank) == key[2]
