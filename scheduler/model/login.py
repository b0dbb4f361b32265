"""Logging in by an identity provider: what operators declare of one, and who somebody is to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PersonRule:
    """Who is given a name: whose claims have all of `when`, each as the claim's value or among its
    values. The name is `prefix` and then what the claim `user` says."""

    when: tuple[tuple[str, str], ...]
    prefix: str
    user: str


@dataclass(frozen=True, slots=True)
class Provider:
    """An identity provider whose word counts here, and how far. Without rules it vouches for
    nobody."""

    issuer: str
    country: str
    """Under whose law it vouches."""
    audience: str
    """Our client id with it: tokens that were made for others do not count."""
    algorithms: tuple[str, ...]
    trust_pem: bytes
    """Its web server's CA certificates."""
    skew_ms: int
    session_ms: int
    nonce_required: bool
    """Whether its tokens must name the key that a certificate is asked for."""
    rules: tuple[PersonRule, ...]


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Whom a provider vouched for, its token checked: by which names they may be known here."""

    issuer: str
    country: str
    subject: str
    token_id: bytes
    """The digest of the token: it serves once."""
    expires_at_ms: int
    session_ms: int
    names: tuple[str, ...]
    algorithm: str
    key_id: str


Providers = Mapping[str, Provider]
"""By their issuers."""
