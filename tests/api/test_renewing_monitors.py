"""A program that is none of ours keeps its identity with `sov-agent renew`, run now and then."""

import asyncio
from pathlib import Path

import grpc
import pytest

from agent import __main__ as agent
from scheduler.api import state as state_module
from scheduler.api.ca import AGENT_LIFE_MS, AltNames
from scheduler.runtime import clock
from sovapi.v1 import identity_pb2, identity_pb2_grpc
from sovshared import pki, spiffe
from tests.api.control_plane import ControlPlane
from tests.api.world import OLGA, WAIT_S
from tests.shared import https

NAME = spiffe.parse_path("/monitor/renewing")
HOUR_MS = 3_600_000


def keep(control_plane: ControlPlane, directory: Path, age_ms: int) -> str:
    """An identity that was issued so long ago; its serial number."""
    then_ms = clock.now_ms() - age_ms
    state_module.issue_identity(control_plane.ca, NAME, directory, AltNames(), then_ms)
    return pki.load(directory).facts().serial


async def renew(control_plane: ControlPlane, directory: Path, *more: str) -> int:
    """Runs the command; its exit code."""
    words = ["renew", "--endpoint", control_plane.endpoint, "--credentials", str(directory), *more]
    return await asyncio.to_thread(agent.main, words)


async def test_it_renews_what_is_due_and_a_monitor_reads_with_it(
    control_plane: ControlPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = keep(control_plane, tmp_path / "own", 25 * HOUR_MS)
    assert await renew(control_plane, tmp_path / "own") == 0
    renewed = pki.load(tmp_path / "own")
    assert renewed.facts().serial != before
    assert renewed.facts().spiffe_id == NAME.uri(spiffe.DEFAULT_TRUST_DOMAIN)
    assert "renewed for" in capsys.readouterr().out
    assert (await https.get(control_plane.metrics_port, "/metrics", renewed)).status == 200


async def test_what_is_not_due_is_left_alone_unless_it_is_wanted_now(
    control_plane: ControlPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = keep(control_plane, tmp_path / "own", HOUR_MS)
    assert await renew(control_plane, tmp_path / "own") == 0
    assert pki.load(tmp_path / "own").facts().serial == before
    assert "is due for renewal in" in capsys.readouterr().out
    assert await renew(control_plane, tmp_path / "own", "--now") == 0
    assert pki.load(tmp_path / "own").facts().serial != before


async def test_what_has_run_out_needs_a_token_and_is_kept_as_it_is(
    control_plane: ControlPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = keep(control_plane, tmp_path / "own", AGENT_LIFE_MS + HOUR_MS)
    assert await renew(control_plane, tmp_path / "own") == 2
    assert "sovctl token create /monitor/renewing" in capsys.readouterr().err
    assert pki.load(tmp_path / "own").facts().serial == before


async def test_who_was_revoked_is_not_renewed(
    control_plane: ControlPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = keep(control_plane, tmp_path / "own", 25 * HOUR_MS)
    async with control_plane.channel_as(OLGA) as olga:
        request = identity_pb2.RevokeRequest(name=NAME.path, reason="left")
        stub = identity_pb2_grpc.IdentityServiceStub(olga)
        await stub.Revoke(request, timeout=WAIT_S)
    assert await renew(control_plane, tmp_path / "own") == 1
    assert grpc.StatusCode.UNAUTHENTICATED.name in capsys.readouterr().err
    assert pki.load(tmp_path / "own").facts().serial == before
