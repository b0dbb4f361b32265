"""The shim alone: how a rank ends, what ends with it, and what is recorded."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.node.clock import boot_ms
from agent.node.spool import Cause, Phase
from tests.agent.node.rig import LEVELS, Site, marked, needs_root, running, wait_until

KEY = "job-a.1.0"
# Two children that try to escape: one has left the session and its parent has ended.
ESCAPE = "(setsid sleep 1000 &) ; sleep 1000 & echo up; wait"
DEAF = "trap '' TERM; (trap '' TERM; setsid sleep 1000 &); echo up; while :; do sleep 0.1; done"

at_every_level = pytest.mark.parametrize("level", LEVELS)


def shell(text: str) -> list[str]:
    return ["/bin/sh", "-c", text]


def started(site: Site, key: str = KEY) -> dict[str, int]:
    return json.loads((site.spool.home(key) / "started.json").read_text())


@at_every_level
@pytest.mark.parametrize(
    ("text", "code", "number"),
    [
        pytest.param("exit 0", 0, None, id="success is code 0"),
        pytest.param("exit 7", 7, None, id="a code comes back as it is"),
        pytest.param("exit 143", 143, None, id="code 143 is not taken for a signal"),
        pytest.param("kill -KILL $$", None, 9, id="a signal is a signal and no code"),
        pytest.param("kill -SEGV $$", None, 11, id="a crash is a signal"),
    ],
)
def test_the_end_of_a_rank_is_recorded(
    site: Site, level: str, text: str, code: int | None, number: int | None
) -> None:
    site.start(KEY, shell(text), level)
    end = site.end(KEY)
    assert (end.exit_code, end.signal, end.cause) == (code, number, Cause.EXIT)
    assert end.started_boot_ms is not None
    assert end.ended_boot_ms is not None
    assert end.started_boot_ms <= end.ended_boot_ms


@at_every_level
def test_the_whole_log_arrives_with_both_streams_in_order(site: Site, level: str) -> None:
    site.start(KEY, shell("echo out; echo err >&2; echo last"), level)
    site.end(KEY)
    assert site.log(KEY) == "out\nerr\nlast\n"


@at_every_level
@pytest.mark.parametrize(
    ("argv", "code"),
    [
        pytest.param(["no-such-program"], 127, id="a program that does not exist is code 127"),
        pytest.param(["/etc/passwd"], 126, id="a program that may not run is code 126"),
    ],
)
def test_what_cannot_be_executed_says_so(
    site: Site, level: str, argv: list[str], code: int
) -> None:
    site.start(KEY, argv, level)
    end = site.end(KEY)
    assert (end.exit_code, end.cause) == (code, Cause.EXIT)
    assert f"sov: cannot run '{argv[0]}'" in site.log(KEY)


@at_every_level
def test_a_stop_lets_the_rank_end_in_its_grace(site: Site, level: str) -> None:
    site.start(
        KEY, shell("trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.1; done"), level
    )
    site.wait_log(KEY, "up")
    site.spool.stop(KEY, 60_000)
    end = site.end(KEY)
    assert (end.exit_code, end.signal, end.cause) == (5, None, Cause.STOP)
    assert "bye" in site.log(KEY)


@at_every_level
def test_a_stop_reaches_every_process_group_of_the_ranks_session(site: Site, level: str) -> None:
    own_group = "import os,signal,time; os.setpgid(0,0); print('up',flush=True); time.sleep(1000)"
    site.start(KEY, shell(f'/usr/bin/python3 -c "{own_group}" & wait $!; echo child $?'), level)
    site.wait_log(KEY, "up")
    site.spool.stop(KEY, 60_000)
    end = site.end(KEY)
    assert end.signal == signal.SIGTERM
    assert marked(KEY) == []


@at_every_level
def test_who_ignores_the_stop_is_killed_with_all_it_started(site: Site, level: str) -> None:
    site.start(KEY, shell(DEAF), level)
    site.wait_log(KEY, "up")
    assert len(marked(KEY)) >= 2
    site.spool.stop(KEY, 300)
    end = site.end(KEY)
    assert (end.exit_code, end.signal, end.cause) == (None, signal.SIGKILL, Cause.STOP)
    assert marked(KEY) == []


@at_every_level
def test_a_second_stop_may_shorten_the_grace(site: Site, level: str) -> None:
    site.start(KEY, shell(DEAF), level)
    site.wait_log(KEY, "up")
    site.spool.stop(KEY, 3_600_000)
    site.spool.stop(KEY, 0, Cause.FENCE)
    end = site.end(KEY)
    assert (end.signal, end.cause) == (signal.SIGKILL, Cause.STOP)


@at_every_level
def test_a_child_that_left_the_session_ends_with_the_rank(site: Site, level: str) -> None:
    site.start(KEY, shell("(setsid sleep 1000 &); sleep 0.2; exit 3"), level)
    assert site.end(KEY).exit_code == 3
    assert marked(KEY) == []


@at_every_level
def test_a_lapsed_lease_ends_the_rank(site: Site, level: str) -> None:
    site.start(KEY, shell(ESCAPE), level, lease_until_ms=boot_ms() + 2_000, grace_ms=0)
    end = site.end(KEY)
    assert (end.signal, end.cause) == (signal.SIGKILL, Cause.LEASE)
    assert marked(KEY) == []


def test_a_renewed_lease_keeps_the_rank_and_an_older_renewal_changes_nothing(site: Site) -> None:
    lease = boot_ms() + 1500
    site.start(KEY, shell("echo up; sleep 1000"), lease_until_ms=lease)
    assert site.spool.renew(KEY, lease + 3_600_000)
    assert site.spool.renew(KEY, lease + 1)
    wait_until(lambda: boot_ms() > lease + 1500, "the time after the first lease")
    assert site.spool.status(KEY).phase is Phase.RUNNING


def test_a_rank_whose_lease_lapsed_before_its_shim_came_up_never_runs(site: Site) -> None:
    """The gate was opened, then the node stood still: elsewhere the job may run by now."""
    site.start(KEY, shell("echo ran"), lease_until_ms=boot_ms() - 1)
    end = site.end(KEY)
    assert (end.exit_code, end.signal, end.cause) == (None, None, Cause.INFRASTRUCTURE)
    assert "lease" in end.detail
    assert site.log(KEY) == ""


def test_a_shim_that_slept_past_its_lease_and_the_grace_kills_at_once(site: Site) -> None:
    """As on a machine that was suspended: the grace counts from the lapse, not from the waking."""
    deaf = shell("trap 'echo asked' TERM; echo up; while :; do sleep 0.05; done")
    lease = boot_ms() + 3_000
    site.start(KEY, deaf, lease_until_ms=lease, grace_ms=1_000)
    site.wait_log(KEY, "up")
    shim = started(site)["shim_pid"]
    os.kill(shim, signal.SIGSTOP)
    wait_until(lambda: boot_ms() > lease + 1_000, "the end of the grace")
    os.kill(shim, signal.SIGCONT)
    end = site.end(KEY)
    assert (end.signal, end.cause) == (signal.SIGKILL, Cause.LEASE)
    assert "asked" not in site.log(KEY)


@at_every_level
def test_the_time_limit_warns_and_then_ends_the_rank(site: Site, level: str) -> None:
    text = "trap 'echo warned' USR1; trap 'exit 9' TERM; while :; do sleep 0.05; done"
    warn = {"signal": int(signal.SIGUSR1), "before_ms": 1000}
    site.start(KEY, shell(text), level, time_limit_ms=2000, signal_before_end=warn)
    end = site.end(KEY)
    assert (end.exit_code, end.cause) == (9, Cause.TIME_LIMIT)
    assert "warned" in site.log(KEY)


@needs_root
@pytest.mark.parametrize("level", ["pidns", "uid"])
@pytest.mark.parametrize("who", ["shim_pid", "init_pid"])
def test_killing_shim_or_init_takes_the_tree_along(site: Site, level: str, who: str) -> None:
    site.start(KEY, shell(ESCAPE), level)
    site.wait_log(KEY, "up")
    assert len(marked(KEY)) >= 2
    os.kill(started(site)[who], signal.SIGKILL)
    end = site.end(KEY)
    assert marked(KEY) == []
    if who == "shim_pid":
        assert (end.exit_code, end.signal, end.cause) == (None, None, Cause.LOST)
    else:
        assert (end.exit_code, end.signal, end.cause) == (None, signal.SIGKILL, Cause.EXIT)


def test_without_isolation_survivors_of_a_killed_shim_are_found_and_stopped(site: Site) -> None:
    site.start(KEY, shell(ESCAPE))
    site.wait_log(KEY, "up")
    pids = started(site)
    os.kill(pids["shim_pid"], signal.SIGKILL)
    wait_until(lambda: not running(pids["shim_pid"]), "the end of the shim")
    wait_until(lambda: site.spool.status(KEY).orphaned, "the discovery of survivors")
    assert site.spool.status(KEY).phase is Phase.RUNNING
    site.spool.stop(KEY, 0)
    assert site.end(KEY).cause is Cause.LOST
    assert marked(KEY) == []


def test_the_shim_outlives_a_request_to_terminate(site: Site) -> None:
    site.start(KEY, shell("echo up; sleep 1; exit 4"))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(started(site)["shim_pid"], number)
    assert site.end(KEY).exit_code == 4


def test_only_one_of_two_shims_runs_the_rank(site: Site) -> None:
    site.start(KEY, shell("echo ran; sleep 1000"))
    site.run_shim(KEY)
    site.wait_log(KEY, "ran")
    site.spool.stop(KEY, 0)
    site.end(KEY)
    site.run_shim(KEY)
    assert site.log(KEY) == "ran\n"


def test_a_key_given_up_behind_an_open_gate_never_runs(site: Site) -> None:
    site.prepare(KEY, shell("echo ran"))
    assert site.spool.open_gate(KEY)
    assert site.spool.status(KEY).phase is Phase.STARTING
    assert site.spool.stop(KEY, 0).cause is Cause.NEVER_STARTED
    site.run_shim(KEY)
    end = site.spool.status(KEY)
    assert (end.phase, end.exit_code, end.cause) == (Phase.OVER, None, Cause.NEVER_STARTED)
    assert site.log(KEY) == ""


@pytest.mark.parametrize("delay_ms", [0, 5, 10, 15, 20, 25, 30, 40, 60, 90])
@pytest.mark.parametrize("level", LEVELS)
def test_a_stop_at_any_moment_of_a_start_leaves_one_consistent_end(
    site: Site, level: str, delay_ms: int
) -> None:
    site.prepare(KEY, shell("echo ran; sleep 1000"), level)
    with ThreadPoolExecutor(2) as pool:
        start = pool.submit(lambda: site.spool.open_gate(KEY) and site.run_shim(KEY))
        time.sleep(delay_ms / 1000)  # Where it falls does not matter, only that it varies.
        site.spool.stop(KEY, 0)
        start.result()
    end = site.end(KEY)
    assert end.cause in (Cause.STOP, Cause.NEVER_STARTED)
    if end.cause is Cause.NEVER_STARTED:
        assert (end.exit_code, end.signal, site.log(KEY)) == (None, None, "")
    else:
        assert end.signal == signal.SIGKILL
    if site.spool.gate(KEY) == "start":
        site.run_shim(KEY)
    assert site.spool.status(KEY) == end
    assert marked(KEY) == []


@pytest.mark.parametrize("delay_ms", [0, 5, 10, 15, 20, 25, 30, 40, 60, 90])
def test_a_shim_killed_at_any_moment_runs_the_rank_once_or_never(site: Site, delay_ms: int) -> None:
    home = site.prepare(KEY, shell("echo ran >> counter; echo ran; sleep 1000"), LEVELS[-1])
    assert site.spool.open_gate(KEY)
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(site.run_shim, KEY)
        time.sleep(delay_ms / 1000)
        for pid in shims_of(home):
            os.kill(pid, signal.SIGKILL)
        start.result()
    for _ in range(2):
        site.run_shim(KEY)
    site.spool.stop(KEY, 0)
    end = site.end(KEY)
    assert end.cause in (Cause.STOP, Cause.NEVER_STARTED, Cause.LOST)
    counter = home / "work" / "counter"
    assert (counter.read_text() if counter.exists() else "") in ("", "ran\n")
    assert marked(KEY) == []


def shims_of(home: Path) -> list[int]:
    """Shims, and inits before their exec, that keep the rank of `home`."""
    found: list[int] = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            if words[-2:] == [bytes(home), b""] and Path(f"/proc/{name}/cwd").readlink() == home:
                found.append(int(name))
    return found


def test_two_ranks_cannot_hold_one_gpu(site: Site) -> None:
    site.start(KEY, shell("echo up; sleep 1000"), gpus=[0, 3])
    site.start("job-b.1.0", shell("echo up"), gpus=[3])
    end = site.end("job-b.1.0")
    assert (end.exit_code, end.cause) == (None, Cause.INFRASTRUCTURE)
    assert "GPU 3 is held" in end.detail
    site.spool.stop(KEY, 0)
    site.end(KEY)
    site.start("job-c.1.0", shell("exit 6"), gpus=[3])
    assert site.end("job-c.1.0").exit_code == 6


def test_a_log_over_its_limit_keeps_the_beginning_and_the_end(site: Site) -> None:
    text = "echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last"
    site.start(KEY, shell(text), log_limit_bytes=10_000)
    site.end(KEY)
    log = site.log(KEY)
    assert log.startswith("first\n")
    assert log.endswith("last\n")
    assert "[sov: the log is full" in log
    assert "bytes are missing here]" in log
    assert len(log) < 400_000


@needs_root
def test_a_full_disk_costs_log_lines_and_nothing_else(site: Site) -> None:
    small = site.root / "spool"
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k,mode=0711", "none", str(small)]
    subprocess.run(mount, check=True)
    try:
        site.spool = type(site.spool)(small)
        site.start(KEY, shell("head -c 2000000 /dev/zero; echo done; exit 8"))
        end = site.end(KEY)
        assert (end.exit_code, end.cause) == (8, Cause.EXIT)
        assert 0 < end.log_bytes < 600_000
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
    site.spool = type(site.spool)(small)


def test_documents_of_a_rank_are_private(site: Site) -> None:
    site.start(KEY, shell("exit 0"))
    site.end(KEY)
    home = site.spool.home(KEY)
    for name in ("spec.json", "exit.json", "started.json", "log"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600, name


@needs_root
def test_at_level_uid_a_rank_sees_neither_secrets_nor_spool_nor_others(site: Site) -> None:
    secrets = site.root / "secrets"
    secrets.mkdir()
    token = secrets / "token"
    token.write_text("very secret")
    token.chmod(0o600)
    other = site.prepare("job-b.1.0", shell("true"))
    probe = "\n".join(
        [
            f"cat {token} && echo READ",
            f"ls {site.spool.root} && echo LISTED",
            f"cat {other}/prepare.json && echo READ",
            f"cat {site.spool.home(KEY)}/spec.json && echo READ",
            "echo hello > here && echo wrote $(pwd)",
            "echo uid $(id -u) groups $(id -G)",
            "echo processes $(ls /proc | grep -c '^[0-9]')",
            "grep NoNewPrivs /proc/self/status",
            "grep CapEff /proc/self/status",
            "kill -9 1 && echo KILLED; ls -l /proc/1/fd && echo LISTED",
        ]
    )
    site.start(KEY, shell(probe), "uid", hide=[str(site.spool.root), str(secrets)])
    assert site.end(KEY).cause is Cause.EXIT
    log = site.log(KEY)
    for forbidden in ("very secret", "READ", "KILLED", "LISTED", "address"):
        assert forbidden not in log
    assert f"wrote {site.spool.home(KEY)}/work" in log
    assert "uid 250000 groups 250000" in log
    assert "NoNewPrivs:\t1" in log
    assert "CapEff:\t0000000000000000" in log
    assert int(log.split("processes ")[1].split()[0]) <= 6


@at_every_level
def test_a_shim_whose_folder_was_deleted_ends_all_the_same(site: Site, level: str) -> None:
    site.start(KEY, shell("echo up; exec sleep 1000"), level)
    site.wait_log(KEY, "up")
    record = started(site)
    shutil.rmtree(site.spool.home(KEY))
    os.kill(record["init_pid"], signal.SIGKILL)
    wait_until(lambda: not running(record["shim_pid"]), "the end of the shim")
    assert not site.spool.home(KEY).exists()
