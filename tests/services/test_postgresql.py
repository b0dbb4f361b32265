"""The whole control plane on a real PostgreSQL, and a second one that takes over from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sovapi.v1 import jobs_pb2
from tests.api import control_plane
from tests.api.control_plane import STOP_S_MAX, ControlPlane
from tests.api.world import ADA, OLGA, WAIT_S, declare, spec, stub, submit
from tests.store.postgres import Cluster, programs

NOBODY_THERE = "postgresql+psycopg://sov@/postgres?host=/nowhere"


@pytest.fixture
def url() -> Iterator[str]:
    """Where an empty database of a real server is."""
    found = programs()
    if found is None:
        pytest.skip("needs initdb: apt-get install postgresql")
    server = Cluster(found)
    yield server.url()
    server.close()


def end(plane: ControlPlane) -> None:
    """Whatever the test came to, nothing of it goes on."""
    if plane.process.poll() is None:
        plane.process.kill()
        plane.process.wait()


async def submitted(plane: ControlPlane, name: str) -> str:
    async with plane.channel_as(ADA) as ada:
        return (await submit(ada, spec(name), idempotency_key=name)).id


async def test_who_comes_later_leads_and_the_deposed_one_is_refused_and_ends(
    url: str, tmp_path: Path
) -> None:
    control_plane.found(tmp_path)
    first = control_plane.start(tmp_path, store_url=url)
    try:
        async with first.channel_as(OLGA) as olga:
            await declare(olga)
        job = await submitted(first, "before")
        second = control_plane.start(tmp_path, store_url=url)
        try:
            # Its next transaction, a tick if nothing else, finds the newer epoch.
            assert first.process.wait(STOP_S_MAX) == 1, "".join(first.log)
            assert any("another scheduler has taken over" in line for line in first.log)
            assert not (tmp_path / "state" / "store.db").exists()
            assert await submitted(second, "before") == job, "the key is remembered"
            assert await submitted(second, "after") != job
            async with second.channel_as(ADA) as ada:
                listed = await stub(ada).List(jobs_pb2.ListJobsRequest(), timeout=WAIT_S)
            assert [each.name for each in listed.jobs] == ["after", "before"]
            assert second.stop() == 0, "".join(second.log)
            assert not second.errors(), "".join(second.errors())
        finally:
            end(second)
    finally:
        end(first)


def test_a_database_that_is_not_there_is_a_fault_and_no_traceback(tmp_path: Path) -> None:
    control_plane.found(tmp_path)
    with pytest.raises(AssertionError) as caught:
        control_plane.start(tmp_path, store_url=NOBODY_THERE)
    assert "sov-scheduler: store_url:" in str(caught.value)
    assert "Traceback" not in str(caught.value)
