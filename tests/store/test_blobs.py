"""Bundles: whole or not at all, by content, and nobody else's business."""

import hashlib
from collections.abc import Generator
from pathlib import Path

import pytest

from scheduler.model.ids import TenantPath
from scheduler.model.reasons import Reason, Refused
from scheduler.store.blobs import BUNDLE_BYTES_MAX, CHUNK_BYTES, Blobs
from tests.store.builders import NOW_MS, RADIOLOGY, RIVALS

BUNDLE = bytes(range(256)) * 9000


@pytest.fixture
def blobs(tmp_path: Path) -> Generator[Blobs]:
    """An empty database of bundles."""
    opened = Blobs(tmp_path / "blobs.db")
    opened.open()
    yield opened
    opened.close()


def digest_of(body: bytes) -> str:
    """A bundle's name."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def put(blobs: Blobs, tenant: TenantPath = RADIOLOGY, body: bytes = BUNDLE) -> bool:
    """Uploads in pieces of odd sizes."""
    pieces = [body[n : n + 700_001] for n in range(0, len(body), 700_001)]
    return blobs.put(tenant, digest_of(body), len(body), pieces, NOW_MS)


def test_a_bundle_comes_back_as_it_went_in(blobs: Blobs) -> None:
    assert put(blobs) is False
    chunks = list(blobs.read(RADIOLOGY, digest_of(BUNDLE)))
    assert b"".join(chunks) == BUNDLE
    assert max(map(len, chunks)) == CHUNK_BYTES
    assert blobs.size_bytes(RADIOLOGY, digest_of(BUNDLE)) == len(BUNDLE)


def test_the_same_bundle_twice_is_kept_once_inside_an_organisation(blobs: Blobs) -> None:
    put(blobs)
    assert put(blobs) is True
    assert put(blobs, TenantPath("trust-a/oncology")) is True


def test_another_tenant_learns_nothing_of_a_bundle(blobs: Blobs) -> None:
    put(blobs)
    assert not blobs.has(RIVALS, digest_of(BUNDLE))
    assert list(blobs.read(RIVALS, digest_of(BUNDLE))) == []
    assert put(blobs, RIVALS) is False


@pytest.mark.parametrize(
    ("digest", "size_bytes", "reason"),
    [
        pytest.param("md5:abc", 3, Reason.INVALID_ARGUMENT, id="no sha256"),
        pytest.param("sha256:" + "g" * 64, 3, Reason.INVALID_ARGUMENT, id="no hex digits"),
        pytest.param(digest_of(b"abc"), 0, Reason.INVALID_ARGUMENT, id="an empty bundle"),
        pytest.param(
            digest_of(b"abc"), BUNDLE_BYTES_MAX + 1, Reason.TOO_LARGE, id="announced too large"
        ),
        pytest.param(digest_of(b"abd"), 3, Reason.INVALID_ARGUMENT, id="another digest"),
        pytest.param(digest_of(b"abc"), 4, Reason.INVALID_ARGUMENT, id="shorter than announced"),
        pytest.param(digest_of(b"abc"), 2, Reason.INVALID_ARGUMENT, id="longer than announced"),
    ],
)
def test_what_is_not_as_announced_leaves_nothing(
    blobs: Blobs, digest: str, size_bytes: int, reason: Reason
) -> None:
    with pytest.raises(Refused) as refused:
        blobs.put(RADIOLOGY, digest, size_bytes, [b"abc"], NOW_MS)
    assert refused.value.reason is reason
    assert not blobs.has(RADIOLOGY, digest)
    assert list(blobs.read(RADIOLOGY, digest)) == []


def test_an_upload_that_breaks_off_leaves_nothing(blobs: Blobs) -> None:
    def breaks_off() -> Generator[bytes]:
        yield BUNDLE[:100]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        blobs.put(RADIOLOGY, digest_of(BUNDLE), len(BUNDLE), breaks_off(), NOW_MS)
    assert list(blobs.read(RADIOLOGY, digest_of(BUNDLE))) == []


def test_a_removed_bundle_is_gone(blobs: Blobs) -> None:
    put(blobs)
    blobs.remove(RADIOLOGY, digest_of(BUNDLE))
    assert not blobs.has(RADIOLOGY, digest_of(BUNDLE))
    assert put(blobs) is False
