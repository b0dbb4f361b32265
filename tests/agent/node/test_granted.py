"""A rank starts with the grant of this very rank, here and now; with any other, nothing does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.node.asked import RankSpec
from agent.node.clock import wall_ms
from agent.node.executor import Executor, NotGranted
from agent.node.spool import Phase
from sovshared import grants
from tests.agent.node.executing import KEY, facts_at, granted, spec
from tests.agent.node.rig import Site


@pytest.fixture
def executor(site: Site) -> Executor:
    return Executor(facts_at(site))


def other_command(what: RankSpec) -> None:
    what["argv"] = ["/bin/sh", "-c", "echo another"]


def other_gpus(what: RankSpec) -> None:
    what["gpus"] = [9]


def no_grant(what: RankSpec) -> None:
    what["grant"] = ""


def no_base64(what: RankSpec) -> None:
    what["grant"] = "%"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(no_grant, grants.MISSING, id="none"),
        pytest.param(no_base64, "base64", id="no token"),
        pytest.param(other_command, grants.MISMATCHED, id="for other work"),
        pytest.param(other_gpus, grants.MISPLACED, id="for other GPUs"),
    ],
)
def test_without_its_grant_no_rank_starts(
    executor: Executor, change: Callable[[RankSpec], None], why: str
) -> None:
    executor.prepare(KEY)
    what = granted(executor.node, KEY, spec("echo ran"))
    change(what)
    with pytest.raises(NotGranted, match=why):
        executor.start(KEY, what)
    assert executor.spool.status(KEY).phase is Phase.PREPARED


@pytest.mark.parametrize(
    ("node", "key", "age_ms", "why"),
    [
        pytest.param({"slot": "n02"}, KEY, 0, grants.MISPLACED, id="another node's"),
        pytest.param({"site": "exch-b"}, KEY, 0, grants.MISPLACED, id="another site's"),
        pytest.param({}, "job-a.2.0", 0, grants.MISPLACED, id="another attempt's"),
        pytest.param({}, KEY, 3_600_000, grants.STALE, id="one that ended"),
    ],
)
def test_a_grant_for_another_place_or_time_starts_no_rank(
    executor: Executor, node: dict[str, str], key: str, age_ms: int, why: str
) -> None:
    executor.prepare(KEY)
    meant = replace(executor.node, **node)
    with pytest.raises(NotGranted, match=why):
        executor.start(KEY, granted(meant, key, spec(), now_ms=wall_ms() - age_ms))
    assert executor.spool.status(KEY).phase is Phase.PREPARED
