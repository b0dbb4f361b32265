"""A control plane to talk to, an identity to talk as, and the command line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scheduler.api import ca
from sovctl import clock, config
from sovctl.cli import main
from sovshared import pki, spiffe
from tests.sovctl.control_plane import ControlPlane, Running

DOMAIN = spiffe.DEFAULT_TRUST_DOMAIN


@dataclass(frozen=True, slots=True)
class Result:
    """What a run of sovctl left."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as a document."""
        return json.loads(self.out)


def issue(authority: ca.Ca, name: spiffe.Name, directory: Path) -> Path:
    """Credentials of `name` in `directory`."""
    key = pki.new_key()
    names = ca.AltNames(ip=("127.0.0.1",)) if not name.user else ca.AltNames()
    issued = authority.issue(name, key.public_key(), names, clock.now_ms())
    pki.save(directory, pki.Identity(pki.key_to_pem(key), issued.chain_pem, issued.trust_pem))
    return directory


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the credentials of a server and of a tenant's user."""
    directory = tmp_path_factory.mktemp("identities")
    authority = ca.create(directory / "state", DOMAIN, clock.now_ms())
    issue(authority, spiffe.control_plane(), directory / "server")
    issue(authority, spiffe.tenant_user("trust-a", "ada"), directory / "ada")
    return directory


@pytest.fixture
def plane(identities: Path) -> Iterator[Running]:
    """A control plane that runs."""
    with Running(ControlPlane(), identities / "server") as running:
        yield running


@pytest.fixture
def context(plane: Running, identities: Path) -> config.Context:
    """How to reach it."""
    return config.Context(
        endpoint=f"127.0.0.1:{plane.port}",
        credentials=str(identities / "ada"),
        project="trust-a/radiology",
    )


@pytest.fixture
def sovctl(
    context: config.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Runs the command line against it."""
    path = tmp_path / "config.yaml"
    config.save(path, "test", {"test": context})
    monkeypatch.setenv("SOVCTL_CONFIG", str(path))
    return invoke


def invoke(*argv: str) -> Result:
    """One run of the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = main.run(argv, out, err)
    return Result(int(code), out.getvalue(), err.getvalue())
