"""Grants are canonical, signed by a key that the CA vouches for, and nothing else opens."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovapi.v1.grants_pb2 import PlacementGrant, SignedGrant
from sovapi.v1.sitelink_pb2 import Launch, PlacedNode
from sovshared import grants
from sovshared.grants import GrantInvalid, GrantTrust
from tests.shared.granting import Granting

NOW_MS = 1_800_000_000_000
LAUNCH = Launch(command=["true"], nodes=[PlacedNode(slot="n01", gpu_indices=[0, 3])])
GRANTING = Granting()
TOKEN = GRANTING.launch(LAUNCH, NOW_MS, key="job-a.1", site="exch-a").grant


@pytest.fixture
def trust(tmp_path: Path) -> GrantTrust:
    return GrantTrust(GRANTING.trust(tmp_path / "trust.pem"))


def kind_of(trust: GrantTrust, token: bytes) -> str:
    with pytest.raises(GrantInvalid) as refused:
        trust.open(token)
    return refused.value.kind


def test_a_grant_says_what_was_granted(trust: GrantTrust) -> None:
    opened = trust.open(TOKEN)
    assert (opened.grant.job_id, opened.grant.attempt, opened.grant.site) == ("job-a", 1, "exch-a")
    assert list(opened.grant.nodes) == list(LAUNCH.nodes)
    assert opened.grant.issuer == GRANTING.ca.trust_domain
    grants.check_time(opened, NOW_MS)


def test_no_flipped_bit_is_overlooked(trust: GrantTrust) -> None:
    for byte in range(len(TOKEN)):
        flipped = bytearray(TOKEN)
        flipped[byte] ^= 1 << byte % 8
        assert kind_of(trust, bytes(flipped)) == grants.FORGED, byte


def test_a_grant_has_one_encoding(trust: GrantTrust) -> None:
    signed = SignedGrant.FromString(TOKEN)
    grant = PlacementGrant.FromString(signed.grant)
    strange = grant.SerializeToString(deterministic=True) + bytes([0xF8, 0x07, 0x01])
    context = b"sov placement grant 1\0"
    signed.grant, signed.signature = strange, GRANTING.key.sign(context + strange)
    assert kind_of(trust, signed.SerializeToString(deterministic=True)) == grants.FORGED
    assert kind_of(trust, TOKEN + bytes([0xF8, 0x07, 0x01])) == grants.FORGED
    assert kind_of(trust, b"") == grants.MISSING
    assert kind_of(trust, b"x" * (grants.GRANT_BYTES_MAX + 1)) == grants.FORGED


def test_a_key_counts_by_the_word_of_a_ca_that_is_believed(tmp_path: Path) -> None:
    path = Granting().trust(tmp_path / "trust.pem")
    trust = GrantTrust(path)
    assert kind_of(trust, TOKEN) == grants.FORGED
    GRANTING.trust(path)
    assert trust.open(TOKEN).key.number == 1
    path.unlink()
    assert kind_of(trust, TOKEN) == grants.FORGED, "what is not believed any more opens nothing"


def test_two_keys_are_good_at_once(trust: GrantTrust) -> None:
    newer = Granting(GRANTING.ca, number=2)
    token = newer.launch(LAUNCH, NOW_MS, key="job-a.1", site="exch-a").grant
    assert [trust.open(one).key.number for one in (TOKEN, token)] == [1, 2]


@pytest.mark.parametrize(
    ("at_ms", "detail"),
    [
        pytest.param(NOW_MS - grants.SKEW_MS - 1_000, "the grant begins", id="too early"),
        pytest.param(NOW_MS + 600_000 + grants.SKEW_MS + 1_000, "the grant ended 121 s", id="late"),
    ],
)
def test_a_grant_is_good_for_a_while(trust: GrantTrust, at_ms: int, detail: str) -> None:
    with pytest.raises(GrantInvalid, match=detail) as refused:
        grants.check_time(trust.open(TOKEN), at_ms)
    assert refused.value.kind == grants.STALE


def test_a_key_is_good_for_a_while(trust: GrantTrust) -> None:
    brief = Granting(GRANTING.ca, from_ms=NOW_MS - 1_000, until_ms=NOW_MS)
    token = brief.launch(LAUNCH, NOW_MS + 300_000, key="job-a.1", site="exch-a").grant
    with pytest.raises(GrantInvalid, match="its key ended 300 s ago"):
        grants.check_time(trust.open(token), NOW_MS + 300_000)


TEXT = st.text(max_size=4)
WORK = st.tuples(
    st.lists(TEXT, max_size=3), st.dictionaries(TEXT, TEXT, max_size=2), TEXT, TEXT,
    st.dictionaries(TEXT, TEXT, max_size=2),
)  # fmt: skip


@given(WORK, WORK)
def test_different_work_has_different_digests(
    one: tuple[list[str], dict[str, str], str, str, dict[str, str]],
    other: tuple[list[str], dict[str, str], str, str, dict[str, str]],
) -> None:
    def digest(work: tuple[list[str], dict[str, str], str, str, dict[str, str]]) -> bytes:
        command, env, bundle, image, secrets = work
        return grants.work_digest(
            command=command, env=env, bundle_digest=bundle, image=image, secrets=secrets
        )

    assert (digest(one) == digest(other)) == (one == other)
