"""The command line: exit statuses, tables, documents, and that nobody ever sees a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sovapi.v1 import fleet_pb2
from sovctl import clock, errors
from sovctl.cli.arguments import split
from sovctl.cli.documents import message_document
from sovctl.cli.exit_codes import exit_code
from sovctl.cli.output import safe
from sovctl.cli.progress import LogLines
from tests.sovctl.conftest import Result, invoke
from tests.sovctl.control_plane import Running, residency_refusal

Sovctl = Callable[..., Result]
START_S = 60


def test_a_command_is_queued_and_its_name_is_the_id(plane: Running, sovctl: Sovctl) -> None:
    result = sovctl("submit", "--gpus", "4", "--nodes=2", "-o", "name", "--", "python", "-c", "1")
    assert (result.code, result.out) == (0, "job-0000000000000\n")
    spec = plane.plane.jobs["job-0000000000000"].spec
    assert list(spec.command) == ["python", "-c", "1"]
    assert (spec.resources.nodes, spec.resources.gpus_per_node) == (2, 4)
    assert (spec.name, spec.project) == ("python", "trust-a/radiology")


def test_flags_change_what_a_file_says(plane: Running, sovctl: Sovctl, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        "name: a\ncommand: [x]\nworking_dir: .\nresources: {nodes: 2, gpus_per_node: 8}\n"
    )
    result = sovctl("submit", str(tmp_path / "job.yaml"), "--nodes", "1", "--env", "A=b=c")
    assert (result.code, result.err) == (0, "")
    spec = plane.plane.jobs["job-0000000000000"].spec
    assert (spec.resources.nodes, spec.resources.gpus_per_node) == (1, 8)
    assert dict(spec.env) == {"A": "b=c"}
    assert spec.bundle_digest in plane.plane.bundles


def test_a_batch_script_is_taken(plane: Running, sovctl: Sovctl, tmp_path: Path) -> None:
    script = tmp_path / "train.sh"
    script.write_text("#!/bin/sh\n#SBATCH -N 2 --output=x\necho hi\n")
    result = sovctl("submit", str(script))
    assert result.code == 0
    assert "--output is left out" in result.err
    assert plane.plane.jobs["job-0000000000000"].spec.name == "train"


@pytest.mark.parametrize(("state", "rank_exit", "code"), [("SUCCEEDED", 0, 0), ("FAILED", 3, 1)])
def test_waiting_ends_with_the_jobs_fate(
    plane: Running, sovctl: Sovctl, state: str, rank_exit: int, code: int
) -> None:
    plane.plane.states, plane.plane.exit_code = ["RUNNING", state], rank_exit
    result = sovctl("submit", "--wait", "-o", "json", "--", "x")
    assert result.code == code
    job = result.json()
    assert (job["state"], job["exit_code"]) == (state, rank_exit)
    assert job["attempts"][0]["ranks"][0]["exit_code"] == rank_exit


def test_following_prints_each_ranks_lines_and_nothing_else(plane: Running, sovctl: Sovctl) -> None:
    plane.plane.log = {0: b"loss 1\nloss 0.5\n", 1: b"no newline"}
    result = sovctl("submit", "--follow", "--", "x")
    assert result.code == 0
    assert sorted(result.out.splitlines()) == ["[0] loss 0.5", "[0] loss 1", "[1] no newline"]
    assert "RUNNING at exch-london-1 (n01)" in result.err


def test_a_refusal_shows_its_code_and_every_reason(plane: Running, sovctl: Sovctl) -> None:
    plane.plane.refusal = residency_refusal()
    result = sovctl("submit", "--", "x")
    assert (result.code, result.out) == (3, "")
    assert "[JURISDICTION]" in result.err
    for site, reason in [
        ("exch-london-1", "NODE_SHAPE"),
        ("hall-slough-1", "FOREIGN_COMPULSION"),
        ("narvik-1", "JURISDICTION"),
    ]:
        assert any(line.split()[:2] == [site, reason] for line in result.err.splitlines())
    document = json.loads(sovctl("submit", "-o", "json", "--", "x").err)
    assert document["error"]["details"][0]["subject"] == "exch-london-1"


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        pytest.param(["list"], 0, id="done"),
        pytest.param(["--help"], 0, id="help"),
        pytest.param(["bogus"], 2, id="an unknown verb"),
        pytest.param(["list", "--bogus"], 2, id="an unknown option"),
        pytest.param(["submit"], 2, id="neither file nor command"),
        pytest.param(["submit", "--"], 2, id="an empty command"),
        pytest.param(["submit", "f", "--", "x"], 2, id="both file and command"),
        pytest.param(["submit", "/nowhere.yaml"], 2, id="no such file"),
        pytest.param(["submit", "--nodes", "0", "--", "x"], 2, id="an impossible value"),
        pytest.param(["submit", "--env", "A", "--", "x"], 2, id="a variable without a value"),
        pytest.param(["list", "--state", "happy"], 2, id="no state"),
        pytest.param(["logs", "job-1", "--rank", "x"], 2, id="no rank"),
        pytest.param(["logs", "job-1", "--since", "soon"], 2, id="no time"),
        pytest.param(["logs", "job-1", "--since", "2026-13-01"], 2, id="no date"),
        pytest.param(["list", "-o", "xml"], 2, id="no format"),
        pytest.param(["get", "job-unknown"], 4, id="not found"),
        pytest.param(["cancel", "job-unknown"], 4, id="not found, to cancel"),
        pytest.param(["whoami"], 5, id="not permitted"),
        pytest.param(["--context", "other", "list"], 2, id="an unknown context"),
    ],
)
def test_exit_statuses(sovctl: Sovctl, argv: list[str], code: int) -> None:
    result = sovctl(*argv)
    assert result.code == code, result.err
    assert "Traceback" not in result.out + result.err


def test_every_error_has_its_status() -> None:
    want = {
        errors.JobFailedError: 1,
        errors.InternalError: 1,
        errors.SpecError: 2,
        errors.BundleError: 2,
        errors.ConfigError: 2,
        errors.RefusedError: 3,
        errors.NotFoundError: 4,
        errors.UnauthenticatedError: 5,
        errors.PermissionDeniedError: 5,
        errors.UnavailableError: 6,
        errors.DeadlineError: 6,
    }
    assert {kind: int(exit_code(kind("x"))) for kind in want} == want


def test_an_unreachable_control_plane_is_its_own_status(
    tmp_path: Path, identities: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        f"current: a\ncontexts: {{a: {{endpoint: '127.0.0.1:1', credentials: {identities}/ada}}}}\n"
    )
    monkeypatch.setenv("SOVCTL_CONFIG", str(path))
    result = invoke("list")
    assert result.code == 6
    assert "127.0.0.1:1" in result.err


def test_no_context_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOVCTL_CONFIG", str(tmp_path / "none.yaml"))
    result = invoke("list")
    assert result.code == 2
    assert "sovctl join" in result.err


def test_tables_are_for_people_and_documents_for_programs(plane: Running, sovctl: Sovctl) -> None:
    plane.plane.sites = [
        fleet_pb2.Site(
            id="exch-london-1",
            status="SITE_STATUS_ACTIVE",
            country="GB",
            connected=True,
            nodes_total=2,
            gpus_total=8,
            gpus_used_milli=1500,
            ultimate_parents=[fleet_pb2.Party(name="P", country="US", stake_milli_percent=24_500)],
        )
    ]
    head, row = sovctl("sites").out.splitlines()
    assert head.split()[:4] == ["SITE", "IN", "STATE", "NODES"]
    assert row.split()[:5] == ["exch-london-1", "GB", "up", "0/2", "1.5/8"]
    assert row.endswith("US 24.5% P")
    [site] = sovctl("sites", "-o", "json").json()
    assert site["gpus_used_milli"] == 1500  # A number, and not text as in protobuf's own JSON.
    assert site["status"] == "ACTIVE"
    assert site["ultimate_parents"][0]["stake_milli_percent"] == 24_500
    assert sovctl("-o", "name", "sites").out == "exch-london-1\n"
    assert sovctl("sites", "-o", "yaml").out.startswith("- id: exch-london-1\n")
    quota = sovctl("quota", "-o", "json").json()
    assert (quota[0]["guarantee_milli"], quota[0]["limit_milli"]) == (None, 8000)


def test_the_documents_of_a_job_are_complete(plane: Running, sovctl: Sovctl) -> None:
    sovctl("submit", "--wait", "--", "x")
    [job] = sovctl("list", "-o", "json").json()
    assert list(job) == [
        *("id", "name", "tenant", "owner", "state", "reason", "message", "exit_code"),
        *("submitted_at_ms", "ended_at_ms", "nodes", "gpus", "attempts"),
        *("array_id", "task", "tasks", "waits_for", "estimated_start_ms"),
        *("estimated_start_p90_ms", "effective_residency"),
    ]
    assert job["reason"] is None
    assert list(job["attempts"][0]) == [
        *("number", "site", "country", "nodes", "state", "reason", "message"),
        *("placed_at_ms", "started_at_ms", "ended_at_ms", "ranks"),
    ]
    assert list(job["attempts"][0]["ranks"][0]) == [
        *("rank", "node", "phase", "exit_code", "signal", "cause"),
        *("started_at_ms", "ended_at_ms", "log_bytes", "detail", "denied"),
    ]


def test_explaining_names_every_site(sovctl: Sovctl) -> None:
    job = sovctl("submit", "-o", "name", "--", "x").out.strip()
    told = sovctl("explain", job).out
    assert "FOREIGN_COMPULSION" in told
    assert "Number 1 in its project's queue." in told
    assert sovctl("explain", job, "-o", "json").json()["sites"][1]["permitted"] is True


def test_a_dry_run_queues_nothing(plane: Running, sovctl: Sovctl) -> None:
    result = sovctl("submit", "--dry-run", "--", "x")
    assert result.code == 0
    assert "would start now at exch-london-1" in result.out
    assert plane.plane.jobs == {}


def test_logs_are_the_jobs_own_bytes(plane: Running, sovctl: Sovctl) -> None:
    job = sovctl("submit", "-o", "name", "--wait", "--", "x").out.strip()
    assert sovctl("logs", job).out.encode() == plane.plane.log[0]


def test_logs_are_asked_for_since_a_moment_or_for_so_long(plane: Running, sovctl: Sovctl) -> None:
    job = sovctl("submit", "-o", "name", "--wait", "--", "x").out.strip()
    assert sovctl("logs", job, "--since", "2026-10-01T09:30:00+01:00").code == 0
    assert plane.plane.since_ms == 1_790_843_400_000
    began_ms = clock.now_ms()
    assert sovctl("logs", job, "--since", "10m").code == 0
    assert began_ms - 600_000 <= plane.plane.since_ms <= clock.now_ms() - 600_000


def test_a_narrow_terminal_cuts_no_id(
    plane: Running, sovctl: Sovctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    sovctl("submit", "--name", "a-name-as-long-as-names-may-be-and-no-longer", "--", "x")
    monkeypatch.setenv("COLUMNS", "30")
    assert "job-0000000000000" in sovctl("list", "-o", "wide").out


@pytest.mark.parametrize("verb", [[], ["submit"], ["fleet", "apply"], ["audit", "log"]])
def test_help_is_plain_and_the_same_on_every_terminal(
    verb: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    for columns in ("40", "300"):
        monkeypatch.setenv("COLUMNS", columns)
        assert invoke(*verb, "--help").code == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert told[0].isascii()
    assert max(len(line) for line in told[0].splitlines()) <= 80


def test_global_options_are_taken_anywhere() -> None:
    line = split(["list", "-o", "json", "--state", "queued", "-q", "--context=a"])
    assert line.options == ("-o", "json", "-q", "--context=a", "list", "--state", "queued")
    line = split(["submit", "--", "x", "-o", "json"])
    assert (line.options, line.command) == (("submit",), ("x", "-o", "json"))


def test_lines_of_ranks_never_mix() -> None:
    lines = LogLines(with_rank=True)
    assert lines.add(0, b"a") == []
    assert lines.add(1, b"x\ny") == [b"[1] x\n"]
    assert lines.add(0, b"b\n") == [b"[0] ab\n"]
    assert lines.rest() == [b"[1] y\n"]


def test_what_would_steer_a_terminal_is_taken_out() -> None:
    assert safe("a\x1b[2Jb\x07") == "a�[2Jb�"


def test_documents_keep_what_this_client_does_not_know() -> None:
    site = fleet_pb2.Site(id="a")
    site.ParseFromString(site.SerializeToString() + b"\x18\x63")  # status = 99.
    assert message_document(site)["status"] == 99


@pytest.fixture
def waiting(plane: Running, sovctl: Sovctl) -> Iterator[subprocess.Popen[str]]:
    """A real sovctl that waits for a job that does not end."""
    plane.plane.hold.clear()
    process = subprocess.Popen(
        [sys.executable, "-m", "sovctl", "submit", "--wait", "--", "x"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    yield process
    plane.plane.hold.set()
    process.kill()
    process.wait(START_S)


def test_ctrl_c_leaves_the_job_running_and_says_so(waiting: subprocess.Popen[str]) -> None:
    assert waiting.stderr is not None
    while "RUNNING" not in waiting.stderr.readline():
        assert waiting.poll() is None
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=START_S)
    assert waiting.returncode == 130
    assert err == (
        "interrupted: job-0000000000000 goes on; `sovctl cancel job-0000000000000` stops it\n"
    )


INTERRUPTED = """
import asyncio, signal, threading, time
from sovctl.__main__ import leave
from sovctl.cli.session import finished
from sovctl.event_loop import EventLoop

