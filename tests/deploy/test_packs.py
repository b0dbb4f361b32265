"""Every shipped pack over every announced site: what is not known denies, and says so itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import pytest

from deploy.fleets import verdicts
from scheduler.core.residency import permits
from scheduler.model.fleet import Site
from scheduler.model.reasons import Reason
from scheduler.model.residency import Assurance, Deny, Fact, FactKey, Permit, Policy, Requirement
from scheduler.wire.policy import policy_from_proto
from sovctl.cli.session import read_file
from sovctl.policy_file import Policy as PolicyFile

PACKS = sorted((Path(__file__).parents[2] / "deploy" / "policies").glob("*.yaml"))
NOW_MS = verdicts.JUDGED_AT_MS
HOW = {
    "deleted": Reason.FACT_MISSING,
    "expired": Reason.FACT_EXPIRED,
    "weakened": Reason.FACT_TOO_WEAK,
}


@cache
def sites() -> tuple[Site, ...]:
    """Every announced site."""
    return tuple(site for site, _ in verdicts.load().sites)


def pack(path: Path) -> Policy:
    return policy_from_proto(read_file(PolicyFile, path).to_proto())


def without(site: Site, key: FactKey, how: str) -> Site:
    """`site` with one fact deleted, expired or weakened."""

    def worse(fact: Fact) -> Fact | None:
        if fact.key is not key:
            return fact
        if how == "deleted":
            return None
        if how == "expired":
            return replace(fact, expires_at_ms=NOW_MS)
        return replace(fact, assurance=Assurance.UNSPECIFIED)

    kept = tuple(after for fact in site.facts if (after := worse(fact)) is not None)
    return replace(site, facts=kept)


def works(site: Site) -> Iterator[Requirement]:
    """Work that would like to be at `site`, and bears whatever law reaches it."""
    laws = {value for fact in site.facts for value in fact.values if len(value) == 2}
    laws |= {party.country for party in site.parents}
    country = next((f.values for f in site.facts if f.key is FactKey.COUNTRY), ())
    for tolerated, markings, kinds in product(
        ((), tuple(sorted(laws))), ((), ("SENSITIVE",)), ((), ("health",), ("personal",))
    ):
        yield Requirement(
            jurisdictions=tuple(sorted({"GB", *country})),
            markings=markings,
            tolerate_foreign_compulsion=tolerated,
            data_kinds=kinds,
        )


@pytest.mark.parametrize("path", PACKS, ids=lambda path: path.stem)
def test_no_fact_that_is_lost_opens_anything_and_each_closes_what_relied_on_it(path: Path) -> None:
    policy = pack(path)
    permitted = 0
    for site in sites():
        worse = {(k, how): without(site, k, how) for k in FactKey for how in HOW}
        for work in works(site):
            before = permits(work, site, policy, NOW_MS)
            permitted += isinstance(before, Permit)
            for (key, how), at in worse.items():
                after = permits(work, at, policy, NOW_MS)
                if isinstance(before, Deny):
                    assert isinstance(after, Deny), (site.id, key, how)
                elif key in before.relied_on:
                    assert isinstance(after, Deny), (site.id, key, how)
                    [denial] = after.denials
                    assert denial.reason is HOW[how]
                    assert denial.detail.startswith(key)
                else:
                    assert after == before
    assert permitted > 5, "a pack that permits nothing would show nothing"


@pytest.mark.parametrize("path", PACKS, ids=lambda path: path.stem)
def test_a_crown_dependency_is_not_the_united_kingdom(path: Path) -> None:
    policy = pack(path)
    britain = next(
        s for s in sites() if isinstance(permits(next(works(s)), s, policy, NOW_MS), Permit)
    )
    work = Requirement(jurisdictions=("GB",), tolerate_foreign_compulsion=("GG", "IM", "JE"))
    assert isinstance(permits(work, britain, policy, NOW_MS), Permit)
    for code in ("GG", "IM", "JE"):
        facts = tuple(
            replace(fact, values=(code,)) if fact.key is FactKey.COUNTRY else fact
            for fact in britain.facts
        )
        verdict = permits(work, replace(britain, facts=facts), policy, NOW_MS)
        assert isinstance(verdict, Deny)
        assert Reason.JURISDICTION in {denial.reason for denial in verdict.denials}


def test_the_facts_of_the_announced_fleet_are_graded_as_what_they_are() -> None:
    """Were they all unspecified, the property above would hold of nothing."""
    grades = {fact.assurance for site in sites() for fact in site.facts}
    assert grades <= {Assurance.DECLARED, Assurance.AUDITED}
    assert Assurance.DECLARED in grades
