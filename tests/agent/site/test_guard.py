"""The guard permits only what every fact supports, and nothing when it cannot tell."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.site.guard import FactsInvalid, Guard, SiteFacts, judge, load, utc_ms
from sovapi.v1 import common_pb2 as common
from sovapi.v1.jobs_pb2 import ResidencyRequirement
from sovapi.v1.policy_pb2 import PolicyFactRule
from sovapi.v1.sitelink_pb2 import Launch
from tests.agent.site.builders import launch

NOW_MS = utc_ms("2026-11-01")
KEYS = [
    "country",
    "landlord",
    "facility_operator",
    "service_operator",
    "support_desk",
    "key_custodian",
    "sinks",
    "accreditation",
    "markings",
    "ultimate_parents",
]
RELIED_ON = [key for key in KEYS if key != "markings"]
UID = {"n01": common.ISOLATION_UID, "n02": common.ISOLATION_UID}


def fact(**more: Any) -> dict[str, Any]:
    return {"assurance": "AUDITED", "source": "audit", "expires": "2027-10-01", **more}


def site(**changed: dict[str, Any] | None) -> SiteFacts:
    """A site in London under British control, with these facts changed, or left out (None)."""
    facts = {key: fact(value="GB") for key in KEYS}
    facts["accreditation"] = fact(value="OFFICIAL")
    facts["markings"] = fact(values=["SENSITIVE"])
    parent = {"name": "Holdings plc", "country": "GB", "stake": "100%"}
    facts["ultimate_parents"] = fact(parties=[parent])
    stated = {key: value for key, value in {**facts, **changed}.items() if value is not None}
    return SiteFacts.model_validate({"site": "exch-a", "min_isolation": "pidns", "facts": stated})


def asking(**more: Any) -> Launch:
    """A launch with this residency on top of: GB, OFFICIAL, AUDITED."""
    need: dict[str, Any] = {"jurisdictions": ["GB"], "tier": common.TIER_OFFICIAL}
    need |= {"min_assurance": common.ASSURANCE_AUDITED}
    made = launch()
    made.residency.CopyFrom(ResidencyRequirement(**{**need, **more}))
    return made


def reasons(
    facts: SiteFacts, what: Launch, isolation: Mapping[str, int] | None = None
) -> list[str]:
    return [denial.reason for denial in judge(facts, what, isolation, NOW_MS)]


def aged(name: str, days: int) -> PolicyFactRule:
    return PolicyFactRule(fact=name, max_age_ms=days * 24 * 3600 * 1000)


def sure(name: str, least: common.Assurance) -> PolicyFactRule:
    return PolicyFactRule(fact=name, min_assurance=least)


def held_by(country: str, stake: str) -> dict[str, Any]:
    return fact(parties=[{"name": "Owner", "country": country, "stake": stake}])


@pytest.mark.parametrize(
    ("facts", "what", "want"),
    [
        pytest.param(site(), asking(), [], id="a British site holds British work"),
        pytest.param(site(), asking(jurisdictions=["NO"]), None, id="not work for Norway"),
        pytest.param(
            site(country=fact(value="NO")), asking(), ["JURISDICTION"], id="abroad is refused"
        ),
        pytest.param(
            site(sinks=fact(value="GB", observed="2026-10-01")),
            asking(facts=[aged("sinks", 31)]),
            [],
            id="a fact as fresh as the work asks",
        ),
        pytest.param(
            site(sinks=fact(value="GB", observed="2026-10-01")),
            asking(facts=[aged("sinks", 30)]),
            ["FACT_TOO_OLD"],
            id="a fact that is older than the work bears",
        ),
        pytest.param(
            site(),
            asking(facts=[aged("sinks", 9000)]),
            ["FACT_TOO_OLD"],
            id="a fact of no stated age is older than any",
        ),
        pytest.param(
            site(sinks=fact(value="GB", observed="2026-11-02")),
            asking(facts=[aged("sinks", 30)]),
            ["FACT_TOO_OLD"],
            id="nothing was observed tomorrow",
        ),
        pytest.param(
            site(),
            asking(facts=[sure("sinks", common.ASSURANCE_ATTESTED)]),
            ["FACT_TOO_WEAK"],
            id="one fact must be surer than the others",
        ),
        pytest.param(
            site(markings=None),
            asking(facts=[sure("markings", common.ASSURANCE_DECLARED)]),
            ["FACT_MISSING"],
            id="a fact that the work names is needed",
        ),
        pytest.param(
            site(),
            asking(facts=[sure("weather", common.ASSURANCE_DECLARED)]),
            ["FACT_MISSING"],
            id="a fact that only a newer control plane knows is missing",
        ),
        pytest.param(
            site(country=fact(value="JE")), asking(), ["JURISDICTION"], id="Jersey is not GB"
        ),
        pytest.param(
            site(ultimate_parents=held_by("US", "60%")),
            asking(),
            ["FOREIGN_COMPULSION"],
            id="a parent abroad in control is refused",
        ),
        pytest.param(
            site(ultimate_parents=held_by("US", "60%")),
            asking(tolerate_foreign_compulsion=["US"]),
            [],
            id="unless the work tolerates it",
        ),
        pytest.param(
            site(ultimate_parents=held_by("US", "25%")), asking(), [], id="a quarter is not control"
        ),
        pytest.param(
            site(ultimate_parents=held_by("US", "25.001%")),
            asking(),
            ["FOREIGN_COMPULSION"],
            id="a little more than a quarter is",
        ),
        pytest.param(
            site(ultimate_parents=held_by("US", "at most 25%")),
            asking(),
            [],
            id="a stake that is at most a quarter is not control",
        ),
        pytest.param(
            site(ultimate_parents=held_by("US", "at most 25.001%")),
            asking(),
            ["FOREIGN_COMPULSION"],
            id="a stake that may be more is",
        ),
        pytest.param(
            site(ultimate_parents=fact(parties=[])), asking(), [], id="nobody above is a statement"
        ),
        pytest.param(
            site(sinks=fact(values=["GB", "IE"])),
            asking(),
            ["FOREIGN_COMPULSION"],
            id="logs that flow abroad",
        ),
        pytest.param(
            site(),
            asking(tier=common.TIER_SECRET),
            ["TIER_ABOVE_SITE"],
            id="a tier above the site's",
        ),
        pytest.param(
            site(accreditation=fact(value="EXCELLENT")),
            asking(),
            ["TIER_ABOVE_SITE"],
            id="an accreditation nobody knows",
        ),
        pytest.param(site(), asking(markings=["SENSITIVE"]), [], id="a marking it may handle"),
        pytest.param(
            site(), asking(markings=["SENSITIVE", "NATO"]), ["MARKING"], id="one it may not"
        ),
        pytest.param(
            site(markings=None), asking(markings=["NATO"]), ["FACT_MISSING", "MARKING"], id="none"
        ),
        pytest.param(
            site(country=fact(value="CA")),
            asking(agreements=["uk-ca"]),
            ["JURISDICTION"],
            id="what was agreed opens nothing that the work does not name",
        ),
        pytest.param(site(), asking(tier=0), ["REQUIREMENT_EMPTY"], id="no tier"),
    ],
)
def test_the_guard_says_why(facts: SiteFacts, what: Launch, want: list[str] | None) -> None:
    found = reasons(facts, what)
    if want is None:
        assert "JURISDICTION" in found
    else:
        assert found == want


def test_work_that_names_no_jurisdiction_is_refused() -> None:
    assert "REQUIREMENT_EMPTY" in reasons(site(), asking(jurisdictions=[]))
    assert reasons(site(), Launch()) != []


def test_an_assurance_that_only_a_newer_control_plane_knows_is_refused() -> None:
    assert set(reasons(site(), asking(min_assurance=99), UID)) == {"FACT_TOO_WEAK"}


def test_a_node_that_isolates_too_little_is_refused() -> None:
    what = asking()
    assert reasons(site(), what, UID) == []
    assert reasons(site(), what, {**UID, "n02": common.ISOLATION_NONE}) == ["ISOLATION"]
    assert reasons(site(), what, {**UID, "n02": 0}) == ["ISOLATION"]
    what.min_isolation = common.ISOLATION_CONTAINER
    assert reasons(site(), what, UID) == ["ISOLATION", "ISOLATION"]


@given(
    key=st.sampled_from(RELIED_ON),
    how=st.sampled_from(["delete", "expire", "weaken", "empty"]),
    tolerated=st.sets(st.sampled_from(["US", "NO", "IE"])),
)
def test_a_fact_deleted_expired_weakened_or_emptied_never_permits(
    key: str, how: str, tolerated: set[str]
) -> None:
    assert reasons(site(), asking(tolerate_foreign_compulsion=sorted(tolerated))) == []
    good = site().facts[key]
    worse: dict[str, Any] | None = good.model_dump()
    if how == "delete":
        worse = None
    elif how == "expire":
        worse = {**good.model_dump(), "expires": "2026-11-01"}
    elif how == "weaken":
        worse = {**good.model_dump(), "assurance": "DECLARED"}
    elif key != "ultimate_parents":
        worse = {**good.model_dump(), "value": None, "values": []}
    else:
        return
    found = reasons(site(**{key: worse}), asking(tolerate_foreign_compulsion=sorted(tolerated)))
    assert found != []


GOOD_FILE = """
site: exch-a
facts:
  country: {value: GB, assurance: AUDITED, source: lease, expires: 2027-10-01}
