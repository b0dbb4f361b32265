"""Bad input through the real command line and against the real ports: a clear answer naming the
field, everything at once, nothing half-stored, and the service goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import socket
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.local.cluster import TRUST_A
from sovapi.v1 import jobs_pb2
from sovctl import AsyncClient, InvalidArgumentError, SovError
from tests.e2e.local import World

GOOD = "name: fine\ncommand: [echo, hello]\n"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]\n" for n in range(1, 12)
)
FILES: dict[str, tuple[str, list[str]]] = {
    "unknown fields": (GOOD + "colour: red\nresources: {gpu_count: 1}\n", ["colour", "gpu_count"]),
    "wrong types, several at once": (
        "name: 7\ncommand: {a: b}\nresources: {nodes: two, gpus_per_node: true}\ntime_limit: [1]\n",
        ["name", "command", "resources.nodes", "resources.gpus_per_node", "time_limit"],
    ),
    "absurd sizes": (
        GOOD + "resources: {gpus_per_node: 1000000, memory_per_node: 9999999999999PiB}\n",
        ["resources.gpus_per_node", "resources.memory_per_node"],
    ),
    "ten thousand nodes": (GOOD + "resources: {nodes: 10000}\n", ["resources.nodes"]),
    "an empty command": ("name: fine\ncommand: []\n", ["command"]),
    "a blank command": ('name: fine\ncommand: ""\n', ["command"]),
    "a negative time": (GOOD + "time_limit: -1s\n", ["time_limit"]),
    "a YAML bomb": (BOMB + GOOD, ["anchor"]),
    "two documents": (GOOD + "---\n" + GOOD, ["document"]),
    "a tag that would build an object": (
        GOOD + 'env: !!python/object/apply:os.system ["true"]\n',
        ["tag"],
    ),
    "a field given twice": (GOOD + "name: again\n", ["name"]),
    "nothing at all": ("", ["job"]),
}
PORTS = ("endpoint", "join_endpoint", "telemetry")


def state(world: World) -> tuple[list[str | None], int]:
    """What is stored: the tenant's jobs, and the size of the audit log."""
    return [job.id for job in world.ada.list()], world.operator.checkpoint().tree_size


@pytest.fixture
def unchanged(world: World) -> Iterator[None]:
    """Nothing at all is stored meanwhile; whatever ran before has settled."""
    with world.settled():
        before = state(world)
        yield
        assert state(world) == before


def refused(world: World, *words: str) -> str:
    """What the command line says of bad input, which is never a traceback."""
    answer = world.sovctl(TRUST_A, *words)
    assert answer.returncode == 2, answer
    assert "Traceback" not in answer.stdout + answer.stderr
    assert answer.stderr.strip()
    return " ".join(answer.stderr.split())


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("kind", FILES)
def test_a_bad_job_file_is_refused_by_field(world: World, tmp_path: Path, kind: str) -> None:
    text, fields = FILES[kind]
    file = tmp_path / "job.yaml"
    file.write_text(text)
    said = refused(world, "submit", str(file))
    assert [field for field in fields if field not in said] == [], said


@pytest.mark.usefixtures("unchanged")
def test_binary_junk_and_a_missing_file_are_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "junk.yaml").write_bytes(hashlib.sha512(b"junk").digest() * 100)
    assert "junk.yaml" in refused(world, "submit", str(tmp_path / "junk.yaml"))
    assert "absent.yaml" in refused(world, "submit", str(tmp_path / "absent.yaml"))


@pytest.mark.usefixtures("unchanged")
def test_two_gigabytes_of_working_directory_are_refused_before_they_are_read(
    world: World, tmp_path: Path
) -> None:
    with open(tmp_path / "weights.bin", "wb") as file:
        file.truncate(2 * 1024**3)
    said = refused(world, "submit", "--name", "big", "--working-dir", str(tmp_path), "--", "true")
    assert "weights.bin" in said
    assert "256" in said


@pytest.mark.usefixtures("unchanged")
def test_a_link_out_of_the_working_directory_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    said = refused(world, "submit", "--name", "link", "--working-dir", str(tmp_path), "--", "true")
    assert "passwd" in said
    assert "pipe" in said


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> bytes:
    """A tar of one entry."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.mode = kind, link, mode
        archive.addfile(entry)
    return stream.getvalue()


HOSTILE = {
    "a symbolic link": member("x", tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link": member("x", tarfile.LNKTYPE, "/etc/passwd"),
    "a device": member("x", tarfile.CHRTYPE),
    "an absolute path": member("/etc/cron.d/x"),
    "a path that leaves": member("a/../../x"),
    "a set-uid file": member("x", mode=0o4755),
    "no tar at all": b"\x80junk" * 1000,
    "a tar cut off": member("x" * 90)[:300],
}


def announced(content: bytes) -> jobs_pb2.UploadRequest:
    """The first message of an upload."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    start = jobs_pb2.UploadStart(
        digest=digest, size_bytes=len(content), project="trust-a/radiology"
    )
    return jobs_pb2.UploadRequest(start=start)


