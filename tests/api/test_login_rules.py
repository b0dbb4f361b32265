"""Whom an identity provider's word lets in: consent of the tenant, once for each token, no renewal,
and no way back for who was revoked. On a real store, without sockets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from scheduler.api import enrolment, login
from scheduler.api.ca import PERSON_LIFE_MS
from scheduler.api.claims import claims_of
from scheduler.api.identity import Caller, principal_of
from scheduler.api.login import LEAVES_MAX, LEAVES_MS, RefusalLeaves
from scheduler.api.provider_keys import AGAIN_FAILED_MS, AGAIN_MS, BELIEVED_MS, ProviderKeys
from scheduler.control import operator_access as access
from scheduler.control.declare import apply_tenants
from scheduler.model.identity import Claims, Principal, Role
from scheduler.model.ids import TenantPath
from scheduler.model.login import LoggedIn, Provider
from scheduler.model.operator_access import AccessPolicy
from scheduler.model.reasons import Reason, Refused
from sovshared import pki, spiffe
from sovshared.https_json import HttpsFailed
from tests.api.test_ca import NOW, OLGA, SITE, Office, caller
from tests.api.test_id_tokens import ISSUER, provider_of
from tests.store.builders import tenants

ADA, BEN = spiffe.tenant_user("trust-a", "ada"), spiffe.tenant_user("trust-a/radiology", "ben")
TRUST, RADIOLOGY = TenantPath("trust-a"), TenantPath("trust-a/radiology")
SESSION_MS = 3_600_000


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """A CA, organisations, and nobody of any."""
    made = Office(tmp_path)
    operator = Principal(OLGA.path, Role.OPERATOR)
    with made.store.transaction() as txn:
        apply_tenants(txn, operator, tenants(), reason="start", dry_run=False, now_ms=NOW)
    yield made
    made.store.close()


def vouched(name: spiffe.Name, token: str) -> LoggedIn:
    """What a good token says of somebody."""
    return LoggedIn(
        issuer=ISSUER,
        country="GB",
        subject="248289761001",
        token_id=hashlib.sha256(token.encode()).digest(),
        expires_at_ms=NOW + 60_000,
        session_ms=SESSION_MS,
        names=(name.path,),
        algorithm="ES256",
        key_id="k1",
    )


def log_in(office: Office, name: spiffe.Name, token: str = "t1", now: int = NOW) -> Caller:
    key = pki.new_key()
    asked = enrolment.request_of(pki.make_csr(key, "/"), (), ())
    with office.store.transaction() as txn:
        issued = login.login(txn, office.ca, vouched(name, token), name, asked, now)
    facts = pki.certificate_facts(issued.chain_pem)
    return Caller(principal_of(name), facts)


def consent(office: Office, tenant: TenantPath, by: spiffe.Name, *issuers: str) -> None:
    with office.store.transaction() as txn:
        asked = AccessPolicy(tenant, login_issuers=issuers)
        access.set_policy(txn, principal_of(by), asked, NOW)


def leaves(office: Office, kind: str) -> list[dict[str, Any]]:
    with office.store.read() as view:
        return [json.loads(leaf.body) for leaf in view.audit.all() if leaf.kind == kind]


def test_the_first_of_an_organisation_logs_in_and_the_log_says_by_what(office: Office) -> None:
    facts = log_in(office, ADA).certificate
    assert facts.spiffe_id == ADA.uri("sov.example")
    assert facts.not_after_ms == NOW + SESSION_MS < NOW + PERSON_LIFE_MS
    [told] = leaves(office, "certificate_issued")
    assert told["how"] == "login"
    assert (told["issuer"], told["issuer_country"]) == (ISSUER, "GB")
    assert (told["subject"], told["algorithm"], told["key_id"]) == ("248289761001", "ES256", "k1")


def test_after_that_the_organisation_says_who_vouches_for_its_people(office: Office) -> None:
    log_in(office, ADA)
    with pytest.raises(Refused, match=f"trust-a does not let {ISSUER} vouch"):
        log_in(office, BEN, "t2")
    consent(office, TRUST, ADA, "https://other.example")
    with pytest.raises(Refused, match="does not let"):
        log_in(office, BEN, "t2")
    consent(office, TRUST, ADA, "https://other.example", ISSUER)
    log_in(office, BEN, "t2")
    consent(office, RADIOLOGY, BEN)  # A project may be stricter than what is above it.
    with pytest.raises(Refused, match="trust-a/radiology does not let"):
        log_in(office, BEN, "t3")
    log_in(office, ADA, "t4")
    told = leaves(office, "operator_access_policy_set")
    assert told[1]["login_issuers"] == sorted(["https://other.example", ISSUER])


@pytest.mark.parametrize("issuer", ["http://x.example", "https://", "ada", "https://a b"])
def test_a_tenant_names_providers_by_their_addresses(office: Office, issuer: str) -> None:
    log_in(office, ADA)
    with pytest.raises(Refused, match="login_issuers"):
        consent(office, TRUST, ADA, issuer)


def test_a_token_serves_once(office: Office) -> None:
    log_in(office, OLGA)
    with pytest.raises(Refused, match="it was used before"):
        log_in(office, OLGA)
    log_in(office, OLGA, "t2")


def test_who_was_revoked_logs_in_no_more(office: Office) -> None:
    log_in(office, ADA)
    consent(office, TRUST, ADA, ISSUER)
    office.revoke(ADA, NOW + 1_000)
    with pytest.raises(Refused) as refused:
        log_in(office, ADA, "t2", NOW + 2_000)
    assert refused.value.reason is Reason.IDENTITY_REVOKED


def logged_in(office: Office, name: spiffe.Name) -> Caller:
    """Somebody with the certificate of a login."""
    found = log_in(office, name, f"of {name.path}")
    claims = Claims(vouched_by=ISSUER, until_ms=NOW + SESSION_MS)
    path, role, tenant = found.principal.path, found.principal.role, found.principal.tenant
    return Caller(Principal(path, role, tenant, claims=claims), found.certificate)


def test_a_certificate_says_that_its_owner_logged_in(office: Office) -> None:
    key = pki.new_key()
    asked = enrolment.request_of(pki.make_csr(key, "/"), (), ())
    with office.store.transaction() as txn:
        issued = login.login(txn, office.ca, vouched(ADA, "t"), ADA, asked, NOW)
    claims = claims_of(x509.load_pem_x509_certificate(issued.chain_pem))
    assert claims == Claims(vouched_by=ISSUER, until_ms=NOW + SESSION_MS)
    assert claims.logged_in


def test_who_logged_in_neither_renews_nor_lets_people_in(office: Office) -> None:
    ada = logged_in(office, ADA)
    asked = enrolment.request_of(pki.make_csr(pki.new_key(), "/"), (), ())
    with office.store.transaction() as txn, pytest.raises(Refused, match="log in again"):
        enrolment.renew(txn, office.ca, ada, asked, NOW)
    for who, name in ((ada, BEN), (logged_in(office, OLGA), spiffe.operator("mallory"))):
        with office.store.transaction() as txn, pytest.raises(Refused, match="lets no people in"):
            enrolment.create_token(txn, who, enrolment.TokenAsked(name), "s", NOW)
    with office.store.transaction() as txn:
        olga = logged_in_again(office, OLGA)
        enrolment.create_token(txn, olga, enrolment.TokenAsked(SITE), "s", NOW)
    assert not caller(office.ca, ADA).principal.claims.logged_in


def logged_in_again(office: Office, name: spiffe.Name) -> Caller:
    """As `logged_in`, of somebody who is in already."""
    found = caller(office.ca, name)
    claims = Claims(vouched_by=ISSUER, until_ms=NOW + SESSION_MS)
    principal = Principal(found.principal.path, found.principal.role, claims=claims)
    return Caller(principal, found.certificate)


def test_the_name_is_the_one_asked_for_or_the_only_one() -> None:
    both = replace(vouched(ADA, "t"), names=(ADA.path, OLGA.path))
    assert login.chosen(both, OLGA.path) == OLGA
    assert login.chosen(vouched(ADA, "t"), "") == ADA
    for path in ("", "/operator/root"):
        with pytest.raises(Refused, match="allowed /tenant/trust-a/user/ada or /operator/olga"):
            login.chosen(both, path)


def test_what_is_written_of_refused_logins_is_bounded_and_says_what_was_left_out() -> None:
    leaf = RefusalLeaves()
    assert [leaf.take(NOW) for _ in range(LEAVES_MAX)] == [0] * LEAVES_MAX
    assert [leaf.take(NOW + 1) for _ in range(3)] == [None] * 3
    assert leaf.take(NOW + LEAVES_MS) == 3
    assert leaf.take(NOW + LEAVES_MS) == 0


class Realm:
    """Keys as a provider publishes them, and how often it was asked."""

    def __init__(self) -> None:
        self.keys: dict[str, dict[str, Any]] = {"k1": {"kid": "k1"}}
        self.asked = 0
        self.away = False
        self.now_ms = 1_000

    def fetch(self, provider: Provider) -> dict[str, dict[str, Any]]:
        self.asked += 1
        if self.away:
            raise HttpsFailed("nobody is there")
        return dict(self.keys)


async def test_keys_are_fetched_when_they_are_needed_and_not_at_a_strangers_will() -> None:
    realm, provider = Realm(), provider_of()
    keys = ProviderKeys(lambda: realm.now_ms, realm.fetch)
    for _ in range(3):
        assert await keys.key(provider, "k1")
    assert realm.asked == 1
    realm.now_ms += AGAIN_MS
    realm.keys = {"k2": {"kid": "k2"}}  # It has changed its keys.
    assert await keys.key(provider, "k2")
    for made_up in ("x", "y", "k1"):
        with pytest.raises(Refused, match="allowed one that"):
            await keys.key(provider, made_up)
    assert realm.asked == 2
    realm.now_ms += BELIEVED_MS
    realm.away = True
    for _ in range(3):
        with pytest.raises(Refused) as refused:
            await keys.key(provider, "k2")
        assert refused.value.reason is Reason.UNAVAILABLE
    assert realm.asked == 3
    realm.now_ms += AGAIN_FAILED_MS
    realm.away = False
    assert await keys.key(provider, "k2")
