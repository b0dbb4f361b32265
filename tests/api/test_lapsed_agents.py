"""An outage of the control plane locks no fleet out: a lapsed agent renews by its old key."""

from pathlib import Path

import grpc
import pytest

from agent.site.authority import ControlAuthority
from scheduler.api import state as state_module
from scheduler.api.ca import AGENT_LIFE_MS, LAPSED_RENEWAL_MS, AltNames
from scheduler.runtime import clock
from sovapi.v1.identity_pb2 import WhoamiRequest
from sovapi.v1.identity_pb2_grpc import IdentityServiceStub
from sovshared import pki, renewal, spiffe
from tests.api.control_plane import ControlPlane

NAME = spiffe.site_agent("exch-lapsed")


def authority(control_plane: ControlPlane, directory: Path) -> ControlAuthority:
    return ControlAuthority(
        lambda: control_plane.channel(pki.load(directory)),
        lambda: control_plane.anonymous(control_plane.join_endpoint),
        own_path=NAME.path,
        lapsed=lambda: clock.now_ms() >= pki.load(directory).facts().not_after_ms,
    )


def keep(control_plane: ControlPlane, directory: Path, age_ms: int) -> None:
    """An identity that was issued so long ago."""
    then_ms = clock.now_ms() - age_ms
    state_module.issue_identity(control_plane.ca, NAME, directory, AltNames(), then_ms)


@pytest.mark.parametrize(
    "age_ms",
    [
        pytest.param(AGENT_LIFE_MS // 2, id="while it still counts"),
        pytest.param(AGENT_LIFE_MS + 60_000, id="a minute after it lapsed"),
    ],
)
async def test_a_site_agent_renews_its_certificate(
    control_plane: ControlPlane, tmp_path: Path, age_ms: int
) -> None:
    keep(control_plane, tmp_path / "own", age_ms)
    await renewal.renew_once(tmp_path / "own", authority(control_plane, tmp_path / "own").renew_own)
    async with control_plane.channel(pki.load(tmp_path / "own")) as channel:
        who = await IdentityServiceStub(channel).Whoami(WhoamiRequest(), timeout=20)
    assert who.spiffe_id == NAME.uri(spiffe.DEFAULT_TRUST_DOMAIN)


async def test_one_that_lapsed_too_long_ago_needs_a_new_token(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    keep(control_plane, tmp_path / "own", AGENT_LIFE_MS + LAPSED_RENEWAL_MS + 60_000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await renewal.renew_once(
            tmp_path / "own", authority(control_plane, tmp_path / "own").renew_own
        )
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
