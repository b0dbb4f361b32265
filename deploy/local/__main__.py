"""`python -m deploy.local up | down | demo`: what `make up`, `make down` and `make demo` call."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from deploy.local.cluster import TRUST_A, Cluster, ClusterError, local_cluster
from deploy.local.daemons import DaemonError
from deploy.local.demo import StoryError, tell
from deploy.local.layout import PORT_FIRST, default_root, environment_config
from deploy.local.ray_cell import CellError
from deploy.local.runtime import RuntimeCopyError
from sovctl import SovError, config

DEMO_PORT = 7543
"""Apart from a cluster that `make up` left running."""


def main() -> int:
    """The program; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local")
    parser.add_argument("command", choices=("up", "down", "demo"))
    command: str = parser.parse_args().command
    console = Console(highlight=False)
    try:
        return {"up": up, "down": down, "demo": demo}[command](console)
    except (ClusterError, DaemonError, CellError, RuntimeCopyError, SovError, StoryError) as error:
        Console(stderr=True, highlight=False).print(f"[bold red]failed:[/] {error}", markup=True)
        return 1


def up(console: Console) -> int:
    """Starts the cluster that `down` stops, and makes sovctl find it."""
    cluster = local_cluster(default_root(), PORT_FIRST, _timed(console))
    try:
        cluster.up()
    except BaseException:
        cluster.down()
        raise
    found = config.load({"SOVCTL_CONFIG": str(cluster.sovctl_config)})
    config.save(environment_config(), TRUST_A, found.contexts)
    console.print(f"running; state and logs are in {cluster.layout.root}")
    console.print("contexts: " + ", ".join(sorted(found.contexts)) + f"; current: {TRUST_A}")
    console.print("try: .venv/bin/sovctl --context operator sites; `make down` stops everything")
    return 0


def down(console: Console) -> int:
    """Stops the cluster that `up` started. With none running it has nothing to do."""
    cluster = local_cluster(default_root(), PORT_FIRST, _timed(console))
    cluster.down()
    environment_config().unlink(missing_ok=True)
    console.print("stopped")
    return 0


def demo(console: Console) -> int:
    """A cluster of its own, the stories, and nothing left behind."""
    base = default_root().parent
    base.mkdir(exist_ok=True, parents=True)
    root = Path(tempfile.mkdtemp(prefix="sovd-", dir=base))
    cluster: Cluster = local_cluster(root, DEMO_PORT, _timed(console))
    began = time.monotonic()
    try:
        cluster.up()
        tell(cluster, console)
        console.print(f"\n[bold]That was all of it[/], in {time.monotonic() - began:.0f} s.")
    finally:
        console.print("stopping everything")
        cluster.down()
        shutil.rmtree(root, ignore_errors=True)
    return 0


def _timed(console: Console) -> Callable[[str], None]:
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:5.1f} s[/]  {text}")

    return say


if __name__ == "__main__":
    sys.exit(main())
