"""One tenant learns nothing of another's work: not that it is, nor how much of it there is."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import pytest

from sovctl import Client, NotFoundError, SovError
from sovctl.client import Job
from tests.e2e.local import GB, LIFE, World

ABSENT = "job-aaaaaaaaaaaaa"


@pytest.fixture(scope="module")
def secret(shared_world: World) -> Job:
    """A job of the other tenant, over by now, with a log."""
    job = shared_world.run("echo the secret log", name="secret-name", env={"SECRET": "value"})
    assert shared_world.end(job).state == "SUCCEEDED"
    return job


ASKS: dict[str, Callable[[Client, str], object]] = {
    "get": lambda client, job: client.get(job),
    "cancel": lambda client, job: client.cancel(job),
    "explain": lambda client, job: client.explain(job),
    "logs": lambda client, job: list(client.logs(job)),
    "follow": lambda client, job: list(client.logs(job, follow=True)),
    "watch": lambda client, job: next(iter(client.watch([job]))),
}


@pytest.mark.parametrize("ask", ASKS)
def test_anothers_job_is_as_absent_as_one_that_never_was(
    world: World, secret: Job, ask: str
) -> None:
    answers: list[tuple[str, str]] = []
    for name in (secret.id, ABSENT):
        with pytest.raises(NotFoundError) as caught:
            ASKS[ask](world.grace, name)
        answers.append((caught.value.reason, str(caught.value).replace(name, "JOB")))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("words", [["get"], ["cancel"], ["explain"], ["logs"], ["watch"]], ids=str)
def test_the_command_line_says_not_found(world: World, secret: Job, words: list[str]) -> None:
    answer = world.sovctl("met-lab", *words, secret.id)
    assert answer.returncode == 4, answer
    assert "secret-name" not in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_name_of_another_tenants_job_finds_nothing(world: World) -> None:
    live = world.run(LIFE, name="secret-live")
    world.until_said(live, "start")
    with pytest.raises(NotFoundError):
        world.grace.get("secret-live")
    assert world.ada.get("secret-live").id == live.id
    world.tell(live, "go")
    world.end(live)


def test_lists_and_audit_show_only_ones_own(world: World, secret: Job) -> None:
    own = world.run("exit 0", who=world.grace, name="own", site=GB)
    own.wait(60)
    listed = {info.id for info in world.grace.list()}
    assert own.id in listed
    assert secret.id not in listed
    assert all(info.tenant == "met-lab/forecast" for info in world.grace.list())
    leaves = [str(leaf) for leaf in world.grace.audit_leaves()]
    assert not [leaf for leaf in leaves if secret.id in leaf or "trust-a" in leaf]
    with pytest.raises(NotFoundError):
        list(world.grace.audit_leaves(job=secret.id))


def test_quota_and_tenants_of_another_cannot_be_read(world: World) -> None:
    for tenant in ("trust-a", "trust-a/radiology", "no-such-tenant"):
        with pytest.raises(NotFoundError):
            world.grace.quota(tenant)
    assert {line.tenant for line in world.grace.quota()} == {"met-lab", "met-lab/forecast"}
    assert {tenant.path.split("/")[0] for tenant in world.grace.tenants()} == {"met-lab"}
    document = json.loads(world.sovctl("met-lab", "-o", "json", "quota").stdout)
    assert "trust-a" not in json.dumps(document)


def test_submitting_into_anothers_project_is_refused_as_if_it_were_not(world: World) -> None:
    answers: list[str] = []
    for project in ("trust-a/radiology", "trust-a/absent"):
        with pytest.raises(SovError) as caught:
            world.run("exit 0", who=world.grace, project=project)
        answers.append(str(caught.value).replace(project, "PROJECT"))
    assert answers[0] == answers[1]


def test_ids_tell_no_volumes(world: World) -> None:
    """Consecutive jobs are neither near each other nor in order."""
    jobs = [world.run("exit 0", gpus=0).id for _ in range(12)]
    numbers = [int.from_bytes(job.encode(), "big") for job in jobs]
    assert len({job[:7] for job in jobs}) > 10
    assert numbers != sorted(numbers)
    assert numbers != sorted(numbers, reverse=True)
    gaps = {b - a for a, b in itertools.pairwise(numbers)}
    assert len(gaps) == len(jobs) - 1
    for job in jobs:
        world.ada.get(job).wait(60)
