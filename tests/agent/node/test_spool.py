"""The spool without processes: swaps, status, archive, limits."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.node.spool import Cause, Phase, Rendezvous, SpoolError
from tests.agent.node.rig import Site

KEY = "job-a.1.0"
HERE = Rendezvous("127.0.0.1", 20_001)


def record(site: Site, key: str, **more: object) -> None:
    home = site.spool.home(key)
    doc: dict[str, object] = {"code": 0, "signal": None, "cause": "exit", "boot_id": "b"}
    (home / "exit.json").write_text(json.dumps(doc | more))


@pytest.mark.parametrize(
    "key",
    ["", "job-a", "job-a.1", "job-a.1.x", "../a.1.1", "job/a.1.1", "Job.1.1", "a.1.1\n", "archive"],
)
def test_a_malformed_key_is_refused_before_it_becomes_a_path(site: Site, key: str) -> None:
    with pytest.raises(SpoolError, match="want <job>"):
        site.spool.prepare(key, HERE)
    with pytest.raises(SpoolError, match="want <job>"):
        site.spool.read_log(key, 0, 1)


def test_preparing_again_returns_the_first_offer(site: Site) -> None:
    assert site.spool.prepare(KEY, HERE) == HERE
    assert site.spool.prepare(KEY, Rendezvous("127.0.0.2", 20_002)) == HERE
    assert site.spool.ports() == {20_001}
    assert site.spool.status(KEY).phase is Phase.PREPARED


def test_a_gate_stands_the_way_it_was_first_taken(site: Site) -> None:
    site.spool.prepare(KEY, HERE)
    assert site.spool.open_gate(KEY)
    assert site.spool.open_gate(KEY)
    assert not site.spool.open_gate(KEY, "stop")


def test_a_stop_before_the_start_wins_over_a_late_start(site: Site) -> None:
    site.spool.prepare(KEY, HERE)
    end = site.spool.stop(KEY, 0)
    assert (end.phase, end.cause, end.exit_code) == (Phase.OVER, Cause.NEVER_STARTED, None)
    assert not site.spool.open_gate(KEY)


def test_stopping_an_unknown_key_gives_it_up(site: Site) -> None:
    assert site.spool.stop(KEY, 0).cause is Cause.NEVER_STARTED
    site.spool.prepare(KEY, HERE)
    assert not site.spool.open_gate(KEY)


def test_a_spec_is_fixed_once_the_gate_stands(site: Site) -> None:
    site.spool.prepare(KEY, HERE)
    site.spool.write_spec(KEY, {"argv": ["first"]})
    site.spool.write_spec(KEY, {"argv": ["second"]})
    site.spool.open_gate(KEY)
    site.spool.write_spec(KEY, {"argv": ["third"]})
    spec = json.loads((site.spool.home(KEY) / "spec.json").read_text())
    assert spec == {"argv": ["second"]}


def started(site: Site, key: str, boot: str) -> None:
    site.spool.prepare(key, HERE)
    site.spool.open_gate(key)
    doc = {
        "boot_id": boot,
        "shim_pid": os.getpid(),
        "shim_ticks": 1,
        "init_pid": 1,
        "init_ticks": 1,
    }
    (site.spool.home(key) / "started.json").write_text(json.dumps(doc))


def test_a_rank_of_an_earlier_boot_without_a_record_is_lost(site: Site) -> None:
    started(site, KEY, "an earlier boot")
    end = site.spool.status(KEY)
    assert (end.phase, end.cause) == (Phase.OVER, Cause.LOST)
    assert "started anew" in end.detail


def test_a_recycled_pid_is_not_taken_for_the_shim(site: Site) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    started(site, KEY, boot)
    assert site.spool.status(KEY).cause is Cause.LOST


def test_a_durable_end_that_never_became_visible_counts(site: Site) -> None:
    started(site, KEY, "an earlier boot")
    body = json.dumps({"code": 5, "signal": None, "cause": "exit"}).ljust(2048)
    (site.spool.home(KEY) / "exit.durable").write_text(body)
    assert site.spool.status(KEY).exit_code == 5


def test_a_reserved_but_blank_end_is_no_end(site: Site) -> None:
    started(site, KEY, "an earlier boot")
    (site.spool.home(KEY) / "exit.durable").write_text(" " * 2048)
    assert site.spool.status(KEY).cause is Cause.LOST


def test_what_is_not_over_cannot_be_archived(site: Site) -> None:
    site.spool.prepare(KEY, HERE)
    with pytest.raises(SpoolError, match="only what is over"):
        site.spool.archive(KEY)


def test_an_archived_rank_keeps_log_and_record_and_never_starts_again(site: Site) -> None:
    site.spool.prepare(KEY, HERE)
    home = site.spool.home(KEY)
    (home / "log").write_text("hello\n")
    (home / "work" / "big").write_text("x")
    record(site, KEY, code=4)
    site.spool.archive(KEY)
    site.spool.archive(KEY)
    assert site.spool.known() == ()
    status = site.spool.status(KEY)
    assert (status.archived, status.exit_code, status.log_bytes) == (True, 4, 6)
    assert site.spool.read_log(KEY, 2, 3).data == b"llo"
    assert sorted(os.listdir(site.spool.root / "archive" / KEY)) == ["exit.json", "log"]
    with pytest.raises(SpoolError, match="never runs again"):
        site.spool.prepare(KEY, HERE)
    assert not home.exists()
    assert site.spool.stop(KEY, 0).exit_code == 4


def test_a_lost_rank_is_archived_as_lost(site: Site) -> None:
    started(site, KEY, "an earlier boot")
    site.spool.archive(KEY)
    assert site.spool.status(KEY).cause is Cause.LOST


def test_retention_drops_old_logs_first_and_records_last(site: Site) -> None:
    keys = [f"job-a.{attempt}.0" for attempt in range(1, 5)]
    for position, key in enumerate(keys):
        site.spool.prepare(key, HERE)
        (site.spool.home(key) / "log").write_bytes(b"x" * 100)
        record(site, key)
        site.spool.archive(key)
        os.utime(site.spool.root / "archive" / key, ns=(0, position * 1_000_000_000))
    site.spool.enforce_retention(log_bytes_max=250, records_max=3)
    assert [site.spool.status(key).phase for key in keys] == [Phase.ABSENT, *[Phase.OVER] * 3]
    assert [site.spool.status(key).log_bytes for key in keys[1:]] == [0, 100, 100]


def test_a_log_is_read_in_pieces_and_a_missing_one_is_empty(site: Site) -> None:
    site.spool.prepare(KEY, HERE)
    assert site.spool.read_log(KEY, 7, 10).data == b""
    (site.spool.home(KEY) / "log").write_bytes(b"0123456789")
    part = site.spool.read_log(KEY, 3, 4)
    assert (part.offset, part.data, part.total_bytes) == (3, b"3456", 10)
    with pytest.raises(SpoolError, match="want 0 or more"):
        site.spool.read_log(KEY, -1, 4)


def test_two_live_jobs_never_share_a_uid_and_one_job_keeps_its_own(site: Site) -> None:
    spool = site.spool
    first = spool.uid_for("job-a", 205_000)
    assert first == 205_000
    assert spool.uid_for("job-b", 205_000) == 205_001
    assert spool.uid_for("job-a", 209_999) == 205_000
    spool.prepare(KEY, HERE)
    record(site, KEY)
    spool.archive(KEY)
    assert spool.uid_for("job-c", 205_000) == 205_000


def test_uids_run_out_with_a_clear_error(site: Site) -> None:
    assert site.spool.uid_for("job-a", 301, first=300, last=301) == 301
    assert site.spool.uid_for("job-b", 301, first=300, last=301) == 300
    with pytest.raises(SpoolError, match="all 2 uids from 300 to 301"):
        site.spool.uid_for("job-c", 301, first=300, last=301)


def test_a_spool_path_longer_than_a_socket_address_works(site: Site) -> None:
    deep = site.root / ("d" * 80) / ("e" * 80)
    site.spool = type(site.spool)(deep)
    for folder in (deep.parent, deep):
        folder.chmod(0o711)
    site.start(KEY, ["/bin/sleep", "1000"])
    assert site.spool.status(KEY).phase is Phase.RUNNING
    site.spool.stop(KEY, 0)
    assert site.end(KEY).cause is Cause.STOP
