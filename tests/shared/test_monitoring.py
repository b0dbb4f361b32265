"""The listener of monitors, over real sockets: who gets in, what is answered, and renewal."""

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sovshared import monitoring, pki, spiffe
from sovshared.monitoring import Admission, MonitorServer, Page
from tests.shared import https
from tests.shared.ca import FROM_MS, TestCa

TD = spiffe.DEFAULT_TRUST_DOMAIN
MONITOR = "spiffe://sov.example/monitor/prom"


async def greeting() -> Page:
    return Page(b"sov_up 1\n", "text/plain")


async def broken() -> Page:
    raise RuntimeError("the detail")


@asynccontextmanager
async def serving(
    directory: Path, ca: TestCa, counts: monitoring.Counts = lambda _name, _facts: True
) -> AsyncGenerator[int, None]:
    pki.save(directory, ca.control_plane())
    server = MonitorServer(
        directory, Admission(TD, counts), {"/metrics": greeting, "/broken": broken}
    )
    try:
        yield await server.start("127.0.0.1", 0)
    finally:
        await server.close()


async def test_a_monitor_reads(tmp_path: Path) -> None:
    ca = TestCa()
    async with serving(tmp_path, ca) as port:
        answer = await https.get(port, "/metrics", ca.issue(MONITOR))
        assert (answer.status, answer.body) == (200, "sov_up 1\n")
        assert (await https.get(port, "/metrics?x=1", ca.issue(MONITOR))).status == 200
        assert (await https.get(port, "/else", ca.issue(MONITOR))).status == 404


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://sov.example/operator/olga",
        "spiffe://sov.example/tenant/trust-a/user/ada",
        "spiffe://sov.example/site/exch-a/agent",
        "spiffe://sov.example/site/exch-a/node/n01",
        "spiffe://other.example/monitor/prom",
        "spiffe://sov.example/monitor/",
        "https://sov.example/monitor/prom",
    ],
)
async def test_everybody_else_is_refused_before_the_path_is_looked_at(
    tmp_path: Path, uri: str
) -> None:
    ca = TestCa()
    async with serving(tmp_path, ca) as port:
        for path in ("/metrics", "/else"):
            answer = await https.get(port, path, ca.issue(uri))
            assert answer.status == 403
            assert "sov_up" not in answer.body


async def test_without_a_certificate_of_the_ca_there_is_no_connection(tmp_path: Path) -> None:
    ca = TestCa()
    stranger = TestCa().issue(MONITOR)
    disguised = pki.Identity(stranger.key_pem, stranger.chain_pem, ca.trust_pem)
    expired = ca.issue(MONITOR, until_ms=FROM_MS + 1000)
    async with serving(tmp_path, ca) as port:
        for identity in (None, disguised, expired):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await https.get(port, "/metrics", identity, trust_pem=ca.trust_pem)


async def test_a_revoked_monitor_is_refused(tmp_path: Path) -> None:
    ca = TestCa()
    revoked: set[str] = set()
    async with serving(tmp_path, ca, lambda name, _facts: name.path not in revoked) as port:
        assert (await https.get(port, "/metrics", ca.issue(MONITOR))).status == 200
        revoked.add("/monitor/prom")
        assert (await https.get(port, "/metrics", ca.issue(MONITOR))).status == 403


async def test_a_page_that_fails_tells_nothing_of_why(tmp_path: Path) -> None:
    ca = TestCa()
    async with serving(tmp_path, ca) as port:
        answer = await https.get(port, "/broken", ca.issue(MONITOR))
        assert (answer.status, answer.body) == (500, "see the log\n")
        assert (await https.get(port, "/metrics", ca.issue(MONITOR))).status == 200


@pytest.mark.parametrize(
    "request_bytes", [b"POST /metrics HTTP/1.1\r\n\r\n", b"GET\r\n\r\n", b"\x00\r\n\r\n"]
)
async def test_what_is_no_get_is_refused(tmp_path: Path, request_bytes: bytes) -> None:
    ca = TestCa()
    async with serving(tmp_path, ca) as port:
        context = https.context_of(ca.issue(MONITOR), ca.trust_pem)
        assert (await https.send_with(context, port, request_bytes)).status == 405


async def test_a_request_without_end_is_not_read(tmp_path: Path) -> None:
    ca = TestCa()
    async with serving(tmp_path, ca) as port:
        context = https.context_of(ca.issue(MONITOR), ca.trust_pem)
        with pytest.raises((ssl.SSLError, ConnectionError, ValueError)):
            await https.send_with(context, port, b"x" * 100_000)
        assert (await https.get(port, "/metrics", ca.issue(MONITOR))).status == 200


async def test_a_renewed_identity_is_taken_up_at_the_next_handshake(tmp_path: Path) -> None:
    old, new = TestCa(), TestCa()
    async with serving(tmp_path, old) as port:
        assert (await https.get(port, "/metrics", old.issue(MONITOR))).status == 200
        pki.save(tmp_path, new.control_plane())
        assert (await https.get(port, "/metrics", new.issue(MONITOR))).status == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await https.get(port, "/metrics", old.issue(MONITOR))
        (tmp_path / pki.IDENTITY_FILE).write_bytes(b"torn")
        assert (await https.get(port, "/metrics", new.issue(MONITOR))).status == 200
