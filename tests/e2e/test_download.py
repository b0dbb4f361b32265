"""Downloads from end to end: what a job left comes to its tenant, whole, and to nobody else."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local.cluster import OPERATOR
from sovapi.v1 import access_pb2, common_pb2
from sovctl import Client, NotFoundError, RefusedError, SovError
from sovctl.async_client import join
from sovctl.client import Job
from sovctl.downloads import Downloaded
from sovctl.link import load_trust
from sovshared import pki
from tests.agent.node.rig import needs_root, wait_until
from tests.e2e.local import LIFE, LONDON, World, kill

MODEL = "trust-a/download-model"
LARGE_BYTES = 96 * 1024 * 1024
LEAVE = f"""
mkdir -p out/sub "$SOV_CHECKPOINT_DIR/step-2"
printf small > out/one.txt; printf deep > out/sub/two.txt
head -c {LARGE_BYTES} /dev/zero | tr '\\0' x > out/large.bin
printf weights > "$SOV_CHECKPOINT_DIR/step-2/weights"
ln -s /etc/shadow "$SOV_CHECKPOINT_DIR/step-2/shadow"
"""

pytestmark = needs_root


@dataclass(frozen=True, slots=True)
class Story:
    """A job that left outputs and checkpoints."""

    job: Job


@pytest.fixture(scope="module")
def story(shared_world: World) -> Story:
    job = shared_world.run(LEAVE, outputs=[{"dataset": MODEL, "from": "out/"}])
    assert shared_world.end(job).state == "SUCCEEDED", shared_world.log(job)
    return Story(job)


def test_all_that_a_job_left_arrives_whole(world: World, story: Story, tmp_path: Path) -> None:
    done = world.ada.download(story.job.id, tmp_path)
    root = tmp_path / "outputs" / MODEL
    assert (root / "one.txt").read_text() == "small"
    assert (root / "sub" / "two.txt").read_text() == "deep"
    assert (root / "large.bin").stat().st_size == LARGE_BYTES
    assert (tmp_path / "checkpoints" / "step-2" / "weights").read_text() == "weights"
    assert (len(done.fetched), done.kept, done.verified) == (4, (), (MODEL,))
    assert done.left_out == 1, "a link is not followed, and is told of"
    assert not (tmp_path / "checkpoints" / "step-2" / "shadow").exists()
    assert [path for path in tmp_path.rglob(".*") if path.is_file()] == []
    again = world.ada.download(story.job.id, tmp_path)
    assert (again.fetched, len(again.kept)) == ((), 4)


def test_what_breaks_off_in_the_middle_is_gone_on_with(
    world: World, story: Story, tmp_path: Path
) -> None:
    done: list[Downloaded | SovError] = []

    def fetch() -> None:
        try:
            done.append(world.ada.download(story.job.id, tmp_path, f"outputs/{MODEL}/large.bin"))
        except SovError as error:
            done.append(error)

    def parts() -> list[Path]:
        return list(tmp_path.rglob(".*.part"))

    fetching = threading.Thread(target=fetch)
    fetching.start()
    wait_until(lambda: any(part.stat().st_size for part in parts()), "the first bytes")
    kill(world.pid(f"site-{LONDON}"))
    assert not done, "it was to break off, and did not"
    had_bytes = parts()[0].stat().st_size
    world.cluster.start_site_agent(world.site(LONDON))
    fetching.join(timeout=90)
    (answer,) = done
    assert isinstance(answer, Downloaded), answer
    assert 0 < had_bytes < LARGE_BYTES
    large = tmp_path / "outputs" / MODEL / "large.bin"
    assert large.stat().st_size == LARGE_BYTES
    assert parts() == []


def test_the_command_line_lists_and_fetches(world: World, story: Story, tmp_path: Path) -> None:
    listed = world.sovctl("trust-a", "-o", "json", "download", story.job.id, "--list")
    assert listed.returncode == 0, listed.stderr
    assert [each["path"] for each in json.loads(listed.stdout)] == [
        "checkpoints/step-2/weights",
        f"outputs/{MODEL}/large.bin",
        f"outputs/{MODEL}/one.txt",
        f"outputs/{MODEL}/sub/two.txt",
    ]
    words = ("download", story.job.id, f"outputs/{MODEL}/sub", "--to", str(tmp_path))
    fetched = world.sovctl("trust-a", *words)
    assert fetched.returncode == 0, fetched.stderr
    assert "1 files (4 bytes)" in fetched.stdout
    assert (tmp_path / "outputs" / MODEL / "sub" / "two.txt").read_text() == "deep"


def test_another_tenant_and_an_operator_without_a_grant_get_nothing(
    world: World, story: Story, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError):
        world.grace.download(story.job.id, tmp_path)
    with pytest.raises(SovError) as refused:
        world.operator.download(story.job.id, tmp_path)
    assert refused.value.reason == "ACCESS_NOT_GRANTED"
    assert list(tmp_path.iterdir()) == []


def test_an_operator_with_a_grant_for_it_is_let_in_and_the_tenant_sees_it(
    world: World, story: Story, tmp_path: Path
) -> None:
    otto, olga = (operator(world, name, tmp_path / name) for name in ("otto", "olga"))
    asked = access_pb2.RequestAccessRequest(
        tenant="trust-a",
        job_id=story.job.id,
        actions=[access_pb2.ACCESS_ACTION_LOGS],
        reason=access_pb2.ACCESS_REASON_SUPPORT,
        detail="ticket 4711",
    )
    olga.approve_access(otto.request_access(asked).id)
    with pytest.raises(SovError) as refused:
        otto.left_files(story.job.id)
    assert refused.value.reason == "ACCESS_NOT_GRANTED", "leave to read logs is no leave for this"
    del asked.actions[:]
    asked.actions.append(access_pb2.ACCESS_ACTION_DOWNLOAD)
    olga.approve_access(otto.request_access(asked).id)
    left = otto.left_files(story.job.id)
    assert len(left.files) == 4
    assert _leaves(world, story.job.id)[-1]["by"] == "/operator/otto"
    for client in (otto, olga):
        client.close()


def operator(world: World, name: str, kept: Path) -> Client:
    """Another operator, whom the demo's vouches for."""
    context = world.cluster.context(OPERATOR)
    path = f"/operator/{name}"
    made = world.operator.create_join_token(path, country="GB", clearance=common_pb2.CLEARANCE_SC)
    trust = load_trust(str(Path(context.credentials) / pki.TRUST_FILE))
    joined = asyncio.run(join(context, trust, path, made.token))
    kept.mkdir()
    pki.save(kept, joined.identity)
    return Client(context.model_copy(update={"credentials": str(kept)}))