def on_another_thread():
    # As the system may, and as it looks to a thread that is about to fall asleep: nobody is woken.
    print("waiting")
    time.sleep(0.2)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    threading.Event().wait()

async def forever():
    threading.Thread(target=on_another_thread, daemon=True).start()
    await asyncio.Event().wait()

async def reading():
    asyncio.get_running_loop().call_later(0.1, print, "waiting")
    asyncio.get_running_loop().call_later(0.2, signal.raise_signal, signal.SIGINT)
    await asyncio.to_thread(threading.Event().wait)

try:
    %s
except KeyboardInterrupt:
    leave(130)
"""


@pytest.mark.parametrize(
    "call",
    [
        pytest.param("finished(reading())", id="a thread that never ends is not waited for"),
        pytest.param("finished(forever())", id="a loop that sleeps is woken"),
        pytest.param("EventLoop.shared().run(forever())", id="a blocking client looks up in turns"),
    ],
)
def test_ctrl_c_always_ends_the_program(call: str) -> None:
    command = [sys.executable, "-u", "-c", INTERRUPTED % call]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
    assert (ended.stdout, ended.returncode) == ("waiting\n", 130)


def test_output_that_cannot_be_written_is_no_success() -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "sovctl", "schema", "job"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert "No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_reader_that_went_away_is_no_error(sovctl: Sovctl) -> None:
    process = subprocess.run(
        f"{sys.executable} -m sovctl schema job | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.stdout, process.stderr) == ("{\n", "")


def test_importing_the_sdk_is_light() -> None:
    heavy = ("ray", "sqlalchemy", "numpy", "typer", "rich", "pytest")
    code = f"import sys, sovctl; print([m for m in {heavy!r} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
