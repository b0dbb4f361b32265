"""The spool every test here gets; whatever was started in it ends with the test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.node.spool import Phase
from tests.agent.node.rig import Site, wait_until


@pytest.fixture
def site() -> Iterator[Site]:
    """A spool whose path any user may pass through."""
    root = Path(tempfile.mkdtemp(prefix="sov-"))
    root.chmod(0o711)
    made = Site(root)
    yield made
    for status in made.spool.known():
        wait_until(
            lambda key=status.key: made.spool.stop(key, 0).phase is Phase.OVER,
            f"the end of {status.key} after the test",
        )

    def gone() -> bool:  # A spare that is being killed may still make its room.
        shutil.rmtree(root, ignore_errors=True)
        return not root.exists()

    wait_until(gone, "nobody writes to the spool after the test")
