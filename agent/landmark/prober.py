"""Measures how long a node's answers take, by this machine's own monotonic clock.

The least of the round trips counts: everything that can go wrong on the way makes one longer. A
signature is verified after the clock was read, and an answer that is not the node's is no answer.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from sovshared import landmarks
from sovshared.landmarks import NONCE_BYTES, Observation, Probe

PROBES = 48
ANSWER_S_MAX = 0.25
STRAYS_MAX = 64
"""Packets looked at, at most, while one answer is waited for."""
PACKET_BYTES_MAX = 2_048


@dataclass(frozen=True, slots=True)
class Landmark:
    """Who measures, and where it stands: in millionths of a degree."""

    name: str
    operator: str
    latitude_udeg: int
    longitude_udeg: int


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to measure: its SPIFFE path, where it answers, its location key (32 bytes)."""

    agent: str
    address: tuple[str, int]
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Sources:
    """Where chance and time come from: octets, nanoseconds of a monotonic clock, UTC ms."""

    octets: Callable[[int], bytes]
    monotonic_ns: Callable[[], int]
    utc_ms: Callable[[], int]


def measure(
    landmark: Landmark, target: Target, sources: Sources, *, probes: int = PROBES
) -> Observation | None:
    """What is observed of `target`; None when it gave no answer of its own."""
    family = socket.AF_INET6 if ":" in target.address[0] else socket.AF_INET
    nonces: list[bytes] = []
    times_ns: list[int] = []
    with socket.socket(family, socket.SOCK_DGRAM) as line:
        line.connect(target.address)  # The kernel drops what others send.
        line.settimeout(ANSWER_S_MAX)
        for number in range(probes):
            probe = Probe(number, sources.octets(NONCE_BYTES), landmark.name)
            nonces.append(probe.nonce)
            taken_ns = _round_trip_ns(line, probe, target, sources.monotonic_ns)
            if taken_ns is not None:
                times_ns.append(taken_ns)
    if not times_ns:
        return None
    return Observation(
        agent=target.agent,
        agent_key=target.public_key.hex(),
        answered=len(times_ns),
        at_ms=sources.utc_ms(),
        landmark=landmark.name,
        latitude_udeg=landmark.latitude_udeg,
        longitude_udeg=landmark.longitude_udeg,
        nonces_sha256=landmarks.nonces_digest(nonces),
        operator=landmark.operator,
        probes=probes,
        rtt_min_us=-(-min(times_ns) // 1_000),
    )


def _round_trip_ns(
    line: socket.socket, probe: Probe, target: Target, monotonic_ns: Callable[[], int]
) -> int | None:
    """From when the probe left until its answer was there; None: it did not come in time."""
    packet = landmarks.probe_bytes(probe)
    try:
        sent_ns = monotonic_ns()
        line.send(packet)
        for _ in range(STRAYS_MAX):
            answer = line.recv(PACKET_BYTES_MAX)
            taken_ns = monotonic_ns() - sent_ns
            if landmarks.is_answer(answer, probe, target.agent, target.public_key):
                return taken_ns
            if taken_ns > ANSWER_S_MAX * 1e9:
                return None
    except OSError:  # Nothing came, or nobody listens there.
        return None
    return None
