"""What keeps a rank from starting at all: recorded as infrastructure, and nothing runs."""

from __future__ import annotations

import os

import pytest

from agent.node.spool import Cause
from tests.agent.node.rig import LEVELS, Site, needs_root
from tests.agent.node.test_shim import KEY, shell


@needs_root
def test_an_isolation_that_fails_is_infrastructure_and_nothing_runs(site: Site) -> None:
    site.start(KEY, shell("echo ran"), "uid", keep=[str(site.root / "absent")])
    end = site.end(KEY)
    assert (end.exit_code, end.cause) == (None, Cause.INFRASTRUCTURE)
    assert "isolation uid" in end.detail
    assert site.log(KEY) == ""


@pytest.mark.parametrize("level", LEVELS)
def test_a_work_directory_that_cannot_be_entered_is_infrastructure(site: Site, level: str) -> None:
    absent = str(site.root / "absent")
    site.start(KEY, shell("echo ran"), level, cwd=absent, keep=[])
    end = site.end(KEY)
    assert (end.exit_code, end.cause) == (None, Cause.INFRASTRUCTURE)
    assert absent in end.detail
    assert site.log(KEY) == ""


@needs_root
def test_a_work_directory_of_another_user_is_infrastructure(site: Site) -> None:
    home = site.prepare(KEY, shell("echo ran"), "uid")
    os.chown(home / "work", 0, 0)
    assert site.spool.open_gate(KEY)
    site.run_shim(KEY)
    end = site.end(KEY)
    assert (end.exit_code, end.cause) == (None, Cause.INFRASTRUCTURE)
    assert "Permission denied" in end.detail


def test_a_broken_spec_is_recorded_as_infrastructure(site: Site) -> None:
    home = site.prepare(KEY, shell("true"))
    (home / "spec.json").write_text("{")
    assert site.spool.open_gate(KEY)
    site.run_shim(KEY)
    assert site.end(KEY).cause is Cause.INFRASTRUCTURE
