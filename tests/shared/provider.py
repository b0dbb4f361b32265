"""A small OpenID provider that really runs, on loopback, for tests of what logs in by one.

It speaks discovery, JWK sets and the device authorization grant, over HTTPS with a CA of its own,
and signs with ES256 and RS256. Tokens are made by hand, with no library that the product uses for
them, so that wrong ones can be made as well.
"""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from scheduler.runtime import clock
from sovshared import pki
from tests.shared.ca import TestCa

CLIENT = "sovctl"
CODE = "WDJB-MJHT"
LIFE_S = 300


def b64(data: bytes) -> str:
    """As JOSE spells bytes."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def b64_json(document: Mapping[str, Any]) -> str:
    """As JOSE spells JSON."""
    return b64(json.dumps(document).encode())


def _number(value: int, bytes_wide: int) -> str:
    return b64(value.to_bytes(bytes_wide, "big"))


@dataclass
class SigningKey:
    """A key that signs tokens, and how it is published."""

    key_id: str
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @property
    def algorithm(self) -> str:
        return "ES256" if isinstance(self.key, ec.EllipticCurvePrivateKey) else "RS256"

    def sign(self, text: bytes) -> bytes:
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(text, padding.PKCS1v15(), hashes.SHA256())
        r, s = decode_dss_signature(self.key.sign(text, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def jwk(self) -> dict[str, str]:
        named = {"kid": self.key_id, "use": "sig", "alg": self.algorithm}
        if isinstance(self.key, rsa.RSAPrivateKey):
            public = self.key.public_key().public_numbers()
            return {**named, "kty": "RSA", "n": _number(public.n, 256), "e": _number(public.e, 3)}
        point = self.key.public_key().public_numbers()
        place = {"x": _number(point.x, 32), "y": _number(point.y, 32)}
        return {**named, "kty": "EC", "crv": "P-256", **place}


def es256(key_id: str) -> SigningKey:
    """A fresh key of the curve P-256."""
    return SigningKey(key_id, pki.new_key())


def rs256(key_id: str) -> SigningKey:
    """A fresh RSA key."""
    return SigningKey(key_id, rsa.generate_private_key(65537, 2048))


@dataclass
class Provider:
    """The provider. `issuer` is empty until it serves."""

    ca: TestCa = field(default_factory=TestCa)
    keys: list[SigningKey] = field(default_factory=lambda: [es256("k1")])
    person: dict[str, Any] | None = None
    """Claims of whoever signs in; None: nobody has yet."""
    answers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    """What the token endpoint says first, whoever signed in."""
    discovery: dict[str, Any] = field(default_factory=dict[str, Any])
    """In place of what discovery says."""
    forms: list[tuple[str, dict[str, str]]] = field(
        default_factory=list[tuple[str, dict[str, str]]]
    )
    looked_for_keys: int = 0
    issuer: str = ""

    def claims(self, nonce: str, /, **more: Any) -> dict[str, Any]:
        """The claims of a good token, some of them others."""
        now_s = clock.now_ms() // 1000
        good = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "248289761001",
            "iat": now_s,
            "exp": now_s + LIFE_S,
            "nonce": nonce,
        }
        found = {**good, **(self.person or {}), **more}
        return {name: value for name, value in found.items() if value is not None}

    def token(
        self,
        claims: Mapping[str, Any],
        *,
        key: SigningKey | None = None,
        **header: Any,
    ) -> str:
        """A token, signed by the newest key unless another is named."""
        by = key or self.keys[-1]
        said = {"alg": by.algorithm, "kid": by.key_id, "typ": "JWT", **header}
        signed = b64_json(said) + "." + b64_json(claims)
        return f"{signed}.{b64(by.sign(signed.encode()))}"

    def answer(self, path: str, form: dict[str, str] | None) -> tuple[int, dict[str, Any]]:
        """What is said to a request."""
        if form is not None:
            self.forms.append((path, form))
        match path:
            case "/realm/.well-known/openid-configuration":
                return 200, {**self._configuration(), **self.discovery}
            case "/realm/keys":
                self.looked_for_keys += 1
                return 200, {"keys": [key.jwk() for key in self.keys]}
            case "/realm/device":
                return 200, {
                    "device_code": "d-1",
                    "user_code": CODE,
                    "verification_uri": f"{self.issuer}/activate",
                    "verification_uri_complete": f"{self.issuer}/activate?code={CODE}",
                    "expires_in": 600,
                    "interval": 1,
                }
            case "/realm/token":
                return self._tokens()
            case _:
                return 404, {"error": "not_found"}

    def _configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/keys",
            "device_authorization_endpoint": f"{self.issuer}/device",
            "token_endpoint": f"{self.issuer}/token",
        }

    def _tokens(self) -> tuple[int, dict[str, Any]]:
        if self.answers:
            return 400, dict(self.answers.pop(0))
        if self.person is None:
            return 400, {"error": "authorization_pending"}
        asked = [form for path, form in self.forms if path == "/realm/device"][-1]
        return 200, {"id_token": self.token(self.claims(asked["nonce"])), "token_type": "Bearer"}


@contextmanager
def serving(provider: Provider) -> Generator[Provider]:
    """The provider, on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(*provider.answer(self.path, None))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self._say(*provider.answer(self.path, form))

        def _say(self, status: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    identity = provider.ca.issue("https://localhost", dns=("localhost",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        pki.save(Path(directory), identity)
        context.load_cert_chain(Path(directory) / pki.IDENTITY_FILE)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    provider.issuer = f"https://localhost:{server.server_address[1]}/realm"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
