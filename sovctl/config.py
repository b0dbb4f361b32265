"""Contexts: which control plane to talk to, and as whom. Like kubeconfig, in one small file.

Two files may exist. The first that does is in force, and the contexts of both are known:

1. `<prefix>/etc/sovctl/config.yaml` of the Python environment that sovctl is installed in.
   `make up` writes it, so `.venv/bin/sovctl` talks to the local cluster while that runs.
2. `~/.config/sovctl/config.yaml` (or under `$XDG_CONFIG_HOME`).

`$SOVCTL_CONFIG` names one file that replaces both.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from sovctl.errors import ConfigError, SpecError
from sovctl.faults import check
from sovctl.spec_fields import Written
from sovctl.spec_values import refusal
from sovshared import https_json, pki, spiffe, yamlio

CONFIG_BYTES_MAX = 256 * 1024
CONTEXTS_MAX = 1000
_ENDPOINT = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]{1,253}):(\d{1,5})")


def check_endpoint(value: str) -> str:
    """`value` itself when it is HOST:PORT."""
    found = _ENDPOINT.fullmatch(value)
    if not found or not 1 <= int(found[2]) <= 65535:
        raise refusal(value, "HOST:PORT, such as control.example:7443")
    return value


Endpoint = Annotated[str, AfterValidator(check_endpoint)]


def _check_issuer(value: str) -> str:
    """`value` itself when it is an address that a provider may have."""
    try:
        https_json.host_of(value)
    except https_json.HttpsFailed:
        raise refusal(value, "https://HOST/PATH") from None
    return value


class ContextLogin(Written):
    """The identity provider that a context's owner logs in by, and as which client of it.

    `ca` has the CA certificates of the provider's web server. No others are believed.
    """

    issuer: Annotated[str, AfterValidator(_check_issuer)]
    client_id: str
    ca: str
    scope: str = "openid profile"


class Context(Written):
    """One control plane, and who we are to it.

    The identity is a directory as `sovctl join` makes it (`credentials`), or three files (`ca`,
    `certificate`, `key`). Relative paths are relative to the configuration file.
    """

    endpoint: Endpoint
    credentials: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    join_endpoint: Endpoint | None = None
    trust_domain: str = spiffe.DEFAULT_TRUST_DOMAIN
    server: Literal["control-plane", "host"] = "control-plane"
    project: str = ""
    key_service: str = ""
    """Where our key service is, such as file:DIRECTORY: bundles and secrets are sealed with it."""
    login: ContextLogin | None = None
    """Who vouches for us, where we log in: its certificates are short, and not renewed."""


class ConfigFile(Written):
    """The file as people write it."""

    current: str = ""
    contexts: Annotated[Mapping[str, Context], Field(max_length=CONTEXTS_MAX)] = {}


@dataclass(frozen=True, slots=True)
class Config:
    """All contexts known, and which file they come from. `path` is where a change is written."""

    path: Path
    current: str
    contexts: Mapping[str, Context]

    def context(self, name: str = "") -> Context:
        """The context called `name`, or the current one.

        Raises:
            ConfigError: There is none of that name, or none at all.
        """
        wanted = name or self.current
        if not self.contexts:
            raise ConfigError(
                f"no context is configured: {self.path} does not exist or has none; "
                "`sovctl join` makes one, and so does `make up`"
            )
        if not wanted:
            raise ConfigError(
                f"no context is current; choose one with --context or `sovctl context use`: "
                f"{', '.join(sorted(self.contexts))}"
            )
        if wanted not in self.contexts:
            raise ConfigError(
                f"context: found {wanted!r}, allowed {', '.join(sorted(self.contexts))}"
            )
        return self.contexts[wanted]


def environment_file() -> Path:
    """The file of the Python environment that this program runs in."""
    return Path(sys.prefix, "etc", "sovctl", "config.yaml")


def user_file(env: Mapping[str, str]) -> Path:
    """The user's own file."""
    base = env.get("XDG_CONFIG_HOME") or Path(env.get("HOME") or Path.home(), ".config")
    return Path(base, "sovctl", "config.yaml")


def load(env: Mapping[str, str] = os.environ) -> Config:
    """The configuration in force.

    Raises:
        ConfigError: A file cannot be read, or what it says is wrong.
    """
    if named := env.get("SOVCTL_CONFIG"):
        return _read(Path(named))
    files = [path for path in (environment_file(), user_file(env)) if path.is_file()]
    if not files:
        return Config(user_file(env), "", {})
    configs = [_read(path) for path in files]
    contexts: dict[str, Context] = {}
    for config in reversed(configs):
        contexts.update(config.contexts)
    current = next((config.current for config in configs if config.current), "")
    return Config(configs[0].path, current, contexts)


def _read(path: Path) -> Config:
    if not path.exists():
        return Config(path, "", {})
    try:
        document = yamlio.load(path, bytes_max=CONFIG_BYTES_MAX)
        written = check(ConfigFile, document.value or {}, str(path), document.lines)
    except yamlio.YamlInvalid as error:
        raise ConfigError(str(error)) from None
    except SpecError as error:
        raise ConfigError(error.message, details=error.details) from None
    contexts = {name: _absolute(context, path) for name, context in written.contexts.items()}
    return Config(path, written.current, contexts)


def _absolute(context: Context, path: Path) -> Context:
    """The context with its paths taken relative to the file that names them."""
    fields = ("credentials", "ca", "certificate", "key")
    found = {field: getattr(context, field) for field in fields}
    update = {
        field: str(path.absolute().parent / Path(value).expanduser())
        for field, value in found.items()
        if value
    }
    return context.model_copy(update=update)


def save(path: Path, current: str, contexts: Mapping[str, Context]) -> None:
    """Writes a configuration file, readable by its owner only."""
    content = {
        "current": current,
        "contexts": {
            name: contexts[name].model_dump(exclude_defaults=True) for name in sorted(contexts)
        },
    }
    text = "# Contexts of sovctl; `sovctl context list` shows them.\n"
    text += yamlio.dumps(content)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        pki.write_private(path, text.encode())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def use(config: Config, name: str) -> None:
    """Makes `name` the current context, in the file that is in force."""
    config.context(name)
    own = _read(config.path)
    save(config.path, name, own.contexts)


def add(config: Config, name: str, context: Context) -> None:
    """Adds or replaces a context and makes it current."""
    own = _read(config.path)
    save(config.path, name, {**own.contexts, name: context})


def identity(context: Context) -> pki.Identity:
    """The key and certificates of a context.

    Raises:
        ConfigError: They are missing or do not fit together.
    """
    files = {"ca": context.ca, "certificate": context.certificate, "key": context.key}
    try:
        if context.credentials:
            return pki.load(Path(context.credentials))
        if missing := sorted(name for name, value in files.items() if not value):
            raise ConfigError(
                f"context: found no {', '.join(missing)}, allowed credentials: DIRECTORY, "
                "or ca, certificate and key"
            )
        return pki.load_files(
            key=Path(context.key), certificate=Path(context.certificate), trust=Path(context.ca)
        )
    except pki.PkiInvalid as error:
        raise ConfigError(f"identity: {error}") from None
