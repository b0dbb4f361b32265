"""Downloads as the client does them: whole, gone on with, checked, and in their place alone."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from sovapi.v1 import jobs_pb2
from sovctl import Client, InternalError, InvalidArgumentError, UnavailableError
from sovctl.config import Context
from tests.sovctl.control_plane import Running

MODEL = "trust-a/model"
ONE, TWO = f"outputs/{MODEL}/a.bin", f"outputs/{MODEL}/b/c.bin"


def left_job(plane: Running, **files: bytes) -> str:
    """A job that is over and left these files."""
    job = plane.plane.add(jobs_pb2.JobSpec(name="train"))
    plane.plane.advance(job, "SUCCEEDED")
    plane.plane.left = {path.replace("__", "/"): content for path, content in files.items()}
    return job.id


def output(job: jobs_pb2.Job, *files: tuple[str, bytes]) -> None:
    """What the control plane says of the version that a job left."""
    whole = sha256()
    for path, content in sorted(files):
        digest = sha256(content).hexdigest()
        whole.update(f"{digest} {len(content)} {path}\0".encode())
    told = job.attempts[0].ranks[0].outputs.add(dataset=MODEL)
    told.digest = f"sha256:{whole.hexdigest()}"


def test_files_arrive_and_are_checked_against_what_the_job_left(
    plane: Running, context: Context, tmp_path: Path
) -> None:
    job = left_job(plane, **{ONE: b"one" * 100, TWO: b"", "checkpoints/step": b"weights"})
    output(plane.plane.jobs[job], ("a.bin", b"one" * 100), ("b/c.bin", b""))
    with Client(context) as client:
        done = client.download(job, tmp_path)
        assert (len(done.fetched), done.kept, done.verified) == (3, (), (MODEL,))
        assert (tmp_path / ONE).read_bytes() == b"one" * 100
        assert (tmp_path / TWO).read_bytes() == b""
        calls = plane.plane.calls["Download"]
        (tmp_path / "checkpoints" / "step").unlink()
        again = client.download(job, tmp_path)
    assert [file.path for file in again.fetched] == ["checkpoints/step"]
    assert plane.plane.calls["Download"] == calls + 2, "a listing, and what was missing"


def test_a_stream_that_breaks_is_gone_on_with_where_it_was(
    plane: Running, context: Context, tmp_path: Path
) -> None:
    job = left_job(plane, **{"checkpoints/a": b"0123456789" * 10, "checkpoints/b": b"b"})
    plane.plane.break_download_at = 52
    with Client(context) as client:
        client.download(job, tmp_path)
    assert (tmp_path / "checkpoints" / "a").read_bytes() == b"0123456789" * 10
    assert plane.plane.calls["Download"] == 3
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()].count("a") == 1
    assert list(tmp_path.rglob(".*.part")) == []


def test_what_an_earlier_process_left_is_gone_on_with(
    plane: Running, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = left_job(plane, **{"checkpoints/a": b"0123456789" * 10})
    monkeypatch.setattr("sovctl.downloads.RECONNECTS_MAX", 0)
    plane.plane.break_download_at = 40
    with Client(context) as client:
        with pytest.raises(UnavailableError):
            client.download(job, tmp_path)
        (part,) = tmp_path.rglob(".*.part")
        assert part.read_bytes() == b"0123456789" * 4
        part.write_bytes(b"X" * 40)
        with pytest.raises(InternalError, match="not the digest"):
            client.download(job, tmp_path)
        assert list((tmp_path / "checkpoints").iterdir()) == []
        client.download(job, tmp_path)
    assert (tmp_path / "checkpoints" / "a").read_bytes() == b"0123456789" * 10


def test_what_is_not_what_its_digest_says_is_not_kept(
    plane: Running, context: Context, tmp_path: Path
) -> None:
    job = left_job(plane, **{"checkpoints/a": b"letters"})
    plane.plane.spoil = True
    with Client(context) as client, pytest.raises(InternalError, match="not the digest"):
        client.download(job, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_output_that_is_not_the_one_reported_is_told(
    plane: Running, context: Context, tmp_path: Path
) -> None:
    job = left_job(plane, **{ONE: b"another"})
    output(plane.plane.jobs[job], ("a.bin", b"one"))
    with Client(context) as client, pytest.raises(InternalError, match="found other files"):
        client.download(job, tmp_path)


@pytest.mark.parametrize("path", ["checkpoints/../../up", "/abs", "a//b"])
def test_a_path_that_leads_elsewhere_is_not_followed(
    plane: Running, context: Context, tmp_path: Path, path: str
) -> None:
    job = left_job(plane, **{path: b"x"})
    with Client(context) as client, pytest.raises(InternalError, match="leads elsewhere"):
        client.download(job, tmp_path / "here")
    assert list(tmp_path.rglob("up")) == []


def test_a_directory_that_cannot_be_written_is_said(
    plane: Running, context: Context, tmp_path: Path
) -> None:
    job = left_job(plane, **{"checkpoints/a": b"x"})
    (tmp_path / "checkpoints").write_text("a file")
    with Client(context) as client, pytest.raises(InvalidArgumentError):
        client.download(job, tmp_path)
