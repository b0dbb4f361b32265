"""Bundles on their way in and out: what is not a bundle leaves nothing behind."""

import asyncio
import hashlib
import io
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from scheduler.api.uploads import Uploads
from scheduler.model.ids import TenantPath
from scheduler.model.reasons import Refused
from scheduler.store.blobs import BUNDLE_BYTES_MAX, Blobs
from sovapi.v1 import jobs_pb2, jobs_pb2_grpc, sitelink_pb2
from tests.api import world
from tests.api.control_plane import ControlPlane
from tests.api.world import ADA, OLGA, RADIOLOGY, WAIT_S, FakeSite

TENANT = TenantPath("trust-a")


def tar(*entries: tarfile.TarInfo, content: bytes = b"print(1)\n") -> bytes:
    """A tar of these entries; plain files have `content`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made:
        for entry in entries:
            if entry.isreg():
                entry.size = len(content)
                made.addfile(entry, io.BytesIO(content))
            else:
                made.addfile(entry)
    return buffer.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, **more: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for key, value in more.items():
        setattr(made, key, value)
    return made


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


GOOD = tar(entry("train.py"), entry("lib", tarfile.DIRTYPE), entry("lib/x.py"))


class Dock:
    """Uploads into real blobs."""

    def __init__(self, directory: Path) -> None:
        self.incoming = directory / "incoming"
        self.incoming.mkdir()
        self.blobs = Blobs(directory / "bundles.db")
        self.blobs.open()
        self.uploads = Uploads(self.blobs, self.incoming, now_ms=lambda: 1)

    async def receive(
        self, data: bytes, *, claims: str = "", size: int | None = None, chunk: int = 1000
    ) -> bool:
        start = jobs_pb2.UploadStart(
            digest=claims or digest(data), size_bytes=len(data) if size is None else size
        )

        async def rest() -> AsyncIterator[jobs_pb2.UploadRequest]:
            for at in range(0, len(data), chunk):
                yield jobs_pb2.UploadRequest(chunk=data[at : at + chunk])

        return await self.uploads.receive(TENANT, start, rest())

    def empty(self, data: bytes) -> bool:
        return not self.blobs.has(TENANT, digest(data)) and not list(self.incoming.iterdir())


@pytest.fixture
def dock(tmp_path: Path) -> Iterator[Dock]:
    made = Dock(tmp_path)
    yield made
    made.blobs.close()


async def test_a_bundle_is_stored_once_and_handed_out_whole(dock: Dock) -> None:
    assert await dock.receive(GOOD) is False
    assert await dock.receive(GOOD) is True
    pieces = [piece async for piece in dock.uploads.send(TENANT, digest(GOOD))]
    assert b"".join(pieces) == GOOD
    assert list(dock.incoming.iterdir()) == []


BAD = [
    pytest.param(tar(entry("a", tarfile.SYMTYPE, linkname="/etc/passwd")), id="a symbolic link"),
    pytest.param(tar(entry("a"), entry("b", tarfile.LNKTYPE, linkname="a")), id="a hard link"),
    pytest.param(tar(entry("a", tarfile.CHRTYPE)), id="a device"),
    pytest.param(tar(entry("a", tarfile.FIFOTYPE)), id="a pipe"),
    pytest.param(tar(entry("/etc/cron.d/x")), id="an absolute path"),
    pytest.param(tar(entry("../x")), id="a path that leaves"),
    pytest.param(tar(entry("a/../../x")), id="a path that leaves later"),
    pytest.param(tar(entry("a"), entry("a")), id="a file twice"),
    pytest.param(tar(entry("a", mode=0o4755)), id="a setuid file"),
    pytest.param(tar(entry("d/" * 70 + "x")), id="too deep a path"),
    pytest.param(tar(entry("x" * 2000)), id="too long a path"),
    pytest.param(b"PK\x03\x04" + b"\0" * 2000, id="no tar"),
    pytest.param(b"\x1f\x8b" + b"\0" * 2000, id="a compressed tar"),
    pytest.param(GOOD[:700], id="a torn tar"),
    pytest.param(tar(entry("a", pax_headers={"comment": "x" * 200_000})), id="a huge header"),
]


@pytest.mark.parametrize("data", BAD)
async def test_what_is_no_bundle_leaves_nothing(dock: Dock, data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        await dock.receive(data)
    assert caught.value.denials
    assert dock.empty(data)


async def test_what_is_not_as_announced_leaves_nothing(dock: Dock) -> None:
    for claims, size in ((digest(b"else"), None), ("", len(GOOD) - 1), ("", len(GOOD) + 1)):
        with pytest.raises(Refused):
            await dock.receive(GOOD, claims=claims, size=size)
        assert dock.empty(GOOD)
    for claims, size in (("", 0), ("", BUNDLE_BYTES_MAX + 1), ("md5:1", None)):
        with pytest.raises(Refused):
            await dock.receive(GOOD, claims=claims, size=size)
        assert dock.empty(GOOD)


async def test_more_uploads_than_allowed_are_told_to_wait(
    dock: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.api.uploads.UPLOADS_MAX", 0)
    with pytest.raises(Refused) as caught:
        await dock.receive(GOOD)
    assert caught.value.retry_after_ms


async def test_one_organisations_slow_uploads_keep_nobody_else_out(
    dock: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.api.uploads.UPLOADS_OF_ORGANISATION_MAX", 1)
    under_way, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[jobs_pb2.UploadRequest]:
        under_way.set()
        await go_on.wait()
        yield jobs_pb2.UploadRequest(chunk=GOOD)

    start = jobs_pb2.UploadStart(digest=digest(GOOD), size_bytes=len(GOOD))
    first = asyncio.create_task(dock.uploads.receive(TenantPath("uni-b/physics"), start, slow()))
    await under_way.wait()
    with pytest.raises(Refused, match="1 bundles of uni-b"):
        await dock.uploads.receive(TenantPath("uni-b"), start, slow())
    assert await dock.receive(GOOD) is False
    go_on.set()
    assert await first is False


async def test_an_upload_that_never_ends_is_ended(
    dock: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.api.uploads.UPLOAD_S_MAX", 0)
    with pytest.raises(Refused, match="not received in 0 s"):
        await dock.receive(GOOD)
    assert dock.empty(GOOD)


async def test_only_the_site_that_runs_a_job_gets_its_bundle(control_plane: ControlPlane) -> None:
    async with control_plane.channel_as(OLGA) as olga:
        await world.declare(olga)
    london, narvik = FakeSite(control_plane), FakeSite(control_plane, world.NARVIK)
    await london.connect()
    london.report(nodes=2)
    async with control_plane.channel_as(ADA) as ada:
        stub = jobs_pb2_grpc.JobServiceStub(ada)

        def parts() -> Iterator[jobs_pb2.UploadRequest]:
            start = jobs_pb2.UploadStart(
                digest=digest(GOOD), size_bytes=len(GOOD), project="radiology"
            )
            yield jobs_pb2.UploadRequest(start=start)
            for at in range(0, len(GOOD), 700):
                yield jobs_pb2.UploadRequest(chunk=GOOD[at : at + 700])

        answer = await stub.Upload(parts(), timeout=WAIT_S)
        assert (answer.digest, answer.existed) == (digest(GOOD), False)
        what = world.spec("bundled")
        what.bundle_digest = digest(GOOD)
        job = await world.submit(ada, what)
        row = await london.desires(job.id, sitelink_pb2.DESIRED_ACTION_RUN)
        assert row.launch.bundle_digest == digest(GOOD)
        wanted = sitelink_pb2.FetchBundleRequest(digest=digest(GOOD), job_id=job.id, attempt=1)
        fetched = london.stub.FetchBundle(wanted, timeout=WAIT_S)
        assert b"".join([piece.chunk async for piece in fetched]) == GOOD
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await narvik.stub.FetchBundle(wanted, timeout=WAIT_S).read()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        # Nor by saying that it runs it, whereupon it is told to stop.
        await narvik.connect()
        narvik.report(world.started(row))
        await narvik.desires(job.id, sitelink_pb2.DESIRED_ACTION_STOP)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await narvik.stub.FetchBundle(wanted, timeout=WAIT_S).read()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        london.report(world.ended(row))
        await world.until(ada, job.id, jobs_pb2.JOB_STATE_SUCCEEDED)
    async with control_plane.channel_as(world.MAX) as other:
        what = world.spec("stolen", project=world.FORECAST)
        what.bundle_digest = digest(GOOD)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.submit(other, what)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert RADIOLOGY.startswith("trust-a/")
    await london.close()
    await narvik.close()


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        pytest.param({"project": "nobody"}, "NOT_FOUND", id="a project that is not there"),
        pytest.param({"digest": "md5:1"}, "INVALID_ARGUMENT", id="a digest that is none"),
        pytest.param({"size_bytes": 10}, "INVALID_ARGUMENT", id="more than was announced"),
        pytest.param({}, "INVALID_ARGUMENT", id="what is no bundle, read to its end"),
    ],
)
async def test_an_upload_that_is_refused_early_is_told_why_whatever_it_still_sends(
    control_plane: ControlPlane, start: dict[str, str | int], reason: str
) -> None:
    async with control_plane.channel_as(OLGA) as olga:
        await world.declare(olga)
    data = b"x" * (20 << 20)
    said = {"digest": digest(data), "size_bytes": len(data), "project": "radiology", **start}

    async def parts() -> AsyncIterator[jobs_pb2.UploadRequest]:
        yield jobs_pb2.UploadRequest(start=jobs_pb2.UploadStart(**said))  # type: ignore[arg-type]
        for at in range(0, len(data), 1 << 18):
            yield jobs_pb2.UploadRequest(chunk=data[at : at + (1 << 18)])

    async with control_plane.channel_as(ADA) as ada:
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await jobs_pb2_grpc.JobServiceStub(ada).Upload(parts(), timeout=WAIT_S)
            assert error_reason(caught.value) == reason


async def test_a_bundle_that_is_there_is_answered_whatever_is_still_sent(
    control_plane: ControlPlane,
) -> None:
    async with control_plane.channel_as(OLGA) as olga:
        await world.declare(olga)
    data = tar(entry("large"), content=bytes(4 << 20))

    async def parts() -> AsyncIterator[jobs_pb2.UploadRequest]:
        start = jobs_pb2.UploadStart(digest=digest(data), size_bytes=len(data), project="radiology")
        yield jobs_pb2.UploadRequest(start=start)
        for at in range(0, len(data), 1 << 16):
            yield jobs_pb2.UploadRequest(chunk=data[at : at + (1 << 16)])

    async with control_plane.channel_as(ADA) as ada:
        stub = jobs_pb2_grpc.JobServiceStub(ada)
        found = [(await stub.Upload(parts(), timeout=WAIT_S)).existed for _ in range(5)]
    assert found == [False, True, True, True, True]


def error_reason(error: grpc.aio.AioRpcError) -> str:
    """The reason in a status's details; empty when it has none."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info.reason
    return ""
