"""The server as a process: junk on its ports, joining, revoking, stopping, starting again."""

import asyncio
import socket
import ssl
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from sovapi.v1 import (
    identity_pb2,
    identity_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    tenants_pb2,
    tenants_pb2_grpc,
)
from sovshared import pki, renewal, spiffe, tls
from sovshared.limits import REQUEST_BYTES_MAX
from sovshared.renewal import Renewed
from tests.api import control_plane as module
from tests.api import world
from tests.api.control_plane import ControlPlane, channel
from tests.api.world import ADA, OLGA, WAIT_S


async def whoami(connection: grpc.aio.Channel) -> identity_pb2.WhoamiResponse:
    stub = identity_pb2_grpc.IdentityServiceStub(connection)
    return await stub.Whoami(identity_pb2.WhoamiRequest(), timeout=WAIT_S)


async def test_binary_junk_on_every_port_is_harmless(control_plane: ControlPlane) -> None:
    junk = [b"\x00" * 4096, b"\xff" * 100_000, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00"]
    ports = (
        control_plane.main_port,
        control_plane.join_port,
        control_plane.telemetry_port,
        control_plane.metrics_port,
    )
    for port in ports:
        for data in junk:
            with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as raw:
                try:
                    raw.sendall(data)
                except ConnectionError:
                    continue
    context = ssl.create_default_context(cadata=control_plane.ca.trust_pem.decode())
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", control_plane.join_port), timeout=WAIT_S) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as wrapped,
    ):
        wrapped.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 10_000)
    async with control_plane.channel_as(OLGA) as olga:
        assert (await whoami(olga)).role == "operator"


async def test_a_message_that_is_not_protobuf_is_harmless(control_plane: ControlPlane) -> None:
    async with control_plane.channel_as(OLGA) as olga:
        call = olga.unary_unary(
            "/sovapi.v1.IdentityService/CreateJoinToken",
            request_serializer=bytes,
            response_deserializer=bytes,
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"\xff\xff\xff", timeout=WAIT_S)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await whoami(olga)).role == "operator"


async def test_a_message_that_is_too_large_is_refused(control_plane: ControlPlane) -> None:
    options = tls.channel_options(spiffe.control_plane(), module.TRUST_DOMAIN)
    options = [o for o in options if o[0] != "grpc.max_send_message_length"]
    identity = control_plane.identity(ADA)
    credentials = tls.channel_credentials(identity)
    async with grpc.aio.secure_channel(control_plane.endpoint, credentials, options) as ada:
        huge = jobs_pb2.GetJobRequest(id="x" * (REQUEST_BYTES_MAX + 1))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await jobs_pb2_grpc.JobServiceStub(ada).Get(huge, timeout=WAIT_S)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await whoami(ada)).tenant == "trust-a"


async def test_health_and_reflection_answer(control_plane: ControlPlane) -> None:
    async with control_plane.channel_as(spiffe.parse_path("/monitor/prom")) as monitor:
        check = monitor.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        request = health_pb2.HealthCheckRequest(service="sovapi.v1.JobService")
        answer = await check(request, timeout=WAIT_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watch = monitor.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
        first = await watch.read()
        assert isinstance(first, health_pb2.HealthCheckResponse)
        watch.cancel()
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        reflected = monitor.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )(iter([ask]), timeout=WAIT_S)
        listed = await reflected.read()
        assert isinstance(listed, reflection_pb2.ServerReflectionResponse)
        names = [service.name for service in listed.list_services_response.service]
        assert "sovapi.v1.JobService" in names


async def join(control_plane: ControlPlane, path: str, token: str) -> pki.Identity:
    key = pki.new_key()
    async with control_plane.anonymous(control_plane.join_endpoint) as connection:
        answer = await identity_pb2_grpc.IdentityServiceStub(connection).Join(
            identity_pb2.JoinRequest(token=token, name=path, csr_der=pki.make_csr(key, path)),
            timeout=WAIT_S,
        )
    return pki.Identity(pki.key_to_pem(key), answer.certificate_pem, answer.trust_bundle_pem)


async def token_for(control_plane: ControlPlane, path: str) -> str:
    async with control_plane.channel_as(ADA) as ada:
        answer = await identity_pb2_grpc.IdentityServiceStub(ada).CreateJoinToken(
            identity_pb2.CreateJoinTokenRequest(name=path), timeout=WAIT_S
        )
    return answer.token


async def test_joining_renewing_and_being_revoked(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    path = "/tenant/trust-a/user/newcomer"
    token = await token_for(control_plane, path)
    identity = await join(control_plane, path, token)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await join(control_plane, path, token)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    pki.save(tmp_path, identity)
    async with control_plane.channel(identity) as connection:
        assert (await whoami(connection)).tenant == "trust-a"
        stub = identity_pb2_grpc.IdentityServiceStub(connection)

        async def renew(csr_der: bytes) -> Renewed:
            answer = await stub.Renew(identity_pb2.RenewRequest(csr_der=csr_der), timeout=WAIT_S)
            return Renewed(answer.certificate_pem, answer.trust_bundle_pem)

        renewed = await renewal.renew_once(tmp_path, renew)
    async with control_plane.channel(renewed) as connection, control_plane.channel_as(OLGA) as olga:
        watch = jobs_pb2_grpc.JobServiceStub(connection).Watch(
            jobs_pb2.WatchJobsRequest(), timeout=WAIT_S
        )
        await watch.wait_for_connection()
        await identity_pb2_grpc.IdentityServiceStub(olga).Revoke(
            identity_pb2.RevokeRequest(name=path, reason="left the trust"), timeout=WAIT_S
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in watch:  # Its end comes after all jobs that it tells of.
                pass
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await whoami(connection)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_what_was_accepted_survives_a_restart_and_so_does_every_name(tmp_path: Path) -> None:
    module.found(tmp_path)
    first = module.start(tmp_path)
    async with first.channel_as(OLGA) as olga, first.channel_as(ADA) as ada:
        await world.declare(olga)
        job = await world.submit(ada, world.spec("kept"))
    assert first.stop() == 0
    assert not first.errors()
    second = module.start(tmp_path)
    try:
        async with channel(
            second.endpoint, tls.channel_credentials(pki.load(second.operator_credentials))
        ) as olga:
            tree = await tenants_pb2_grpc.TenantServiceStub(olga).List(
                tenants_pb2.ListTenantsRequest(), timeout=WAIT_S
            )
            assert "trust-a/radiology" in [tenant.path for tenant in tree.tenants]
        async with second.channel_as(ADA) as ada:
            got = await jobs_pb2_grpc.JobServiceStub(ada).Get(
                jobs_pb2.GetJobRequest(id=job.id), timeout=WAIT_S
            )
            assert (got.name, got.state) == ("kept", jobs_pb2.JOB_STATE_QUEUED)
    finally:
        assert second.stop() == 0
    assert not second.errors()


async def test_an_open_watch_does_not_keep_the_server_from_stopping(tmp_path: Path) -> None:
    module.found(tmp_path)
    made = module.start(tmp_path)
    async with made.channel_as(ADA) as ada:
        watch = jobs_pb2_grpc.JobServiceStub(ada).Watch(jobs_pb2.WatchJobsRequest(), timeout=WAIT_S)
        await watch.wait_for_connection()
        assert await asyncio.to_thread(made.stop) == 0
        assert await watch.code() is grpc.StatusCode.UNAVAILABLE
    assert not made.errors()
