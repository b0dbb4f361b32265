"""The connection to a control plane: credentials, deadlines, retries, errors.

Every unary call has a deadline. A call is repeated on UNAVAILABLE, with back-off, when repeating it
is harmless: it only reads, or it carries an idempotency key.
"""

from __future__ import annotations

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from enum import Enum
from typing import TypeVar

import grpc

from sovapi.v1 import (
    access_pb2_grpc,
    audit_pb2_grpc,
    datasets_pb2_grpc,
    fleet_pb2_grpc,
    identity_pb2_grpc,
    jobs_pb2_grpc,
    policy_pb2_grpc,
    tenants_pb2_grpc,
)
from sovctl import config
from sovctl.errors import ConfigError
from sovctl.rpc_errors import cut_off, sov_error
from sovshared import pki, spiffe, tls

CALL_TIMEOUT_MS = 30_000
"""Deadline of a call that answers once, all its repetitions apart."""

DECLARE_TIMEOUT_MS = 300_000
"""Of declaring a whole fleet, which may be 100,000 nodes."""

WHAT_IF_TIMEOUT_MS = 300_000
"""Of planning a whole queue twice."""

UPLOAD_TIMEOUT_MS = 600_000
STREAM_TIMEOUT_MS = 3_600_000
"""A stream that lasts longer is opened again where it was."""

TRIES_MAX = 5
BACKOFF_MS_MIN = 200
BACKOFF_MS_MAX = 5_000

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


class Repeat(Enum):
    """Whether a call may be made again when nobody knows if it arrived."""

    HARMLESS = True
    NEVER = False


def backoff_ms(tries: int, draw: Callable[[int], int]) -> int:
    """How long to wait after `tries` failures: doubling, bounded, half of it by lot."""
    longest = min(BACKOFF_MS_MIN << min(tries - 1, 16), BACKOFF_MS_MAX)
    return longest // 2 + draw(longest // 2 + 1)


def open_channel(context: config.Context) -> grpc.aio.Channel:
    """A channel as the context says; nothing is sent yet."""
    identity = config.identity(context)
    return _channel(context.endpoint, tls.channel_credentials(identity), context)


def open_join_channel(context: config.Context, trust_pem: bytes) -> grpc.aio.Channel:
    """A channel for somebody who has no certificate yet."""
    endpoint = context.join_endpoint or context.endpoint
    return _channel(endpoint, tls.anonymous_credentials(trust_pem), context)


def _channel(
    endpoint: str, credentials: grpc.ChannelCredentials, context: config.Context
) -> grpc.aio.Channel:
    server = spiffe.control_plane() if context.server == "control-plane" else None
    try:
        options = tls.channel_options(server, context.trust_domain)
    except spiffe.NameInvalid as error:
        raise ConfigError(str(error)) from None
    return grpc.aio.secure_channel(endpoint, credentials, options=options)


class Link:
    """One channel with its stubs."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        endpoint: str,
        *,
        timeout_ms: int = CALL_TIMEOUT_MS,
        draw: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        self.endpoint = endpoint
        self.channel = channel
        self.timeout_ms = timeout_ms
        self._draw = draw
        self.access = access_pb2_grpc.AccessServiceStub(channel)
        self.jobs = jobs_pb2_grpc.JobServiceStub(channel)
        self.fleet = fleet_pb2_grpc.FleetServiceStub(channel)
        self.tenants = tenants_pb2_grpc.TenantServiceStub(channel)
        self.datasets = datasets_pb2_grpc.DatasetServiceStub(channel)
        self.policy = policy_pb2_grpc.PolicyServiceStub(channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(channel)
        self.identity = identity_pb2_grpc.IdentityServiceStub(channel)

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        repeat: Repeat = Repeat.HARMLESS,
        *,
        timeout_ms_min: int = 0,
    ) -> ResponseT:
        """One answer to one request; `timeout_ms_min` where it takes longer than others.

        Raises:
            SovError: With the server's reason and details.
        """
        tries = 0
        while True:
            tries += 1
            try:
                timeout_ms = max(self.timeout_ms, timeout_ms_min)
                return await method(request, timeout=timeout_ms / 1000)
            except grpc.aio.AioRpcError as error:
                again = error.code() is grpc.StatusCode.UNAVAILABLE and repeat is Repeat.HARMLESS
                if not again or tries >= TRIES_MAX:
                    raise sov_error(error, self.endpoint) from None
            await self.pause(tries)

    async def pause(self, tries: int) -> None:
        """Waits before the next try."""
        await asyncio.sleep(backoff_ms(tries, self._draw) / 1000)

    async def send_all(
        self,
        method: grpc.aio.StreamUnaryMultiCallable[RequestT, ResponseT],
        requests: Callable[[], AsyncIterator[RequestT]],
        timeout_ms: int = UPLOAD_TIMEOUT_MS,
    ) -> ResponseT:
        """One answer to many requests; repeated from the first one, so repeating must be harmless.

        The server may answer before it has read everything: what is left is then not sent.
        """
        tries = 0
        while True:
            tries += 1
            try:
                return await method(requests(), timeout=timeout_ms / 1000)
            except grpc.aio.AioRpcError as error:
                again = error.code() is grpc.StatusCode.UNAVAILABLE or cut_off(error)
                if not again or tries >= TRIES_MAX:
                    raise sov_error(error, self.endpoint) from None
            await self.pause(tries)

    @contextmanager
    def translated(self) -> Generator[None]:
        """gRPC's errors inside the block come out as SovError."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise sov_error(error, self.endpoint) from None

    async def close(self) -> None:
        """Ends calls under way and the connection."""
        await self.channel.close()


class Connected(ABC):
    """Something with a connection, on which groups of calls are built.

    Attributes:
        project: Where a specification names none.
        key_service: Where the key is that bundles and secrets are sealed with; empty: none is.
    """

    project: str
    key_service: str

    @property
    @abstractmethod
    def link(self) -> Link:
        """The connection; opened on first use."""


def load_trust(path: str) -> bytes:
    """The CA certificates in a file, for somebody who joins."""
    try:
        with open(path, "rb") as file:
            content = file.read(pki.PEM_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if len(content) > pki.PEM_BYTES_MAX or b"BEGIN CERTIFICATE" not in content:
        raise ConfigError(f"{path}: found no certificate, allowed PEM")
    return content
