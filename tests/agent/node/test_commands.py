"""Commands inside ranks: with all that the rank has, and never for longer than it."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.node.commands import Command
from agent.node.entry import NoEntry
from agent.node.spool import Phase
from sovapi.v1.jobs_pb2 import ExecRequest, ExecResize, ExecStart
from sovapi.v1.sitelink_pb2 import TunnelDown, TunnelUp
from tests.agent.node.rig import DEADLINE_S, Site, mark_of, marked, needs_root, wait_until

KEY = "job-a.1.0"
LIVES = ["/bin/sh", "-c", "echo up; exec sleep 1000"]

pytestmark = needs_root


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a command."""

    exit_code: int
    rank_over: bool
    stdout: bytes
    stderr: bytes


def lives(site: Site, level: str = "uid", **more: object) -> Path:
    """A rank that has become its program, and lives."""
    site.start(KEY, LIVES, level, **more)
    site.wait_log(KEY, "up")
    return site.spool.home(KEY)


@asynccontextmanager
async def running(home: Path, *words: str, **more: object) -> AsyncGenerator[Command]:
    command = await Command.begin(home, ExecStart(command=words, **more))  # type: ignore[arg-type]
    try:
        yield command
    finally:
        await command.close()


async def say(command: Command, **part: object) -> None:
    await command.heard(TunnelDown(exec=ExecRequest(**part)))  # type: ignore[arg-type]


async def ended(command: Command) -> Ended:
    """All that it says, to its end."""
    stdout = stderr = b""
    async with asyncio.timeout(DEADLINE_S):
        async for up in command.said():
            stdout += up.exec.stdout
            stderr += up.exec.stderr
            if up.exec.WhichOneof("part") == "exit_code":
                return Ended(up.exec.exit_code, up.exec.rank_over, stdout, stderr)
    raise AssertionError("it ended and nobody said how")


async def run(home: Path, *words: str) -> Ended:
    async with running(home, *words) as command:
        await say(command, stdin_closed=True)
        return await ended(command)


@pytest.mark.parametrize("level", ["pidns", "uid"])
async def test_it_is_where_the_rank_is_and_who(site: Site, level: str) -> None:
    home = lives(site, level)
    rank = rank_of(home)
    script = "for n in pid mnt net; do readlink /proc/self/ns/$n; done; id -u; pwd; ps -e | wc -l"
    found = await run(home, "/bin/sh", "-c", script)
    assert (found.exit_code, found.stderr) == (0, b"")
    *spaces, uid, cwd, count = found.stdout.decode().split()
    assert spaces == [os.readlink(f"/proc/{rank}/ns/{name}") for name in ("pid", "mnt", "net")]
    spec = json.loads((home / "spec.json").read_text())
    assert (int(uid), cwd) == (spec["uid"] or 0, spec["cwd"])
    assert int(count) < 10, "it sees the processes of its rank and no others"