def test_each_use_is_a_leaf_of_the_tenants_log(world: World, story: Story) -> None:
    before = len(_leaves(world, story.job.id))
    world.ada.left_files(story.job.id)
    leaves = _leaves(world, story.job.id)
    assert len(leaves) == before + 1
    assert (leaves[-1]["listing"], leaves[-1]["site"]) == (True, LONDON)
    assert str(leaves[-1]["by"]).startswith("/tenant/trust-a/")


def _leaves(world: World, job: str) -> list[dict[str, object]]:
    bodies = [json.loads(leaf.canonical_json) for leaf in world.ada.audit_leaves(job=job)]
    return [body for body in bodies if body["kind"] == "downloaded"]


def test_a_job_that_runs_and_one_that_left_nothing_are_refused_and_say_why(
    world: World, tmp_path: Path
) -> None:
    job = world.run(LIFE)
    world.until_said(job, "start")
    with pytest.raises(RefusedError, match="what it leaves is fetched when it is over"):
        world.ada.download(job.id, tmp_path)
    world.tell(job, "go")
    assert world.end(job).state == "SUCCEEDED"
    with pytest.raises(SovError, match="outputs") as absent:
        world.ada.download(job.id, tmp_path, "outputs/trust-a/absent")
    assert absent.value.reason == "NOT_FOUND"
    with pytest.raises(SovError) as invalid:
        world.ada.download(job.id, tmp_path, "checkpoints/../../x")
    assert invalid.value.reason == "INVALID_ARGUMENT"
