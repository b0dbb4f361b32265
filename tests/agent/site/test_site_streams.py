"""What a session carries beside reports: logs up to tenants, bundles down to the site."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.site import events as ev
from agent.site.bundles import BundleCache, BundleFailed
from sovapi.v1 import sitelink_pb2 as pb
from sovapi.v1.jobs_pb2 import LogsRequest
from tests.agent.site.session_rig import BUNDLE, DIGEST, World
from tests.agent.waiting import until


def kept(directory: Path) -> list[bytes]:
    """What lies in a directory, whatever it is called."""
    return sorted(path.read_bytes() for path in directory.iterdir())


def open_logs(**request: Any) -> pb.OpenTunnel:
    return pb.OpenTunnel(
        tunnel_id="t1",
        kind=pb.TUNNEL_KIND_LOGS,
        job_id="job-a",
        attempt=1,
        logs=LogsRequest(**request),
    )


async def text_of(world: World, rank: int) -> bytes:
    await until(lambda: world.control.tunnels_ended)
    assert world.control.ups[0].tunnel_id == "t1"
    return b"".join(up.logs.chunk for up in world.control.ups if up.logs.rank == rank)


async def test_a_log_goes_through_a_tunnel_whole(world: World) -> None:
    await until(lambda: world.control.lines and world.got(ev.Connected))
    world.places = {0: "n01"}
    world.control.say(open_tunnel=open_logs(rank=0))
    assert await text_of(world, 0) == world.spools.logs["job-a.1.0"]


async def test_all_ranks_are_found_by_asking_when_the_attempt_is_forgotten(world: World) -> None:
    await until(lambda: world.control.lines and world.got(ev.Connected))
    world.control.say(open_tunnel=open_logs(all_ranks=True))
    assert await text_of(world, 0) == world.spools.logs["job-a.1.0"]
    assert await text_of(world, 1) == b"one\n"


async def test_a_log_since_a_time_begins_where_its_node_says_and_goes_on_from_there(
    world: World,
) -> None:
    await until(lambda: world.control.lines and world.got(ev.Connected))
    world.spools.over = False
    world.spools.young_at = 4
    world.control.say(open_tunnel=open_logs(rank=1, follow=True, since_ms=5))
    await until(lambda: world.control.ups)  # Nothing is that young yet.
    world.spools.young_at = 0  # The time is asked for once: what comes then is younger.
    world.spools.logs["job-a.1.1"] += b"more\n"
    world.spools.over = True
    assert await text_of(world, 1) == b"more\n"
    assert [up.logs.offset for up in world.control.ups if up.logs.chunk] == [4]


async def test_a_followed_log_ends_with_its_rank_and_not_before(world: World) -> None:
    await until(lambda: world.control.lines and world.got(ev.Connected))
    world.spools.over = False
    world.control.say(open_tunnel=open_logs(rank=1, follow=True, offset=1))
    await until(lambda: any(up.logs.chunk == b"ne\n" for up in world.control.ups))
    world.spools.logs["job-a.1.1"] += b"more\n"
    await until(lambda: any(up.logs.chunk == b"more\n" for up in world.control.ups))
    assert world.control.tunnels_ended == 0
    world.spools.over = True
    await until(lambda: world.control.tunnels_ended)


@pytest.mark.parametrize(
    ("opening", "reason"),
    [
        pytest.param(open_logs(rank=7), "NOT_FOUND", id="no such rank"),
        pytest.param(
            pb.OpenTunnel(tunnel_id="t1", exec={}), "FEATURE_NOT_AVAILABLE", id="not served"
        ),
        pytest.param(pb.OpenTunnel(tunnel_id="t1", download={}), "NOT_FOUND", id="nothing left"),
    ],
)
async def test_a_tunnel_that_cannot_be_served_is_refused_with_a_reason(
    world: World, opening: pb.OpenTunnel, reason: str
) -> None:
    await until(lambda: world.control.lines and world.got(ev.Connected))
    world.control.say(open_tunnel=opening)
    (refused,) = await until(lambda: world.control.said("tunnel_refused"))
    assert refused.tunnel_refused.tunnel_id == "t1"
    assert refused.tunnel_refused.reason == reason


async def test_a_bundle_is_fetched_once_and_kept(world: World, tmp_path: Path) -> None:
    await until(lambda: world.control.lines and world.got(ev.Connected))
    cache = BundleCache(tmp_path)
    path = await cache.get(DIGEST, lambda: world.talk().fetch_bundle(DIGEST, "job-a", 1))
    assert path.read_bytes() == BUNDLE
    world.control.bundle = b"not fetched again"
    assert await cache.get(DIGEST, lambda: world.talk().fetch_bundle(DIGEST, "job-a", 1)) == path
    assert kept(tmp_path) == [BUNDLE]


@pytest.mark.parametrize(
    ("digest", "content", "retryable"),
    [
        pytest.param(DIGEST, b"something else", True, id="what came has another digest"),
        pytest.param(f"sha256:{'0' * 64}", BUNDLE, False, id="the control plane has none such"),
        pytest.param("sha256:../../etc/passwd", BUNDLE, False, id="not a digest"),
    ],
)
async def test_a_bundle_that_is_not_what_it_should_be_leaves_nothing(
    world: World, tmp_path: Path, digest: str, content: bytes, retryable: bool
) -> None:
    await until(lambda: world.control.lines and world.got(ev.Connected))
    world.control.bundle = content
    with pytest.raises(BundleFailed) as caught:
        await BundleCache(tmp_path).get(
            digest, lambda: world.talk().fetch_bundle(digest, "job-a", 1)
        )
    assert caught.value.retryable is retryable
    assert kept(tmp_path) == []


async def test_a_bundle_larger_than_allowed_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.site.bundles.BUNDLE_BYTES_MAX", 100)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 60

    with pytest.raises(BundleFailed, match="more than 100 bytes"):
        await BundleCache(tmp_path).get(DIGEST, endless)
    assert kept(tmp_path) == []


async def test_the_least_recently_used_bundle_goes_first(tmp_path: Path) -> None:
    async def content(what: bytes) -> AsyncIterator[bytes]:
        yield what

    cache = BundleCache(tmp_path, bytes_max=25)
    for what in (b"a" * 10, b"b" * 10, b"c" * 10):
        digest = f"sha256:{hashlib.sha256(what).hexdigest()}"
        await cache.get(digest, lambda what=what: content(what))
    assert kept(tmp_path) == [b"b" * 10, b"c" * 10]
