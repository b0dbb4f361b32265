"""One real control plane for all tests of a session. Tests keep to tenants and sites of their own,
or look at nothing that others may change."""

from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from scheduler.model.identity import Role
from sovshared import spiffe
from tests.api import control_plane as control_plane_module
from tests.api import world
from tests.api.control_plane import ControlPlane
from tests.api.world import ADA, OLGA, FakeSite


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane that nothing is declared in at first."""
    yield from control_plane_module.running(tmp_path_factory.mktemp("control-plane"))


@pytest.fixture
async def connections(control_plane: ControlPlane) -> AsyncIterator[dict[Role, grpc.aio.Channel]]:
    """A connection of each role."""
    names = {
        Role.TENANT: spiffe.tenant_user("trust-access", "ada"),
        Role.OPERATOR: spiffe.operator("otto"),
        Role.AUDITOR: spiffe.parse_path("/auditor/ann"),
        Role.SITE: spiffe.site_agent("exch-access"),
        Role.NODE: spiffe.node_agent("exch-access", "n01"),
        Role.MONITOR: spiffe.parse_path("/monitor/prom"),
        Role.LANDMARK: spiffe.landmark("slough"),
    }
    made = {role: control_plane.channel_as(name) for role, name in names.items()}
    yield made
    for connection in made.values():
        await connection.close()


@pytest.fixture
async def ada(control_plane: ControlPlane) -> AsyncIterator[grpc.aio.Channel]:
    """Ada's connection, in a world that is declared."""
    async with control_plane.channel_as(OLGA) as olga:
        await world.declare(olga)
    async with control_plane.channel_as(ADA) as connection:
        yield connection


@pytest.fixture
async def london(control_plane: ControlPlane, ada: grpc.aio.Channel) -> AsyncIterator[FakeSite]:
    """London's agent, connected, with two healthy nodes."""
    site = FakeSite(control_plane)
    await site.connect()
    site.report(nodes=2)
    yield site
    await site.close()
