"""What a certificate says of where work was, when facts and policy changed meanwhile."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.certificates import Account, predicate, verdict
from scheduler.core.stays import (
    PIECES_MAX,
    Bounds,
    FactsThen,
    PolicyThen,
    Stay,
    Verdicts,
    intervals,
)
from scheduler.model.fleet import Site, SiteStatus
from scheduler.model.ids import SiteId, node_id
from scheduler.model.reasons import Reason
from scheduler.model.residency import Assurance, Fact, FactKey, Party, Policy, Requirement, Tier

LONDON = SiteId("london")
AT_HOME = Requirement(jurisdictions=("GB",), tier=Tier.OFFICIAL)
PLACED_MS, ENDED_MS = 1_000, 9_000
STAY = Stay(1, LONDON, (node_id(LONDON, "n01"),), PLACED_MS, 1_500, ENDED_MS)
OLD = PolicyThen(0, "sha256:p1", Policy())
HOME = ("GB",)


def site(country: str = "GB", *, expires_at_ms: int | None = None, parent: str = "GB") -> Site:
    """A site whose chain is at home, but for its ultimate parent."""

    def fact(key: FactKey, *values: str) -> Fact:
        expires = expires_at_ms if key is FactKey.COUNTRY else None
        return Fact(key, values, Assurance.AUDITED, "auditor", 0, expires)

    at_home = (
        FactKey.LANDLORD,
        FactKey.FACILITY_OPERATOR,
        FactKey.SERVICE_OPERATOR,
        FactKey.SUPPORT_DESK,
        FactKey.KEY_CUSTODIAN,
        FactKey.SINKS,
    )
    facts = (
        fact(FactKey.COUNTRY, country),
        *(fact(key, "GB") for key in at_home),
        fact(FactKey.ULTIMATE_PARENTS),
        fact(FactKey.ACCREDITATION, "OFFICIAL"),
        fact(FactKey.MARKINGS),
    )
    return Site(LONDON, SiteStatus.ACTIVE, facts, (Party("owner", parent, 60_000),))


def judged(
    *history: FactsThen, policies: tuple[PolicyThen, ...] = (OLD,)
) -> list[tuple[object, ...]]:
    found = intervals(AT_HOME, [STAY], {LONDON: history}, policies, {})
    return [(each.from_ms, each.to_ms, each.bounds) for each in found]


def test_a_stay_under_one_set_of_facts_is_one_interval() -> None:
    assert judged(FactsThen(10, "sha256:a", site())) == [(PLACED_MS, ENDED_MS, Bounds.IN_BOUNDS)]


def test_a_foreign_owner_shows_from_the_moment_it_was_known() -> None:
    history = (FactsThen(10, "sha256:a", site()), FactsThen(5_000, "sha256:b", site(parent="US")))
    assert judged(*history) == [
        (PLACED_MS, 5_000, Bounds.IN_BOUNDS),
        (5_000, ENDED_MS, Bounds.OUT_OF_BOUNDS),
    ]
    (_, after) = intervals(AT_HOME, [STAY], {LONDON: history}, (OLD,), {})
    assert [denial.reason for denial in after.denials] == [Reason.FOREIGN_COMPULSION]


def test_facts_stated_anew_that_say_the_same_are_one_interval_with_both_digests() -> None:
    history = (FactsThen(10, "sha256:a", site()), FactsThen(5_000, "sha256:b", site()))
    (whole,) = intervals(AT_HOME, [STAY], {LONDON: history}, (OLD,), {})
    assert (whole.from_ms, whole.to_ms) == (PLACED_MS, ENDED_MS)
    assert whole.facts_digests == ("sha256:a", "sha256:b")


def test_a_fact_that_expires_meanwhile_ends_what_is_known_to_be_in_bounds() -> None:
    assert judged(FactsThen(10, "sha256:a", site(expires_at_ms=4_000))) == [
        (PLACED_MS, 4_000, Bounds.IN_BOUNDS),
        (4_000, ENDED_MS, Bounds.OUT_OF_BOUNDS),
    ]


def test_a_policy_that_narrows_meanwhile_counts_from_then_on() -> None:
    narrow = PolicyThen(6_000, "sha256:p2", Policy(revision=2, allowed_jurisdictions=("IM",)))
    assert judged(FactsThen(10, "sha256:a", site()), policies=(OLD, narrow)) == [
        (PLACED_MS, 6_000, Bounds.IN_BOUNDS),
        (6_000, ENDED_MS, Bounds.OUT_OF_BOUNDS),
    ]


def test_what_nobody_remembers_is_indeterminate() -> None:
    assert judged() == [(PLACED_MS, ENDED_MS, Bounds.INDETERMINATE)]
    assert judged(FactsThen(3_000, "sha256:a", site())) == [
        (PLACED_MS, 3_000, Bounds.INDETERMINATE),
        (3_000, ENDED_MS, Bounds.IN_BOUNDS),
    ]


def test_a_history_beyond_the_limit_is_not_called_known() -> None:
    count = PIECES_MAX + 10
    history = tuple(FactsThen(n, f"sha256:{n}", site()) for n in range(count))
    stay = replace(STAY, placed_at_ms=0, ended_at_ms=count)
    found = intervals(AT_HOME, [stay], {LONDON: history}, (OLD,), {})
    assert [each.bounds for each in found] == [Bounds.IN_BOUNDS, Bounds.INDETERMINATE]
    assert found[-1].to_ms == count


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(["GB", "US"])), max_size=8),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
)
def test_intervals_cover_the_stay_and_judge_every_moment_of_it(
    drawn: list[tuple[int, str]], one: int, other: int
) -> None:
    """Against the simple equivalent: what was known at a moment, judged at that moment."""
    changes = dict(sorted(drawn))
    history = tuple(FactsThen(at, f"sha256:{at}", site(parent=p)) for at, p in changes.items())
    placed, ended = sorted((one, other))
    stay = replace(STAY, placed_at_ms=placed, ended_at_ms=ended)
    found = intervals(AT_HOME, [stay], {LONDON: history}, (OLD,), {})
    assert (found[0].from_ms, found[-1].to_ms) == (placed, ended)
    for before, after in pairwise(found):
        assert before.to_ms == after.from_ms
    for moment in {placed, (placed + ended) // 2, *(at for at in changes if placed <= at < ended)}:
        known = [parent for at, parent in changes.items() if at <= moment]
        want = {"GB": Bounds.IN_BOUNDS, "US": Bounds.OUT_OF_BOUNDS}.get(known[-1] if known else "")
        (told,) = [
            each.bounds
            for each in found
            if each.from_ms <= moment < each.to_ms or each.from_ms == moment == each.to_ms
        ] or [found[-1].bounds]
        assert told == (want or Bounds.INDETERMINATE)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 100),
            st.integers(0, 100),
            st.sampled_from([None, 40, 60]),
            st.sampled_from(["GB", "US"]),
            st.booleans(),
        ),
        min_size=2,
        max_size=10,
    )
)
def test_remembered_verdicts_change_nothing(
    drawn: list[tuple[int, int, int | None, str, bool]],
) -> None:
    remembered: Verdicts = {}
    histories = {
        (expires, parent): (FactsThen(10, "sha256:a", site(expires_at_ms=expires, parent=parent)),)
        for _, _, expires, parent, _ in drawn
    }
    narrow = (OLD, PolicyThen(20, "sha256:p2", Policy(allowed_jurisdictions=("FR",))))
    for one, other, expires, parent, is_narrow in drawn:
        placed, ended = sorted((one, other))
        stay = replace(STAY, placed_at_ms=placed, ended_at_ms=ended)
        facts = {LONDON: histories[expires, parent]}
        policies = narrow if is_narrow else (OLD,)
        found = intervals(AT_HOME, [stay], facts, policies, {}, remembered)
        assert found == intervals(AT_HOME, [stay], facts, policies, {})


@pytest.mark.parametrize(
    ("held", "tasks", "want"),
    [
        ([], 0, Bounds.NOT_PLACED),
        ([], 4, Bounds.PER_TASK),
        ([Bounds.IN_BOUNDS], 0, Bounds.IN_BOUNDS),
        ([Bounds.IN_BOUNDS, Bounds.INDETERMINATE], 0, Bounds.INDETERMINATE),
        ([Bounds.INDETERMINATE, Bounds.OUT_OF_BOUNDS], 0, Bounds.OUT_OF_BOUNDS),
    ],
)
def test_the_worst_interval_decides(held: list[Bounds], tasks: int, want: Bounds) -> None:
    history = (FactsThen(10, "sha256:a", site()),)
    (one,) = intervals(AT_HOME, [STAY], {LONDON: history}, (OLD,), {})
    account = Account(
        job="j1",
        tenant="lab",
        outcome="FAILED",
        reason=None,
        spec_digest="sha256:s",
        bundle_digest="",
        image="",
        submitted_at_ms=1,
        issued_at_ms=ENDED_MS,
        requirement=AT_HOME,
        policy=OLD,
        intervals=tuple(one._replace(bounds=bounds) for bounds in held),
        facts={LONDON: history},
        tasks=tasks,
    )
    assert verdict(account) is want
    told = predicate(account, 7, "sha256:before")
    assert (told["verdict"], told["tenant_seq"], told["prev"]) == (want, 7, "sha256:before")
