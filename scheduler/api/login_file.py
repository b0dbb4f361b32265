"""`login.yaml` of the state directory: which identity providers vouch for whom.

With none there, nobody logs in. Nothing is mapped by default: a person whom no rule names is
refused, whatever their provider says of them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from scheduler.api.ca import PERSON_LIFE_MS
from scheduler.api.state_files import Strict, load_yaml, matching
from scheduler.model.login import PersonRule, Provider, Providers
from sovshared import https_json, spiffe
from sovshared.pki import PEM_BYTES_MAX, PkiInvalid
from sovshared.spiffe import NameInvalid, NameRole

FILE_BYTES_MAX = 1024 * 1024
PROVIDERS_MAX = 64
RULES_MAX = 4_096
CONDITIONS_MAX = 16
SKEW_S_MAX = 300
SESSION_MINUTES_MAX = PERSON_LIFE_MS // 60_000

Algorithm = Literal["ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
"""Public-key signatures alone: with a shared key, whoever checks tokens could make them."""

_COUNTRY = re.compile(r"[A-Z]{2}")
_NAME = re.compile(r"(?P<prefix>/.+/)\{(?P<user>[A-Za-z0-9_.:/-]{1,200})\}")


def _issuer(url: str) -> str:
    try:
        https_json.host_of(url)
    except https_json.HttpsFailed as error:
        raise ValueError(str(error)) from None
    return url


def _rule_name(text: str) -> str:
    """`text`, where a claim's value in its end makes a name."""
    found = _NAME.fullmatch(text)
    prefix = found["prefix"] if found is not None else ""
    try:
        spiffe.parse_path(f"{prefix}somebody")
    except NameInvalid:
        allowed = "a path that ends in a claim, as in /tenant/trust-a/user/{preferred_username}"
        raise ValueError(f"found {text[:120]!r}, allowed {allowed}") from None
    return text


class _Rule(Strict):
    when: Annotated[dict[str, str], Field(min_length=1, max_length=CONDITIONS_MAX)]
    name: Annotated[str, AfterValidator(_rule_name)]


def _of(*roles: NameRole) -> AfterValidator:
    """Rules that give names of these roles alone."""

    def check(rules: tuple[_Rule, ...]) -> tuple[_Rule, ...]:
        for rule in rules:
            role = spiffe.parse_path(f"{rule.name.rpartition('/')[0]}/somebody").role
            if role not in roles:
                allowed = ", ".join(sorted(f"/{role}/..." for role in roles))
                raise ValueError(f"found {rule.name[:120]!r}, allowed {allowed}")
        return rules

    return AfterValidator(check)


Rules = Annotated[tuple[_Rule, ...], Field(max_length=RULES_MAX)]


class _Provider(Strict):
    issuer: Annotated[str, AfterValidator(_issuer)]
    country: Annotated[str, matching(_COUNTRY, "an ISO country, as in GB")]
    audience: Annotated[str, Field(min_length=1, max_length=200)]
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)]
    ca: Annotated[str, Field(min_length=1)]
    clock_skew_s: Annotated[int, Field(ge=0, le=SKEW_S_MAX)] = 60
    session_minutes: Annotated[int, Field(ge=5, le=SESSION_MINUTES_MAX)] = 8 * 60
    nonce: Literal["required", "optional"] = "required"
    people: Annotated[Rules, _of(NameRole.TENANT)] = ()
    operators: Annotated[Rules, _of(NameRole.OPERATOR, NameRole.AUDITOR)] = ()


def _apart(providers: tuple[_Provider, ...]) -> tuple[_Provider, ...]:
    seen = [provider.issuer for provider in providers]
    twice = sorted({issuer for issuer in seen if seen.count(issuer) > 1})
    if twice:
        raise ValueError(f"found {', '.join(twice)} more than once")
    return providers


class LoginFile(Strict):
    """The whole file."""

    providers: Annotated[
        tuple[_Provider, ...], Field(max_length=PROVIDERS_MAX), AfterValidator(_apart)
    ] = ()


def load(path: Path) -> Providers:
    """Who vouches; nobody when there is no file. Raises PkiInvalid with every fault."""
    found = load_yaml(path, LoginFile, FILE_BYTES_MAX)
    if found is None:
        return {}
    return {one.issuer: _provider(one, path) for one in found.providers}


def _provider(written: _Provider, file: Path) -> Provider:
    rules = [*written.people, *written.operators]
    split = [(rule, _NAME.fullmatch(rule.name)) for rule in rules]
    return Provider(
        issuer=written.issuer,
        country=written.country,
        audience=written.audience,
        algorithms=written.algorithms,
        trust_pem=_trust(file.parent / written.ca, file),
        skew_ms=written.clock_skew_s * 1000,
        session_ms=written.session_minutes * 60_000,
        nonce_required=written.nonce == "required",
        rules=tuple(
            PersonRule(tuple(sorted(rule.when.items())), found["prefix"], found["user"])
            for rule, found in split
            if found is not None
        ),
    )


def _trust(ca: Path, file: Path) -> bytes:
    try:
        with ca.open("rb") as opened:
            content = opened.read(PEM_BYTES_MAX + 1)
    except OSError as error:
        raise PkiInvalid(f"{file}: ca: {ca}: {error.strerror}") from error
    if len(content) > PEM_BYTES_MAX or b"BEGIN CERTIFICATE" not in content:
        raise PkiInvalid(f"{file}: ca: {ca}: found no certificate, allowed PEM")
    return content
