"""Statements from frames are those that are made whole, and what is kept of them is all."""

import json
import zlib
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.certificates import Account
from scheduler.core.data_told import Data, Egress
from scheduler.core.egress import AttemptEgress, Control
from scheduler.core.stays import Bounds, FactsThen, Interval, PolicyThen, Stay
from scheduler.model.ids import GpuClass, NodeId, SiteId, TenantPath
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import Policy, Requirement, Tier
from scheduler.model.tenancy import Share
from scheduler.store.statements import Frames, packed, statement, unpacked, whole_statement
from tests.store.builders import site

SITES = [site(), replace(site(), id=SiteId("site-b"), parents=())]
GB = Requirement(("GB",))
POLICY = PolicyThen(0, "sha256:p", Policy(revision=1, name="one"))
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TIMES = st.integers(0, 1 << 40)


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    """A time at one of two sites, of which something was known or nothing."""
    at = draw(st.sampled_from(SITES))
    nodes = (NodeId(f"{at.id}/{draw(WORDS)}"),)
    stay = Stay(draw(st.integers(1, 3)), at.id, nodes, 1, draw(TIMES), 9)
    digests = draw(st.sampled_from([(), (f"sha256:{at.id}",)]))
    denials = draw(st.sampled_from([(), (Denial(Reason.JURISDICTION, "not there"),)]))
    bounds = draw(st.sampled_from(Bounds))
    return Interval(stay, draw(TIMES), draw(TIMES), bounds, "GB", digests, 1, denials)


@st.composite
def accounts(draw: st.DrawFn) -> Account:
    """Of jobs that are alike, with what each has of its own; some with what few have."""
    egress = AttemptEgress(1, draw(st.sampled_from(Control)), draw(st.integers(0, 1)), ())
    share = Share(TenantPath("b"), "deal", GpuClass("h200"), 1, 1, since_ms=1)
    return Account(
        job=f"job-{draw(WORDS)}",
        tenant=f"tenant-{draw(WORDS)}",
        outcome=draw(st.sampled_from(["SUCCEEDED", "FAILED"])),
        reason=draw(st.sampled_from([None, Reason.CANCELLED, Reason.EXIT_NONZERO])),
        spec_digest=draw(st.sampled_from(["sha256:a", "sha256:b"])),
        bundle_digest=draw(st.sampled_from(["", "sha256:c"])),
        image=draw(st.sampled_from(["", "name@sha256:d"])),
        submitted_at_ms=draw(TIMES),
        issued_at_ms=draw(TIMES),
        requirement=draw(st.sampled_from([GB, replace(GB, tier=Tier.SECRET)])),
        policy=draw(
            st.sampled_from([POLICY, replace(POLICY, policy=Policy(revision=2, name="one"))])
        ),
        intervals=tuple(draw(st.lists(intervals(), max_size=2))),
        facts={at.id: (FactsThen(0, f"sha256:{at.id}", at),) for at in SITES},
        data=Data(egress=Egress((), (egress,))),
        shares=draw(st.sampled_from([(), (), (share,)])),
        customer_keys=draw(st.sampled_from([False, False, True])),
        tasks=draw(st.sampled_from([0, 0, 3])),
    )


@given(st.lists(st.tuples(accounts(), st.integers(1, 9), WORDS), min_size=1, max_size=12))
def test_a_statement_from_a_frame_is_the_one_made_whole(
    each: list[tuple[Account, int, str]],
) -> None:
    frames: Frames = {}
    for account, seq, prev in each:
        whole = whole_statement(account, seq, prev)
        assert statement(account, seq, prev, frames) == whole
        assert json.loads(whole)["predicate"]["tenant_seq"] == seq


def test_alike_accounts_share_a_frame() -> None:
    frames: Frames = {}
    account = _usual()
    statement(account, 1, "", frames)
    statement(replace(account, job="job-2", issued_at_ms=5), 2, "x", frames)
    assert len(frames) == 1
    statement(replace(account, requirement=replace(GB, tier=Tier.SECRET)), 3, "y", frames)
    assert len(frames) == 2


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 200))
def test_what_is_kept_is_the_statement(text: str, times: int) -> None:
    told = (text * times).encode()
    assert unpacked(packed(told)) == told
    # As earlier versions kept them.
    assert unpacked(zlib.compress(told, 1)) == told


def test_a_statement_shrinks_to_a_quarter_or_less() -> None:
    told = whole_statement(_usual(), 1, "sha256:" + "0" * 64).encode()
    assert 4 * len(packed(told)) <= len(told)


def _usual() -> Account:
    at = SITES[0]
    stay = Stay(1, at.id, (NodeId(f"{at.id}/n1"),), 1, 2, 9)
    return Account(
        job="job-0",
        tenant="tenant-0",
        outcome="SUCCEEDED",
        reason=None,
        spec_digest="sha256:a",
        bundle_digest="",
        image="",
        submitted_at_ms=0,
        issued_at_ms=9,
        requirement=GB,
        policy=POLICY,
        intervals=(Interval(stay, 1, 9, Bounds.IN_BOUNDS, "GB", (f"sha256:{at.id}",), 1, ()),),
        facts={at.id: (FactsThen(0, f"sha256:{at.id}", at),)},
    )