async def upload(world: World, first: jobs_pb2.UploadRequest, *chunks: bytes) -> None:
    """An upload as no client of ours would send it."""

    async def parts() -> AsyncIterator[jobs_pb2.UploadRequest]:
        yield first
        for chunk in chunks:
            yield jobs_pb2.UploadRequest(chunk=chunk)

    async with AsyncClient(world.cluster.context(TRUST_A)) as client:
        await client.link.send_all(client.link.jobs.Upload, parts)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_bundle_is_refused_and_not_kept(world: World, kind: str) -> None:
    content = HOSTILE[kind]
    for _ in range(2):  # Had it been kept, the second time it would be known.
        with pytest.raises(InvalidArgumentError) as caught:
            await upload(world, announced(content), content)
        assert caught.value.details, caught.value


@pytest.mark.usefixtures("unchanged")
async def test_an_upload_that_is_not_what_it_announced_is_refused(world: World) -> None:
    good = member("x")
    for said, sent in ((good, good[:-512]), (good, good + bytes(512)), (good, good[::-1])):
        with pytest.raises(InvalidArgumentError):
            await upload(world, announced(said), sent)
    huge = announced(good)
    huge.start.size_bytes = 1 << 50
    with pytest.raises(InvalidArgumentError, match="size_bytes"):
        await upload(world, huge, good)
    with pytest.raises(InvalidArgumentError):
        await upload(world, jobs_pb2.UploadRequest(chunk=b"no start"))


@pytest.mark.usefixtures("unchanged")
async def test_what_only_a_hostile_client_sends_is_refused_by_field(world: World) -> None:
    """The server trusts no client's checks: the same limits hold behind ours."""
    spec = jobs_pb2.JobSpec(name="x" * 5000, kind=99)  # type: ignore[arg-type]
    spec.resources.nodes = 2**31 - 1
    spec.resources.gpus_per_node = -5
    spec.env["A=B"] = "\0"
    async with AsyncClient(world.cluster.context(TRUST_A)) as client:
        request = jobs_pb2.SubmitRequest(spec=spec, idempotency_key="k")
        with pytest.raises(SovError) as caught:
            await client.link.call(client.link.jobs.Submit, request)
    assert isinstance(caught.value, InvalidArgumentError), caught.value
    fields = {detail.subject for detail in caught.value.details}
    wanted = {"name", "command", "kind", "env.A=B", "resources.nodes", "resources.gpus_per_node"}
    assert wanted <= fields, fields


def test_a_refused_submission_leaves_its_record_and_nothing_else(
    world: World, tmp_path: Path
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(GOOD + "resources: {nodes: 2, gpus_per_node: 8}\n")
    with world.settled():
        jobs, leaves = state(world)
        answer = world.sovctl(TRUST_A, "submit", str(file))
        assert answer.returncode == 3, answer
        after = state(world)
    assert after == (jobs, leaves + 2)
    refusal, certificate = list(world.operator.audit_leaves())[-2:]
    assert "refused" in refusal.kind
    assert certificate.kind == "certificate_issued"


@pytest.mark.parametrize("noise", ["binary junk", "half a TLS greeting", "silence"])
def test_junk_on_each_port_harms_nobody(world: World, noise: str) -> None:
    content = {
        "binary junk": hashlib.sha512(b"noise").digest() * 4000,
        "half a TLS greeting": bytes.fromhex("1603010200010001fc0303"),
        "silence": b"",
    }[noise]
    layout = world.cluster.layout
    addresses = [getattr(layout, port) for port in PORTS]
    addresses += [site.node_link for site in layout.sites]
    open_ones: list[socket.socket] = []
    try:
        for address in addresses:
            host, _, port = address.rpartition(":")
            for _ in range(5):
                link = socket.create_connection((host, int(port)), 5)
                open_ones.append(link)
                with contextlib.suppress(OSError):  # Hanging up in the middle is an answer.
                    link.sendall(content)
        assert world.end(world.run("exit 0")).state == "SUCCEEDED"
    finally:
        for link in open_ones:
            link.close()
    assert all(daemon.alive() for daemon in world.cluster.daemons.known())


async def test_many_bad_requests_at_once_are_all_answered(world: World) -> None:
    bad = jobs_pb2.SubmitRequest(spec=jobs_pb2.JobSpec(), idempotency_key="k")
    async with AsyncClient(world.cluster.context(TRUST_A)) as client:
        answers = await asyncio.gather(
            *(client.link.call(client.link.jobs.Submit, bad) for _ in range(100)),
            return_exceptions=True,
        )
    assert all(isinstance(answer, InvalidArgumentError) for answer in answers)
