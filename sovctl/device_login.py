"""The device authorization grant (RFC 8628): a person signs in with their identity provider in any
browser, and this program, which needs none, is given an ID token.

The key that a certificate is to be asked for is made before, and its digest goes along as the
token's nonce: a token that is stolen on its way serves nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sovctl.errors import PermissionDeniedError, UnavailableError
from sovshared import https_json
from sovshared.https_json import HttpsFailed

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
POLL_S_MIN, POLL_S_MAX = 1, 60
POLL_S_DEFAULT = 5  # RFC 8628, section 3.2.
SLOW_DOWN_S = 5  # Section 3.5.
WAIT_S_MAX = 30 * 60
LOST_MAX = 5
"""Answers in a row that may be lost."""
SHOWN_CHARS = 300


@dataclass(frozen=True, slots=True)
class ProviderAsked:
    """Whom we ask, and as which client of theirs."""

    issuer: str
    client_id: str
    scope: str
    trust_pem: bytes


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """What a person is to do: open `url` and say `code` there; `whole_url` says it for them, where
    the provider has one."""

    url: str
    code: str
    whole_url: str
    expires_s: int


@dataclass(frozen=True, slots=True)
class _Pending:
    shown: DeviceCode
    device_code: str
    token_url: str
    interval_s: int


async def id_token(asked: ProviderAsked, nonce: str, show: Callable[[DeviceCode], None]) -> str:
    """An ID token of whoever signs in, which has `nonce` in it; `show` tells them how.

    Raises:
        UnavailableError: The provider does not answer, or not as it should.
        PermissionDeniedError: It was declined, or nobody signed in in time.
    """
    pending = await _begun(asked, nonce)
    show(pending.shown)
    try:
        async with asyncio.timeout(pending.shown.expires_s):
            return await _signed_in(asked, pending)
    except TimeoutError:
        raise _denied("nobody signed in in time") from None


async def _begun(asked: ProviderAsked, nonce: str) -> _Pending:
    try:
        found = await asyncio.to_thread(https_json.discover, asked.issuer, asked.trust_pem)
        device_url = https_json.endpoint(found, "device_authorization_endpoint", asked.issuer)
        token_url = https_json.endpoint(found, "token_endpoint", asked.issuer)
        form = {"client_id": asked.client_id, "scope": asked.scope, "nonce": nonce}
        status, answer = await asyncio.to_thread(https_json.ask, device_url, asked.trust_pem, form)
    except HttpsFailed as error:
        raise UnavailableError(str(error), reason="UNAVAILABLE") from None
    if status != 200:
        raise _denied(f"{asked.issuer}: {_error_of(answer)}")
    shown = DeviceCode(
        url=_web(answer, "verification_uri"),
        code=_text(answer, "user_code"),
        whole_url=_web(answer, "verification_uri_complete", needed=False),
        expires_s=_seconds(answer, "expires_in", WAIT_S_MAX, 1, WAIT_S_MAX),
    )
    interval_s = _seconds(answer, "interval", POLL_S_DEFAULT, POLL_S_MIN, POLL_S_MAX)
    return _Pending(shown, _text(answer, "device_code"), token_url, interval_s)


async def _signed_in(asked: ProviderAsked, pending: _Pending) -> str:
    form = {
        "grant_type": GRANT,
        "device_code": pending.device_code,
        "client_id": asked.client_id,
    }
    interval_s, lost = pending.interval_s, 0
    while True:
        await asyncio.sleep(interval_s)
        try:
            status, answer = await asyncio.to_thread(
                https_json.ask, pending.token_url, asked.trust_pem, form
            )
        except HttpsFailed as error:
            lost += 1
            if lost >= LOST_MAX:
                raise UnavailableError(str(error), reason="UNAVAILABLE") from None
            continue
        lost = 0
        match answer.get("error") if status != 200 else None:
            case None if status == 200:
                return _text(answer, "id_token")
            case "authorization_pending":
                pass
            case "slow_down":
                interval_s = min(interval_s + SLOW_DOWN_S, POLL_S_MAX)
            case "expired_token":
                raise _denied("nobody signed in in time")
            case _:
                raise _denied(f"{asked.issuer}: {_error_of(answer)}")


def _denied(message: str) -> PermissionDeniedError:
    return PermissionDeniedError(message, reason="LOGIN_REFUSED")


def _error_of(answer: Mapping[str, Any]) -> str:
    said = [str(answer[name]) for name in ("error", "error_description") if answer.get(name)]
    return repr(": ".join(said))[:SHOWN_CHARS] if said else "it refused and did not say why"


def _text(answer: Mapping[str, Any], name: str) -> str:
    value: object = answer.get(name)
    if not isinstance(value, str) or not value or not value.isprintable():
        found = f"found {str(value)[:80]!r}, allowed text"
        raise UnavailableError(f"the provider's {name}: {found}", reason="UNAVAILABLE")
    return value


def _web(answer: Mapping[str, Any], name: str, *, needed: bool = True) -> str:
    """An address to show: https and nothing else, for somebody is going to open it."""
    if not needed and name not in answer:
        return ""
    url = _text(answer, name)
    if not url.startswith("https://"):
        found = f"found {url[:80]!r}, allowed https"
        raise UnavailableError(f"the provider's {name}: {found}", reason="UNAVAILABLE")
    return url


def _seconds(answer: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    value: object = answer.get(name, default)
    number = value if isinstance(value, int) and not isinstance(value, bool) else default
    return min(max(number, low), high)
