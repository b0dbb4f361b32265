"""A site that does not run a job learns nothing of it, and the one that does learns no name."""

from __future__ import annotations

from pathlib import Path

import pytest

from sovctl import NotFoundError, verify
from sovctl.client import Job
from tests.e2e.local import GB, HERE, LONDON, NARVIK, SLOUGH, World
from tests.e2e.monitoring import Monitor

NAME, ARGUMENT, VALUE, OUTPUT, FILE = (
    "canary-name",
    "canary-argument",
    "canary-value",
    "canary-output",
    "canary-in-the-bundle",
)


@pytest.fixture(scope="module")
def job(shared_world: World, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job at one site, with something of ours in all that it has."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "file.txt").write_text(FILE)
    world = shared_world
    job = world.run(
        f"cat file.txt; echo {OUTPUT} $CANARY; : {ARGUMENT}",
        name=NAME,
        nodes=2,
        env={"CANARY": VALUE},
        working_dir=str(folder),
    )
    info = world.end(job)
    assert info.state == "SUCCEEDED"
    assert world.log(job) == f"{FILE}{OUTPUT} {VALUE}\n".encode()
    return job


def files_with(folder: Path, canary: str) -> list[str]:
    """Regular files below a folder that hold it, in content or name."""
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        plain = path.is_file() and not path.is_symlink()
        if canary in path.name or (plain and canary.encode() in path.read_bytes()):
            found.append(str(path))
    return found


@pytest.mark.parametrize("site", [SLOUGH, NARVIK])
def test_other_sites_hold_nothing_of_it(world: World, job: Job, site: str) -> None:
    root = world.site(site).root
    assert files_with(root, site), "a site whose files cannot be read proves nothing"
    for canary in (NAME, ARGUMENT, VALUE, OUTPUT, FILE, job.id, "radiology"):
        assert files_with(root, canary) == [], canary


@pytest.mark.parametrize("site", [SLOUGH, NARVIK])
def test_what_other_sites_agents_log_says_nothing_of_it(world: World, job: Job, site: str) -> None:
    for canary in (NAME, ARGUMENT, VALUE, OUTPUT, FILE, job.id):
        held = files_with(world.cluster.layout.daemons_dir, canary)
        assert [name for name in held if site in name] == [], canary


def test_its_own_site_holds_the_work_and_no_name(world: World, job: Job) -> None:
    """But for the data itself, which tenants put there under names that they chose, and what is in
    images, which are anybody's."""
    site = world.site(LONDON)
    brought = {site.data_dir, *site.root.glob("*/spool/image"), site.images_dir}
    assert files_with(site.root, OUTPUT)
    assert files_with(site.root, job.id)
    for canary in (NAME, "trust-a", "radiology", "/user/ada"):
        held = {Path(path) for path in files_with(site.root, canary)}
        assert {path for path in held if brought.isdisjoint(path.parents)} == set(), canary


def test_nobody_logs_commands_environment_or_output(world: World, job: Job) -> None:
    assert job.id
    for canary in (ARGUMENT, VALUE, OUTPUT, FILE):
        assert files_with(world.cluster.layout.daemons_dir, canary) == [], canary


@pytest.mark.parametrize("site", [SLOUGH, NARVIK])
def test_other_sites_metrics_say_nothing_of_it(
    world: World, job: Job, monitor: Monitor, site: str
) -> None:
    layout = world.site(site)
    nodes = [layout.metrics.replace(".254:", f".{n + 1}:") for n in range(len(layout.slots))]
    addresses = [layout.metrics, *nodes]
    for address in addresses:
        page = monitor.page(address)
        assert "sov_" in page, "a page that says nothing proves nothing"
        for canary in (NAME, ARGUMENT, VALUE, OUTPUT, FILE, job.id, "radiology"):
            assert canary not in page, (address, canary)


def test_another_tenant_sees_nothing_of_it(world: World, job: Job) -> None:
    """All that it may list, as text: jobs, leaves, certificates, quota; and no name finds it."""
    grace = world.grace
    assert world.end(world.run("true", who=grace, residency=HERE[GB])).state == "SUCCEEDED"
    view = [
        *(str(each) for each in grace.list()),
        *(str(each) for each in grace.audit_leaves()),
        *(str(each) for each in grace.certificates()),
        *(str(each) for each in grace.quota()),
    ]
    assert view, "a view that is empty proves nothing"
    for canary in (NAME, ARGUMENT, VALUE, OUTPUT, FILE, job.id, "radiology"):
        assert [line for line in view if canary in line] == [], canary
    for name in (job.id, NAME):
        with pytest.raises(NotFoundError):
            grace.get(name)
        with pytest.raises(NotFoundError):
            grace.certificate(name)


def test_the_log_and_the_certificate_hold_nothing_of_what_it_does(world: World, job: Job) -> None:
    trust = verify.parse_trust(world.ada.trust())
    found = verify.verify(world.ada.certificate(job.id), trust)
    assert found.predicate["verdict"] == "IN_BOUNDS"
    leaves = [leaf.canonical_json.decode() for leaf in world.ada.audit_leaves(job=job.id)]
    assert len(leaves) >= 3
    for canary in (NAME, ARGUMENT, VALUE, OUTPUT, FILE):
        assert [text for text in (found.payload.decode(), *leaves) if canary in text] == []
