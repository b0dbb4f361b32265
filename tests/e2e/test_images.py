"""Jobs in container images of the site's store, from end to end."""

from __future__ import annotations

import os

from sovctl import verify
from tests.agent.node.image_layout import Layout, shell_layer
from tests.agent.node.rig import needs_root
from tests.e2e.local import LONDON, NARVIK, SLOUGH, World

pytestmark = needs_root

TEXT = """
cat /etc/marker; echo "image sets $FROM_IMAGE"
ls /etc; cat /etc/hostname || echo no host name
ls "$NODES" || echo no node
echo left > "$SOV_CHECKPOINT_DIR/c1"
"""


def put(world: World, *sites: str) -> str:
    """An image as whoever runs these sites puts it into their stores; its digest."""
    layer = shell_layer(etc__marker="of the image\n")
    made = [
        Layout(world.site(site).images_dir).image(layer, env=["FROM_IMAGE=this"]) for site in sites
    ]
    return made[0]


def test_a_job_runs_in_its_image_and_its_certificate_names_it(world: World) -> None:
    digest = put(world, LONDON, SLOUGH, NARVIK)
    nodes = str(world.cluster.layout.daemons_dir)
    assert os.path.isdir(nodes)
    job = world.run(TEXT, image=f"registry.example/a/b@{digest}", env={"NODES": nodes})
    info = world.end(job)
    log = world.log(job).decode()
    assert (info.state, info.reason) == ("SUCCEEDED", None), log
    assert log.startswith("of the image\nimage sets this\n")
    assert "no host name\n" in log
    assert "no node\n" in log
    found = verify.verify(world.ada.certificate(job.id), verify.parse_trust(world.ada.trust()))
    subjects = {one["name"]: one["digest"]["sha256"] for one in found.statement["subject"]}
    assert subjects["image"] == digest.removeprefix("sha256:")


def test_an_image_that_is_not_at_the_site_starts_nothing_and_says_so(world: World) -> None:
    absent = "sha256:" + "0" * 64
    job = world.run("echo ran", image=absent, retries={"hardware": 0})
    info = world.end(job)
    assert (info.state, info.reason) == ("FAILED", "IMAGE_UNAVAILABLE")
    assert f"{absent} is not in this site's store of images" in info.message
    assert world.log(job) == b""


def test_an_image_that_was_altered_starts_nothing_and_says_so(world: World) -> None:
    digest = put(world, LONDON, SLOUGH, NARVIK)
    altered = "sha256:" + digest.removeprefix("sha256:")[::-1]
    for site in (LONDON, SLOUGH, NARVIK):
        layout = Layout(world.site(site).images_dir)
        layout.blob(altered).write_bytes(layout.blob(digest).read_bytes())
    job = world.run("echo ran", image=altered, retries={"hardware": 0})
    info = world.end(job)
    assert (info.state, info.reason) == ("FAILED", "IMAGE_UNAVAILABLE")
    assert f"what the store has is {digest}" in info.message
