"""Datasets from end to end: work runs where its data lies, reads it, and leaves labelled data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from sovapi.v1 import common_pb2, datasets_pb2
from sovctl import NotFoundError, RefusedError, Residency, verify
from sovctl.client import Job
from tests.agent.node.rig import needs_root
from tests.e2e.local import LONDON, NARVIK, SLOUGH, World
from tests.e2e.test_metadata import files_with

SCANS, MODELS = "trust-a/canary-scans", "trust-a/canary-models"
MOUNT = "/canary-mount/scans"
LAX = Residency(jurisdictions=("GB", "NO"), tolerate_foreign_compulsion=("GB", "US"), data_kinds=())
"""Work of its own could go to any of the three sites."""

pytestmark = needs_root


def declared(**more: object) -> datasets_pb2.Dataset:
    label = datasets_pb2.DatasetLabel(
        jurisdictions=["GB"],
        tier=common_pb2.TIER_OFFICIAL,
        data_kinds=["health"],
        tolerate_foreign_compulsion=["US"],
    )
    return datasets_pb2.Dataset(
        name=SCANS,
        sites=[SLOUGH],
        label=label,
        transfer_basis="collected and kept there",
        version="v1",
        **more,  # type: ignore[arg-type]
    )


@dataclass(frozen=True, slots=True)
class Story:
    """A dataset, the job that read it, and what came of it."""

    job: Job
    left: datasets_pb2.Dataset


@pytest.fixture(scope="module")
def story(shared_world: World) -> Story:
    """A lax job that reads a dataset at one site, and writes another."""
    world = shared_world
    place(world, "v1", "forty-two\n")
    world.ada.apply_datasets([declared()])
    job = world.run(
        f"cat {MOUNT}/one.txt && ! touch {MOUNT}/two.txt && mkdir out && cp {MOUNT}/* out",
        inputs=[{"dataset": SCANS, "mount": MOUNT}],
        outputs=[{"dataset": MODELS, "from": "out/"}],
        residency=LAX,
    )
    assert world.end(job).state == "SUCCEEDED", world.log(job)
    return Story(job, world.ada.dataset(MODELS))


def place(world: World, version: str, text: str) -> None:
    """What whoever runs the site's store puts there."""
    folder = world.site(SLOUGH).data_dir / "trust-a" / "@canary-scans" / version
    folder.mkdir(mode=0o755, parents=True)
    (folder / "one.txt").write_text(text)
    for path in (folder, folder.parent, folder.parent.parent):
        path.chmod(0o755)
    (folder / "one.txt").chmod(0o644)


def test_a_lax_job_runs_where_its_data_lies_and_reads_it(world: World, story: Story) -> None:
    info = story.job.info
    assert info.attempt is not None
    assert info.attempt.site == SLOUGH
    assert world.log(story.job).startswith(b"forty-two\n")


def test_what_it_left_is_in_the_catalogue_with_the_label_of_what_it_read(
    world: World, story: Story
) -> None:
    left = story.left
    assert (list(left.sites), left.job, list(left.inputs)) == (
        [SLOUGH],
        story.job.id,
        [f"{SCANS}@v1"],
    )
    assert list(left.label.jurisdictions) == ["GB"]
    assert list(left.label.data_kinds) == ["health"]
    assert list(left.label.tolerate_foreign_compulsion) == ["US"]
    assert (left.digest, left.size_bytes) == (f"sha256:{left.version}", len("forty-two\n"))
    with pytest.raises(NotFoundError):
        world.grace.dataset(MODELS)


def test_another_job_reads_what_was_left_and_may_not_go_abroad_with_it(
    world: World, story: Story
) -> None:
    reads = [{"dataset": story.left.name, "mount": "/canary-mount/model"}]
    job = world.run("cat /canary-mount/model/one.txt", inputs=reads, residency=LAX)
    assert world.end(job).state == "SUCCEEDED"
    assert world.log(job) == b"forty-two\n"
    abroad = Residency(jurisdictions=("NO",), tolerate_foreign_compulsion=("GB",))
    with pytest.raises(RefusedError) as refused:
        world.run("true", inputs=reads, residency=abroad)
    assert refused.value.reason == "DATA_ZONE"


def test_the_certificate_says_what_was_read_and_left(world: World, story: Story) -> None:
    trust = verify.parse_trust(world.ada.trust())
    assert story.job.id
    found = verify.verify(world.ada.certificate(story.job.id), trust).predicate
    assert found["verdict"] == "IN_BOUNDS"
    assert found["requirement"]["data_kinds"] == ["health"]
    assert found["requirement"]["data_sites"] == [SLOUGH]
    assert found["data"]["inputs"] == [{"dataset": SCANS, "version": "v1", "digest": ""}]
    (left,) = found["data"]["outputs"]
    assert (left["dataset"], left["digest"]) == (MODELS, story.left.digest)


@pytest.mark.parametrize("site", [LONDON, NARVIK])
def test_other_sites_hear_neither_of_the_data_nor_of_where_it_is_seen(
    world: World, story: Story, site: str
) -> None:
    assert story.left
    root = world.site(site).root
    assert files_with(root, site), "a site whose files cannot be read proves nothing"
    logs = [name for name in files_with(world.cluster.layout.daemons_dir, site) if site in name]
    assert logs
    for canary in ("canary-scans", "canary-models", "canary-mount", "forty-two"):
        assert files_with(root, canary) == [], canary
        assert [n for n in logs if canary.encode() in Path(n).read_bytes()] == [], canary


def test_data_that_is_not_in_the_store_starts_nothing_and_says_so(
    world: World, story: Story
) -> None:
    assert story.job
    missing = declared()
    missing.name, missing.version = "trust-a/canary-absent", "v9"
    world.ada.apply_datasets([missing])
    job = world.run(
        "echo ran",
        inputs=[{"dataset": missing.name, "mount": "/canary-mount/x"}],
        residency=LAX,
        retries={"hardware": 0},
    )
    info = world.end(job)
    assert (info.state, info.reason) == ("FAILED", "DATA_MISSING")
    assert "version v9 is not in this site's store" in info.message
