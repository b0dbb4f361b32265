"""What the control plane counts of itself, and a small HTTP server for its supervisor's probes.

Serves GET /healthz (the process lives) and /readyz (it can take work). Nothing of any tenant is in
them; metrics name tenants, and are for monitors alone (`api/monitors.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from sovshared.monitoring import Page, response

REQUEST_BYTES_MAX = 8 * 1024
REQUEST_S_MAX = 10
_REQUESTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """What is counted where it happens, in a registry of its own.

    Labels have closed sets of values: methods, codes and reasons of the contract.
    """

    def __init__(self, version: str) -> None:
        disable_created_metrics()
        registry = CollectorRegistry()
        self.registry = registry
        ProcessCollector(registry=registry)
        self.build = Gauge("sov_scheduler_info", "This scheduler", ["version"], registry=registry)
        self.build.labels(version).set(1)
        self.calls = Counter(
            "sov_api_requests_total", "RPCs answered", ["method", "code"], registry=registry
        )
        self.refusals = Counter(
            "sov_api_refusals_total", "RPCs refused, by reason", ["reason"], registry=registry
        )
        self.call_seconds = _seconds(
            registry, "sov_api_request_seconds", "Time to answer RPCs", ["method"]
        )
        self.commits = Counter("sov_store_commits_total", "Transactions", registry=registry)
        self.writer_waiting = Gauge(
            "sov_writer_waiting_requests", "Requests that wait for the writer", registry=registry
        )
        self.batch_requests = Histogram(
            "sov_writer_batch_requests",
            "Requests committed together",
            buckets=_REQUESTS,
            registry=registry,
        )
        self.batch_seconds = _seconds(
            registry, "sov_writer_batch_seconds", "Time to commit one batch"
        )
        self._plan(registry)
        self.sites_connected = Gauge(
            "sov_sites_connected", "Sites whose session is open", registry=registry
        )
        self.egress_denied = Counter(
            "sov_egress_denied_total",
            "Tries of jobs to reach what they may not, as ranks that ended told, by site",
            ["site"],
            registry=registry,
        )
        self.tunnels = Gauge("sov_tunnels_open", "Streams being relayed", registry=registry)

    def _plan(self, registry: CollectorRegistry) -> None:
        self.plans = Counter("sov_planner_plans_total", "Plans made", registry=registry)
        self.plan_seconds = _seconds(registry, "sov_planner_plan_seconds", "Time to make one plan")
        self.planner_restarts = Counter(
            "sov_planner_restarts_total", "Planner processes that died", registry=registry
        )
        self.placements = Counter(
            "sov_planner_placements_total",
            "Placements proposed, by what became of them",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("kept", "stale"):
            self.placements.labels(outcome)
        self.last_cycle = Gauge(
            "sov_scheduler_last_cycle_timestamp_seconds",
            "Until when the newest plan knew of every change; now, when nothing waits for a plan",
            registry=registry,
        )

    def batch(self, requests: int, seconds: float) -> None:
        """The writer committed so many requests in so long."""
        self.batch_requests.observe(requests)
        self.batch_seconds.observe(seconds)


def _seconds(
    registry: CollectorRegistry, name: str, text: str, labels: Sequence[str] = ()
) -> Histogram:
    return Histogram(name, text, labels, buckets=_SECONDS, registry=registry)


class ProbeServer:
    """The HTTP server. It reads one short request a connection and answers it.

    `not_ready` answers why no work can be taken now; nothing when it can.
    """

    def __init__(self, not_ready: Callable[[], str]) -> None:
        self._not_ready = not_ready
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
                reason = self._not_ready()
                if reason:
                    return _http("503 Service Unavailable", f"{reason}\n".encode())
                return _http("200 OK", b"ready\n")
            case _:
                return _http("404 Not Found", b"/healthz, /readyz\n")


def _http(status: str, body: bytes) -> bytes:
    return response(status, Page(body, "text/plain; charset=utf-8"))
