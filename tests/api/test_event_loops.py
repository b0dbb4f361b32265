"""A whole control plane on each event loop that it can be served on."""

from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.api import control_plane as control_plane_module
from tests.api.control_plane import ControlPlane
from tests.api.world import ADA, OLGA, declare, spec, submit


async def _serves(control_plane: ControlPlane) -> None:
    """Calls, the writer's thread and the planner's process all come to the loop's door."""
    async with control_plane.channel_as(OLGA) as channel:
        await declare(channel)
    async with control_plane.channel_as(ADA) as channel:
        job = await submit(channel, spec("one"))
        assert job.id


@pytest.mark.parametrize("library", ["uvloop", "asyncio"])
async def test_it_serves_and_ends_on_either_loop(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "asyncio":  # As on a platform that has no uvloop.
        (tmp_path / "uvloop.py").write_text("raise ImportError('there is none')\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with contextmanager(control_plane_module.running)(tmp_path) as control_plane:
        assert any(f"event loop: {library}" in line for line in control_plane.log)
        await _serves(control_plane)
