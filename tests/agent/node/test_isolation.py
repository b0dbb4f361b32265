"""What level a node reaches is found by trying, and too little is never taken for enough."""

from __future__ import annotations

import sys
from pathlib import Path

from agent.node import isolation
from tests.agent.node.rig import AS_ROOT, Site, marked, needs_root


@needs_root
def test_root_with_a_passable_spool_and_a_reachable_interpreter_reaches_uid(site: Site) -> None:
    python = site.root / "python"
    python.write_text("#!/bin/sh\necho interpreter ok\n")
    python.chmod(0o755)
    assert isolation.probe(site.root, python) == isolation.Reached("uid", "")
    assert [path.name for path in site.root.iterdir() if path.name.startswith(".probe")] == []


@needs_root
def test_a_spool_no_user_can_pass_to_keeps_a_node_at_pidns(site: Site) -> None:
    closed = site.root / "closed"
    closed.mkdir(mode=0o700)
    reached = isolation.probe(closed, Path(sys.executable))
    assert reached.level == "pidns"
    assert reached.why_not_more.startswith("uid: ")
    assert "Permission denied" in reached.why_not_more


@needs_root
def test_an_interpreter_no_user_can_run_keeps_a_node_at_pidns(site: Site) -> None:
    python = site.root / "python"
    python.write_text("#!/bin/sh\necho interpreter ok\n")
    python.chmod(0o700)
    reached = isolation.probe(site.root, python)
    assert reached.level == "pidns"
    assert "interpreter ok" in reached.why_not_more


def test_without_root_a_node_says_why_it_isolates_nothing(site: Site) -> None:
    reached = isolation.probe(site.root, Path(sys.executable))
    assert AS_ROOT or (reached.level == "none" and "unshare" in reached.why_not_more)
    assert marked("probe.1.0") == []
