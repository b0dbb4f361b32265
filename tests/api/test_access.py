"""Who may call what, asked of a real server: every RPC, by every wrong kind of caller.

The RPCs come from the contract's descriptors and the callers from the roles, so a new RPC is tested
from the day it exists.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from scheduler.api import access
from scheduler.api.server import rpcs
from scheduler.model.identity import Role
from sovshared import pki, spiffe, tls
from tests.api.control_plane import ControlPlane, channel
from tests.shared.ca import TestCa

CALL_S_MAX = 60
ATTEMPTS_MAX = 10
RPCS = rpcs()
STANDARD = {name for name in access.RULES if not name.startswith("/sovapi.v1.")}
WRONG = [
    pytest.param(name, role, id=f"{name} by {role}")
    for name, role in itertools.product(sorted(RPCS), Role)
    if role not in access.RULES[f"/sovapi.v1.{name}"].roles
]


def test_every_rpc_is_in_the_table_and_nothing_else() -> None:
    assert {f"/sovapi.v1.{name}" for name in RPCS} | STANDARD == set(access.RULES)


def test_join_and_login_are_the_only_anonymous_calls() -> None:
    anonymous = {name for name, rule in access.RULES.items() if rule.anonymous}
    assert anonymous == {f"/sovapi.v1.IdentityService/{name}" for name in ("Join", "Login")}


def test_nodes_and_monitors_reach_nothing_but_their_own_identity() -> None:
    own = {"Join", "Login", "Renew", "Whoami"}
    for role in (Role.NODE, Role.MONITOR):
        open_to = {n for n in RPCS if role in access.RULES[f"/sovapi.v1.{n}"].roles}
        assert open_to == {f"IdentityService/{name}" for name in own}


async def call(
    connection: grpc.aio.Channel, name: str, path: str = "", *, sends: int = 1
) -> object:
    """Calls an RPC with an empty request and reads one answer.

    With `sends` 0, a stream of requests is opened and stays silent: gRPC's client may report a
    stream that is refused while it is being written as its own internal error.
    """
    method = RPCS.get(name)
    path = path or f"/sovapi.v1.{name}"
    serialise, parse = _codec(method)
    empty = GetMessageClass(method.input_type)() if method is not None else b""

    async def requests() -> AsyncIterator[object]:
        for _ in range(sends):
            yield empty
        if not sends:
            await asyncio.Event().wait()

    streaming = (method.client_streaming, method.server_streaming) if method else (False, False)
    make: Any = {
        (False, False): connection.unary_unary,
        (False, True): connection.unary_stream,
        (True, False): connection.stream_unary,
        (True, True): connection.stream_stream,
    }[streaming]
    started = make(path, request_serializer=serialise, response_deserializer=parse)(
        requests() if streaming[0] else empty, timeout=CALL_S_MAX
    )
    return await (started.read() if streaming[1] else started)


def _codec(
    method: MethodDescriptor | None,
) -> tuple[Callable[..., bytes], Callable[[bytes], object]]:
    if method is None:
        return bytes, bytes
    return (
        GetMessageClass(method.input_type).SerializeToString,
        GetMessageClass(method.output_type).FromString,
    )


async def refused(connection: grpc.aio.Channel, name: str, path: str = "") -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(connection, name, path, sends=0)
    return caught.value


def reason_of(error: grpc.aio.AioRpcError) -> str:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    assert info.domain == "sovapi"
                    return info.reason
    return ""


@pytest.mark.parametrize("name", sorted(RPCS))
async def test_without_a_certificate_every_rpc_is_refused(
    control_plane: ControlPlane, name: str
) -> None:
    async with control_plane.anonymous(control_plane.endpoint) as main:
        assert (await refused(main, name)).code() is grpc.StatusCode.UNAVAILABLE
    async with control_plane.anonymous(control_plane.join_endpoint) as join:
        error = await refused(join, name)
    if name in ("IdentityService/Join", "IdentityService/Login"):
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    else:
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert reason_of(error) == "UNAUTHENTICATED"


async def test_standard_services_need_a_certificate_too(control_plane: ControlPlane) -> None:
    async with control_plane.anonymous(control_plane.join_endpoint) as join:
        error = await refused(join, "", "/grpc.health.v1.Health/Check")
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_the_join_port_names_nobody_even_with_a_certificate(
    control_plane: ControlPlane,
) -> None:
    mine = tls.channel_credentials(control_plane.identity(spiffe.operator("otto")))
    async with channel(control_plane.join_endpoint, mine) as join:
        error = await refused(join, "IdentityService/Whoami")
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_strangers_certificate_does_not_pass_the_handshake(
    control_plane: ControlPlane,
) -> None:
    stranger = TestCa().issue("spiffe://sov.example/operator/olga")
    disguised = pki.Identity(stranger.key_pem, stranger.chain_pem, control_plane.ca.trust_pem)
    async with control_plane.channel(disguised) as connection:
        error = await refused(connection, "IdentityService/Whoami")
        assert error.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "uri",
    [
        pytest.param("spiffe://other.example/operator/olga", id="another trust domain"),
        pytest.param("spiffe://sov.example/control-plane", id="the control plane's own name"),
        pytest.param("spiffe://sov.example/root", id="no name of ours"),
        pytest.param("https://sov.example/operator/olga", id="no SPIFFE id"),
    ],
)
async def test_a_certificate_of_our_ca_must_name_somebody_of_our_trust_domain(
    control_plane: ControlPlane, uri: str
) -> None:
    ours = TestCa(key=control_plane.ca.key, issuer=control_plane.ca.certificate)
    async with control_plane.channel(ours.issue(uri)) as connection:
        error = await refused(connection, "IdentityService/Whoami")
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert reason_of(error) == "UNAUTHENTICATED"


@pytest.mark.parametrize(("name", "role"), WRONG)
async def test_a_wrong_role_is_refused(
    connections: dict[Role, grpc.aio.Channel], name: str, role: Role
) -> None:
    error = await refused(connections[role], name)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert reason_of(error) == "PERMISSION_DENIED"


ENDLESS = {"JobService/Watch"}
"""Answers nothing until something happens."""


@pytest.mark.parametrize("name", sorted(set(RPCS) - ENDLESS))
async def test_an_empty_request_never_shakes_the_server(
    connections: dict[Role, grpc.aio.Channel], name: str
) -> None:
    role = min(access.RULES[f"/sovapi.v1.{name}"].roles)
    code, reason = await outcome(connections[role], name)
    assert code in {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
    assert bool(reason) is (code is not grpc.StatusCode.OK)


async def outcome(connection: grpc.aio.Channel, name: str) -> tuple[grpc.StatusCode, str]:
    for _ in range(ATTEMPTS_MAX):
        try:
            await call(connection, name)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INTERNAL and not reason_of(error):
                continue  # The client's own; see `call`.
            return error.code(), reason_of(error)
        return grpc.StatusCode.OK, ""
    raise AssertionError(f"{name}: the client failed {ATTEMPTS_MAX} times")
