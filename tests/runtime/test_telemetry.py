"""The supervisor's side: probes, and what is none."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from scheduler.runtime.telemetry import ProbeServer


class Site:
    """A server on a port of its own."""

    def __init__(self) -> None:
        self.not_ready = "starting"
        self.server = ProbeServer(lambda: self.not_ready)
        self.port = 0

    async def get(self, request: bytes) -> tuple[str, str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        answer = (await asyncio.wait_for(reader.read(), 60)).decode()
        writer.close()
        head, _, body = answer.partition("\r\n\r\n")
        return head.partition("\r\n")[0], body


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    made.port = await made.server.start("127.0.0.1", 0)
    yield made
    await made.server.close()


async def test_probes(site: Site) -> None:
    assert await site.get(b"GET /healthz HTTP/1.1\r\n\r\n") == ("HTTP/1.1 200 OK", "ok\n")
    assert (await site.get(b"GET /readyz HTTP/1.1\r\n\r\n"))[1] == "starting\n"
    site.not_ready = ""
    assert await site.get(b"GET /readyz HTTP/1.1\r\n\r\n") == ("HTTP/1.1 200 OK", "ready\n")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /healthz HTTP/1.1\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found"),
        (b"GET /else HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found"),
        (b"\x16\x03\x01\x00\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
        (b"x" * 100_000, ""),
    ],
)
async def test_anything_else_is_refused(site: Site, request_bytes: bytes, status: str) -> None:
    try:
        assert (await site.get(request_bytes))[0] == status
    except ConnectionError:
        assert status == ""
    assert await site.get(b"GET /healthz HTTP/1.1\r\n\r\n") == ("HTTP/1.1 200 OK", "ok\n")