def rank_of(home: Path) -> int:
    """The rank's program: what its one maker, the init's first child, made."""
    pid = json.loads((home / "started.json").read_text())["init_pid"]
    for _ in range(2):
        (pid,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(pid)


async def test_both_outputs_the_input_and_the_code_are_kept_apart(site: Site) -> None:
    home = lives(site)
    async with running(home, "/bin/sh", "-c", "cat; echo wrong >&2; exit 9") as command:
        await say(command, stdin=b"one ")
        await say(command, stdin=b"two")
        await say(command, stdin_closed=True)
        assert await ended(command) == Ended(9, False, b"one two", b"wrong\n")
    assert (await run(home, "no-such-program")).exit_code == 127
    assert (await run(home, "/etc/passwd")).exit_code == 126
    assert (await run(home, "/bin/sh", "-c", "kill -TERM $$")).exit_code == 143


async def test_it_has_the_ranks_variables_secrets_and_limits(site: Site) -> None:
    secrets = site.root / "secrets.json"
    secrets.write_text(json.dumps({"HF_TOKEN": "s3cret"}))
    home = lives(site, secrets_file=str(secrets), rlimits={"nofile": 77})
    found = await run(home, "/bin/sh", "-c", "echo $HF_TOKEN $MARK; ulimit -n; ulimit -c")
    assert found.stdout.decode().split() == ["s3cret", mark_of(KEY), "77", "0"]
    found = await run(home, "/bin/sh", "-c", "ls /proc/self/fd; grep NoNewPrivs /proc/self/status")
    assert found.stdout.decode().split() == ["0", "1", "2", "3", "NoNewPrivs:", "1"], "none of ours"


async def test_on_a_terminal_it_has_one_of_the_callers_size(site: Site) -> None:
    home = lives(site)
    size = ExecResize(rows=33, columns=111)
    script = "trap 'stty size; echo $TERM; exit 3' WINCH; tty; stty size; read line; echo [$line]"
    script += "; while :; do sleep 0.1; done"
    words = ("/bin/sh", "-c", script)
    async with running(home, *words, tty=True, size=size, term="vt100") as command:
        said = command.said()
        text = await until_said(said, b"33 111")
        assert b"/dev/pts/" in text
        await say(command, stdin=b"hello\n")
        await until_said(said, b"[hello]")
        await say(command, resize=ExecResize(rows=44, columns=99))
        rest = await until_said(said, b"vt100")
        assert b"44 99" in rest
        await said.aclose()


async def test_ctrl_c_on_a_terminal_reaches_the_program(site: Site) -> None:
    home = lives(site)
    words = (
        "/bin/sh",
        "-c",
        "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done",
    )
    async with running(home, *words, tty=True) as command:
        said = command.said()
        await until_said(said, b"ready")
        await say(command, stdin=b"\x03")
        await until_said(said, b"caught")
        await said.aclose()


async def until_said(said: AsyncGenerator[TunnelUp], what: bytes) -> bytes:
    """All that is said until `what` is in it."""
    text = b""
    async with asyncio.timeout(DEADLINE_S):
        while what not in text:
            up = await anext(said)
            assert up.exec.WhichOneof("part") != "exit_code", (text, up.exec)
            text += up.exec.stdout
    return text


async def test_who_leaves_ends_it(site: Site) -> None:
    home = lives(site)
    script = "MARK=$0 sleep 1000 & trap '' HUP; echo begun; wait"
    async with running(home, "/bin/sh", "-c", script, mark_of("left")) as command:
        said = command.said()
        await until_said(said, b"begun")
        wait_until(lambda: bool(marked("left")), "its child")
        await said.aclose()
    wait_until(lambda: not marked("left"), "the end of its group")
    assert site.spool.status(KEY).phase is Phase.RUNNING, "the rank goes on"


async def test_nothing_that_it_started_outlives_the_rank(site: Site) -> None:
    home = lives(site)
    script = "MARK=$0 setsid sh -c 'sleep 1000 & sleep 1000' </dev/null >/dev/null 2>&1 & echo ok"
    assert (await run(home, "/bin/sh", "-c", script, mark_of("stray"))).stdout == b"ok\n"
    wait_until(lambda: len(marked("stray")) == 3, "what it left behind")
    async with running(home, "sleep", "1000") as command:
        site.spool.stop(KEY, 0)
        assert await ended(command) == Ended(137, True, b"", b"")
    site.end(KEY)
    assert marked("stray") == []


async def test_it_does_not_count_as_the_ranks_end(site: Site) -> None:
    home = lives(site)
    for code in (0, 1):
        assert (await run(home, "/bin/sh", "-c", f"exit {code}")).exit_code == code
    assert site.spool.status(KEY).phase is Phase.RUNNING
    assert site.log(KEY) == "up\n", "nor is what it writes the rank's log"


async def test_a_slow_reader_makes_it_wait_and_gets_everything(site: Site) -> None:
    home, size = lives(site), 8 * 1024 * 1024
    async with running(home, "/bin/sh", "-c", f"head -c {size} /dev/zero; touch done") as command:
        said = command.said()
        got = len((await anext(said)).exec.stdout)
        await asyncio.sleep(0.2)  # Time in which it would run ahead, were it let.
        assert not (home / "work" / "done").exists()
        exit_code = None
        async for up in said:
            got += len(up.exec.stdout)
            exit_code = up.exec.exit_code
        assert (got, exit_code) == (size, 0)


async def test_what_it_left_behind_does_not_keep_its_caller_waiting(site: Site) -> None:
    home = lives(site)
    found = await run(home, "/bin/sh", "-c", "echo first; sleep 1000 & exit 4")
    assert (found.exit_code, found.stdout) == (4, b"first\n")


@pytest.mark.parametrize(
    ("start", "found"),
    [
        pytest.param(ExecStart(), "found none, allowed a program", id="nothing"),
        pytest.param(ExecStart(command=["a"] * 1001), "1001 words", id="words"),
        pytest.param(ExecStart(command=["a" * 70_000]), "70000 bytes", id="bytes"),
        pytest.param(ExecStart(command=["a\0b"]), "a zero byte", id="zero"),
        pytest.param(ExecStart(command=["a"], term="x;y"), "'x;y'", id="term"),
    ],
)
async def test_what_is_no_command_is_refused(site: Site, start: ExecStart, found: str) -> None:
    with pytest.raises(NoEntry, match=found):
        await Command.begin(site.spool.home(KEY), start)


async def test_only_a_rank_that_runs_isolated_is_entered(site: Site) -> None:
    home = site.prepare(KEY, LIVES, "uid")
    with pytest.raises(NoEntry, match="does not run"):
        await Command.begin(home, ExecStart(command=["id"]))
    site.start("job-b.1.0", LIVES, "none")
    with pytest.raises(NoEntry, match="isolates ranks at none") as refused:
        await Command.begin(site.spool.home("job-b.1.0"), ExecStart(command=["id"]))
    assert refused.value.reason == "ISOLATION"
    site.start("job-c.1.0", ["/bin/true"], "uid")
    site.end("job-c.1.0")
    with pytest.raises(NoEntry, match="over"):
        await Command.begin(site.spool.home("job-c.1.0"), ExecStart(command=["id"]))
