"""Callers without a certificate: what they may have under way, and what their junk may reach."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from scheduler.api import ca as ca_module
from scheduler.api import calls
from scheduler.api.calls import Calls, Guard
from scheduler.api.identity import Revocations
from scheduler.api.identity_service import IdentityService
from scheduler.model.reasons import Reason, Refused
from scheduler.runtime.reader import Reader
from scheduler.runtime.telemetry import Metrics
from scheduler.runtime.writer import Writer
from scheduler.store.store import Store
from sovapi.v1 import identity_pb2
from sovapi.v1.identity_pb2_grpc import IdentityServiceStub
from sovshared import pki
from tests.store.builders import CODEC

TD = "sov.example"
NOW = 1_800_000_000_000
WAIT_S = 60


class Door:
    """A server that holds every Join until it is told to let go."""

    def __init__(self) -> None:
        self.inside = 0
        self.entered = asyncio.Condition()
        self.let_go = asyncio.Event()
        guard = Guard(TD, Revocations({}), Metrics("test"), "i1")
        self.server = grpc.aio.server(interceptors=(Calls(guard),))
        handler = grpc.unary_unary_rpc_method_handler(
            self._join,
            request_deserializer=identity_pb2.JoinRequest.FromString,
            response_serializer=identity_pb2.JoinResponse.SerializeToString,
        )
        join = grpc.method_handlers_generic_handler("sovapi.v1.IdentityService", {"Join": handler})
        self.server.add_generic_rpc_handlers((join,))
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    async def _join(
        self, _request: identity_pb2.JoinRequest, _context: object
    ) -> identity_pb2.JoinResponse:
        async with self.entered:
            self.inside += 1
            self.entered.notify_all()
        await self.let_go.wait()
        return identity_pb2.JoinResponse(spiffe_id="joined")

    async def full(self, number: int) -> None:
        async with self.entered, asyncio.timeout(WAIT_S):
            await self.entered.wait_for(lambda: self.inside == number)


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    made = Door()
    await made.server.start()
    yield made
    await made.server.stop(None)


async def test_only_so_many_are_served_together_who_show_no_certificate(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "ANONYMOUS_CALLS_MAX", 2)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        join = IdentityServiceStub(channel).Join
        held = [join(identity_pb2.JoinRequest(), timeout=WAIT_S) for _ in range(2)]
        await door.full(2)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await join(identity_pb2.JoinRequest(), timeout=WAIT_S)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        door.let_go.set()
        assert [(await call).spiffe_id for call in held] == ["joined", "joined"]
        assert (await join(identity_pb2.JoinRequest(), timeout=WAIT_S)).spiffe_id == "joined"


@pytest.mark.parametrize("token", ["", "guessed", "x" * 10_000])
async def test_junk_never_waits_among_what_is_to_be_written(tmp_path: Path, token: str) -> None:
    store = Store(tmp_path / "s.db", salts=lambda: b"0" * 16, codec=CODEC)
    store.open()
    # It is not started: whatever reached it would wait for ever.
    writer = Writer(store, committed=lambda _: None, ended=lambda _: None)
    reader = Reader(store)
    service = IdentityService(
        ca=ca_module.create(tmp_path, TD, NOW),
        writer=writer,
        reader=reader,
        revocations=Revocations({}),
        now_ms=lambda: NOW,
        new_secret=lambda: "t",
        version="test",
    )
    csr = pki.make_csr(pki.new_key(), "/site/exch-a/agent")
    request = identity_pb2.JoinRequest(token=token, name="/site/exch-a/agent", csr_der=csr)
    with pytest.raises(Refused) as refused:
        async with asyncio.timeout(WAIT_S):
            await service.join(request)
    assert refused.value.reason is Reason.JOIN_TOKEN_INVALID
    assert writer.waiting() == 0
    reader.close()
    store.close()
