"""Challenge and answer between a landmark and a node, and what a landmark then states.

A probe is UDP and longer than its answer, so that nobody can have a node send others more than they
sent. The node signs inside the timed path: a fast answer first and a signature later would let
somebody else give the answer.

    probe   "sovloc1?" number(4) nonce(32) length(1) landmark's name, zeros to PROBE_BYTES
    answer  "sovloc1!" number(4) signature(64)

The signature (Ed25519, the node's location key) is over a line that names the purpose, then number,
nonce, and the lengths and names of landmark and agent. Numbers are big-endian.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

from sovshared.signing import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, Signer, is_signed

NONCE_BYTES = 32
NAME_BYTES_MAX = 64
PROBE_BYTES = 128
OBSERVATION_BYTES_MAX = 4_096
PROBES_MAX = 256

_PROBE, _ANSWER = b"sovloc1?", b"sovloc1!"
_ANSWER_CONTEXT = b"sov location answer 1\0"
_OBSERVATION_CONTEXT = b"sov location observation 1\0"
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Probe:
    """One challenge. `number` counts within a measurement, `nonce` is used once."""

    number: int
    nonce: bytes
    landmark: str


def probe_bytes(probe: Probe) -> bytes:
    """The packet of a probe."""
    name = probe.landmark.encode("ascii")
    assert len(probe.nonce) == NONCE_BYTES
    assert 0 < len(name) <= NAME_BYTES_MAX
    packet = _PROBE + probe.number.to_bytes(4, "big") + probe.nonce + bytes([len(name)]) + name
    return packet.ljust(PROBE_BYTES, b"\0")


def probe_of(packet: bytes) -> Probe | None:
    """The probe in a packet; None when it is none, in its only form."""
    if len(packet) != PROBE_BYTES or not packet.startswith(_PROBE):
        return None
    end = 45 + packet[44]
    name = packet[45:end]
    if packet[44] > NAME_BYTES_MAX or any(packet[end:]) or not name.isascii():
        return None
    if not _NAME.fullmatch(name.decode("ascii")):
        return None
    return Probe(int.from_bytes(packet[8:12], "big"), packet[12:44], name.decode("ascii"))


def answer_bytes(probe: Probe, agent: str, signer: Signer) -> bytes:
    """The packet that answers a probe, by the agent of this name."""
    signature = signer.sign(_signed(probe, agent))
    return _ANSWER + probe.number.to_bytes(4, "big") + signature


def number_of(packet: bytes) -> int | None:
    """Which probe a packet claims to answer; None when it is no answer."""
    if len(packet) != len(_ANSWER) + 4 + SIGNATURE_BYTES or not packet.startswith(_ANSWER):
        return None
    return int.from_bytes(packet[8:12], "big")


def is_answer(packet: bytes, probe: Probe, agent: str, public_key: bytes) -> bool:
    """Whether a packet is the answer to this very probe by the holder of the agent's key."""
    if number_of(packet) != probe.number:
        return False
    return is_signed(public_key, packet[12:], _signed(probe, agent))


def _signed(probe: Probe, agent: str) -> bytes:
    names = b"".join(
        len(name).to_bytes(2, "big") + name for name in (probe.landmark.encode(), agent.encode())
    )
    return _ANSWER_CONTEXT + probe.number.to_bytes(4, "big") + probe.nonce + names


@dataclass(frozen=True, slots=True)
class Observation:
    """What a landmark measured of an agent, once. Positions in millionths of a degree; `at_ms` in
    UTC milliseconds; `nonces_sha256` over the nonces in order, hexadecimal; keys hexadecimal."""

    agent: str
    agent_key: str
    answered: int
    at_ms: int
    landmark: str
    latitude_udeg: int
    longitude_udeg: int
    nonces_sha256: str
    operator: str
    probes: int
    rtt_min_us: int


class ObservationInvalid(ValueError):
    """Not an observation that its landmark signed; the message names the field at fault."""


_FIELDS: dict[str, tuple[type, int, int]] = {
    "agent": (str, 1, 256),
    "agent_key": (str, 2 * PUBLIC_KEY_BYTES, 2 * PUBLIC_KEY_BYTES),
    "answered": (int, 1, PROBES_MAX),
    "at_ms": (int, 1, 1 << 53),
    "landmark": (str, 1, NAME_BYTES_MAX),
    "latitude_udeg": (int, -90_000_000, 90_000_000),
    "longitude_udeg": (int, -180_000_000, 180_000_000),
    "nonces_sha256": (str, 64, 64),
    "operator": (str, 1, NAME_BYTES_MAX),
    "probes": (int, 1, PROBES_MAX),
    "rtt_min_us": (int, 1, 60_000_000),
}
"""Of each field its type, and the least and most of its value or, of texts, its length."""


def nonces_digest(nonces: list[bytes]) -> str:
    """Names the challenges of a measurement."""
    return sha256(b"".join(nonces)).hexdigest()


def stated(observation: Observation, signer: Signer) -> bytes:
    """The observation as its landmark states it: canonical JSON, a zero, the signature."""
    body = _body(observation)
    return body + b"\0" + signer.sign(_OBSERVATION_CONTEXT + body)


def observed(statement: bytes, public_key: bytes) -> Observation:
    """The observation in a statement by the landmark with this key, or ObservationInvalid."""
    if len(statement) > OBSERVATION_BYTES_MAX:
        raise ObservationInvalid(f"observation: found more than {OBSERVATION_BYTES_MAX} bytes")
    body, signature = statement[: -SIGNATURE_BYTES - 1], statement[-SIGNATURE_BYTES:]
    if not is_signed(public_key, signature, _OBSERVATION_CONTEXT + body):
        raise ObservationInvalid("observation: its signature is not its landmark's")
    try:
        document = cast("dict[str, Any]", json.loads(body))
        found = Observation(**document)
    except (ValueError, TypeError) as error:
        raise ObservationInvalid("observation: found other fields than one has") from error
    for name, (kind, least, most) in _FIELDS.items():
        value = document[name]
        size = len(value) if isinstance(value, str) else value
        if type(value) is not kind or not least <= size <= most:
            raise ObservationInvalid(f"{name}: found {str(value)[:80]!r}")
    if statement[:-SIGNATURE_BYTES] != _body(found) + b"\0":
        raise ObservationInvalid("observation: it is not in its canonical form")
    return found


def _body(observation: Observation) -> bytes:
    document = {name: getattr(observation, name) for name in _FIELDS}
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")
