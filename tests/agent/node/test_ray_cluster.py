"""What the ranks of a Ray job run, with programs that stand in for Ray's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.node import ray_cluster
from agent.node.ray_cluster import NOT_FOUND, command, follow

ADDRESS = "127.0.0.1"


@contextmanager
def head() -> Generator[tuple[socket.socket, int]]:
    """Something that answers as a cluster's head does, until it is closed."""
    with socket.create_server((ADDRESS, 0)) as server:
        yield server, server.getsockname()[1]


def run(tmp_path: Path, rank: int, port: int, *argv: str) -> subprocess.CompletedProcess[bytes]:
    """A rank of a Ray job whose PATH has a `ray` that notes how it was called."""
    program = tmp_path / "ray"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n')
    program.chmod(0o755)
    return subprocess.run(
        command(argv, ADDRESS, 2),
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "RANK": str(rank),
            "MASTER_ADDR": ADDRESS,
            "MASTER_PORT": str(port),
        },
        capture_output=True,
        check=False,
    )


def test_rank_0_starts_the_head_and_runs_the_command(tmp_path: Path) -> None:
    made = run(tmp_path, 0, 4567, "/bin/sh", "-c", "echo $RAY_ADDRESS; exit 5")
    assert (made.returncode, made.stdout) == (5, b"127.0.0.1:4567\n")
    called = (tmp_path / "called").read_text().split()
    assert called[0] == "start"
    assert {"--head", "--port=4567", "--node-ip-address=127.0.0.1", "--num-gpus=2"} <= {*called}


def test_another_rank_joins_the_head_and_fails_with_its_raylet(tmp_path: Path) -> None:
    with head() as (_, port):
        made = run(tmp_path, 1, port, "true")
    assert made.returncode == 1
    assert b"part of the Ray cluster ended with code 0" in made.stderr
    assert f"--address=127.0.0.1:{port} --block" in (tmp_path / "called").read_text()


def test_without_ray_it_says_what_is_missing() -> None:
    made = subprocess.run(
        [sys.executable, *command(["true"], ADDRESS, 0)[1:]],
        env={"PATH": "/nowhere"},
        capture_output=True,
        check=False,
    )
    assert made.returncode == NOT_FOUND
    assert b"found no program `ray` in PATH" in made.stderr


def test_a_rank_is_done_when_its_head_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "POLL_S", 0.05)
    with head() as (server, port):
        threading.Timer(0.5, server.close).start()
        assert follow(ADDRESS, port, ["sleep", "600"]) == 0


def test_a_rank_whose_head_never_answers_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "JOIN_S", 0)
    with head() as (server, port):
        server.close()
        assert follow(ADDRESS, port, ["true"]) == 1
