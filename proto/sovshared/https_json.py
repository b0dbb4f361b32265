"""JSON from an HTTPS server that is believed by given CA certificates and no others.

Of identity providers, which are the only web servers that programs of ours ever ask. Nothing but
https; no redirect is followed, so only the host that was named is contacted; everything is bounded.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

ANSWER_BYTES_MAX = 256 * 1024
URL_CHARS_MAX = 2_048
SILENCE_S_MAX = 10.0
"""Between bytes, and until the connection stands."""
WHOLE_S_MAX = 20.0
_READ_BYTES = 16 * 1024


class HttpsFailed(Exception):
    """No answer, or none that can be used; the message says whose and why."""


def host_of(url: str) -> str:
    """The host, and the port if there is one, of an https URL without user, query or fragment;
    HttpsFailed for anything else."""
    try:
        parts = urlsplit(url)
        plain = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        plain = False
    else:
        plain = plain and "@" not in parts.netloc and not parts.query and not parts.fragment
    if not plain or len(url) > URL_CHARS_MAX or not url.isascii() or not url.isprintable():
        raise HttpsFailed(f"found {url[:200]!r}, allowed https://HOST/PATH")
    return urlsplit(url).netloc


def ask(
    url: str, trust_pem: bytes, form: Mapping[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """The status and the JSON object that a GET of `url`, or a POST of `form`, is answered with.

    Blocks, for `WHOLE_S_MAX` seconds at most. Raises HttpsFailed.
    """
    host = host_of(url)
    ends_at = time.monotonic() + WHOLE_S_MAX
    try:
        context = ssl.create_default_context(cadata=trust_pem.decode("ascii"))
        connection = http.client.HTTPSConnection(host, context=context, timeout=SILENCE_S_MAX)
        try:
            status, body = _exchange(connection, urlsplit(url).path or "/", form, ends_at)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise HttpsFailed(f"{host}: {error or type(error).__name__}") from error
    if len(body) > ANSWER_BYTES_MAX:
        raise HttpsFailed(f"{url}: found more than {ANSWER_BYTES_MAX} bytes")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise HttpsFailed(f"{url}: found status {status} and no JSON object")
    return status, cast("dict[str, Any]", found)


def _exchange(
    connection: http.client.HTTPSConnection,
    path: str,
    form: Mapping[str, str] | None,
    ends_at: float,
) -> tuple[int, bytes]:
    headers = {"Accept": "application/json"}
    if form is None:
        connection.request("GET", path, headers=headers)
    else:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request("POST", path, body=urlencode(form), headers=headers)
    response = connection.getresponse()
    body = bytearray()
    while len(body) <= ANSWER_BYTES_MAX:
        if time.monotonic() > ends_at:
            raise TimeoutError(f"found no whole answer in {WHOLE_S_MAX:.0f} s")
        part = response.read1(_READ_BYTES)
        if not part:
            break
        body += part
    return response.status, bytes(body)


def discover(issuer: str, trust_pem: bytes) -> dict[str, Any]:
    """What an OpenID provider says of itself (OpenID Connect Discovery 1.0, section 4): what calls
    itself by another name is refused. Raises HttpsFailed."""
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    status, found = ask(url, trust_pem)
    if status != http.client.OK:
        raise HttpsFailed(f"{url}: found status {status}, allowed 200")
    if found.get("issuer") != issuer:
        raise HttpsFailed(f"{url}: found issuer {str(found.get('issuer'))[:200]!r}, not {issuer}")
    return found


def endpoint(found: Mapping[str, Any], name: str, issuer: str) -> str:
    """An address that a provider gave: on the issuer's own host, or HttpsFailed."""
    url = found.get(name)
    if not isinstance(url, str) or host_of(url) != host_of(issuer):
        raise HttpsFailed(
            f"{issuer}: {name}: found {str(url)[:200]!r}, allowed one at {host_of(issuer)}"
        )
    return url
