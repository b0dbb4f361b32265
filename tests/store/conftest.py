"""A database of each dialect. Adding one here runs the whole contract on it."""

from collections.abc import Generator
from pathlib import Path

import pytest

from scheduler.store.store import Store
from tests.store.builders import CODEC, salts
from tests.store.postgres import Cluster, programs

_servers: list[Cluster] = []
"""The session's one server, once a test asked for it."""


@pytest.fixture(scope="session", autouse=True)
def servers() -> Generator[None]:
    """Ends what was started."""
    yield
    while _servers:
        _servers.pop().close()


def postgresql() -> Cluster:
    """The session's server; a skip that names the package where there is none."""
    if not _servers:
        found = programs()
        if found is None:
            pytest.skip("needs initdb: apt-get install postgresql")
        _servers.append(Cluster(found))
    return _servers[0]


@pytest.fixture(params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    return f"sqlite:///{tmp_path}/store.db" if request.param == "sqlite" else postgresql().url()


@pytest.fixture
def store(dialect: str) -> Generator[Store]:
    """An open store, whose holder leads."""
    opened = Store(dialect, salts=salts(), codec=CODEC)
    opened.open()
    yield opened
    opened.close()
