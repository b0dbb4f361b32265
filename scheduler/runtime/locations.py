"""What landmarks reported of nodes, and what follows: in memory, for a few minutes.

Nothing here is stored. A measurement is worth something for MEASUREMENT_LIFE_MS and is made again
within it; after a restart every node is UNPROVED until it was. Who measures, where landmarks and
sites stand and which key is whose is declared by the operator. Thread-safe: the event loop writes,
readers look.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from scheduler.core.location import Finding, Heard, Located, Position, locate
from scheduler.model.ids import NodeId, SiteId, node_id, site_of
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid
from sovshared import landmarks, spiffe
from sovshared.landmarks import Observation, ObservationInvalid

MEASUREMENT_LIFE_MS = 600_000
SKEW_MS = 120_000
"""By so much may a landmark's clock be wrong."""


@dataclass(frozen=True, slots=True)
class DeclaredLandmark:
    """A landmark as the operator declares it. `public_key`: what it signs statements with."""

    name: str
    operator: str
    position: Position
    public_key: bytes


@dataclass(frozen=True, slots=True)
class DeclaredNode:
    """Where a node answers landmarks, and the key that it answers with."""

    node: NodeId
    address: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Declared:
    """Who measures, and who is measured."""

    landmarks: Mapping[str, DeclaredLandmark] = field(default_factory=dict[str, DeclaredLandmark])
    sites: Mapping[SiteId, Position] = field(default_factory=dict[SiteId, Position])
    nodes: Mapping[NodeId, DeclaredNode] = field(default_factory=dict[NodeId, DeclaredNode])


@dataclass(frozen=True, slots=True)
class NodeFinding:
    """What is known of where a node is; `age_ms` of the newest answer that counts."""

    finding: Finding
    country: str
    age_ms: int


class Locations:
    """The newest statement of each landmark on each node."""

    def __init__(self, declared: Callable[[], Declared]) -> None:
        self._declared = declared
        self._lock = threading.Lock()
        self._heard: dict[NodeId, dict[str, Observation]] = {}
        self._said: dict[NodeId, Located] = {}

    def targets(self) -> tuple[DeclaredNode, ...]:
        """Whom landmarks measure."""
        nodes = self._declared().nodes
        return tuple(nodes[node] for node in sorted(nodes))

    def report(self, landmark: str, statement: bytes, now_ms: int) -> NodeId:
        """Takes a statement of the landmark that calls; of which node. Refuses what is not its
        own, of nobody declared, or not news."""
        declared = self._declared()
        known = declared.landmarks.get(landmark)
        if known is None:
            message = f"landmark {landmark} is not declared"
            raise Refused(Code.PERMISSION_DENIED, Reason.PERMISSION_DENIED, message)
        try:
            observation = landmarks.observed(statement, known.public_key)
        except ObservationInvalid as error:
            raise _bad(str(error)) from error
        if (observation.landmark, observation.operator) != (landmark, known.operator):
            raise _bad(f"landmark: found {observation.landmark} of {observation.operator}")
        if Position(observation.latitude_udeg, observation.longitude_udeg) != known.position:
            raise _bad(f"position: found another than is declared of {landmark}")
        if abs(now_ms - observation.at_ms) > SKEW_MS:
            raise _bad(f"at_ms: found {observation.at_ms}, allowed within {SKEW_MS} of {now_ms}")
        node = _node(declared, observation)
        with self._lock:
            before = self._heard.setdefault(node, {}).get(landmark)
            if before is not None and before.at_ms >= observation.at_ms:
                raise _bad(f"at_ms: found {observation.at_ms}, allowed later than {before.at_ms}")
            self._heard[node][landmark] = observation
        return node

    def finding(self, node: NodeId, country: str, now_ms: int) -> NodeFinding | None:
        """Where a node is, if the claim is that it is in `country`; None: nobody measures it."""
        declared = self._declared()
        if node not in declared.nodes:
            return None
        with self._lock:
            told = list(self._heard.get(node, {}).values())
        fresh = [one for one in told if now_ms - one.at_ms <= MEASUREMENT_LIFE_MS]
        heard = [
            Heard(
                one.landmark,
                one.operator,
                Position(one.latitude_udeg, one.longitude_udeg),
                one.rtt_min_us,
            )
            for one in fresh
        ]
        found = locate(country, declared.sites.get(site_of(node)), heard)
        newest_ms = max((one.at_ms for one in fresh), default=now_ms)
        return NodeFinding(found, country, max(0, now_ms - newest_ms))

    def is_news(self, node: NodeId, verdict: Located) -> bool:
        """Whether the verdict on a node is another than the last one that this was asked of."""
        with self._lock:
            before = self._said.get(node)
            self._said[node] = verdict
        return before is not verdict


def _node(declared: Declared, observation: Observation) -> NodeId:
    """The declared node that an observation is of."""
    try:
        name = spiffe.parse_path(observation.agent)
    except spiffe.NameInvalid as error:
        raise _bad(str(error)) from error
    node = node_id(SiteId(name.site), name.slot)
    known = declared.nodes.get(node)
    if known is None:
        raise _bad(f"agent: found {observation.agent[:80]}, which nobody declared")
    if known.public_key.hex() != observation.agent_key:
        raise _bad(f"agent_key: found another than is declared of {node}")
    return node


def _bad(detail: str) -> Refused:
    return invalid(Denial(Reason.INVALID_ARGUMENT, detail, "statements"))
