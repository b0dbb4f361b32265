"""Customer-held keys on the running system: a secret and a sealed directory reach the job alone;
with the key withheld nothing starts, and the job says why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.cluster import TRUST_A
from sovctl import Client
from sovshared import key_service
from tests.e2e.local import LONDON, World, spec

SECRET = "trust-a/radiology/e2e-canary"
VALUE = "xylophone-in-a-secret"
INSIDE = "marimba-in-a-bundle"
SHOW = (
    f'test "$TOKEN" = {VALUE[:9]}"{VALUE[9:]}" && test "$(cat inside)" = {INSIDE[:7]}"{INSIDE[7:]}"'
)


@pytest.fixture
def keys(world: World) -> Path:
    """The tenant's key service."""
    return world.cluster.keys_of(TRUST_A)


@pytest.fixture
def ada(world: World, keys: Path) -> Iterator[Client]:
    """The tenant, with a key of its own."""
    place = f"{key_service.SCHEME}{keys}"
    context = world.cluster.context(TRUST_A).model_copy(update={"key_service": place})
    with Client(context) as client:
        client.set_secret(SECRET, VALUE.encode())
        yield client
        client.remove_secret(SECRET)


def in_the_open(root: Path, text: str) -> list[Path]:
    """Files below `root` that hold a text."""
    found: list[Path] = []
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            if text.encode() in content:
                found.append(path)
    return found


def test_a_job_has_its_secret_and_its_sealed_bundle_and_nobody_else_does(
    world: World, ada: Client, keys: Path, tmp_path: Path
) -> None:
    (tmp_path / "inside").write_text(INSIDE)
    asked = spec(SHOW, site=LONDON, working_dir=str(tmp_path), secrets={"TOKEN": SECRET})
    job = ada.submit(asked)
    ended = world.end(job)
    assert ended.state == "SUCCEEDED", ended
    receipts = (keys / key_service.RECEIPTS_FILE).read_text().splitlines()
    told = [json.loads(line) for line in receipts if json.loads(line)["job"] == job.id]
    assert [(line["purpose"], line["attempt"]) for line in told] == [
        ("secret", 1),
        ("bundle", 1),
        ("checkpoint", 1),
    ]
    with world.settled():
        root = world.cluster.layout.root
        assert in_the_open(root, VALUE) == []
        kept = in_the_open(root, INSIDE)
        # The rank's own directory goes when its end is committed; until then it has its files.
        assert [path for path in kept if "work" not in path.parts] == []
    assert SECRET in list(ada.secrets())


def test_with_the_key_withheld_nothing_starts_and_the_job_says_why(
    world: World, ada: Client, keys: Path
) -> None:
    (keys / key_service.WITHHELD_FILE).touch()
    try:
        job = ada.submit(spec("echo started", site=LONDON, secrets={"TOKEN": SECRET}))
        ended = world.end(job)
    finally:
        (keys / key_service.WITHHELD_FILE).unlink()
    assert (ended.state, ended.reason) == ("FAILED", "KEY_WITHHELD")
    assert "withholds the key" in ended.message
    assert len(ended.attempts) == 1
    assert b"started" not in world.log(job)
