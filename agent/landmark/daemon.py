"""The landmark's program: asks whom to measure, measures, states what it saw, for ever.

What cannot be reported is dropped: a measurement is worth minutes, and the next round makes new
ones. Targets are measured one after the other, in an order that nobody can foresee.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from agent.landmark.prober import Landmark, Sources, Target, measure
from sovapi.v1.location_pb2 import LocationTargetsRequest, ReportLocationsRequest
from sovapi.v1.location_pb2_grpc import LocationServiceStub
from sovshared import landmarks
from sovshared.signing import Signer

if TYPE_CHECKING:  # Only the stubs know the asynchronous face.
    from sovapi.v1.location_pb2_grpc import LocationServiceAsyncStub

CALL_S_MAX = 20.0
TARGETS_MAX = 20_000
STATEMENTS_MAX = 500
"""Of one report."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """One landmark. `dial` opens a channel with the identity of then; `shuffled` puts targets in
    an order of chance."""

    landmark: Landmark
    signer: Signer
    dial: Callable[[], grpc.aio.Channel]
    sources: Sources
    shuffled: Callable[[Sequence[Target]], Sequence[Target]]
    every_s: float
    probes: int

    async def run(self) -> None:
        """Round after round, until cancelled."""
        while True:
            try:
                count = await self.round()
                _log.info("landmark %s: %d nodes answered", self.landmark.name, count)
            except grpc.aio.AioRpcError as error:
                _log.warning("no round: %s: %s", error.code().name, error.details())
            await asyncio.sleep(self.every_s)

    async def round(self) -> int:
        """Measures every target once and reports; how many answered."""
        async with self.dial() as channel:
            stub = LocationServiceStub(channel)
            told = await stub.Targets(LocationTargetsRequest(), timeout=CALL_S_MAX)
            targets = [
                Target(one.agent, address, one.public_key)
                for one in told.targets[:TARGETS_MAX]
                if (address := _address(one.address)) is not None
            ]
            statements: list[bytes] = []
            answered = 0
            for target in self.shuffled(targets):
                found = await asyncio.to_thread(
                    measure, self.landmark, target, self.sources, probes=self.probes
                )
                if found is not None:
                    answered += 1
                    statements.append(landmarks.stated(found, self.signer))
                if len(statements) == STATEMENTS_MAX:
                    await _report(stub, statements)
                    statements = []
            await _report(stub, statements)
        return answered


async def _report(stub: LocationServiceAsyncStub, statements: Sequence[bytes]) -> None:
    if statements:
        await stub.Report(ReportLocationsRequest(statements=statements), timeout=CALL_S_MAX)


def _address(text: str) -> tuple[str, int] | None:
    """HOST:PORT, an IPv6 host in brackets."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65_535:
        return None
    return host.strip("[]"), int(port)
