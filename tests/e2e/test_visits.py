"""Commands inside jobs, from end to end: beside the rank, in its tenant's log, ended with it."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from sovctl import CommandResult, NotFoundError, RefusedError, SovError
from sovctl.client import Job
from tests.agent.node.rig import needs_root, wait_until
from tests.e2e.local import LIFE, LONDON, World, bearing

pytestmark = needs_root


@pytest.fixture
def job(world: World) -> Iterator[Job]:
    """One that runs at London."""
    made = world.run(LIFE, env={"SAID": "by the job"})
    world.until_said(made, "start")
    world.until_state(made, "RUNNING")  # Its site tells so a moment after the job itself does.
    yield made
    made.cancel(now=True)
    world.end(made)


class Visiting:
    """A command that goes on, in a thread of its own."""

    def __init__(self, job: Job, mark: str) -> None:
        self.mark = mark
        self.answer: CommandResult | SovError | None = None
        self._job = job
        self._thread = threading.Thread(target=self._visit, daemon=True)
        self._thread.start()
        wait_until(lambda: bool(bearing(f"MARK={mark}")), "the command")

    def _visit(self) -> None:
        script = f"MARK={self.mark} setsid sleep 3000 & MARK={self.mark} exec sleep 3000"
        try:
            self.answer = self._job.exec(["sh", "-c", script])
        except SovError as error:
            self.answer = error

    def end(self) -> CommandResult | SovError:
        """What its caller was told."""
        self._thread.join(timeout=90)
        assert self.answer is not None, "nobody said how it ended"
        return self.answer


def test_a_command_is_a_process_of_the_rank(world: World, job: Job) -> None:
    script = "echo $SAID $RANK; id -u; ls -A $SOV_CHECKPOINT_DIR; cat; echo oh >&2; exit 3"
    found = job.exec(["sh", "-c", script], stdin=b"through and through")
    assert (found.exit_code, found.stderr) == (3, b"oh\n")
    said, uid, life, piped = found.stdout.decode().splitlines()
    assert (said, life, piped) == ("by the job 0", ".life", "through and through")
    assert int(uid) >= 200_000
    large = world.ada.exec(job.id, ["head", "-c", "20000000", "/dev/zero"])
    assert (large.exit_code, len(large.stdout)) == (0, 20_000_000)
    outside = job.exec(["sh", "-c", "cat /proc/net/dev | wc -l"]).stdout
    assert int(outside) == 3, "its network is the rank's: loopback alone"


def test_the_command_line_ends_as_the_command_did(world: World, job: Job) -> None:
    script = "echo out; echo err >&2; exit 9"
    done = world.sovctl("trust-a", "exec", job.id, "--", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (9, "out\n", "err\n")
    for words, status, told in (
        (("exec", "job-nowhere", "--", "id"), 4, "NOT_FOUND"),
        (("exec", job.id, "--rank", "5", "--", "id"), 4, "found 5, allowed 0 to 0"),
        (("exec", job.id), 2, "a program after --"),
        (("exec", "-t", job.id, "--", "sh"), 2, "found no terminal"),
        (("exec", job.id, "--", "no-such-program"), 127, "No such file"),
    ):
        done = world.sovctl("trust-a", *words)
        assert (done.returncode, told in done.stderr) == (status, True), done


SERVES = "mkdir www; echo served > www/page; exec python3 -m http.server -b 127.0.0.1 -d www 8123"


def test_a_port_of_a_job_is_reached_from_here_and_by_nobody_else(world: World) -> None:
    job = world.run(SERVES)
    world.until_state(job, "RUNNING")
    listens = "import socket; socket.create_connection(('127.0.0.1', 8123)).close()"

    def is_up() -> bool:
        try:
            return job.exec(["python3", "-c", listens]).exit_code == 0
        except SovError:  # Just starting.
            return False

    wait_until(is_up, "its server")
    with world.ada.port_forward(job.id, 8123) as port:
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/page", timeout=60) as page:
                assert page.read() == b"served\n"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port))
    with pytest.raises(NotFoundError), world.grace.port_forward(job.id, 8123):
        pass
    with pytest.raises(SovError) as refused, world.operator.port_forward(job.id, 8123):
        pass
    assert refused.value.reason == "ACCESS_NOT_GRANTED"
    bodies = [json.loads(leaf.canonical_json) for leaf in world.ada.audit_leaves(job=job.id)]
    began, ended = (body for body in bodies if body["kind"].startswith("port_forward_"))
    assert (began["port"], ended["connections"]) == (8123, 3)
    assert ended["received_bytes"] > 3 * len("served\n")
    with world.ada.port_forward(job.id, 8123):
        job.cancel(now=True)
        assert world.end(job).state == "CANCELLED"


def test_each_is_two_leaves_of_its_tenants_log(world: World, job: Job) -> None:
    with pytest.raises(NotFoundError):
        world.grace.exec(job.id, ["id"])
    with pytest.raises(SovError) as refused:
        world.operator.exec(job.id, ["id"])
    assert refused.value.reason == "ACCESS_NOT_GRANTED"
    assert job.exec(["true"]).exit_code == 0
    bodies = [json.loads(leaf.canonical_json) for leaf in world.ada.audit_leaves(job=job.id)]
    began, ended = (body for body in bodies if body["kind"].startswith("exec_"))
    assert (began["site"], began["by"]) == (LONDON, ended["by"])
    assert ended["exit_code"] == 0


def test_what_goes_on_ends_with_the_job(world: World, job: Job) -> None:
    visiting = Visiting(job, f"ends-{job.id}")
    job.cancel(now=True)
    answer = visiting.end()
    assert isinstance(answer, CommandResult), answer
    assert (answer.exit_code, answer.rank_over) == (137, True)
    assert world.end(job).state == "CANCELLED"
    assert bearing(f"MARK={visiting.mark}") == [], "what it put elsewhere is gone too"
    with pytest.raises(RefusedError) as refused:
        job.exec(["true"])
    assert refused.value.reason == "ILLEGAL_TRANSITION"


def test_an_agent_that_is_killed_ends_it_and_not_the_job(world: World, job: Job) -> None:
    status = job.refresh()
    assert status.attempt is not None
    slot = status.attempt.nodes[0].rpartition("/")[2]
    kills: dict[str, Callable[[], None]] = {
        "node": lambda: world.kill_node_agent(LONDON, slot),
        "site": lambda: world.kill_site_agent(LONDON),
    }
    for agent, kill_agent in kills.items():
        visiting = Visiting(job, f"{agent}-{job.id}")
        kill_agent()
        answer = visiting.end()
        assert isinstance(answer, SovError), answer
        assert answer.reason == "UNAVAILABLE"

        def again() -> bool:
            try:
                return job.exec(["true"]).exit_code == 0
            except SovError:
                return False

        wait_until(again, "another command, once the agent is back")
        assert job.refresh().state == "RUNNING"
    job.exec(["pkill", "-f", "sleep 3000"])
