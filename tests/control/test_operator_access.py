"""Operators' access to tenants' data: two persons, a time, and a tenant who sees all of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from scheduler.control import operator_access as access
from scheduler.model.identity import Claims, Clearance, Principal, Role
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.job import JobState
from scheduler.model.operator_access import (
    AccessAction,
    AccessAsked,
    AccessGrant,
    AccessPolicy,
    AccessReason,
    AccessState,
)
from scheduler.model.reasons import Reason, Refused
from scheduler.store.store import Txn
from tests.control.plant import ADA, EVE, Plant
from tests.store.builders import RADIOLOGY

TRUST = TenantPath("trust-a")
FOUNDER = "/operator/fay"
FOR_EVER_MS = 1 << 50
GB_SC = Claims("GB", Clearance.SC, FOUNDER, FOR_EVER_MS)
OTTO = Principal("/operator/otto", Role.OPERATOR, claims=GB_SC)
OLGA = Principal("/operator/olga", Role.OPERATOR, claims=GB_SC)
ASKED = AccessAsked(
    tenant=TRUST,
    job=None,
    actions=(AccessAction.READ, AccessAction.CANCEL),
    reason=AccessReason.SUPPORT,
    detail="ticket 4711",
    ttl_ms=60_000,
    break_glass=False,
)


def ask(plant: Plant, by: Principal = OTTO, **other: Any) -> AccessGrant:
    with plant.store.transaction() as txn:
        return access.request(txn, by, replace(ASKED, **other), plant.now_ms)


def approve(plant: Plant, grant: AccessGrant, by: Principal = OLGA) -> AccessGrant:
    with plant.store.transaction() as txn:
        return access.approve(txn, by, grant.id, plant.now_ms)


def look(
    plant: Plant, job: JobId, by: Principal = OTTO, action: AccessAction = AccessAction.READ
) -> Principal:
    name = plant.codec.encode(job)
    with plant.store.transaction() as txn:
        return access.eyes(txn, plant.codec, by, name, action, plant.now_ms)


def why_not(plant: Plant, job: JobId, by: Principal = OTTO, **more: Any) -> Reason:
    with pytest.raises(Refused) as refused:
        look(plant, job, by, **more)
    return refused.value.reason


def set_policy(plant: Plant, **policy: Any) -> None:
    with plant.store.transaction() as txn:
        access.set_policy(txn, ADA, AccessPolicy(TRUST, **policy), plant.now_ms)


def told(plant: Plant, tenant: TenantPath = TRUST) -> list[dict[str, Any]]:
    """What the tenant's log says of access."""
    with plant.store.read() as view:
        leaves = view.audit.page(first=0, limit=1000)
    return [
        json.loads(leaf.body)
        for leaf in leaves
        if leaf.kind.startswith("operator_access") and leaf.tenant.startswith(tenant)
    ]


def test_with_another_operators_word_the_one_who_asked_sees_what_the_tenant_sees(
    plant: Plant,
) -> None:
    job = plant.submit()
    grant = ask(plant)
    assert why_not(plant, job) is Reason.ACCESS_NOT_GRANTED
    approve(plant, grant)
    seen = look(plant, job)
    with plant.store.read() as view:
        shown = plant.control.get(view, seen, plant.codec.encode(job))
    assert shown.spec is not None
    assert shown.name == "train"
    kinds = [leaf["kind"].removeprefix("operator_access_") for leaf in told(plant)]
    assert kinds == ["requested", "approved", "used"]
    used = told(plant)[-1]
    assert used["by"] == {"name": OTTO.path, "country": "GB", "clearance": "SC"}
    assert (used["tenant"], used["job"]) == (RADIOLOGY, plant.codec.encode(job))


def test_only_who_asked_only_what_was_asked_and_only_there(plant: Plant) -> None:
    job = plant.submit()
    other = plant.submit()
    approve(plant, ask(plant, job=job))
    assert look(plant, job).tenant == RADIOLOGY
    assert why_not(plant, other) is Reason.ACCESS_NOT_GRANTED
    assert why_not(plant, job, OLGA) is Reason.ACCESS_NOT_GRANTED
    assert why_not(plant, job, action=AccessAction.LOGS) is Reason.ACCESS_NOT_GRANTED


