"""The gRPC server: every RPC of the contract, on two ports.

gRPC for Python either demands a client certificate of a whole port or asks for none, and Join and
Login must work without one. So there are two: on the main port TLS itself refuses whoever has no
certificate of ours; on the join port nobody is asked for one, and the access table lets these two
through and nothing else.

Handlers are made from the descriptors, so an RPC cannot be forgotten: it is implemented, or the
server does not start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from scheduler.api.calls import Calls
from sovapi.v1 import (
    access_pb2,
    audit_pb2,
    datasets_pb2,
    fleet_pb2,
    identity_pb2,
    jobs_pb2,
    location_pb2,
    policy_pb2,
    sitelink_pb2,
    tenants_pb2,
)
from sovshared import tls

CALLS_MAX = 10_000
"""Calls open at the same time; gRPC refuses more with RESOURCE_EXHAUSTED."""

FILES = (
    access_pb2,
    audit_pb2,
    datasets_pb2,
    fleet_pb2,
    identity_pb2,
    jobs_pb2,
    location_pb2,
    policy_pb2,
    sitelink_pb2,
    tenants_pb2,
)
"""The contract's files whose services the control plane serves (NodeLink is the site agents')."""

Method: TypeAlias = Callable[[Any], Any]
"""A method of a servicer: a request (or an asynchronous iterator of them) in; out comes an answer
to await, or an asynchronous generator of answers."""
Methods: TypeAlias = Mapping[str, Method]
"""By "JobService/Submit"."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen; port 0 leaves the choice to the system."""

    main: str
    join: str
    credentials: Path
    """Directory of the server's own identity."""


def rpcs() -> dict[str, MethodDescriptor]:
    """Every RPC of the contract that is ours to serve, by "JobService/Submit"."""
    return {
        f"{service.name}/{method.name}": method
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


class Server:
    """The server and its two ports."""

    def __init__(self, calls: Calls, methods: Methods, listen: Listen) -> None:
        self._server = grpc.aio.server(
            interceptors=(calls,),
            options=tls.server_options(),
            maximum_concurrent_rpcs=CALLS_MAX,
        )
        self._server.add_generic_rpc_handlers(tuple(_handlers(methods)))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._services = sorted({name.partition("/")[0] for name in rpcs()})
        names = [f"sovapi.v1.{service}" for service in self._services]
        standard = [health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection([*names, *standard], self._server)
        required = tls.server_credentials(listen.credentials, tls.ClientCertificates.REQUIRED)
        none = tls.server_credentials(listen.credentials, tls.ClientCertificates.NONE)
        self.main_port = self._server.add_secure_port(listen.main, required)
        self.join_port = self._server.add_secure_port(listen.join, none)

    async def start(self) -> None:
        """Serves."""
        serving = health_pb2.HealthCheckResponse.SERVING
        for service in self._services:
            await self._health.set(f"sovapi.v1.{service}", serving)
        await self._server.start()

    async def stop(self, grace_ms: int) -> None:
        """Takes no new calls, lets those that are open end, and ends the rest after the grace."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_ms / 1000)


def _handlers(methods: Methods) -> list[grpc.GenericRpcHandler]:
    """Handlers of every RPC, one generic handler a service."""
    found = rpcs()
    assert found.keys() <= methods.keys(), f"no method: {sorted(found.keys() - methods.keys())}"
    assert methods.keys() <= found.keys(), f"no such RPC: {sorted(methods.keys() - found.keys())}"
    services: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
    for name, descriptor in found.items():
        service, _, method = name.partition("/")
        handler = _handler(descriptor, methods[name])
        services.setdefault(service, {})[method] = handler
    return [
        grpc.method_handlers_generic_handler(f"sovapi.v1.{service}", handlers)
        for service, handlers in services.items()
    ]


def _handler(descriptor: MethodDescriptor, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
    def behaviour(request: Any, _context: Any) -> Any:
        return method(request)

    make: dict[tuple[bool, bool], Callable[..., grpc.RpcMethodHandler[Any, Any]]] = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    return make[descriptor.client_streaming, descriptor.server_streaming](
        behaviour,
        request_deserializer=GetMessageClass(descriptor.input_type).FromString,
        response_serializer=GetMessageClass(descriptor.output_type).SerializeToString,
    )
