"""Jobs of kind `ray`: a Ray cluster of their own inside their gang, and nothing left of it."""

from __future__ import annotations

import re
import sysconfig
import textwrap
from pathlib import Path

from deploy.local.runtime import ensure_runtime
from tests.e2e.local import World, bearing, spec

DRIVER = textwrap.dedent(
    """
    import os, ray, time
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    ray.init(address=os.environ["RAY_ADDRESS"])
    until = time.monotonic() + 120
    while len(alive := [n["NodeID"] for n in ray.nodes() if n["Alive"]]) < 2:
        assert time.monotonic() < until, "the other node never joined"
        time.sleep(0.2)

    @ray.remote(num_cpus=0)
    def where():
        return ray.get_runtime_context().get_node_id(), os.environ["SOV_JOB_ID"]

    asked = [where.options(scheduling_strategy=On(node, soft=False)).remote() for node in alive]
    for node, job in ray.get(asked):
        print("ran", node, job, flush=True)
    """
)


def bring_ray(folder: Path) -> dict[str, str]:
    """Puts the program `ray` into a working directory; the environment in which it runs there: our
    own Ray, under the Python that jobs' users may enter."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "ray"
    program.write_text('#!/bin/sh\nexec python3 -m ray.scripts.scripts "$@"\n')
    program.chmod(0o755)
    return {
        "PATH": f"bin:{ensure_runtime()}/bin:/usr/bin:/bin",
        "PYTHONPATH": sysconfig.get_path("purelib"),
    }


def test_a_driver_runs_a_task_on_each_node_of_its_own_cluster(world: World, tmp_path: Path) -> None:
    made = spec("", nodes=2).model_copy(
        update={
            "kind": "ray",
            "command": ("python3", "-c", DRIVER),
            "env": bring_ray(tmp_path),
            "working_dir": str(tmp_path),
        }
    )
    job = world.ada.submit(made)
    info = world.end(job)
    said = world.log(job).decode(errors="replace")
    assert info.state == "SUCCEEDED", said
    ran = re.findall(r"^ran (\w+) (\S+)$", said, re.M)
    assert len({node for node, _ in ran}) == 2
    assert {told for _, told in ran} == {job.id}
    assert bearing(f"SOV_JOB_ID={job.id}") == []


def test_without_ray_it_fails_and_says_what_is_missing(world: World) -> None:
    made = spec("true").model_copy(update={"kind": "ray", "env": {"PATH": "/usr/bin:/bin"}})
    job = world.ada.submit(made)
    info = world.end(job)
    assert (info.state, info.exit_code) == ("FAILED", 127)
    assert b"found no program `ray` in PATH" in world.log(job)