def test_nobody_approves_their_own_request_nor_that_of_whom_they_let_in(plant: Plant) -> None:
    grant = ask(plant)
    boss = Principal(FOUNDER, Role.OPERATOR, claims=replace(GB_SC, vouched_by="/control-plane"))
    for by in (OTTO, boss):
        with pytest.raises(Refused) as refused:
            approve(plant, grant, by)
        assert refused.value.reason is Reason.ACCESS_SAME_PERSON
    theirs = ask(plant, boss)
    with pytest.raises(Refused) as refused:
        approve(plant, theirs, OTTO)
    assert refused.value.reason is Reason.ACCESS_SAME_PERSON


def test_access_ends_at_its_time_and_when_it_is_revoked(plant: Plant) -> None:
    job = plant.submit()
    grant = approve(plant, ask(plant))
    plant.now_ms += ASKED.ttl_ms - 1
    look(plant, job)
    plant.now_ms += 1
    assert why_not(plant, job) is Reason.ACCESS_NOT_GRANTED
    again = approve(plant, ask(plant))
    look(plant, job)
    with plant.store.transaction() as txn:
        access.revoke(txn, ADA, again.id, "not now", plant.now_ms)
    assert why_not(plant, job) is Reason.ACCESS_NOT_GRANTED
    assert grant.id != again.id


def test_a_request_that_nobody_approves_lapses(plant: Plant) -> None:
    grant = ask(plant)
    plant.now_ms += access.APPROVAL_MS_MAX
    with pytest.raises(Refused) as refused:
        approve(plant, grant)
    assert refused.value.reason is Reason.ILLEGAL_TRANSITION


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param(Claims(), id="nothing is vouched for"),
        pytest.param(replace(GB_SC, country="FR"), id="another country"),
        pytest.param(replace(GB_SC, clearance=Clearance.BPSS), id="too low a clearance"),
        pytest.param(replace(GB_SC, until_ms=1), id="vouched for too long ago"),
    ],
)
def test_the_tenant_says_whom_operators_have_to_be(plant: Plant, claims: Claims) -> None:
    set_policy(plant, min_clearance=Clearance.SC)
    job = plant.submit()
    stranger = replace(OTTO, claims=claims)
    with pytest.raises(Refused) as refused:
        ask(plant, stranger)
    assert refused.value.reason is Reason.ACCESS_NOT_ALLOWED
    grant = ask(plant)
    with pytest.raises(Refused) as refused:
        approve(plant, grant, replace(OLGA, claims=claims))
    assert refused.value.reason is Reason.ACCESS_NOT_ALLOWED
    approve(plant, grant)
    # Judged at each use: an identity that is worse by now has access no more.
    assert why_not(plant, job, stranger) is Reason.ACCESS_NOT_ALLOWED


def test_a_stricter_policy_holds_for_what_was_granted_before(plant: Plant) -> None:
    job = plant.submit()
    approve(plant, ask(plant))
    look(plant, job)
    set_policy(plant, min_clearance=Clearance.DV)
    assert why_not(plant, job) is Reason.ACCESS_NOT_ALLOWED
    set_policy(plant, countries=())
    assert why_not(plant, job) is Reason.ACCESS_NOT_ALLOWED


def test_glass_is_broken_only_where_the_tenant_lets_it_and_for_minutes(plant: Plant) -> None:
    job = plant.submit()
    with pytest.raises(Refused) as refused:
        ask(plant, break_glass=True)
    assert refused.value.reason is Reason.ACCESS_NOT_ALLOWED
    set_policy(plant, break_glass=True)
    with pytest.raises(Refused) as refused:
        ask(plant, break_glass=True, ttl_ms=access.BREAK_GLASS_MS_MAX + 1)
    assert refused.value.reason is Reason.INVALID_ARGUMENT
    grant = ask(plant, break_glass=True, ttl_ms=0)
    look(plant, job)
    assert told(plant)[-2]["kind"] == "operator_access_glass_broken"
    plant.now_ms = grant.ends_at_ms
    assert why_not(plant, job) is Reason.ACCESS_NOT_GRANTED


