"""A control plane with two tenants and one or two British sites, without sockets."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.control.plant import Plant


@pytest.fixture
def plant(tmp_path: Path) -> Generator[Plant]:
    """A running plant: London is connected and its two nodes are ready."""
    made = Plant(tmp_path / "store.db")
    made.lay_out()
    made.connect()
    yield made
    made.store.close()
