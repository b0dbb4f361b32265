"""A dry run and the real thing say the same: they share admission and planner."""

from __future__ import annotations

from typing import Any

import pytest

from sovctl import RefusedError, Residency
from tests.e2e.local import GB, LIFE, LONDON, NARVIK, SLOUGH, World, spec

SITES = (LONDON, NARVIK, SLOUGH)

REFUSED: dict[str, dict[str, Any]] = {
    "more nodes than any site may hold": {"nodes": 2, "gpus": 8},
    "a country the policy does not know": {"residency": Residency(jurisdictions=("FR",))},
    "a tier above the control plane's": {"residency": Residency(tier="SECRET")},
    "no such GPU": {"resources": {"gpu": ["H9000"]}},
    "over the project's limit for ever": {"site": NARVIK, "nodes": 2, "gpus": 8, "who": "grace"},
}


@pytest.mark.parametrize("site", [LONDON, NARVIK])
def test_what_would_run_now_runs_where_it_was_said(world: World, site: str) -> None:
    with world.settled():
        wanted = spec("exit 0", site=site)
        said = world.ada.forecast(wanted)
        assert said.job.id is None
        assert said.explanation.would_run_at == site
        assert not world.live()
        job = world.ada.submit(wanted)
        info = world.end(job)
    assert info.attempt is not None
    assert (info.state, info.attempt.site) == ("SUCCEEDED", site)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_is_refused_alike(world: World, kind: str) -> None:
    given = dict(REFUSED[kind])
    client = world.grace if given.pop("who", "") else world.ada
    wanted = spec("exit 0", **given)
    told: list[tuple[str, list[tuple[str, str, str]]]] = []
    for ask in (client.forecast, client.submit):
        with pytest.raises(RefusedError) as caught:
            ask(wanted)
        details = [(one.reason, one.detail, one.subject) for one in caught.value.details]
        told.append((caught.value.reason, sorted(details)))
    assert told[0] == told[1]
    assert told[0][1]


def test_what_would_wait_waits_for_the_same_reason(world: World) -> None:
    holder = world.run(LIFE, who=world.grace, site=GB, gpus=2)
    world.until_said(holder, "start")
    wanted = spec("exit 0", site=GB, gpus=2)
    said = world.grace.forecast(wanted)
    job = world.grace.submit(wanted)
    world.until(job, "waits", lambda info: bool(info.reason))
    asked = job.explain()
    assert said.explanation.reason == asked.reason == job.info.reason == "QUOTA_LIMIT"
    assert said.explanation.would_run_at == asked.would_run_at == ""
    assert [d.reason for d in said.explanation.quota] == [d.reason for d in asked.quota]
    world.tell(holder, "go")
    assert world.end(job).state == "SUCCEEDED"


def test_the_command_line_shows_both_alike(world: World) -> None:
    words = ("submit", "--nodes", "2", "--gpus", "8", "--", "true")
    real = world.sovctl("trust-a", *words)
    dry = world.sovctl("trust-a", "submit", "--dry-run", *words[1:])
    assert real.returncode == dry.returncode == 3

    def reasons(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith(SITES)]

    assert reasons(dry.stderr) == reasons(real.stderr) != []