"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("facts: {}", "site: Field required", id="no site"),
        pytest.param(GOOD_FILE + "  moon: {assurance: AUDITED}", "found 'moon'", id="unknown fact"),
        pytest.param(GOOD_FILE.replace("AUDITED", "SURE"), "assurance", id="unknown assurance"),
        pytest.param(GOOD_FILE.replace("2027-10-01", "soon"), "found 'soon'", id="not a date"),
        pytest.param(GOOD_FILE.replace("value: GB", "colour: red"), "colour", id="unknown field"),
        pytest.param(
            GOOD_FILE + "  ultimate_parents: {values: [US], assurance: AUDITED}",
            "facts.ultimate_parents",
            id="a parent where nobody looks",
        ),
        pytest.param(
            GOOD_FILE + "  sinks: {value: GB, assurance: AUDITED, "
            "parties: [{name: S3, country: US, stake: 1%}]}",
            "facts.sinks",
            id="a sink where nobody looks",
        ),
        pytest.param("a: &a [*a]", "allowed", id="a bomb"),
        pytest.param("- 1", "valid dictionary", id="not a map"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_what_is_allowed(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "facts.yaml"
    path.write_text(content)
    with pytest.raises(FactsInvalid, match=message):
        load(path)


def test_norway_in_a_file_is_a_country_and_not_a_falsehood(tmp_path: Path) -> None:
    path = tmp_path / "facts.yaml"
    path.write_text(GOOD_FILE.replace("GB", "NO"))
    assert load(path).facts["country"].all_values() == ("NO",)


def test_the_guard_follows_its_file_and_denies_while_it_is_unusable(tmp_path: Path) -> None:
    path = tmp_path / "facts.yaml"
    guard = Guard(path, "exch-a", lambda: NOW_MS)

    def refusal() -> str:
        verdict = guard(asking(), UID)
        return verdict.detail if verdict is not None else ""

    assert "No such file" in refusal()
    path.write_text(site().model_dump_json())  # JSON is YAML.
    assert refusal() == ""
    path.write_text("site: [")
    assert "facts.yaml" in refusal()
    path.write_text(site().model_dump_json().replace("exch-a", "exch-b"))
    assert "allowed 'exch-a'" in refusal()
    path.unlink()
    assert "No such file" in refusal()
