"""Measured over real UDP: near is near, later is further, and only the node's own answers count."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from agent.landmark.prober import Landmark, Sources, Target, measure
from agent.node.clock import boot_ms, wall_ms
from agent.node.responder import ANSWERS_A_SECOND_MAX, Allowance, Responder
from scheduler.core.location import Heard, Located, Position, locate
from sovshared import landmarks, signing
from sovshared.landmarks import Observation, ObservationInvalid, Probe
from tests.agent.landmark.relay import Relay

AGENT = "/site/exch-a/node/n01"
KEY = signing.signer_of(Ed25519PrivateKey.generate())
SOURCES = Sources(os.urandom, time.monotonic_ns, wall_ms)
PLACES = (
    Landmark("docklands", "operator-a", 51_510_000, 0),
    Landmark("slough", "operator-b", 51_510_000, -600_000),
    Landmark("reading", "operator-c", 51_450_000, -970_000),
)
SLOUGH = Position(51_510_000, -600_000)
PROBES = 32


@pytest.fixture
def node() -> Iterator[tuple[str, int]]:
    with Responder(("127.0.0.1", 0), AGENT, KEY, boot_ms) as responder:
        yield ("127.0.0.1", responder.port)


def target(address: tuple[str, int]) -> Target:
    return Target(AGENT, address, KEY.public_key)


def heard(found: Observation, paths_us: int) -> Heard:
    """As a landmark of that name would have heard it, over a way that takes so long more."""
    place = Position(found.latitude_udeg, found.longitude_udeg)
    return Heard(found.landmark, found.operator, place, found.rtt_min_us + paths_us)


def all_heard(address: tuple[str, int], ways_us: tuple[int, ...]) -> list[Heard]:
    """What the three landmarks hear of a node in Slough; the ways there are added to what this
    machine's own answer takes."""
    found = [measure(place, target(address), SOURCES, probes=PROBES) for place in PLACES]
    assert all(found), "the node answers"
    return [heard(o, way) for o, way in zip(found, ways_us, strict=True) if o is not None]


IN_SLOUGH = (281, 5, 177)
"""Light's own round trips from the landmarks to Slough, in microseconds."""


def test_a_node_that_answers_at_once_is_near(node: tuple[str, int]) -> None:
    found = measure(PLACES[0], target(node), SOURCES, probes=PROBES)
    assert found is not None
    assert (found.agent, found.probes, found.agent_key) == (AGENT, PROBES, KEY.public_key.hex())
    assert 0 < found.answered <= PROBES
    assert 0 < found.rtt_min_us < 250_000


def test_two_milliseconds_more_prove_nothing(node: tuple[str, int]) -> None:
    with Relay(node, delay_s=0.001) as relay:
        found = locate("GB", SLOUGH, all_heard(relay.address, IN_SLOUGH))
    assert found.verdict is Located.UNPROVED


def test_a_wrong_place_is_found_out(node: tuple[str, int]) -> None:
    """The site says that it is in Johannesburg, and answers a landmark in London within 90 ms."""
    elsewhere = Position(-26_200_000, 28_040_000)
    told = [h for h in all_heard(node, IN_SLOUGH) if h.rtt_min_us < 20_000]
    assert told, "one of three answers on loopback takes less than 20 ms"
    assert locate("GB", elsewhere, told).verdict is Located.CLAIM_FALSE


def test_a_copied_key_passes_which_is_why_this_is_no_protection_against_it() -> None:
    """THE LIMIT: whoever holds a copy of the key near the landmarks passes for the node, wherever
    the node is. What is proved is where *a* holder of the key was (docs/location.md)."""
    with Responder(("127.0.0.1", 0), AGENT, KEY, boot_ms) as proxy:
        found = measure(PLACES[0], target(("127.0.0.1", proxy.port)), SOURCES, probes=PROBES)
    assert found is not None, "the proxy's answers are as good as the node's"
    near = [Heard(p.name, p.operator, Position(p.latitude_udeg, p.longitude_udeg), us)
            for p, us in zip(PLACES, (341, 65, 237), strict=True)]  # fmt: skip
    assert locate("GB", SLOUGH, near).verdict is Located.PROVED_IN


def test_answers_by_another_key_are_none(node: tuple[str, int]) -> None:
    other = signing.signer_of(Ed25519PrivateKey.generate())
    asked = Target(AGENT, node, other.public_key)
    assert measure(PLACES[0], asked, SOURCES, probes=4) is None


def test_an_answer_that_was_given_before_is_none(node: tuple[str, int]) -> None:
    kept: list[bytes] = []

    def replay(answer: bytes) -> bytes:
        kept.append(answer)
        return kept[0]

    with Relay(node, change=replay) as relay:
        first = measure(PLACES[0], target(relay.address), SOURCES, probes=1)
        again = measure(PLACES[0], target(relay.address), SOURCES, probes=4)
    assert first is not None
    assert again is None


def test_an_answer_that_was_changed_is_none(node: tuple[str, int]) -> None:
    with Relay(node, change=lambda answer: answer[:-1] + bytes([answer[-1] ^ 1])) as relay:
        assert measure(PLACES[0], target(relay.address), SOURCES, probes=4) is None


def test_where_nobody_listens_nothing_is_observed() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    assert measure(PLACES[0], target(address), SOURCES, probes=2) is None


def test_what_is_no_probe_gets_no_answer_and_no_answer_is_longer_than_its_probe(
    node: tuple[str, int],
) -> None:
    good = landmarks.probe_bytes(Probe(1, b"n" * 32, "docklands"))
    assert len(landmarks.answer_bytes(Probe(1, b"n" * 32, "a"), AGENT, KEY)) < len(good)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.connect(node)
        line.settimeout(30)
        for bad in (b"", b"x", good[:-1], good + b"\0", good[:45] + b"X" + good[46:], b"\0" * 128):
            line.send(bad)
        line.send(good)
        assert landmarks.number_of(line.recv(2_048)) == 1, "only the good one is answered"


def test_a_flood_is_answered_so_many_times_a_second() -> None:
    now_ms = 0
    allowance = Allowance(ANSWERS_A_SECOND_MAX, lambda: now_ms)
    taken = sum(allowance.take() for _ in range(10 * ANSWERS_A_SECOND_MAX))
    assert taken == ANSWERS_A_SECOND_MAX
    now_ms = 1_000
    assert allowance.take()


@given(st.binary(max_size=200))
def test_no_packet_confuses_whoever_reads_it(packet: bytes) -> None:
    probe = landmarks.probe_of(packet)
    assert probe is None or landmarks.probe_bytes(probe) == packet
    assert landmarks.number_of(packet) is None or len(packet) == 76


OBSERVATION = Observation(
    agent=AGENT, agent_key=KEY.public_key.hex(), answered=30, at_ms=wall_ms(),
    landmark="docklands", latitude_udeg=51_510_000, longitude_udeg=-1, nonces_sha256="0" * 64,
    operator="operator-a", probes=32, rtt_min_us=51,
)  # fmt: skip


def test_a_statement_says_what_was_observed_and_no_bit_of_it_can_be_changed() -> None:
    signer = signing.signer_of(Ed25519PrivateKey.generate())
    statement = landmarks.stated(OBSERVATION, signer)
    assert landmarks.observed(statement, signer.public_key) == OBSERVATION
    for byte in range(len(statement)):
        flipped = bytearray(statement)
        flipped[byte] ^= 1 << byte % 8
        with pytest.raises(ObservationInvalid):
            landmarks.observed(bytes(flipped), signer.public_key)
    with pytest.raises(ObservationInvalid):
        landmarks.observed(b"", signer.public_key)
