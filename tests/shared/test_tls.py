"""Both ends of a connection, over real sockets."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sovshared import pki, spiffe, tls
from sovshared.tls import ClientCertificates
from tests.shared.ca import FROM_MS, TestCa

TD = spiffe.DEFAULT_TRUST_DOMAIN
OPERATOR = "spiffe://sov.example/operator/olga"


class Health(health_pb2_grpc.HealthServicer):
    """Answers, and keeps what it was told of the caller."""

    def __init__(self) -> None:
        self.callers: list[list[bytes]] = []

    async def Check(
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[
            health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        ],
    ) -> health_pb2.HealthCheckResponse:
        self.callers.append(list(context.auth_context().get("peer_spiffe_id", ())))
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


@asynccontextmanager
async def serving(
    directory: Path, demand: ClientCertificates
) -> AsyncGenerator[tuple[str, Health], None]:
    server = grpc.aio.server(options=tls.server_options())
    health = Health()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_secure_port("127.0.0.1:0", tls.server_credentials(directory, demand))
    await server.start()
    try:
        yield f"127.0.0.1:{port}", health
    finally:
        await server.stop(None)


async def check(
    endpoint: str, credentials: grpc.ChannelCredentials, server: spiffe.Name | None = None
) -> None:
    options = tls.channel_options(server or spiffe.control_plane(), TD)
    options.append(("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.secure_channel(endpoint, credentials, options) as channel:
        call = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        await call(health_pb2.HealthCheckRequest(), timeout=20)


async def refused(endpoint: str, credentials: grpc.ChannelCredentials, **kw: spiffe.Name) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(endpoint, credentials, **kw)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_of_the_same_ca_gets_in_and_is_named(tmp_path: Path) -> None:
    ca = TestCa()
    pki.save(tmp_path, ca.control_plane())
    async with serving(tmp_path, ClientCertificates.REQUIRED) as (endpoint, health):
        await check(endpoint, tls.channel_credentials(ca.issue(OPERATOR)))
        assert health.callers == [[OPERATOR.encode()]]


async def test_without_or_with_anothers_or_an_expired_certificate_nobody_gets_in(
    tmp_path: Path,
) -> None:
    ca = TestCa()
    pki.save(tmp_path, ca.control_plane())
    stranger = TestCa().issue(OPERATOR)
    disguised = pki.Identity(stranger.key_pem, stranger.chain_pem, ca.trust_pem)
    expired = ca.issue(OPERATOR, until_ms=FROM_MS + 1000)
    async with serving(tmp_path, ClientCertificates.REQUIRED) as (endpoint, health):
        await refused(endpoint, tls.anonymous_credentials(ca.trust_pem))
        await refused(endpoint, tls.channel_credentials(disguised))
        await refused(endpoint, tls.channel_credentials(expired))
        assert health.callers == []


async def test_a_listener_without_client_certificates_names_nobody(tmp_path: Path) -> None:
    ca = TestCa()
    pki.save(tmp_path, ca.control_plane())
    async with serving(tmp_path, ClientCertificates.NONE) as (endpoint, health):
        await check(endpoint, tls.anonymous_credentials(ca.trust_pem))
        await check(endpoint, tls.channel_credentials(ca.issue(OPERATOR)))
        assert health.callers == [[], []]


async def test_a_client_refuses_a_server_of_another_name_or_ca(tmp_path: Path) -> None:
    ca = TestCa()
    site = spiffe.site_agent("exch_1.b")
    dns = spiffe.server_dns_name(site, TD)
    assert dns is not None
    pki.save(tmp_path, ca.issue(site.uri(TD), dns=(dns,)))
    async with serving(tmp_path, ClientCertificates.REQUIRED) as (endpoint, health):
        mine = tls.channel_credentials(ca.issue(OPERATOR))
        await check(endpoint, mine, server=site)
        await refused(endpoint, mine, server=spiffe.control_plane())
        await refused(endpoint, mine, server=spiffe.site_agent("exch_1"))
        await refused(endpoint, tls.channel_credentials(TestCa().issue(OPERATOR)), server=site)
        assert len(health.callers) == 1


async def test_a_server_takes_up_a_renewed_identity_without_a_restart(tmp_path: Path) -> None:
    old, new = TestCa(), TestCa()
    pki.save(tmp_path, old.control_plane())
    async with serving(tmp_path, ClientCertificates.REQUIRED) as (endpoint, _):
        await check(endpoint, tls.channel_credentials(old.issue(OPERATOR)))
        pki.save(tmp_path, new.control_plane())
        await check(endpoint, tls.channel_credentials(new.issue(OPERATOR)))
        await refused(endpoint, tls.channel_credentials(old.issue(OPERATOR)))
        (tmp_path / pki.IDENTITY_FILE).write_bytes(b"torn")
        await check(endpoint, tls.channel_credentials(new.issue(OPERATOR)))
