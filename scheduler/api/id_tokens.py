"""Whether an ID token counts: OpenID Connect Core 1.0, section 3.1.3.7, and what we ask beyond it.

`heading` reads what a token says of itself before it is believed, to find whose key checks it;
`checked` believes it, or refuses. The signature is the library's business; which algorithms, whose
key, for whom, since when and for which certificate key is decided here. No other module knows JOSE.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from scheduler.model.login import LoggedIn, Provider
from scheduler.model.reasons import Code, Reason, Refused
from sovshared import spiffe
from sovshared.spiffe import NameInvalid

TOKEN_CHARS_MAX = 16 * 1024
KEYS_MAX = 64
TEXT_CHARS_MAX = 255
"""Of a subject: OpenID Connect Core 1.0, section 2."""
AGE_MS_MAX = 10 * 60 * 1000
"""Somebody logs in now: a token that lay about for longer is not about that."""
SHOWN_CHARS = 120
_HEADERS = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256", "x5c"})
"""What may stand in a header. What else there is, `crit` say, would have to be understood."""

Claims = Mapping[str, Any]


def login_refused(message: str) -> Refused:
    """What stands against a login."""
    return Refused(Code.UNAUTHENTICATED, Reason.LOGIN_REFUSED, message)


@dataclass(frozen=True, slots=True)
class Heading:
    """What a token says of itself, believed by nobody yet."""

    issuer: str
    key_id: str
    algorithm: str


def heading(token: str) -> Heading:
    """Whose a token claims to be; refuses what is none."""
    if len(token) > TOKEN_CHARS_MAX:
        raise login_refused(f"token: found {len(token)} characters, allowed {TOKEN_CHARS_MAX}")
    parts = token.split(".")
    header, claims = (_object(part) for part in parts[:2]) if len(parts) == 3 else (None, None)
    if header is None or claims is None:
        raise login_refused("token: found no signed ID token, allowed a compact JWS of JSON")
    if odd := sorted(header.keys() - _HEADERS):
        raise login_refused(f"header: found {_shown(odd)}, allowed {', '.join(sorted(_HEADERS))}")
    if header.get("typ", "JWT") != "JWT":
        raise login_refused(f"typ: found {_shown(header['typ'])}, allowed an ID token's, JWT")
    return Heading(
        issuer=_text(claims, "iss"), key_id=_text(header, "kid"), algorithm=_text(header, "alg")
    )


def check_algorithm(found: Heading, provider: Provider) -> None:
    """Refuses what its provider is not declared to sign with, "none" above all."""
    if found.algorithm not in provider.algorithms:
        allowed = ", ".join(provider.algorithms)
        raise login_refused(f"alg: found {_shown(found.algorithm)}, allowed {allowed}")


def keys_in(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The keys of a JWK set (RFC 7517), by their ids; what is no key for signatures is left out.

    Of two with one id neither counts: nobody could say which was meant.
    """
    entries: object = document.get("keys")
    listed = cast("list[object]", entries)[:KEYS_MAX] if isinstance(entries, list) else []
    found: dict[str, dict[str, Any]] = {}
    twice: set[str] = set()
    for entry in listed:
        if not isinstance(entry, dict):
            continue
        key = cast("dict[str, Any]", entry)
        name = key.get("kid")
        if not isinstance(name, str) or key.get("use", "sig") != "sig":
            continue
        if name in found:
            twice.add(name)
        found[name] = {word: key[word] for word in key if word not in ("x5c", "x5u")}
    return {name: key for name, key in found.items() if name not in twice}


def checked(
    token: str, provider: Provider, key: Mapping[str, Any], now_ms: int, nonce: str
) -> LoggedIn:
    """Whom `token` vouches for. `key`: the provider's, of the token's own id; `nonce`: what names
    the key that a certificate is asked for. Refuses with what was found and what is allowed."""
    claims = _signed(token, provider, key)
    if _text(claims, "iss") != provider.issuer:
        raise login_refused(f"iss: found {_shown(claims['iss'])}, allowed {provider.issuer}")
    _check_audience(claims, provider)
    expires_at_ms = _check_times(claims, provider, now_ms)
    _check_nonce(claims, provider, nonce)
    subject = _text(claims, "sub")
    if len(subject) > TEXT_CHARS_MAX:
        raise login_refused(f"sub: found {len(subject)} characters, allowed {TEXT_CHARS_MAX}")
    found = heading(token)
    return LoggedIn(
        issuer=provider.issuer,
        country=provider.country,
        subject=subject,
        token_id=hashlib.sha256(f"{provider.issuer}\0{_signing_input(token)}".encode()).digest(),
        expires_at_ms=expires_at_ms,
        session_ms=provider.session_ms,
        names=names_of(claims, provider),
        algorithm=found.algorithm,
        key_id=found.key_id,
    )


