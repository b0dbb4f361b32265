"""A session of a site and its control plane, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from agent.site.session import ControlSession, Presence
from tests.agent.site.session_rig import Control, Spools, World, serving


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(Control(), Spools())
    async with serving(made.control) as port:
        made.session = ControlSession(
            presence=Presence("exch-a", "1", "incarnation-1"),
            dial=lambda: grpc.aio.insecure_channel(f"127.0.0.1:{port}"),
            position=lambda: made.position,
            emit=made.events.append,
            jitter=lambda: 0.0,
            spools=made.spools,
            place=lambda _: made.places,
            power=lambda: made.power,
            stores=made,
        )
        task = asyncio.create_task(made.session.run())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
