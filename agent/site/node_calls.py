"""The calls of node agents at their edges: who is named, what a stream begins with, and what is
passed on to the control plane.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, NoReturn, Protocol, TypeAlias

import grpc

from sovapi.v1 import nodelink_pb2 as pb
from sovapi.v1.identity_pb2 import JoinRequest, JoinResponse, RenewRequest, RenewResponse
from sovapi.v1.nodelink_pb2 import NodeMessage
from sovshared import limits, spiffe

HELLO_S_MAX = 20.0
PROXY_S_MAX = 30.0

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class Authority(Protocol):
    """Where Join and Renew are passed on to: the control plane."""

    async def join(self, request: JoinRequest) -> JoinResponse:
        """Pass a node's Join on."""
        ...

    async def renew(self, request: RenewRequest) -> RenewResponse:
        """Pass a node's Renew on."""
        ...


def name_of(path: str) -> spiffe.Name | None:
    try:
        return spiffe.parse_path(path)
    except spiffe.NameInvalid:
        return None


async def hello_of(
    messages: AsyncIterator[NodeMessage], slot: str, context: Context
) -> pb.NodeHello:
    """The first message, its version and slot checked."""
    first: NodeMessage | None = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HELLO_S_MAX):
            first = await anext(messages, None)
    if first is None or first.WhichOneof("message") != "hello":
        await abort(context, "message: found something else, allowed a hello first")
    hello = first.hello
    if hello.protocol_version != limits.SITE_PROTOCOL_VERSION:
        found, allowed = hello.protocol_version, limits.SITE_PROTOCOL_VERSION
        await abort(context, f"hello.protocol_version: found {found}, allowed {allowed}")
    if hello.slot != slot:
        await abort(context, f"hello.slot: found {hello.slot[:80]!r}, allowed {slot!r}")
    if not hello.boot_id:
        await abort(context, "hello.boot_id: found nothing, allowed the boot's id")
    return hello


async def abort(context: Context, why: str) -> NoReturn:
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, why)
    raise AssertionError("abort raises")


async def passed_on(call: Any, context: Context) -> Any:
    """The control plane's answer, its refusal included."""
    try:
        async with asyncio.timeout(PROXY_S_MAX):
            return await call
    except grpc.aio.AioRpcError as error:
        trailers = tuple(error.trailing_metadata() or ())
        await context.abort(error.code(), error.details() or "", trailers)
    except TimeoutError:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the control plane does not answer")
