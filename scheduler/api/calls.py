"""Every call passes here before and after it is served, whatever its service.

Before: who calls, and may they (`access.py`). After: a refusal becomes a status with all its
denials, a bug becomes INTERNAL with a request id. Servicers never touch status codes.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc_status import rpc_status

from scheduler.api import access
from scheduler.api.errors import internal_status, status_of, unavailable
from scheduler.api.identity import Caller, Revocations, caller_of
from scheduler.model.identity import Principal
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid
from scheduler.runtime import logs
from scheduler.runtime.telemetry import Metrics
from scheduler.store.store import StoreFailed

CALLS_PER_CALLER_MAX = 256
"""Calls that one name may have open at the same time."""
ANONYMOUS_CALLS_MAX = 64
"""Calls of callers without a certificate that may be under way together: each is a short one."""
DRAIN_S_MAX = 10
"""How long we read on, for nothing, what a client still sends to a call that we have decided."""
RETRY_AFTER_MS = 1_000

# In quotes: these classes are only generic for the type checker.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_STORE_AWAY = "the store cannot be used now; nothing was changed"

_log = logging.getLogger(__name__)
_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def caller() -> Caller:
    """Who makes the call that is being served. Never called for anonymous calls."""
    found = _caller.get()
    assert found is not None, "the access table let an anonymous call through"
    return found


def principal() -> Principal:
    """As `caller`, without the certificate."""
    return caller().principal


def caller_if_any() -> Caller | None:
    """Who makes the call, None for an anonymous one."""
    return _caller.get()


@dataclass(frozen=True, slots=True)
class Guard:
    """What the checks need to know."""

    trust_domain: str
    revocations: Revocations
    metrics: Metrics
    incarnation: str
    """Begins every request id; new at each start."""


class Calls(grpc.aio.ServerInterceptor):
    """Wraps every method of the server."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._numbers = itertools.count(1)
        self._handlers: dict[str, tuple[Handler, Handler]] = {}
        self._open: defaultdict[str, set[asyncio.Task[Any]]] = defaultdict(set)
        self._streams: set[asyncio.Task[Any]] = set()
        self._anonymous = 0
        self._ending: dict[asyncio.Task[Any], Refused] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler of a method, wrapped; None for one that gRPC does not know."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        known = self._handlers.get(method)
        if known is None or known[0] is not handler:
            known = self._handlers[method] = handler, self._wrapped(handler, method)
        return known[1]

    def end_calls_of(self, path: str) -> None:
        """Ends every open call of a name that was revoked."""
        revoked = Refused(Code.UNAUTHENTICATED, Reason.IDENTITY_REVOKED, f"{path} was revoked")
        self._end(tuple(self._open.get(path, ())), revoked)

    def end_streams(self) -> None:
        """Ends every open stream: we stop, and whoever wants more asks our successor."""
        stopping = Refused(Code.UNAVAILABLE, Reason.UNAVAILABLE, "the control plane is stopping")
        self._end(tuple(self._streams), stopping)

    def _end(self, tasks: tuple[asyncio.Task[Any], ...], why: Refused) -> None:
        for task in tasks:
            # gRPC tells a client nothing when its call is merely cancelled: `_serve` does.
            self._ending.setdefault(task, why)
            task.cancel()

    def _wrapped(self, handler: Handler, method: str) -> Handler:
        make, inner = _behaviour(handler)
        read = _reader(handler)

        async def unary(request: Any, context: Context) -> Any:
            async def serve() -> Any:
                answer = await inner(read(request), context)
                if handler.request_streaming:
                    await _drain(request)
                return answer

            rest = request if handler.request_streaming else None
            return await self._serve(method, context, serve, rest)

        async def streaming(request: Any, context: Context) -> None:
            async def serve() -> None:
                task = asyncio.current_task()
                assert task is not None
                self._streams.add(task)
                try:
                    await answers(request, context)
                finally:
                    self._streams.discard(task)

            async def answers(request: Any, context: Context) -> None:
                # The client learns that it was let in, however long the first answer takes.
                await _uncut(context.send_initial_metadata(()))
                answer = inner(read(request), context)
                if inspect.isasyncgen(answer):
                    await _write_all(cast("AsyncGenerator[Any, None]", answer), context)
                else:
                    await cast("Awaitable[None]", answer)

            await self._serve(method, context, serve)

        wrapped = streaming if handler.response_streaming else unary
        return make(
            wrapped,
            request_deserializer=None,  # `read` does it, after the caller was checked.
            response_serializer=handler.response_serializer,
        )

    async def _serve(
        self,
        method: str,
        context: Context,
        serve: Callable[[], Awaitable[Any]],
        rest: AsyncIterator[bytes] | None = None,
    ) -> Any:
        """Checks, serves, and turns what was raised into a status. `rest`: what a client that is
        answered once may go on to send."""
        request_id = f"{self._guard.incarnation}-{next(self._numbers)}"
        began = asyncio.get_running_loop().time()
        code = "OK"
        with logs.about(request=request_id, method=method):
            try:
                return await self._admitted(method, context, serve)
            except Refused as refused:
                code = refused.code.name
                self._guard.metrics.refusals.labels(refused.reason.value).inc()
                if rest is not None and refused.code is not Code.UNAVAILABLE:
                    await _drain(rest)
                await _abort(context, status_of(refused))
            except grpc.aio.AbortError:
                code = "ABORTED"
                raise
            except asyncio.CancelledError:
                code = "CANCELLED"
                await self._say_why(context)
                raise
            except StoreFailed:
                code = "UNAVAILABLE"
                _log.exception("the store failed")
                await _abort(context, status_of(unavailable(_STORE_AWAY, RETRY_AFTER_MS)))
            except Exception:
                code = "INTERNAL"
                _log.exception("a call failed")
                await _abort(context, internal_status(request_id))
            finally:
                seconds = asyncio.get_running_loop().time() - began
                self._guard.metrics.calls.labels(method, code).inc()
                self._guard.metrics.call_seconds.labels(method).observe(seconds)

    async def _say_why(self, context: Context) -> None:
        """When it was us who ended this call: the status that says why."""
        task = asyncio.current_task()
        why = self._ending.pop(task, None) if task is not None else None
        if task is not None and why is not None:
            task.uncancel()
            await _abort(context, status_of(why))

    async def _admitted(
        self, method: str, context: Context, serve: Callable[[], Awaitable[Any]]
    ) -> Any:
        found = caller_of(context.auth_context(), self._guard.trust_domain, self._guard.revocations)
        access.check(method, found.principal if found else None)
        if found is None:
            return await self._anonymously(serve)
        token = _caller.set(found)
        mine = self._open[found.principal.path]
        task = asyncio.current_task()
        assert task is not None
        if len(mine) >= CALLS_PER_CALLER_MAX:
            raise _too_many(f"{len(mine)} open calls of yours", CALLS_PER_CALLER_MAX)
        mine.add(task)
        try:
            with logs.about(caller=found.principal.path):
                return await serve()
        finally:
            _caller.reset(token)
            mine.discard(task)
            if task.cancelling() == 0:
                self._ending.pop(task, None)
            if not mine:
                self._open.pop(found.principal.path, None)

    async def _anonymously(self, serve: Callable[[], Awaitable[Any]]) -> Any:
        """Serves a caller without a name: all of them together are held to a number."""
        if self._anonymous >= ANONYMOUS_CALLS_MAX:
            found = f"{self._anonymous} open calls without a certificate"
            raise _too_many(found, ANONYMOUS_CALLS_MAX)
        self._anonymous += 1
        try:
            return await serve()
        finally:
            self._anonymous -= 1


