"""GET /metrics over mutual TLS, for monitors and nobody else.

Who shows no certificate of our CA does not get past the handshake; who shows one that is not a
`/monitor/<name>` is refused with 403. The page is made by whoever serves it; nothing is measured
when it is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from cryptography import x509

from sovshared import pki, spiffe
from sovshared.metrics_page import CONTENT_TYPE

REQUEST_BYTES_MAX = 8 * 1024
REQUEST_S_MAX = 30.0
"""Between requests on one connection too: monitors that keep it open come this often or again."""
HANDSHAKE_S_MAX = 10.0
CONNECTIONS_MAX = 32

_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def served(
    address: str | None, credentials: Path, trust_domain: str, page: Callable[[], bytes]
) -> AsyncGenerator[Callable[[], None]]:
    """Serves `page` at `address`, nowhere when it is None; answers what to call on a renewal."""
    if address is None:
        yield lambda: None
        return
    server = MetricsServer(credentials, trust_domain, page)
    port = await server.start(address)
    _log.info("monitors may scrape port %d", port)
    try:
        yield server.reload
    finally:
        await server.close()


class MetricsServer:
    """Serves one page."""

    def __init__(self, credentials: Path, trust_domain: str, page: Callable[[], bytes]) -> None:
        self._credentials = credentials
        self._trust_domain = trust_domain
        self._page = page
        self._context: ssl.SSLContext | None = None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, address: str) -> int:
        """Listen at HOST:PORT; the port, which 0 leaves to the system."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.verify_mode = ssl.CERT_REQUIRED
        self.reload()
        host, _, port = address.rpartition(":")
        self._server = await asyncio.start_server(
            self._serve,
            host.strip("[]"),
            int(port),
            limit=REQUEST_BYTES_MAX,
            ssl=self._context,
            ssl_handshake_timeout=HANDSHAKE_S_MAX,
        )
        return self._server.sockets[0].getsockname()[1]

    def reload(self) -> None:
        """Take up a renewed identity; connections made from now on see it."""
        assert self._context is not None, "start comes first"
        pki.load(self._credentials)  # Refuses files that do not belong together.
        self._context.load_cert_chain(self._credentials / pki.IDENTITY_FILE)
        self._context.load_verify_locations(self._credentials / pki.TRUST_FILE)

    async def close(self) -> None:
        """Stop listening, and end what is open."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._open.add(task)
        try:
            refusal = self._refusal(writer)
            while await self._answer(reader, writer, refusal):
                pass
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # Not a request, or nobody waits for the answer.
        finally:
            self._open.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _refusal(self, writer: asyncio.StreamWriter) -> str:
        """Why the caller may not ask; empty when it may."""
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        try:
            facts = pki.facts_of(x509.load_der_x509_certificate(der or b""))
            name = spiffe.parse(facts.spiffe_id, self._trust_domain)
        except ValueError as error:
            return f"client certificate: {error}"
        if name.role is not spiffe.NameRole.MONITOR:
            return f"found {name.path}, allowed /monitor/<name>"
        return ""

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, refusal: str
    ) -> bool:
        """Answer one request; whether another may follow."""
        async with asyncio.timeout(REQUEST_S_MAX):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, _, fields = head.partition("\r\n")
        words = line.split(" ")
        keep = words[-1] == "HTTP/1.1" and "connection: close" not in fields.lower()
        if len(words) != 3:
            status, body, keep = "400 Bad Request", b"not a request\n", False
        elif refusal:
            _log.warning("a scrape was refused: %s", refusal)
            status, body, keep = "403 Forbidden", f"{refusal}\n".encode(), False
        elif words[0] != "GET":
            status, body, keep = "405 Method Not Allowed", b"only GET\n", False
        elif words[1].partition("?")[0] != "/metrics":
            status, body = "404 Not Found", b"/metrics\n"
        else:
            status, body = "200 OK", self._page()
        content_type = CONTENT_TYPE if status == "200 OK" else "text/plain; charset=utf-8"
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
            f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        return keep
