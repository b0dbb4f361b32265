"""Jobs that share a GPU run on it at the same time, beside others that have theirs whole."""

from __future__ import annotations

from sovctl import Job, Resources
from tests.e2e.local import LIFE, LONDON, World

TELL = 'echo "gpu $CUDA_VISIBLE_DEVICES of $SOV_GPU_MILLI"\n'


def placed(world: World, job: Job) -> tuple[str, str]:
    """Where a job runs, and the line with which it told its GPU."""
    world.until_said(job, "start")
    attempt = job.refresh().attempt
    assert attempt is not None
    (line,) = [line for line in world.log(job).decode().splitlines() if line.startswith("gpu ")]
    return attempt.nodes[0], line


def test_shares_of_one_gpu_run_at_once_beside_whole_gpus(world: World) -> None:
    shares = [
        world.run(TELL + LIFE, site=LONDON, resources=Resources(gpu_share=milli))
        for milli in (600, 400)
    ]
    (node, first), (beside, second) = [placed(world, job) for job in shares]
    assert node == beside
    assert first.rpartition(" ")[2] == "600"
    assert second == first.replace("600", "400")
    # Every other GPU of the site is to be had whole meanwhile.
    whole = [world.run(TELL + LIFE, site=LONDON, gpus=gpus) for gpus in (4, 3)]
    (away, four), (with_them, three) = [placed(world, job) for job in whole]
    assert (away != node, with_them) == (True, node)
    assert four == "gpu 0,1,2,3 of 1000"
    assert first.split()[1] not in three.split()[1].split(",")
    waiting = world.run("true", site=LONDON, resources=Resources(gpu_share=1))
    assert waiting.refresh().state == "QUEUED"
    world.tell(shares[0], "go")
    assert world.end(waiting).state == "SUCCEEDED"
    for job in (*shares[1:], *whole):
        world.tell(job, "go")
        assert world.end(job).state == "SUCCEEDED"
