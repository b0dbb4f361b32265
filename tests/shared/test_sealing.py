"""Sealed things open with their own key, whole, in order, and for work that was granted and asked
for; with anything else they stay shut."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovapi.v1.grants_pb2 import PlacementGrant
from sovapi.v1.sitelink_pb2 import PlacedNode
from sovshared import grants, key_service, pki, sealing, signing
from sovshared.grants import vouch
from sovshared.key_service import Asking, FileKeys, KeyWithheld
from sovshared.sealing import BUNDLE, SECRET, Header, SealInvalid, TenantKey
from tests.shared.ca import TestCa

KEY = TenantKey("k1", b"k" * 32)
OTHER = TenantKey("k1", b"o" * 32)
NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


def sealed(text: bytes, purpose: str = SECRET, name: str = "n") -> bytes:
    target = io.BytesIO()
    sealing.seal(io.BytesIO(text), target, KEY, purpose, name)
    return target.getvalue()


def opened(content: bytes, key: TenantKey = KEY) -> bytes:
    source = io.BytesIO(content)
    header = sealing.read_header(source)
    return b"".join(sealing.unseal(source, header, key.unwrap(header)))


@pytest.mark.parametrize("size", [0, 1, sealing.CHUNK_BYTES, sealing.CHUNK_BYTES + 1])
def test_what_is_sealed_opens_whole(size: int) -> None:
    text = bytes(n % 251 for n in range(size))
    assert opened(sealed(text)) == text


def test_sealing_twice_gives_different_bytes() -> None:
    assert sealed(b"same") != sealed(b"same")


@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
@settings(max_examples=100)
def test_any_flipped_bit_is_noticed(place: int, bit: int) -> None:
    content = bytearray(SHORT)
    content[place % len(content)] ^= 1 << bit
    with pytest.raises(SealInvalid):
        opened(bytes(content))


SHORT = sealed(b"not for everybody")
LONG = sealed(bytes(3 * sealing.CHUNK_BYTES))
PIECE = sealing.CHUNK_BYTES + sealing.TAG_BYTES


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(LONG[:-PIECE], id="the last chunk is missing"),
        pytest.param(LONG[: -2 * PIECE] + LONG[-PIECE:], id="a chunk is missing"),
        pytest.param(LONG + LONG[-PIECE:], id="a chunk comes twice"),
        pytest.param(b"plain text", id="nothing is sealed"),
        pytest.param(b"", id="nothing is there"),
    ],
)
def test_nothing_can_be_cut_or_moved(content: bytes) -> None:
    with pytest.raises(SealInvalid):
        opened(content)


def test_another_key_opens_nothing() -> None:
    with pytest.raises(SealInvalid):
        opened(SHORT, OTHER)


class Service:
    """A key service in a directory, and a control plane whose grants it believes."""

    def __init__(self, directory: Path) -> None:
        ca = TestCa()
        self.directory = directory
        self.signer = vouch(
            signing.kept_in(directory.with_suffix(".pem")),
            ca.key,
            number=1,
            oldest=1,
            not_before_ms=NOW_MS - HOUR_MS,
            not_after_ms=NOW_MS + HOUR_MS,
        )
        self.keys: FileKeys = key_service.found(directory, ca.trust_pem, KEY.key_id, KEY.key)

    def asking(self, **other: Any) -> Asking:
        """All in order: a granted job with a secret and a sealed bundle, of which the tenant
        knows."""
        bundle = header(sealed(b"tar", BUNDLE, ""))
        work: dict[str, Any] = {
            "command": ["train"],
            "env": {"A": "b"},
            "bundle_digest": "sha256:" + "ab" * 32,
            "image": "",
            "secrets": {"TOKEN": "n"},
            "egress": [],
        }
        grant = PlacementGrant(
            format=grants.FORMAT,
            job_id="job-1",
            attempt=1,
            site="exch-a",
            nodes=[PlacedNode(slot="n01")],
            work_digest=grants.work_digest(**work),
            not_before_ms=NOW_MS,
            not_after_ms=NOW_MS + HOUR_MS,
        )
        asking = Asking(
            grant=grants.sign(grant, self.signer),
            slot="n01",
            ticket=KEY.ticket(sealing.work_of(**work), bundle),
            inputs=[],
            outputs=[],
            bundle=bundle,
            wanted=header(SHORT),
            **work,
        )
        return replace(asking, **other)

    def receipts(self) -> list[dict[str, Any]]:
        path = self.directory / key_service.RECEIPTS_FILE
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def header(content: bytes) -> Header:
    return sealing.read_header(io.BytesIO(content))


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path / "keys")


def test_granted_work_of_the_tenants_gets_the_key_and_leaves_a_receipt(service: Service) -> None:
    asking = service.asking()
    data_key = service.keys.release(asking, NOW_MS)
    source = io.BytesIO(SHORT)
    assert b"".join(sealing.unseal(source, sealing.read_header(source), data_key))
    (receipt,) = service.receipts()
    assert (receipt["job"], receipt["slot"], receipt["purpose"]) == ("job-1", "n01", SECRET)


@pytest.mark.parametrize(
    ("other", "at_ms"),
    [
        pytest.param({"grant": b""}, NOW_MS, id="no grant"),
        pytest.param({}, NOW_MS + 3 * HOUR_MS, id="a grant that is over"),
        pytest.param({"command": ["steal"]}, NOW_MS, id="other work than was granted"),
        pytest.param({"ticket": b""}, NOW_MS, id="no ticket"),
        pytest.param({"ticket": b"t" * 32}, NOW_MS, id="a ticket of somebody else"),
        pytest.param({"bundle": None}, NOW_MS, id="the ticket is for a sealed bundle"),
        pytest.param({"slot": "n02"}, NOW_MS, id="another node"),
        pytest.param(
            {"wanted": header(sealed(b"x", SECRET, "other"))}, NOW_MS, id="a secret not named"
        ),
        pytest.param({"wanted": header(sealed(b"x", BUNDLE, ""))}, NOW_MS, id="another bundle"),
    ],
)
def test_anything_else_gets_nothing(service: Service, other: dict[str, Any], at_ms: int) -> None:
    with pytest.raises(KeyWithheld):
        service.keys.release(service.asking(**other), at_ms)
    assert service.receipts() == []


def test_a_task_of_an_array_is_its_tenants_work_too(service: Service) -> None:
    """The control plane adds three variables, and the ticket is about the rest."""
    plain = service.asking()
    asked = sealing.work_of(
        command=plain.command,
        env={**plain.env, "SOV_ARRAY_INDEX": "3"},
        bundle_digest=plain.bundle_digest,
        image=plain.image,
        secrets=plain.secrets,
        egress=plain.egress,
    )
    assert KEY.ticket(asked, plain.bundle) == plain.ticket


def test_the_owner_withholds_the_key_with_a_file(service: Service) -> None:
    (service.directory / key_service.WITHHELD_FILE).touch()
    with pytest.raises(KeyWithheld, match="withholds"):
        service.keys.release(service.asking(), NOW_MS)


def test_there_is_one_key_in_a_directory_and_only_its_owner_reads_it(service: Service) -> None:
    with pytest.raises(key_service.KeysInvalid):
        key_service.found(service.directory, b"", "k2", bytes(32))
    assert (service.directory / key_service.KEY_FILE).stat().st_mode & 0o777 == 0o600
    with pytest.raises(pki.PkiInvalid):
        key_service.found(service.directory / "other", b"no PEM", "k2", bytes(32))
