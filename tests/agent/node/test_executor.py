"""The executor without Ray: what a rank gets to see, and that starting again starts nothing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from agent.node.bundles import BUNDLES_KEPT_MAX
from agent.node.clock import boot_ms
from agent.node.executor import Executor, ExecutorError
from agent.node.facts import NodeFacts, read_facts, write_facts
from agent.node.owners import Owners
from agent.node.spool import Cause, Phase, SpoolError
from agent.node.unpacking import BundleInvalid, unpack
from tests.agent.node.executing import KEY, facts_at, spec, start
from tests.agent.node.rig import Site, needs_root


@pytest.fixture
def facts(site: Site) -> NodeFacts:
    return facts_at(site)


@pytest.fixture
def executor(facts: NodeFacts) -> Executor:
    return Executor(facts)


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def install(executor: Executor, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    half = len(content) // 2
    executor.put_bundle(digest, half, content[half:])
    executor.put_bundle(digest, 0, content[:half])
    executor.seal_bundle(digest)
    return digest


def test_a_rank_gets_exactly_the_environment_that_is_documented(
    site: Site, executor: Executor
) -> None:
    executor.prepare(KEY)
    mine = {"EPOCHS": "3", "RANK": "9", "SOV_JOB_ID": "x", "RAY_ADDRESS": "y", "LANG": "de_DE"}
    mine["SOV_ARRAY_INDEX"] = "7"  # The control plane's own.
    start(executor, KEY, spec(env=mine))
    site.end(KEY)
    found = dict(line.split("=", 1) for line in site.log(KEY).splitlines())
    work = str(site.spool.home(KEY) / "work")
    assert found == {
        "PATH": "/opt/absent/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": work,
        "PWD": work,
        "LANG": "de_DE",
        "PYTHONUNBUFFERED": "1",
        "EPOCHS": "3",
        "SOV_ARRAY_INDEX": "7",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "1",
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.9",
        "MASTER_PORT": "20009",
        "CUDA_VISIBLE_DEVICES": "3,5",
        "NVIDIA_VISIBLE_DEVICES": "3,5",
        "SOV_JOB_ID": "job-a",
        "SOV_ATTEMPT": "1",
        "SOV_NODE_RANK": "0",
        "SOV_NUM_NODES": "2",
        "SOV_GPUS_PER_NODE": "2",
        "SOV_GPU_MILLI": "1000",
        "SOV_CHECKPOINT_DIR": str(site.root / "checkpoints" / "job-a"),
        "SOV_RANK_KEY": KEY,
        "SOV_RANK_DIR": str(site.spool.home(KEY)),
    }


def test_without_gpus_the_rank_is_told_that_it_has_none(site: Site, executor: Executor) -> None:
    executor.prepare(KEY)
    start(executor, KEY, spec(gpus=[], visible_gpus=[]))
    site.end(KEY)
    assert "CUDA_VISIBLE_DEVICES=\n" in site.log(KEY)


def test_starting_again_starts_nothing(site: Site, executor: Executor) -> None:
    executor.prepare(KEY)
    first = start(executor, KEY, spec("echo ran; sleep 1000"))
    before = site.spool.status(KEY)
    again = start(Executor(executor.node), KEY, spec("echo ran twice"))
    assert (first["phase"], again["phase"]) == ("running", "running")
    assert site.spool.status(KEY).started_boot_ms == before.started_boot_ms
    site.wait_log(KEY, "ran\n")
    site.spool.stop(KEY, 0)
    site.end(KEY)
    assert start(executor, KEY, spec("echo ran thrice"))["cause"] == "stop"
    assert site.log(KEY) == "ran\n"


def test_a_start_cut_off_after_its_gate_is_completed_by_the_next(
    site: Site, executor: Executor
) -> None:
    site.prepare(KEY, ["/bin/sh", "-c", "echo first"])
    site.spool.open_gate(KEY)
    start(executor, KEY, spec("echo second"))
    site.end(KEY)
    assert site.log(KEY) == "first\n"


def test_a_key_that_was_given_up_is_not_started(site: Site, executor: Executor) -> None:
    executor.prepare(KEY)
    site.spool.stop(KEY, 0)
    assert start(executor, KEY, spec())["cause"] == "never_started"
    assert site.spool.status(KEY).cause is Cause.NEVER_STARTED


def test_preparing_again_offers_the_same_and_neighbours_get_other_ports(
    executor: Executor,
) -> None:
    first = executor.prepare(KEY)
    again = executor.prepare(KEY)
    other = executor.prepare("job-b.1.0")
    assert (first["address"], first["port"]) == (again["address"], again["port"])
    assert other["port"] != first["port"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        pytest.param(
            {"isolation": "container"}, "this node reaches", id="more isolation than here"
        ),
        pytest.param({"lease_until_ms": 1}, "lease lapsed", id="a lease that has lapsed"),
        pytest.param({"bundle_digest": "../x"}, "64 hexadecimal", id="a digest that is a path"),
    ],
)
def test_a_start_that_cannot_be_is_refused_and_leaves_the_key_unstarted(
    site: Site, executor: Executor, more: dict[str, object], message: str
) -> None:
    executor.prepare(KEY)
    with pytest.raises(ExecutorError, match=message):
        start(executor, KEY, spec("true", **more))
    assert site.spool.status(KEY).phase is Phase.PREPARED


def test_a_rank_that_was_not_prepared_is_refused(executor: Executor) -> None:
    with pytest.raises(ExecutorError, match="not prepared"):
        start(executor, KEY, spec())


def test_an_archived_rank_is_not_prepared_again(site: Site, executor: Executor) -> None:
    executor.prepare(KEY)
    site.spool.stop(KEY, 0)
    site.spool.archive(KEY)
    with pytest.raises(SpoolError, match="never runs again"):
        executor.prepare(KEY)


def test_a_bundle_in_parts_is_unpacked_for_the_rank_alone(site: Site, executor: Executor) -> None:
    content = tar((member("train.sh"), b"echo trained; touch mine"), (member("a/b.txt"), b"x"))
    digest = install(executor, content)
    assert executor.prepare(KEY, digest)["has_bundle"]
    start(executor, KEY, spec("sh train.sh; cat a/b.txt; touch a/c", bundle_digest=digest))
    assert site.end(KEY).exit_code == 0
    assert site.log(KEY) == "trained\nx"
    assert (site.spool.home(KEY) / "work" / "mine").exists()


def test_starting_from_all_sides_at_once_starts_once_and_spoils_nothing(
    site: Site, executor: Executor
) -> None:
    files = [(member(f"file-{number}"), b"x") for number in range(300)]
    digest = install(executor, tar(*files))
    executor.prepare(KEY, digest)
    what = spec("echo ran; sleep 1; ls | wc -l", bundle_digest=digest)

    def start_once(_: int) -> dict[str, object]:
        return start(Executor(executor.node), KEY, what)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(start_once, range(8)))
    assert {answer["phase"] for answer in answers} <= {"starting", "running"}
    site.end(KEY)
    assert site.log(KEY).split() == ["ran", "300"]


def test_a_missing_bundle_is_asked_for(executor: Executor) -> None:
    assert not executor.prepare(KEY, "0" * 64)["has_bundle"]


def test_a_bundle_that_a_rank_was_prepared_for_is_not_the_next_to_go(executor: Executor) -> None:
    """Another launch's bundle may come in before this one's rank is started."""
    digests = [install(executor, tar((member(f"{n}"), b"x"))) for n in range(BUNDLES_KEPT_MAX)]
    for age, digest in enumerate(reversed(digests)):
        os.utime(executor.bundles.path(digest), (1_000_000 - age, 1_000_000 - age))
    assert executor.prepare(KEY, digests[0])["has_bundle"]
    install(executor, tar((member("new"), b"x")))
    assert executor.prepare("job-b.1.0", digests[0])["has_bundle"]
    assert not executor.prepare("job-b.1.1", digests[1])["has_bundle"]


def test_a_bundle_that_is_not_what_its_digest_says_is_refused(executor: Executor) -> None:
    executor.put_bundle("0" * 64, 0, b"hello")
    with pytest.raises(ExecutorError, match="has digest 2cf24d"):
        executor.seal_bundle("0" * 64)
    assert not executor.prepare(KEY, "0" * 64)["has_bundle"]


def test_a_bundle_over_the_limit_is_refused_at_once(executor: Executor) -> None:
    with pytest.raises(ExecutorError, match="at most 268435456"):
        executor.put_bundle("0" * 64, 256 * 1024 * 1024, b"x")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        pytest.param(member("/etc/x"), "relative path", id="an absolute path"),
        pytest.param(member("a/../../x"), "relative path", id="a path that climbs"),
        pytest.param(member("l", tarfile.SYMTYPE, "/etc"), "only files", id="a symbolic link"),
        pytest.param(member("l", tarfile.LNKTYPE, "ok"), "only files", id="a hard link"),
        pytest.param(member("d", tarfile.CHRTYPE), "only files", id="a device"),
        pytest.param(member("f", tarfile.FIFOTYPE), "only files", id="a pipe"),
    ],
)
def test_a_bundle_with_anything_but_plain_relative_files_is_refused(
    tmp_path: Path, bad: tarfile.TarInfo, message: str
) -> None:
    with pytest.raises(BundleInvalid, match=message):
        unpack(io.BytesIO(tar((member("ok"), b"fine"), (bad, b""))), tmp_path)


def test_a_bundle_that_claims_an_absurd_size_is_refused_before_it_is_written(
    tmp_path: Path,
) -> None:
    huge = member("huge")
    huge.size = 1 << 40
    with pytest.raises(BundleInvalid, match="unpacks to more"):
        unpack(io.BytesIO(huge.tobuf()), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("junk", [b"", b"\x00\xff" * 700, b"PK\x03\x04 not a tar"])
def test_junk_for_a_bundle_is_refused(tmp_path: Path, junk: bytes) -> None:
    with pytest.raises(BundleInvalid, match="not a tar"):
        unpack(io.BytesIO(junk), tmp_path)


@needs_root
def test_a_job_has_one_uid_and_no_two_live_jobs_share_one(site: Site, executor: Executor) -> None:
    keys = {"job-a": ["job-a.1.0", "job-a.1.1", "job-a.2.0"], "job-b": ["job-b.1.0"]}
    uids: dict[str, set[str]] = {}
    for job, its_keys in keys.items():
        for key in its_keys:
            executor.prepare(key)
            start(executor, key, spec("id -u; touch $SOV_CHECKPOINT_DIR/$SOV_RANK_KEY", job_id=job))
            assert site.end(key).exit_code == 0
            uids.setdefault(job, set()).add(site.log(key).strip())
    assert {job: len(found) for job, found in uids.items()} == {"job-a": 1, "job-b": 1}
    assert uids["job-a"] != uids["job-b"]
    assert sorted(os.listdir(site.root / "checkpoints" / "job-a")) == keys["job-a"]


@needs_root
def test_checkpoints_outlive_the_attempt_and_stay_their_jobs(site: Site, facts: NodeFacts) -> None:
    narrow = replace(facts, uid_first=230_000, uid_last=230_001)
    executor = Executor(narrow)  # The two jobs want the same uid of only two.
    executor.prepare(KEY)
    start(executor, KEY, spec("echo kept > $SOV_CHECKPOINT_DIR/state"))
    site.end(KEY)
    site.spool.archive(KEY)
    executor.prepare("job-b.1.0")
    start(executor, "job-b.1.0", spec(f"cat {site.root}/checkpoints/job-a/state", job_id="job-b"))
    site.end("job-b.1.0")
    assert "kept" not in site.log("job-b.1.0")
    executor.prepare("job-a.2.0")
    start(executor, "job-a.2.0", spec("cat $SOV_CHECKPOINT_DIR/state"))
    site.end("job-a.2.0")
    assert site.log("job-a.2.0") == "kept\n"


def test_whose_checkpoints_are_is_asked_again_where_it_may_have_changed(tmp_path: Path) -> None:
    users = range(os.getuid(), os.getuid() + 1)
    given = Owners(tmp_path, users)
    for name in ("job-a", "job-b"):
        (tmp_path / name).mkdir()
    assert given.others("job-c") == {os.getuid()}
    (tmp_path / "job-a").rmdir()
    assert given.others("job-b") == frozenset()
    if os.getuid() == 0:
        later = Owners(tmp_path, range(200_000, 200_010))
        assert later.others("job-c") == {0}  # Not a job's user yet ...
        os.chown(tmp_path / "job-b", 200_001, -1)
        assert later.others("job-c") == {200_001}
        os.rename(tmp_path / "job-b", tmp_path / "job-c")  # ... and again another's.
        assert later.others("job-b") == {200_001}


def test_facts_come_back_as_they_were_written(tmp_path: Path, facts: NodeFacts) -> None:
    write_facts(tmp_path / "facts.json", facts)
    assert read_facts(tmp_path / "facts.json") == facts


def test_answers_are_plain_enough_for_json(site: Site, executor: Executor) -> None:
    executor.prepare(KEY)
    start(executor, KEY, spec("true", lease_until_ms=boot_ms() + 60_000))
    site.end(KEY)
    assert json.loads(json.dumps(executor.known()))[0]["cause"] == "exit"
    assert json.loads(json.dumps(executor.ping()))["pid"] == os.getpid()
