"""The self-assessment says nothing without evidence, and the weakest decides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sovapi.v1 import fleet_pb2, policy_pb2
from sovctl import config
from sovctl.assessment import LABEL, NO_EVIDENCE, Sources, assess
from sovctl.cli.export_verbs import document, lines
from sovctl.config import Context
from tests.api import control_plane as control_plane_module
from tests.api.control_plane import ControlPlane
from tests.sovctl.conftest import invoke

AT_MS = 1_000
DEPLOY = Path(__file__).parents[2] / "deploy"


def fact(key: str, *values: str, assurance: int = 2, expires_at_ms: int = 0) -> fleet_pb2.Fact:
    return fleet_pb2.Fact(
        key=key,
        values=values,
        assurance=assurance,  # type: ignore[arg-type]
        asserted_by="auditor",
        expires_at_ms=expires_at_ms,
    )


def site(name: str, *facts: fleet_pb2.Fact) -> fleet_pb2.Site:
    return fleet_pb2.Site(id=name, status=fleet_pb2.SITE_STATUS_ACTIVE, facts=facts)


def sources(**changes: Any) -> Sources:
    found: dict[str, Any] = {
        "at_ms": AT_MS,
        "policy": policy_pb2.Policy(revision=1, allowed_jurisdictions=["GB"], min_assurance=2),  # type: ignore[arg-type]
        "sites": [],
        "nodes": [],
        "leaves": {},
        "checkpoint": None,
        "certificates": [],
        "gaps": 0,
        "dependencies": [],
    }
    return Sources(**{**found, **changes})


@pytest.mark.parametrize(
    ("facts", "level", "met"),
    [
        pytest.param([fact("country", "GB", assurance=3)], 3, True, id="attested"),
        pytest.param([fact("country", "GB", assurance=1)], 1, False, id="declared, audited asked"),
        pytest.param([fact("country", "FR", assurance=4)], 0, False, id="not at home"),
        pytest.param([fact("country", "GB", expires_at_ms=AT_MS)], 0, False, id="expired"),
        pytest.param([fact("country", "GB")] * 2, 0, False, id="stated twice"),
        pytest.param([], 0, False, id="missing"),
    ],
)
def test_a_level_is_what_may_be_relied_on(
    facts: list[fleet_pb2.Fact], level: int, met: bool
) -> None:
    where = assess(sources(sites=[site("exch-a", *facts)])).objectives[0]
    assert (where.level, where.met) == (level, met)


def test_the_weakest_site_is_named_and_decides() -> None:
    good = site("exch-a", fact("country", "GB", assurance=4))
    weak = site("exch-b", fact("country", "GB", assurance=1))
    where = assess(sources(sites=[good, weak])).objectives[0]
    assert (where.level, where.weakest) == (1, "fact country of exch-b: GB (DECLARED, by auditor)")


def test_one_node_that_nobody_measured_is_the_level_of_all() -> None:
    measured = fleet_pb2.NodeFact(
        fact=fleet_pb2.Fact(key="location", values=["PROVED_IN", "GB"], assurance=4)  # type: ignore[arg-type]
    )
    nodes = [fleet_pb2.Node(id="a/n01", facts=[measured]), fleet_pb2.Node(id="a/n02")]
    found = {each.name: each for each in assess(sources(nodes=nodes)).objectives}
    located = found["where nodes were measured"]
    assert (located.level, located.weakest) == (0, "fact location of a/n02")
    assert assess(sources(nodes=nodes[:1])).objectives[-2].level == 4


def test_with_nothing_to_show_every_principle_says_so() -> None:
    empty = assess(sources(policy=policy_pb2.Policy()))
    assert [principle.number for principle in empty.principles] == list(range(1, 15))
    said = {statement.text for p in empty.principles for statement in p.statements}
    assert said == {NO_EVIDENCE}
    assert all(each.level == 0 for each in empty.objectives)


def test_every_sentence_names_its_evidence() -> None:
    found = assess(sources(leaves={"policy_in_force": (3, 41)}, sites=[site("exch-a")]))
    for principle in found.principles:
        for statement in principle.statements:
            assert statement.shown is (statement.text != NO_EVIDENCE)
    governance = found.principles[3].statements[0]
    assert governance.evidence == ("audit leaf 41: the newest of 3 policy_in_force",)


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    yield from control_plane_module.running(tmp_path_factory.mktemp("control-plane"))


def test_it_is_made_of_what_a_real_control_plane_shows(
    control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yaml"
    operator = Context(
        endpoint=control_plane.endpoint, credentials=str(control_plane.operator_credentials)
    )
    config.save(path, "op", {"op": operator})
    monkeypatch.setenv("SOVCTL_CONFIG", str(path))
    assert invoke("fleet", "apply", str(DEPLOY / "fleets" / "demo.yaml")).code == 0
    found = invoke("export", "self-assessment", "-o", "json")
    assert found.code == 0, found.err
    told = found.json()
    assert (told["kind"], told["label"]) == ("self-assessment", LABEL)
    assert len(told["principles"]) == 14
    assert any("exch-" in reference for reference in told["objectives"][0]["evidence"])
    page = invoke("export", "self-assessment", "--file", str(tmp_path / "page.txt"))
    assert page.code == 0, page.err
    written = (tmp_path / "page.txt").read_text()
    assert LABEL in written
    assert "14. Secure use of the service" in written
    assert "asked" in page.out


def test_the_page_and_the_document_say_the_same() -> None:
    found = assess(sources(sites=[site("exch-a", fact("country", "GB"))], refused=("the log",)))
    page = "\n".join(lines(found))
    assert "where work is: AUDITED, asked AUDITED: met" in page
    assert "Not looked at, because this caller may not: the log." in page
    assert document(found)["policy_revision"] == 1
