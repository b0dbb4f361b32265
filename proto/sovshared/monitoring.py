"""The HTTPS listener that monitors read: `/metrics` and the like, over mutual TLS.

Whoever shows no certificate of the CA gets no connection; whoever is not a monitor
(`/monitor/<name>`) gets 403 and nothing else. One short GET a connection, because a scraper comes
every few seconds and no sooner. The identity is read again when its file is another one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from cryptography import x509

from sovshared import pki, spiffe
from sovshared.metrics_page import CONTENT_TYPE

CONNECTIONS_MAX = 64
"""More at the same time are closed unheard."""
REQUEST_BYTES_MAX = 8 * 1024
REQUEST_S_MAX = 10
"""To send a request and take its answer."""
HANDSHAKE_S_MAX = 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """What a GET of one path answers."""

    body: bytes
    content_type: str


Render: TypeAlias = Callable[[], Awaitable[Page]]
"""Makes a page anew for each request."""
Counts: TypeAlias = Callable[[spiffe.Name, pki.CertificateFacts], bool]
"""Whether a certificate that the CA signed still counts (revocations)."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may read: monitors of one trust domain whose certificates still count."""

    trust_domain: str
    counts: Counts = lambda _name, _facts: True

    def refusal(self, certificate_der: bytes | None) -> str:
        """Why the holder of a certificate may not read; empty when it may."""
        try:
            facts = pki.facts_of(x509.load_der_x509_certificate(certificate_der or b""))
            name = spiffe.parse(facts.spiffe_id, self.trust_domain)
        except ValueError:
            return "the certificate names nobody of this trust domain"
        if name.role is not spiffe.NameRole.MONITOR:
            return f"{name.path} is no monitor"
        return "" if self.counts(name, facts) else f"{name.path} was revoked"


@asynccontextmanager
async def served(
    address: str | None, credentials: Path, trust_domain: str, metrics: Callable[[], bytes]
) -> AsyncGenerator[int | None]:
    """Serves an agent's `/metrics` at HOST:PORT, nowhere when it is None; gives the port."""
    if address is None:
        yield None
        return

    async def page() -> Page:
        return Page(metrics(), CONTENT_TYPE)

    host, _, port = address.rpartition(":")
    server = MonitorServer(credentials, Admission(trust_domain), {"/metrics": page})
    bound = await server.start(host.strip("[]"), int(port))
    _log.info("monitors may scrape port %d", bound)
    try:
        yield bound
    finally:
        await server.close()


class MonitorServer:
    """Serves pages by path to monitors."""

    def __init__(
        self, credentials: Path, admission: Admission, pages: Mapping[str, Render]
    ) -> None:
        self._admission = admission
        self._pages = dict(pages)
        self._contexts = _Contexts(credentials)
        self._server: asyncio.Server | None = None
        self._open = 0

    async def start(self, host: str, port: int) -> int:
        """Listens; answers the port, which 0 leaves to the system."""
        self._server = await asyncio.start_server(
            self._serve,
            host,
            port,
            limit=REQUEST_BYTES_MAX,
            ssl=self._contexts.listening(),
            ssl_handshake_timeout=HANDSHAKE_S_MAX,
        )
        return self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= CONNECTIONS_MAX:
                async with asyncio.timeout(REQUEST_S_MAX):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(await self._answer(head, writer.get_extra_info("ssl_object")))
                    await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # Not a request, or nobody waits for the answer.
        finally:
            self._open -= 1
            writer.close()

    async def _answer(self, head: bytes, connection: ssl.SSLObject) -> bytes:
        refusal = self._admission.refusal(connection.getpeercert(binary_form=True))
        if refusal:
            _log.info("a scrape was refused: %s", refusal)
            return response("403 Forbidden", _text(f"{refusal}\n"))
        line = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(line) != 3 or line[0] != "GET":
            return response("405 Method Not Allowed", _text("only GET\n"))
        render = self._pages.get(line[1].partition("?")[0])
        if render is None:
            return response("404 Not Found", _text(f"{', '.join(sorted(self._pages))}\n"))
        try:
            page = await render()
        except Exception:
            _log.exception("cannot make %s", line[1][:80])
            return response("500 Internal Server Error", _text("see the log\n"))
        return response("200 OK", page)


@dataclass(slots=True)
class _Contexts:
    """TLS contexts made of the identity in `directory`, the newest for each handshake."""

    directory: Path
    newest: ssl.SSLContext | None = None
    stamp: tuple[int, ...] = ()

    def listening(self) -> ssl.SSLContext:
        """The context to listen with: at each handshake it gives way to the newest one."""
        context = self._fresh()
        context.sni_callback = self._on_hello
        return context

    def _on_hello(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        try:
            stamp = self._stamp()
            if self.newest is None or stamp != self.stamp:
                self.newest, self.stamp = self._fresh(), stamp
        except (OSError, ValueError) as error:
            _log.warning("cannot read the renewed identity, keeping the old one: %s", error)
        if self.newest is not None:
            connection.context = self.newest

    def _stamp(self) -> tuple[int, ...]:
        names = (pki.IDENTITY_FILE, pki.TRUST_FILE)
        stats = [os.stat(self.directory / name) for name in names]
        return tuple(part for s in stats for part in (s.st_ino, s.st_mtime_ns, s.st_size))

    def _fresh(self) -> ssl.SSLContext:
        identity = pki.load(self.directory)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        # No resumption: each connection proves anew whose it is.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.load_verify_locations(cadata=identity.trust_pem.decode("ascii"))
        # Key and chain are one file, written in one rename: they always belong together.
        context.load_cert_chain(self.directory / pki.IDENTITY_FILE)
        return context


def response(status: str, page: Page) -> bytes:
    """A whole HTTP answer, after which the connection is closed."""
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + page.body


def _text(words: str) -> Page:
    return Page(words.encode(), "text/plain; charset=utf-8")
