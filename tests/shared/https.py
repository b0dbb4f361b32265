"""A small HTTPS client with a certificate, for tests of what monitors read."""

import asyncio
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sovshared import pki

ANSWER_S_MAX = 60


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: str


def context_of(identity: pki.Identity | None, trust_pem: bytes) -> ssl.SSLContext:
    """A client's context. Whom it talks to is not checked by name: tests dial their own ports."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=trust_pem.decode())
    if identity is not None:
        with tempfile.TemporaryDirectory() as directory:
            pki.save(Path(directory), identity)
            context.load_cert_chain(Path(directory) / pki.IDENTITY_FILE)
    return context


async def get(
    port: int, path: str, identity: pki.Identity | None, *, trust_pem: bytes = b""
) -> Answer:
    """GET `path` as `identity`; None shows no certificate."""
    trust = identity.trust_pem if identity is not None else trust_pem
    return await get_with(context_of(identity, trust), port, path)


async def get_with(context: ssl.SSLContext, port: int, path: str) -> Answer:
    """GET `path` with a context."""
    return await send_with(context, port, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


async def send_with(context: ssl.SSLContext, port: int, request: bytes) -> Answer:
    """Send bytes as they are; a connection that ends without an answer raises."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )
    try:
        writer.write(request)
        text = (await asyncio.wait_for(reader.read(), ANSWER_S_MAX)).decode()
    finally:
        writer.close()
    if not text:
        raise ConnectionResetError("closed without an answer")
    head, _, body = text.partition("\r\n\r\n")
    lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return Answer(int(lines[0].split(" ")[1]), {k.lower(): v for k, v in headers.items()}, body)
