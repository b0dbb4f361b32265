"""Bundles: the same bytes for the same content, early refusals, nothing that leads outside."""

from __future__ import annotations

import os
import socket
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from sovctl import BundleError, bundle
from sovctl.ignore import is_ignored, parse
from sovshared import limits


def names(directory: Path) -> list[str]:
    return [entry.path for entry in bundle.survey(directory)]


def fill(directory: Path) -> Path:
    (directory / "src" / "deep").mkdir(parents=True)
    (directory / "src" / "deep" / "b.py").write_text("b")
    (directory / "train.py").write_text("print()")
    (directory / "run.sh").write_text("#!/bin/sh")
    (directory / "run.sh").chmod(0o700)
    return directory


def test_the_same_content_makes_the_same_bytes(tmp_path: Path) -> None:
    one, two = fill(tmp_path / "one"), fill(tmp_path / "two")
    os.utime(two / "train.py", (1, 1))
    (two / "train.py").chmod(0o600)
    with bundle.build(one) as first, bundle.build(two) as second:
        assert first.digest == second.digest
        assert b"".join(first.chunks()) == b"".join(second.chunks())
        first_bytes = b"".join(first.chunks())
    with tarfile.open(fileobj=BytesIO(first_bytes)) as tar:
        assert tar.getnames() == ["run.sh", "src", "src/deep", "src/deep/b.py", "train.py"]
        modes = {member.name: member.mode for member in tar}
        assert (modes["run.sh"], modes["train.py"]) == (0o755, 0o644)
        assert {(m.uid, m.mtime, m.uname) for m in tar} == {(0, 0, "")}


def test_what_counts_changes_the_digest(tmp_path: Path) -> None:
    fill(tmp_path)
    with bundle.build(tmp_path) as before:
        digest = before.digest
    (tmp_path / "train.py").chmod(0o755)
    with bundle.build(tmp_path) as after:
        assert after.digest != digest


def test_two_gigabytes_are_refused_without_being_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for n in range(8):  # Sparse: reading them would take long, looking at them does not.
        with (tmp_path / "data" / f"part-{n}").open("wb") as file:
            file.truncate(256 * 1024 * 1024)
    (tmp_path / "train.py").write_text("x")
    with pytest.raises(BundleError) as caught:
        bundle.build(tmp_path)
    assert caught.value.reason == "TOO_LARGE"
    assert "256 MiB" in caught.value.message
    assert [detail.subject for detail in caught.value.details] == ["data"]


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BUNDLE_ENTRIES_MAX", 3)
    for n in range(5):
        (tmp_path / f"{n}").touch()
    with pytest.raises(BundleError, match="more than 3 files"):
        bundle.survey(tmp_path)


def test_everything_that_cannot_go_is_named_at_once(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "dir").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (top / "out").symlink_to(tmp_path / "secret")
    (top / "absolute").symlink_to("/etc/passwd")
    (top / "broken").symlink_to("nowhere")
    (top / "loop").symlink_to(".")
    os.mkfifo(top / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(top / "sock"))
        with pytest.raises(BundleError) as caught:
            bundle.build(top)
    told = {detail.subject: detail.detail for detail in caught.value.details}
    assert sorted(told) == ["absolute", "broken", "loop", "out", "pipe", "sock"]
    assert "leaves the directory" in told["out"]
    assert "link to a directory" in told["loop"]


def test_a_link_inside_becomes_the_file_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    (tmp_path / "b").symlink_to("a")
    with bundle.build(tmp_path) as made:
        raw = b"".join(made.chunks())
    with tarfile.open(fileobj=BytesIO(raw)) as tar:
        assert all(member.isreg() for member in tar)
        content = tar.extractfile("b")
        assert content is not None
        assert content.read() == b"content"


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="allowed an existing directory"):
        bundle.build(tmp_path / "nowhere")


def test_an_ignore_file_leaves_things_behind(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").touch()
    (tmp_path / ".sovignore").write_text("# weights\n*.bin\nsrc/deep/\n")
    (tmp_path / "w.bin").touch()
    assert names(tmp_path) == [".sovignore", "run.sh", "src", "train.py"]


def test_an_ignore_file_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".sovignore")
    with pytest.raises(BundleError, match=r"\.sovignore: found no plain file"):
        bundle.build(tmp_path)


@pytest.mark.parametrize(
    ("rules", "path", "ignored"),
    [
        pytest.param("*.bin", "a/b.bin", True, id="a name matches anywhere"),
        pytest.param("/b.bin", "a/b.bin", False, id="a leading slash ties to the top"),
        pytest.param("a/b.bin", "c/a/b.bin", False, id="so does one in the middle"),
        pytest.param("**/logs", "x/y/logs", True, id="two stars are any directories"),
        pytest.param("logs/**", "logs/x/y", True, id="or everything below"),
        pytest.param("a?c", "abc", True, id="a question mark is one letter"),
        pytest.param("a?c", "a/c", False, id="but no slash"),
        pytest.param("[ab].py", "b.py", True, id="a class"),
        pytest.param("[!ab].py", "b.py", False, id="a negated class"),
        pytest.param("*.bin\n!keep.bin", "keep.bin", False, id="the last match wins"),
        pytest.param("build/", "build", False, id="a trailing slash is for directories"),
        pytest.param("a.c", "abc", False, id="a dot is a dot"),
        pytest.param("", "__pycache__x", False, id="what is always ignored is ignored by name"),
    ],
)
def test_patterns(rules: str, path: str, ignored: bool) -> None:
    assert is_ignored(parse(rules), path, is_directory=False) is ignored


def test_patterns_take_no_time_to_fail() -> None:
    rules = parse("**/" * 20 + "a*a*a*a*a*b")
    assert not is_ignored(rules, "a/" * 100 + "a" * 60, is_directory=False)
