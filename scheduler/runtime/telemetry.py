"""What the control plane says of itself: metrics, and a small HTTP server for them and for probes.

Serves GET /healthz (the process lives), /readyz (it can take work) and /metrics. Nothing of any
tenant is in them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

REQUEST_BYTES_MAX = 8 * 1024
REQUEST_S_MAX = 10
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_log = logging.getLogger(__name__)


class Metrics:
    """A first, thin set of metrics, in a registry of its own."""

    def __init__(self, version: str) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        self.build = Gauge("sov_scheduler_info", "This scheduler", ["version"], registry=registry)
        self.build.labels(version).set(1)
        self.calls = Counter(
            "sov_api_requests_total", "RPCs answered", ["method", "code"], registry=registry
        )
        self.call_seconds = Histogram(
            "sov_api_request_seconds",
            "Time to answer unary RPCs",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.commits = Counter("sov_store_commits_total", "Transactions", registry=registry)
        self.writer_waiting = Gauge(
            "sov_writer_waiting_requests", "Requests that wait for the writer", registry=registry
        )
        self.plans = Counter("sov_planner_plans_total", "Plans made", registry=registry)
        self.plan_seconds = Histogram(
            "sov_planner_plan_seconds",
            "Time to make one plan",
            buckets=_SECONDS,
            registry=registry,
        )
        self.planner_restarts = Counter(
            "sov_planner_restarts_total", "Planner processes that died", registry=registry
        )
        self.placements = Counter(
            "sov_planner_placements_total",
            "Placements proposed, by what became of them",
            ["outcome"],
            registry=registry,
        )
        self.sites_connected = Gauge(
            "sov_sites_connected", "Sites whose session is open", registry=registry
        )
        self.tunnels = Gauge("sov_tunnels_open", "Streams being relayed", registry=registry)


@dataclass(frozen=True, slots=True)
class Probes:
    """What the HTTP server asks."""

    ready: Callable[[], str]
    """Empty when work can be taken; otherwise why not."""
    before_scrape: Callable[[], None]


class TelemetryServer:
    """The HTTP server. It reads one short request a connection and answers it."""

    def __init__(self, metrics: Metrics, probes: Probes) -> None:
        self._metrics = metrics
        self._probes = probes
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens; answers the port, which 0 leaves to the system."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=REQUEST_BYTES_MAX)
        return self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_S_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # Not a request, or nobody waits for the answer.
        finally:
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        line = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(line) != 3 or line[0] != "GET":
            return _http("405 Method Not Allowed", b"only GET\n")
        match line[1].partition("?")[0]:
            case "/healthz":
                return _http("200 OK", b"ok\n")
            case "/readyz":
                reason = self._probes.ready()
                if reason:
                    return _http("503 Service Unavailable", f"{reason}\n".encode())
                return _http("200 OK", b"ready\n")
            case "/metrics":
                self._probes.before_scrape()
                body = generate_latest(self._metrics.registry)
                return _http("200 OK", body, CONTENT_TYPE_LATEST)
            case _:
                return _http("404 Not Found", b"/healthz, /readyz, /metrics\n")


def _http(status: str, body: bytes, content_type: str = "text/plain; charset=utf-8") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
