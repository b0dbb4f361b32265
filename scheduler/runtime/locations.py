"""What landmarks reported of nodes, in memory for a few minutes, and what follows from it.

A measurement is worth something for MEASUREMENT_LIFE_MS and is made again within it. What follows
is a fact about the node, which `control.knowing` keeps; the statements themselves are not stored.
Who measures, where landmarks and sites stand and which key is whose is declared by the operator.
Thread-safe: the event loop writes, readers look.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from scheduler.core.location import Heard, Located, Position, locate
from scheduler.model.ids import NodeId, SiteId, node_id, site_of
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid
from scheduler.model.residency import Assurance, Hearing, NodeFact, NodeFactKey
from sovshared import landmarks, spiffe
from sovshared.landmarks import Observation, ObservationInvalid

MEASUREMENT_LIFE_MS = 600_000
HEARD_MAX = 8
"""Landmarks that a fact names: the nearest. Its digest is over the statements of all."""
SKEW_MS = 120_000
"""By so much may a landmark's clock be wrong."""

_ASSURANCE = {
    Located.PROVED_IN: Assurance.MEASURED,
    Located.UNPROVED: Assurance.DECLARED,
    Located.CLAIM_FALSE: Assurance.UNSPECIFIED,
}
"""Of the claim. What is not proved is no surer than its declaration."""


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
class _Statement:
    """What a landmark saw, and the bytes that it signed."""

    seen: Observation
    statement: bytes


class Locations:
    """The newest statement of each landmark on each node."""

    def __init__(self, declared: Callable[[], Declared]) -> None:
        self._declared = declared
        self._lock = threading.Lock()
        self._heard: dict[NodeId, dict[str, _Statement]] = {}

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
            if before is not None and before.seen.at_ms >= observation.at_ms:
                found = f"found {observation.at_ms}, allowed later than {before.seen.at_ms}"
                raise _bad(f"at_ms: {found}")
            self._heard[node][landmark] = _Statement(observation, statement)
        return node

    def fact(self, node: NodeId, country: str, now_ms: int) -> NodeFact | None:
        """What is known of where a node is, if the claim is that it is in `country`; None: nobody
        measures it, or no landmark was answered lately."""
        declared = self._declared()
        known = declared.nodes.get(node)
        with self._lock:
            told = list(self._heard.get(node, {}).values())
        fresh = sorted(
            (one for one in told if now_ms - one.seen.at_ms <= MEASUREMENT_LIFE_MS),
            key=lambda one: (one.seen.rtt_min_us, one.seen.landmark),
        )
        if known is None or not fresh:
            return None
        place = declared.sites.get(site_of(node))
        found = locate(country, place, [_heard(one.seen) for one in fresh])
        newest_ms = max(one.seen.at_ms for one in fresh)
        refuted = found.verdict is Located.CLAIM_FALSE
        return NodeFact(
            key=NodeFactKey.LOCATION,
            values=(found.verdict.value, country),
            assurance=_ASSURANCE[found.verdict],
            asserted_by="landmarks",
            observed_at_ms=newest_ms,
            expires_at_ms=None if refuted else newest_ms + MEASUREMENT_LIFE_MS,
            evidence_digest=_digest([one.statement for one in fresh]),
            claim=_claim(country, place, known.public_key),
            detail=found.detail,
            bound_m=found.bound_m,
            heard=tuple(
                Hearing(one.seen.rtt_min_us, one.seen.landmark, one.seen.operator, one.seen.at_ms)
                for one in fresh[:HEARD_MAX]
            ),
        )


def _heard(seen: Observation) -> Heard:
    place = Position(seen.latitude_udeg, seen.longitude_udeg)
    return Heard(seen.landmark, seen.operator, place, seen.rtt_min_us)


def _claim(country: str, place: Position | None, public_key: bytes) -> str:
    """What is tested: that the holder of this key is in this country, at this place."""
    at = "" if place is None else f" at {place.latitude_udeg},{place.longitude_udeg}"
    return f"key {public_key.hex()[:16]} in {country or 'no country'}{at}"


def _digest(statements: list[bytes]) -> str:
    """Names signed statements, whatever their order."""
    each = b"".join(sorted(sha256(statement).digest() for statement in statements))
    return f"sha256:{sha256(each).hexdigest()}"


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