def _too_many(found: str, allowed: int) -> Refused:
    return Refused(
        Code.RESOURCE_EXHAUSTED,
        Reason.RESOURCE_EXHAUSTED,
        f"found {found}, allowed {allowed}",
        retry_after_ms=RETRY_AFTER_MS,
    )


async def _write_all(answers: AsyncGenerator[Any, None], context: Context) -> None:
    """Sends every answer. Whatever ends it, the generator cleans up before the call is over."""
    async with aclosing(answers):
        async for answer in answers:
            await context.write(answer)


async def _drain(rest: AsyncIterator[bytes]) -> None:
    """Reads to the end of what a client sends, and forgets it.

    A client whose message is refused by HTTP/2, because the call is over, may report that as an
    internal error before it looks at the status that we sent. Who sends on for too long is told all
    the same. Not for a client that went silent: then a read is still under way.
    """
    try:
        async with asyncio.timeout(DRAIN_S_MAX):
            async for _ in rest:
                pass
    except TimeoutError:
        _log.info("a client goes on sending to a call that is decided")


async def _uncut(operation: Coroutine[Any, Any, None]) -> None:
    """Lets an operation of gRPC finish although we are cancelled meanwhile.

    Cut short it is still under way inside gRPC, and the status that follows would be refused.
    """
    task = asyncio.ensure_future(operation)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def _abort(context: Context, status: status_pb2.Status) -> None:
    to_status = cast("Callable[[status_pb2.Status], grpc.Status]", rpc_status.to_status)  # pyright: ignore[reportUnknownMemberType] - its stub lacks the type of the argument
    await context.abort_with_status(to_status(status))


def _reader(handler: Handler) -> Callable[[Any], Any]:
    """From bytes to what the handler takes: a message, or an asynchronous iterator of them.

    gRPC would do this before anybody asked who calls, and log a traceback for junk.
    """
    parse = handler.request_deserializer
    assert parse is not None

    def message(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError as error:
            found = "found bytes that are no such message, allowed protobuf of this call"
            raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "request")) from error

    async def messages(stream: AsyncIterator[bytes]) -> AsyncGenerator[Any, None]:
        async for data in stream:
            yield message(data)

    return messages if handler.request_streaming else message


def _behaviour(handler: Handler) -> tuple[Callable[..., Handler], Callable[[Any, Any], Any]]:
    """How to make a handler of the same kind, and what this one does."""
    behaviours: dict[tuple[bool, bool], tuple[Callable[..., Any], Any]] = {
        (False, False): (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
        (False, True): (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
        (True, True): (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
    }
    make, inner = behaviours[handler.request_streaming, handler.response_streaming]
    assert inner is not None
    return make, inner
