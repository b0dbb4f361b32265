"""Checkpoints on the running system: a node goes, and the job goes on elsewhere with what it had,
which left the node sealed."""

from __future__ import annotations

import json
import os
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.cluster import TRUST_A
from sovctl import Client
from sovshared import key_service
from tests.agent.node.rig import needs_root, wait_until
from tests.e2e.local import NARVIK, World, spec

SECRET = "trust-a/radiology/e2e-checkpoint"
WEIGHTS = "bassoon-in-a-checkpoint"
LEARN = f"""
if [ -e "$SOV_CHECKPOINT_DIR/step-1" ]; then
    test "$(cat "$SOV_CHECKPOINT_DIR/step-1")" = {WEIGHTS[:7]}"{WEIGHTS[7:]}" && echo went on
else
    printf {WEIGHTS[:7]}"{WEIGHTS[7:]}" > "$SOV_CHECKPOINT_DIR/.step-1"
    mv "$SOV_CHECKPOINT_DIR/.step-1" "$SOV_CHECKPOINT_DIR/step-1"
    while :; do sleep 0.2; done
fi
"""
FIRST, SECOND = f"{NARVIK}/n01", f"{NARVIK}/n02"

pytestmark = needs_root


@pytest.fixture
def lost(world: World) -> Iterator[int]:
    """The raylet of a node that is to be lost; the other takes nothing before. Both are there again
    afterwards."""
    cell = world.cluster.cell(world.site(NARVIK))
    world.cluster.wait_ready()
    world.operator.cordon(FIRST, reason="the job is to begin on the other")
    yield cell.pid("n02", "raylet")
    world.operator.uncordon(FIRST, reason="the other has begun")
    if not [one for one in cell.processes() if (one.slot, one.program) == ("n02", "raylet")]:
        cell.start_node("n02")
    world.cluster.wait_ready()


def test_a_job_goes_on_on_another_node_with_its_sealed_checkpoint(
    world: World, lost: int, tmp_path: Path
) -> None:
    keys = world.cluster.keys_of(TRUST_A)
    place = f"{key_service.SCHEME}{keys}"
    context = world.cluster.context(TRUST_A).model_copy(update={"key_service": place})
    store = world.site(NARVIK).checkpoints_dir
    with Client(context) as ada:
        ada.set_secret(SECRET, b"oboe")
        asked = spec(LEARN, site=NARVIK, grace_s=1, secrets={"TOKEN": SECRET})
        job = ada.submit(asked)
        world.until_state(job, "RUNNING")
        assert job.info.attempts[0].nodes == (SECOND,)
        wait_until(lambda: any((store / job.id).rglob("*.sealed")), "the checkpoint in the store")
        world.operator.uncordon(FIRST, reason="the other has begun")
        os.kill(lost, signal.SIGKILL)
        ended = world.end(job)
        assert ended.state == "SUCCEEDED", (ended, world.log(job))
        assert ended.attempts[-1].nodes == (FIRST,)
        assert world.log(job) == b"went on\n"
        ada.remove_secret(SECRET)
        (kept,) = (store / job.id).rglob("*.sealed")
        assert WEIGHTS.encode() not in kept.read_bytes()
        receipts = (keys / key_service.RECEIPTS_FILE).read_text().splitlines()
        told = [json.loads(line) for line in receipts]
        opened = [(r["purpose"], r["slot"]) for r in told if r["job"] == job.id]
        assert [slot for purpose, slot in opened if purpose == "checkpoint"] == ["n02", "n01"]
        done = ada.download(job.id, tmp_path, "checkpoints")
        (file,) = done.fetched
        assert file.path.endswith(".sealed")
        assert WEIGHTS.encode() not in (tmp_path / file.path).read_bytes()
        (opened,) = done.opened
        with tarfile.open(opened) as archive:
            inside = archive.extractfile("step-1")
            assert inside is not None
            assert inside.read() == WEIGHTS.encode()


def test_what_a_job_writes_in_its_grace_is_there_when_it_starts_again(world: World) -> None:
    text = """
    cd "$SOV_CHECKPOINT_DIR"
    if [ -e s ]; then cat s; exit 0; fi
    trap 'printf late > .s; mv .s s; exit 1' TERM
    echo ready
    while :; do sleep 0.1; done
    """
    world.cluster.wait_ready()
    job = world.run(text, site=NARVIK, grace_s=30)
    world.until_state(job, "RUNNING")
    wait_until(lambda: b"ready" in world.log(job), "its trap")
    (node,) = job.info.attempts[0].nodes
    world.operator.drain(node, reason="to see what it leaves", deadline_ms=1)
    try:
        ended = world.end(job)
    finally:
        world.operator.uncordon(node, reason="seen")
    assert ended.state == "SUCCEEDED", (ended, world.log(job))
    assert ended.attempts[-1].nodes != (node,)
    assert world.log(job) == b"late"