def names_of(claims: Claims, provider: Provider) -> tuple[str, ...]:
    """The names that the provider's rules give somebody, sorted; refuses where there is none."""
    names: set[str] = set()
    odd: list[str] = []
    for rule in provider.rules:
        if not all(_has(claims, claim, value) for claim, value in rule.when):
            continue
        user: object = claims.get(rule.user)
        try:
            names.add(spiffe.parse_path(f"{rule.prefix}{user}").path)
        except NameInvalid:
            odd.append(f"{rule.user}: found {_shown(user)}, allowed a name's last word")
    if not names:
        why = f" ({'; '.join(odd)})" if odd else ""
        raise login_refused(f"no rule of {provider.issuer} gives you a name here{why}")
    return tuple(sorted(names))


def _signed(token: str, provider: Provider, key: Mapping[str, Any]) -> Claims:
    """The claims, their signature verified with this key and one of the declared algorithms."""
    try:
        keys = KeySet.import_key_set({"keys": [dict(key)]})
        found = jws.deserialize_compact(token, keys, algorithms=list(provider.algorithms))
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise login_refused(f"signature: {type(error).__name__}: it does not hold") from error
    claims = _json_object(found.payload)
    if claims is None:
        raise login_refused("token: found no claims, allowed a JSON object")
    return claims


def _check_audience(claims: Claims, provider: Provider) -> None:
    known = _listed(claims.get("aud"))
    if provider.audience not in known:
        raise login_refused(f"aud: found {_shown(claims.get('aud'))}, allowed {provider.audience}")
    # A token for several was asked for by one of them, and that one must be ours.
    party: object = claims.get("azp", None if len(known) > 1 else provider.audience)
    if party != provider.audience:
        raise login_refused(f"azp: found {_shown(party)}, allowed {provider.audience}")


def _check_times(claims: Claims, provider: Provider, now_ms: int) -> int:
    """When it expires; refuses what has, or is of another time."""
    expires_ms, issued_ms = _moment_ms(claims, "exp"), _moment_ms(claims, "iat")
    skew_ms = provider.skew_ms
    if now_ms >= expires_ms + skew_ms:
        raise login_refused(f"exp: found {(now_ms - expires_ms) // 1000} s ago: it has expired")
    if issued_ms > now_ms + skew_ms:
        raise login_refused(f"iat: found {(issued_ms - now_ms) // 1000} s ahead of our clock")
    if issued_ms < now_ms - AGE_MS_MAX - skew_ms:
        raise login_refused(
            f"iat: found {(now_ms - issued_ms) // 1000} s ago, allowed {AGE_MS_MAX // 1000}"
        )
    if "nbf" in claims and _moment_ms(claims, "nbf") > now_ms + skew_ms:
        raise login_refused("nbf: it does not count yet")
    return expires_ms + skew_ms


def _check_nonce(claims: Claims, provider: Provider, nonce: str) -> None:
    found: object = claims.get("nonce")
    if found is None and not provider.nonce_required:
        return
    if found != nonce:
        allowed = "the digest of the key that a certificate is asked for"
        raise login_refused(f"nonce: found {_shown(found)}, allowed {allowed}")


def _moment_ms(claims: Claims, name: str) -> int:
    found: object = claims.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise login_refused(f"{name}: found {_shown(found)}, allowed seconds since 1970")
    return int(found * 1000)


def _has(claims: Claims, name: str, value: str) -> bool:
    """Whether a claim is this text, or lists it. Numbers and truth values are as JSON has them."""
    return any(_as_text(each) == value for each in _listed(claims.get(name)))


def _listed(value: object) -> list[object]:
    """What a claim lists; the claim itself where it is no list."""
    return cast("list[object]", value) if isinstance(value, list) else [value]


def _as_text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, bool | int) else None


def _text(found: Mapping[str, Any], name: str) -> str:
    value: object = found.get(name)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise login_refused(f"{name}: found {_shown(value)}, allowed text")
    return value


def _signing_input(token: str) -> str:
    """What is signed: a signature may be written in several ways, and a token serves once."""
    return token.rpartition(".")[0]


def _object(part: str) -> dict[str, Any] | None:
    """The JSON object that base64url spells, if it does."""
    try:
        return _json_object(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        return None


def _json_object(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _shown(value: object) -> str:
    return "nothing" if value is None else repr(value)[:SHOWN_CHARS]
