"""`sovctl secrets` and `sovctl keys`: what only our own key opens."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from sovctl.async_client import AsyncClient
from sovctl.cli.output import Column, Listing
from sovctl.cli.session import session_of
from sovctl.errors import ConfigError
from sovctl.link import load_trust
from sovshared import key_service, pki, sealing

KEY_ID_BYTES = 8

SecretName = Annotated[
    str, typer.Argument(metavar="NAME", help="Such as trust-a/hf: whose, then what.")
]


def set_secret(
    ctx: typer.Context,
    name: SecretName,
    file: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Its value; default: stdin.")
    ] = None,
) -> None:
    """Seal a value with our key, and keep it under a name; jobs name it in `secrets`."""
    session = session_of(ctx)
    try:
        value = file.read_bytes() if file is not None else sys.stdin.buffer.read()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    session.run(lambda client: client.set_secret(name, value))
    session.output.result({"name": name}, name, f"{name} is set")


def list_secrets(ctx: typer.Context) -> None:
    """List the names of secrets."""
    session = session_of(ctx)

    async def work(client: AsyncClient) -> list[str]:
        return [name async for name in client.secrets()]

    names = session.run(work)
    session.output.listing(
        Listing(
            columns=[Column("NAME")],
            rows=[[name] for name in names],
            documents=[{"name": name} for name in names],
            names=names,
            empty="no secrets",
        )
    )


def remove_secret(ctx: typer.Context, name: SecretName) -> None:
    """Forget a secret; what runs has it already."""
    session = session_of(ctx)
    session.run(lambda client: client.remove_secret(name))
    session.output.result({"name": name, "removed": True}, name, f"{name} is removed")


def create_keys(
    ctx: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory.")],
    ca: Annotated[
        str,
        typer.Option("--ca", metavar="FILE", help="The control plane's CA: its grants count."),
    ],
) -> None:
    """Make a file-backed key service, for tests and development.

    Name it in a context (key_service: file:DIR), and in the facts of the nodes that may
    ask it. A file DIR/withheld withholds the key; DIR/receipts.jsonl has each release.
    """
    output = session_of(ctx).output
    key_id = os.urandom(KEY_ID_BYTES).hex()
    try:
        key_service.found(directory, load_trust(ca), key_id, os.urandom(sealing.KEY_BYTES))
    except (key_service.KeysInvalid, pki.PkiInvalid) as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        raise ConfigError(f"{directory}: {error.strerror}") from None
    place = f"{key_service.SCHEME}{directory.absolute()}"
    output.result({"key_id": key_id, "key_service": place}, place, f"key_service: {place}")