def test_no_operator_cancels_with_its_own_eyes(plant: Plant) -> None:
    job = plant.submit()
    with pytest.raises(Refused) as refused:
        plant.cancel(job, who=OTTO)
    assert refused.value.reason is Reason.ACCESS_NOT_GRANTED
    approve(plant, ask(plant))
    seen = look(plant, job, action=AccessAction.CANCEL)
    assert plant.cancel(job, who=seen).state is JobState.CANCELLED


def test_tenants_see_what_concerns_them_and_end_only_that(plant: Plant) -> None:
    grant = ask(plant)
    with plant.store.read() as view:
        assert access.listed(view, ADA, None) == (grant,)
        assert access.listed(view, EVE, None) == ()
    with pytest.raises(Refused) as refused, plant.store.transaction() as txn:
        access.revoke(txn, EVE, grant.id, "mine", plant.now_ms)
    assert refused.value.reason is Reason.NOT_FOUND
    with plant.store.transaction() as txn:
        ended = access.revoke(txn, ADA, grant.id, "no", plant.now_ms)
    assert ended.state(plant.now_ms) is AccessState.REVOKED


def test_every_fault_of_a_request_is_told_at_once(plant: Plant) -> None:
    with pytest.raises(Refused) as refused:
        ask(
            plant,
            tenant=TenantPath("nobody"),
            actions=(),
            reason=AccessReason.UNSPECIFIED,
            detail="",
            ttl_ms=-1,
        )
    fields = [denial.subject for denial in refused.value.denials]
    assert fields == ["tenant", "actions", "reason", "detail", "ttl_ms"]


def certified(plant: Plant, job: JobId) -> dict[str, Any]:
    with plant.store.read() as view:
        held = view.certificates.of_job(job)
    assert held is not None
    return json.loads(held.statement)["predicate"]


def test_a_jobs_certificate_lists_each_time_that_an_operator_touched_it(plant: Plant) -> None:
    job, other = plant.submit(), plant.submit()
    grant = approve(plant, ask(plant))
    look(plant, job)
    plant.now_ms += 1_000
    name = plant.codec.encode(job)
    with plant.store.transaction() as txn:
        seen = access.eyes(txn, plant.codec, OTTO, name, AccessAction.CANCEL, plant.now_ms)
        plant.control.cancel(txn, seen, name, now=True, now_ms=plant.now_ms)
    plant.cancel(other, now=True)
    told = certified(plant, job)["operator_access"]
    assert [(use["action"], use["at_ms"]) for use in told] == [
        ("READ", plant.now_ms - 1_000),
        ("CANCEL", plant.now_ms),
    ]
    assert told[0] == {
        "at_ms": plant.now_ms - 1_000,
        "grant": grant.id,
        "action": "READ",
        "reason": "SUPPORT",
        "break_glass": False,
        "country": "GB",
        "clearance": "SC",
    }
    assert "otto" not in json.dumps(certified(plant, job)), "strangers see certificates"
    untouched = certified(plant, other)
    assert (untouched["operator_access"], untouched["operator_access_total"]) == ([], 0)


def test_a_use_that_was_undone_is_in_no_certificate(plant: Plant) -> None:
    job = plant.submit()
    approve(plant, ask(plant))
    name = plant.codec.encode(job)

    def fail(txn: Txn) -> None:
        with txn.savepoint():
            access.eyes(txn, plant.codec, OTTO, name, AccessAction.READ, plant.now_ms)
            raise RuntimeError("what it was used for failed")

    with plant.store.transaction() as txn, pytest.raises(RuntimeError):
        fail(txn)
    plant.cancel(job, now=True)
    assert certified(plant, job)["operator_access"] == []
