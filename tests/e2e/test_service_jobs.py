"""Services on real processes: what dies is started again, more and fewer of it, and its end."""

from __future__ import annotations

import os
import signal

from sovctl import Job, JobInfo
from tests.agent.node.rig import wait_until
from tests.e2e.local import World, bearing, cmdline, spec

SERVE = "echo serving $SOV_REPLICA; exec python3 -m http.server --bind 127.0.0.1 0"


def replicas(world: World, service: Job) -> list[JobInfo]:
    """Its replicas, by number."""
    return sorted(world.ada.list(array=service.id), key=lambda info: info.task or 0)


def until_ready(world: World, service: Job, ready: int, of: int) -> None:
    """Waits until so many of its replicas are."""

    def is_so() -> bool:
        tasks = service.refresh().tasks
        return tasks is not None and (tasks.ready, tasks.total) == (ready, of)

    wait_until(is_so, f"{ready} of {of} replicas to be ready")


def test_a_service_is_kept_up_scaled_and_cancelled(world: World) -> None:
    made = spec(SERVE, name="web").model_copy(update={"kind": "service", "replicas": 2})
    service = world.ada.submit(made)
    until_ready(world, service, 2, 2)
    first, second = replicas(world, service)
    for pid in bearing(f"SOV_JOB_ID={first.id}"):
        if b"http.server" in cmdline(pid):
            os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        info = world.ada.get(first.id or "").info
        return info.state == "RUNNING" and len(info.attempts) == 2

    wait_until(is_back, "the killed replica to run again")
    ends = [attempt.reason for attempt in world.ada.get(first.id or "").info.attempts]
    assert ends == ["SIGNALLED", None]
    assert len(world.ada.get(second.id or "").info.attempts) == 1
    assert world.ada.scale(service.id, 3).tasks is not None
    until_ready(world, service, 3, 3)
    world.ada.scale(service.id, 1)
    until_ready(world, service, 1, 1)
    service.cancel()
    assert world.end(service).state == "CANCELLED"
    for info in replicas(world, service):
        assert info.state == "CANCELLED"
        assert bearing(f"SOV_JOB_ID={info.id}") == []
