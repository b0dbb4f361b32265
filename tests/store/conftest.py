"""A database of each dialect. Adding one here runs the whole contract on it."""

from collections.abc import Generator
from pathlib import Path

import pytest

from scheduler.store.store import Store
from tests.store.builders import CODEC, salts


@pytest.fixture(params=["sqlite"])
def dialect(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    assert request.param == "sqlite"
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture
def store(dialect: str) -> Generator[Store]:
    """An open store, whose holder leads."""
    opened = Store(dialect, salts=salts(), codec=CODEC)
    opened.open()
    yield opened
    opened.close()
