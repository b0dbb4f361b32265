"""What the control plane is told when it starts: flags and `SOV_*` variables. Read by `__main__`
alone; everybody else takes plain values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sovshared import spiffe

STORE_SCHEMES = ("postgresql+psycopg://", "sqlite:///")
SHOWN_CHARS = 30
_COUNTRY = re.compile("[A-Z]{2}")


def _address(text: str) -> str:
    """`text`, when it is HOST:PORT; an IPv6 host stands in brackets."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"found {text!r}, allowed HOST:PORT, as in 127.0.0.1:7443")
    return text


def _words(value: object) -> object:
    """A list, also when it was given as words with commas between them."""
    if isinstance(value, str):
        return tuple(word for word in (part.strip() for part in value.split(",")) if word)
    return value


def _store_url(text: str) -> str:
    """`text`, when it is a database that the store can be on."""
    if text and not text.startswith(STORE_SCHEMES):
        scheme = text.partition("://")[0][:SHOWN_CHARS]  # What follows may hold a password.
        raise ValueError(f"found {scheme!r}, allowed a URL of {' or '.join(STORE_SCHEMES)}")
    return text


def _countries(codes: tuple[str, ...]) -> tuple[str, ...]:
    """`codes`, when each is a country's."""
    if not codes or any(not _COUNTRY.fullmatch(code) for code in codes):
        raise ValueError(f"found {','.join(codes)!r}, allowed ISO countries, as in GB")
    return codes


def _targets(entries: tuple[str, ...]) -> tuple[str, ...]:
    """`entries`, when each is a directory and the country where it is."""
    for entry in entries:
        path, _, country = entry.rpartition("=")
        if not path.startswith("/") or not _COUNTRY.fullmatch(country):
            raise ValueError(f"found {entry!r}, allowed /DIRECTORY=COUNTRY, as in /mnt/vault=GB")
    return entries


Address = Annotated[str, AfterValidator(_address)]
StoreUrl = Annotated[str, AfterValidator(_store_url)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Countries = Annotated[Words, AfterValidator(_countries)]
Targets = Annotated[Words, AfterValidator(_targets)]
TrustDomain = Annotated[str, AfterValidator(spiffe.check_trust_domain)]


class SchedulerSettings(BaseSettings):
    """Settings of `sov-scheduler serve`. A variable is `SOV_` and the field's name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="SOV_", extra="forbid", frozen=True, validate_default=True
    )

    state_dir: Path = Field(description="directory of the database, the CA and the bundles")
    listen: Address = Field("127.0.0.1:7443", description="main port: mutual TLS")
    join_listen: Address = Field("127.0.0.1:7444", description="port of Join: server TLS only")
    telemetry_listen: Address = Field("127.0.0.1:9443", description="/healthz, /readyz: plain HTTP")
    metrics_listen: Address = Field(
        "127.0.0.1:9444", description="/metrics, /sd/agents: mutual TLS, monitors alone"
    )
    trust_domain: TrustDomain = spiffe.DEFAULT_TRUST_DOMAIN
    dns_names: Words = ("localhost",)
    ip_addresses: Words = ("127.0.0.1",)
    store_url: StoreUrl = Field(
        "",
        description="a PostgreSQL database, as postgresql+psycopg://USER@HOST/NAME; empty: SQLite"
        " in the state directory",
    )
    home: Countries = Field(("GB",), description="countries of the home zone, for `backup`")
    backup_targets: Targets = Field(
        (), description="directories that `backup` may write to, each as /DIRECTORY=COUNTRY"
    )
    restored: str = Field(
        "", description="why the store is older than the log that was signed: a backup was put back"
    )
    clock_was_ahead: str = Field(
        "", description="why the store has acts of a later time than the clock's: it was ahead"
    )
    log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"
    stop_grace_ms: Annotated[int, Field(ge=0, le=300_000)] = 5_000
