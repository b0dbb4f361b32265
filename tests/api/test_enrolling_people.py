"""Who lets people join in a tenant's name: its own people, and operators for the first alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scheduler.api import enrolment
from scheduler.api.identity import Caller
from scheduler.control import operator_access as access
from scheduler.control.declare import apply_tenants
from scheduler.model.identity import Claims, Clearance, Principal, Role
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.operator_access import AccessAction, AccessAsked, AccessReason
from scheduler.model.reasons import Reason, Refused
from sovshared import spiffe
from tests.api.test_ca import NOW, OLGA, Office, caller
from tests.store.builders import tenants

ADA, BEN = spiffe.tenant_user("trust-a", "ada"), spiffe.tenant_user("trust-a/radiology", "ben")
EVE = spiffe.tenant_user("uni-b", "eve")
OTTO = spiffe.operator("otto")
TRUST = TenantPath("trust-a")
VOUCHED = Claims("GB", Clearance.SC, "/operator/fay", 1 << 50)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """A CA, two organisations, and nobody of either."""
    made = Office(tmp_path)
    with made.store.transaction() as txn:
        apply_tenants(txn, person(OLGA), tenants(), reason="start", dry_run=False, now_ms=NOW)
    yield made
    made.store.close()


def person(name: spiffe.Name) -> Principal:
    return Principal(name.path, Role.OPERATOR, claims=VOUCHED)


def founded(office: Office) -> None:
    """The first person of the organisation has joined."""
    office.token(ADA, "first")
    office.join("first", ADA)


def granted(office: Office, *actions: AccessAction) -> None:
    """Two operators have agreed that one of them may do that with the tenant."""
    asked = AccessAsked(TRUST, None, actions, AccessReason.SUPPORT, "she lost her key", 0, False)
    with office.store.transaction() as txn:
        made = access.request(txn, person(OLGA), asked, NOW)
        access.approve(txn, person(OTTO), made.id, NOW)


def told(office: Office, kind: str) -> list[dict[str, Any]]:
    with office.store.read() as view:
        leaves = [leaf for leaf in view.audit.all() if leaf.kind == kind]
    assert all(leaf.tenant.startswith(TRUST) for leaf in leaves), "it is in the tenant's own log"
    return [json.loads(leaf.body) for leaf in leaves]


def test_an_operator_lets_the_first_person_of_an_organisation_join(office: Office) -> None:
    founded(office)
    assert [leaf["consent"] for leaf in told(office, "join_token_created")] == [""]


@pytest.mark.parametrize("name", [ADA, BEN, spiffe.tenant_user("trust-a", "mallory")])
def test_and_nobody_after_that(office: Office, name: spiffe.Name) -> None:
    founded(office)
    with pytest.raises(Refused) as refused:
        office.token(name, "second")
    assert refused.value.reason is Reason.ACCESS_NOT_GRANTED
    office.token(EVE, "of another organisation")


def test_a_token_that_was_made_ahead_is_worth_nothing_once_somebody_has_joined(
    office: Office,
) -> None:
    office.token(BEN, "kept")
    founded(office)
    with pytest.raises(Refused, match="token: unknown, used, expired"):
        office.join("kept", BEN)


def test_people_of_a_tenant_let_in_others_of_it_and_of_nobody_else(office: Office) -> None:
    founded(office)
    office.token(BEN, "by-ada", by=ADA)
    office.join("by-ada", BEN)
    assert told(office, "join_token_created")[-1]["consent"] == ADA.path
    for name in (EVE, OTTO, spiffe.site_agent("exch-a")):
        with pytest.raises(Refused) as refused:
            office.token(name, "x", by=ADA)
        assert refused.value.reason is Reason.PERMISSION_DENIED
    with pytest.raises(Refused):  # Ben is of one project: he lets nobody into the organisation.
        office.token(ADA, "y", by=BEN)


def test_a_tenant_vouches_for_nobody(office: Office) -> None:
    founded(office)
    asked = enrolment.TokenAsked(BEN, country="GB")
    with office.store.transaction() as txn, pytest.raises(Refused, match="operators vouch for"):
        enrolment.create_token(txn, caller(office.ca, ADA), asked, "z", NOW)


def test_with_two_operators_agreed_one_lets_somebody_in_and_the_tenant_sees_both(
    office: Office,
) -> None:
    founded(office)
    granted(office, AccessAction.ENROL)
    asking = Caller(person(OLGA), caller(office.ca, OLGA).certificate)
    with office.store.transaction() as txn:
        enrolment.create_token(txn, asking, enrolment.TokenAsked(ADA), "again", NOW)
    office.join("again", ADA)
    used = told(office, "operator_access_used")
    assert [(leaf["action"], leaf["by"]["name"]) for leaf in used] == [("ENROL", OLGA.path)]
    assert told(office, "join_token_created")[-1]["consent"] == used[0]["grant"]
    assert told(office, "operator_access_approved")[0]["by"]["name"] == OTTO.path


def test_leave_to_read_is_no_leave_to_let_anybody_in(office: Office) -> None:
    founded(office)
    granted(office, AccessAction.READ, AccessAction.CANCEL)
    with pytest.raises(Refused) as refused:
        office.token(BEN, "more", by=OLGA)
    assert refused.value.reason is Reason.ACCESS_NOT_GRANTED


def test_a_grant_to_enrol_is_for_a_tenant_and_never_for_a_job(office: Office) -> None:
    actions = (AccessAction.ENROL,)
    asked = AccessAsked(TRUST, JobId(1), actions, AccessReason.SUPPORT, "why", 0, False)
    with office.store.transaction() as txn, pytest.raises(Refused) as refused:
        access.request(txn, person(OLGA), asked, NOW)
    assert "actions" in [denial.subject for denial in refused.value.denials]
