"""The spool every test here gets; whatever was started in it ends with the test."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agent.node.spool import Phase
from tests.agent.identities import Identities
from tests.agent.node.linking import Server
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


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Site]:
    """A spool that is stopped at once when the test ends."""
    made = Site(tmp_path)
    yield made
    for status in made.spool.known():
        while made.spool.stop(status.key, 0).phase is not Phase.OVER:
            time.sleep(0.02)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """The site that the node agents dial."""
    made = Server(Identities(tmp_path / "pki", time.time_ns() // 1_000_000))  # noqa: TID251
    await made.start()
    yield made
    assert made.link is not None
    await made.link.stop()
