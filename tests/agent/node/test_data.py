"""Datasets on a node: what a rank reads where it asked for it, and what it leaves in the store."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.node.data_store import OutputFailed, Store, StoreError
from agent.node.executor import DataMissing, Executor
from tests.agent.node.executing import KEY, facts_at, spec, start
from tests.agent.node.rig import LEVELS, Site, needs_root

SCANS, MODELS = "trust-a/scans", "trust-a/models"


@pytest.fixture
def store(site: Site) -> Path:
    """A store with one dataset of one file."""
    root = site.root / "store"
    scans = root / "trust-a" / "@scans" / "v1"
    scans.mkdir(parents=True)
    (scans / "one.txt").write_text("a scan\n")
    for folder in (root / "trust-a", root / "trust-a" / "@scans", scans):
        folder.chmod(0o755)
    (scans / "one.txt").chmod(0o644)
    root.chmod(0o700)
    return root


@pytest.fixture
def executor(site: Site, store: Path) -> Executor:
    return Executor(replace(facts_at(site), data_store=str(store)))


def work_with(tmp_path: Path, **files: str) -> str:
    """A working directory with these files under `out`."""
    (tmp_path / "work" / "out").mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / "work" / "out" / name).write_text(text)
    return str(tmp_path / "work")


@needs_root
@pytest.mark.parametrize("level", [level for level in LEVELS if level != "none"])
def test_a_rank_reads_its_input_where_it_asked_and_cannot_change_it(
    site: Site, executor: Executor, store: Path, level: str
) -> None:
    mount = f"/sovdata-{os.getpid()}/scans"
    executor.prepare(KEY)
    text = f"cat {mount}/one.txt; echo x > {mount}/one.txt || echo kept; ls {mount}/.."
    start(executor, KEY, spec(text, isolation=level, inputs=[[SCANS, "v1", mount]]))
    assert site.end(KEY).exit_code == 0
    log = site.log(KEY)
    assert log.startswith("a scan\n")
    assert "kept\nscans\n" in log
    assert (store / "trust-a/@scans/v1/one.txt").read_text() == "a scan\n"
    top = Path(mount).parent
    assert list(top.iterdir()) == [], "nobody else sees what is mounted"
    top.rmdir()


@needs_root
def test_a_rank_sees_nothing_else_of_the_store(site: Site, executor: Executor, store: Path) -> None:
    executor.prepare(KEY)
    start(executor, KEY, spec(f"ls {store}/trust-a || echo hidden", isolation="uid"))
    site.end(KEY)
    assert "hidden" in site.log(KEY)


def test_what_is_not_in_the_store_starts_nothing(site: Site, executor: Executor) -> None:
    executor.prepare(KEY)
    with pytest.raises(DataMissing, match="version v2 is not in this site's store"):
        start(executor, KEY, spec("true", isolation=LEVELS[-1], inputs=[[SCANS, "v2", "/d/s"]]))
    with pytest.raises(DataMissing, match="no such names"):
        start(executor, KEY, spec("true", isolation=LEVELS[-1], inputs=[["../up", "v", "/d"]]))
    assert site.spool.status(KEY).phase == "prepared"


def test_inputs_cannot_be_mounted_without_namespaces(site: Site, executor: Executor) -> None:
    executor.prepare(KEY)
    with pytest.raises(DataMissing, match="isolation none"):
        start(executor, KEY, spec("true", isolation="none", inputs=[[SCANS, "v1", "/d/s"]]))


@pytest.mark.parametrize("level", LEVELS)
def test_what_a_rank_leaves_is_in_the_store_by_its_digest(
    site: Site, executor: Executor, store: Path, level: str
) -> None:
    executor.prepare(KEY)
    text = "mkdir -p out/deep; echo model > out/deep/m; echo two > out/a"
    start(executor, KEY, spec(text, isolation=level, outputs=[[MODELS, "out/"]]))
    status = site.end(KEY)
    assert (status.exit_code, status.detail) == (0, "")
    (left,) = status.outputs
    lines = [("a", b"two\n"), ("deep/m", b"model\n")]
    listing = b"".join(
        f"{hashlib.sha256(body).hexdigest()} {len(body)} {path}".encode() + b"\0"
        for path, body in lines
    )
    version = hashlib.sha256(listing).hexdigest()
    assert (left.dataset, left.digest, left.size_bytes) == (MODELS, f"sha256:{version}", 10)
    there = Store(store).found(MODELS, version)
    assert (there / "deep/m").read_text() == "model\n"
    assert (there / "deep/m").stat().st_mode & 0o777 == 0o644
    assert not any((store / ".incoming").iterdir())


def test_what_was_not_left_is_the_jobs_failure(site: Site, executor: Executor) -> None:
    executor.prepare(KEY)
    start(executor, KEY, spec("true", outputs=[[MODELS, "out"]]))
    status = site.end(KEY)
    assert (status.exit_code, status.outputs) == (os.EX_IOERR, ())
    assert status.detail == "output trust-a/models: out: No such file or directory"


def test_a_rank_that_fails_leaves_nothing(site: Site, executor: Executor, store: Path) -> None:
    executor.prepare(KEY)
    start(executor, KEY, spec("mkdir out; exit 3", outputs=[[MODELS, "out"]]))
    assert site.end(KEY).exit_code == 3
    assert not (store / "trust-a/@models").exists()


def test_no_link_and_no_device_of_a_tenant_is_taken(store: Path, tmp_path: Path) -> None:
    work = work_with(tmp_path, a="1")
    secret = tmp_path / "secret"
    secret.write_text("not theirs")
    out = Path(work) / "out"
    for make in (
        lambda: (out / "bad").symlink_to(secret),
        lambda: (out / "bad").symlink_to(tmp_path),
        lambda: os.mkfifo(out / "bad"),
    ):
        make()
        with pytest.raises(OutputFailed, match="'bad': allowed plain files and folders"):
            Store(store).take(KEY, work, [[MODELS, "out"]])
        (out / "bad").unlink()
    (Path(work) / "way").symlink_to(tmp_path)
    with pytest.raises(OutputFailed):
        Store(store).take(KEY, work, [[MODELS, "way/secret"]])
    assert not (store / "trust-a/@models").exists()


def test_outputs_have_a_limit_and_are_taken_all_or_none(store: Path, tmp_path: Path) -> None:
    work = work_with(tmp_path, a="x" * 100)
    small = Store(store, bytes_max=99)
    with pytest.raises(OutputFailed, match="more than 99 bytes"):
        small.take(KEY, work, [[MODELS, "out"]])
    with pytest.raises(OutputFailed, match="none"):
        Store(store).take(KEY, work, [[MODELS, "out"], ["trust-a/none", "none"]])
    assert not (store / "trust-a/@models").exists()
    assert not any((store / ".incoming").iterdir())


def test_taking_the_same_twice_is_harmless(store: Path, tmp_path: Path) -> None:
    work = work_with(tmp_path, a="1")
    first = Store(store).take(KEY, work, [[MODELS, "out"]])
    assert Store(store).take(KEY, work, [[MODELS, "out"]]) == first
    one = Store(store).take(KEY, work, [[MODELS, "out/a"]])
    assert one == first, "a file alone is a dataset of one file"


@pytest.mark.parametrize("name", ["", "x", "trust-a/", "/scans", "trust-a/../x", "trust-a/@scans"])
def test_a_name_is_never_a_way_out_of_the_store(store: Path, name: str) -> None:
    with pytest.raises(StoreError):
        Store(store).found(name, "v1")
