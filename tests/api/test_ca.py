"""The embedded CA and who gets a certificate from it, on a real store, without sockets."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from scheduler.api import ca as ca_module
from scheduler.api import enrolment
from scheduler.api.ca import AGENT_LIFE_MS, LAPSED_RENEWAL_MS, PERSON_LIFE_MS, AltNames, Ca, Issued
from scheduler.api.identity import Caller, principal_of
from scheduler.model.reasons import Code, Reason, Refused
from scheduler.store.store import Store
from sovshared import pki, spiffe
from sovshared.spiffe import Name
from tests.shared.ca import TestCa
from tests.store.builders import CODEC

TD = "sov.example"
NOW = 1_800_000_000_000
SITE = spiffe.site_agent("exch-a")
NODE = spiffe.node_agent("exch-a", "n01")
OLGA = spiffe.operator("olga")


class Office:
    """A CA with its store, and the ways to ask it."""

    def __init__(self, directory: Path) -> None:
        self.ca = ca_module.create(directory, TD, NOW)
        self.store = Store(directory / "s.db", salts=lambda: b"0" * 16, codec=CODEC)
        self.store.open()

    def token(self, name: Name, secret: str = "t0", *, by: Name = OLGA, now: int = NOW) -> None:
        with self.store.transaction() as txn:
            asked = enrolment.TokenAsked(name)
            enrolment.create_token(txn, caller(self.ca, by), asked, secret, now)

    def join(
        self,
        token: str,
        name: Name,
        *,
        now: int = NOW,
        replaces: pki.Identity | None = None,
        dns: tuple[str, ...] = (),
    ) -> pki.Identity:
        key = pki.new_key()
        csr = pki.make_csr(key, name.path, replaces=replaces)
        request = enrolment.request_of(csr, dns, ())
        with self.store.transaction() as txn:
            return owned(key, enrolment.join(txn, self.ca, token, name.path, request, now))

    def renew(self, by: Name, replaces: pki.Identity | None, now: int = NOW) -> pki.Identity:
        key = pki.new_key()
        request = enrolment.request_of(pki.make_csr(key, "/", replaces=replaces), (), ())
        with self.store.transaction() as txn:
            issued = enrolment.renew(txn, self.ca, caller(self.ca, by), request, now)
        return owned(key, issued)

    def revoke(self, name: Name, now: int = NOW) -> None:
        with self.store.transaction() as txn:
            enrolment.revoke(txn, caller(self.ca, OLGA), name, "stolen", now)

    def leaves(self) -> list[str]:
        with self.store.read() as snapshot:
            return [leaf.kind for leaf in snapshot.audit.all()]


def owned(key: object, issued: Issued) -> pki.Identity:
    return pki.Identity(pki.key_to_pem(key), issued.chain_pem, issued.trust_pem)  # pyright: ignore[reportArgumentType] - the key made above


def caller(ca: Ca, name: Name) -> Caller:
    issued = ca.issue(name, pki.new_key().public_key(), AltNames(), NOW)
    return Caller(principal_of(name), pki.certificate_facts(issued.chain_pem))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.store.close()


def test_the_root_is_kept_private_and_found_again(tmp_path: Path) -> None:
    made = ca_module.create(tmp_path, TD, NOW)
    assert ca_module.load(tmp_path, TD).certificate == made.certificate
    assert (tmp_path / "ca" / "identity.pem").stat().st_mode & 0o777 == 0o600
    with pytest.raises(pki.PkiInvalid, match="already"):
        ca_module.create(tmp_path, TD, NOW)
    with pytest.raises(pki.PkiInvalid, match="allowed other"):
        ca_module.load(tmp_path, "other.example")


@pytest.mark.parametrize(
    ("name", "life_ms", "serves"),
    [
        pytest.param(spiffe.tenant_user("a", "ada"), PERSON_LIFE_MS, False, id="a tenant's user"),
        pytest.param(OLGA, PERSON_LIFE_MS, False, id="an operator"),
        pytest.param(SITE, AGENT_LIFE_MS, True, id="a site agent"),
        pytest.param(NODE, AGENT_LIFE_MS, True, id="a node agent"),
        pytest.param(spiffe.control_plane(), AGENT_LIFE_MS, True, id="the control plane"),
    ],
)
def test_what_a_certificate_says(office: Office, name: Name, life_ms: int, serves: bool) -> None:
    issued = office.ca.issue(name, pki.new_key().public_key(), AltNames(), NOW)
    facts = pki.certificate_facts(issued.chain_pem)
    assert facts.spiffe_id == name.uri(TD)
    assert facts.not_after_ms == NOW + life_ms
    own = {spiffe.server_dns_name(name, TD)} - {None}
    scraped = {spiffe.metrics_dns_name(TD)} if name in (SITE, NODE) else set[str]()
    assert set(facts.dns_names) == own | scraped
    leaf = x509.load_pem_x509_certificate(issued.chain_pem)
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert (ExtendedKeyUsageOID.SERVER_AUTH in purposes) is serves
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_token_lets_its_name_join_once(office: Office) -> None:
    office.token(SITE)
    identity = office.join("t0", SITE, dns=("exch-a.example.net",))
    assert identity.facts().spiffe_id == SITE.uri(TD)
    assert "exch-a.example.net" in identity.facts().dns_names
    with pytest.raises(Refused) as caught:
        office.join("t0", SITE)
    assert caught.value.code is Code.UNAUTHENTICATED
    assert caught.value.reason is Reason.JOIN_TOKEN_INVALID
    assert office.leaves() == ["join_token_created", "certificate_issued"]


@pytest.mark.parametrize(
    ("token", "name", "now"),
    [
        pytest.param("t1", SITE, NOW, id="an unknown token"),
        pytest.param("", SITE, NOW, id="no token"),
        pytest.param("t0", spiffe.site_agent("exch-b"), NOW, id="another name"),
        pytest.param("t0", OLGA, NOW, id="another role"),
        pytest.param("t0", SITE, NOW + 25 * 3600 * 1000, id="after its end"),
        pytest.param("x" * 10_000, SITE, NOW, id="a huge token"),
    ],
)
def test_nothing_else_joins(office: Office, token: str, name: Name, now: int) -> None:
    office.token(SITE)
    with pytest.raises(Refused) as caught:
        office.join(token, name, now=now)
    assert caught.value.reason is Reason.JOIN_TOKEN_INVALID
    assert office.leaves() == ["join_token_created"]


@pytest.mark.parametrize(
    "dns", ["control-plane.sov.example", "sov.example", "a b", "*.example.net", "x" * 300]
)
def test_names_under_the_trust_domain_are_not_given_away(office: Office, dns: str) -> None:
    office.token(SITE)
    with pytest.raises(Refused) as caught:
        office.join("t0", SITE, dns=(dns,))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert [d.subject for d in caught.value.denials] == ["dns_names[0]"]


def test_the_control_planes_name_is_nobodys(office: Office) -> None:
    with pytest.raises(Refused) as caught:
        enrolment.name_from("/control-plane")
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_site_makes_tokens_for_its_own_nodes_only(office: Office) -> None:
    office.token(NODE, "own", by=SITE)
    assert office.join("own", NODE).facts().spiffe_id == NODE.uri(TD)
    for other in (spiffe.node_agent("exch-b", "n01"), SITE, OLGA):
        with pytest.raises(Refused) as caught:
            office.token(other, "other", by=SITE)
        assert caught.value.code is Code.PERMISSION_DENIED


def test_renewal_gives_the_callers_own_name(office: Office) -> None:
    assert office.renew(SITE, None).facts().spiffe_id == SITE.uri(TD)


def test_a_site_agent_passes_its_nodes_renewals_on(office: Office) -> None:
    office.token(NODE)
    node = office.join("t0", NODE)
    assert office.renew(SITE, node).facts().spiffe_id == NODE.uri(TD)
    with pytest.raises(Refused) as caught:
        office.renew(spiffe.site_agent("exch-b"), node)
    assert caught.value.code is Code.PERMISSION_DENIED
    with pytest.raises(Refused):
        office.renew(OLGA, node)


def test_a_strangers_certificate_renews_nothing(office: Office) -> None:
    forged = TestCa().issue(NODE.uri(TD))
    # It proves nothing, so what is renewed is the caller's own name.
    assert office.renew(SITE, forged).facts().spiffe_id == SITE.uri(TD)


@pytest.mark.parametrize(
    ("after_ms", "joins"),
    [
        pytest.param(AGENT_LIFE_MS + 1000, True, id="just lapsed"),
        pytest.param(AGENT_LIFE_MS + LAPSED_RENEWAL_MS, True, id="lapsed for thirty days"),
        pytest.param(AGENT_LIFE_MS + LAPSED_RENEWAL_MS + 1, False, id="lapsed for longer"),
    ],
)
def test_a_lapsed_agent_joins_again_by_its_old_key(
    office: Office, after_ms: int, joins: bool
) -> None:
    office.token(SITE)
    old = office.join("t0", SITE)
    if joins:
        new = office.join("", SITE, now=NOW + after_ms, replaces=old)
        assert new.facts().not_after_ms > NOW + after_ms
        return
    with pytest.raises(Refused):
        office.join("", SITE, now=NOW + after_ms, replaces=old)


def test_a_lapsed_certificate_gives_no_other_name(office: Office) -> None:
    office.token(SITE)
    old = office.join("t0", SITE)
    with pytest.raises(Refused):
        office.join("", spiffe.site_agent("exch-b"), replaces=old)
    with pytest.raises(Refused):
        office.join("", SITE, replaces=TestCa().issue(SITE.uri(TD)))


def test_people_do_not_join_again_by_an_old_key(office: Office) -> None:
    office.token(OLGA, by=spiffe.operator("otto"))
    old = office.join("t0", OLGA)
    with pytest.raises(Refused):
        office.join("", OLGA, now=NOW + PERSON_LIFE_MS + 1, replaces=old)


def test_a_revoked_agent_neither_renews_nor_joins_until_a_new_token(office: Office) -> None:
    office.token(NODE)
    old = office.join("t0", NODE)
    office.revoke(NODE, NOW + 5_000)
    with pytest.raises(Refused) as caught:
        office.renew(SITE, old, NOW + 6_000)
    assert caught.value.reason is Reason.IDENTITY_REVOKED
    with pytest.raises(Refused):
        office.join("", NODE, now=NOW + 6_000, replaces=old)
    office.token(NODE, "t1", now=NOW + 6_000)
    new = office.join("t1", NODE, now=NOW + 7_000)
    assert office.renew(SITE, new, NOW + 8_000).facts().spiffe_id == NODE.uri(TD)


@pytest.mark.parametrize(
    ("name", "by", "revoked"),
    [
        pytest.param(NODE, OLGA, NODE, id="bound to the name"),
        pytest.param(NODE, SITE, SITE, id="made by a site agent for its node"),
        pytest.param(
            spiffe.operator("eve-2"), spiffe.operator("eve"), spiffe.operator("eve"),
            id="made by an operator for another",
        ),
    ],
)  # fmt: skip
def test_a_revocation_takes_the_open_tokens_along(
    office: Office, name: Name, by: Name, revoked: Name
) -> None:
    """Whoever stole a name could have kept a way back in."""
    office.token(name, "kept", by=by)
    office.revoke(revoked, NOW + 1)
    with pytest.raises(Refused, match="unknown, used, expired"):
        office.join("kept", name, now=NOW + 5_000)


def test_a_name_that_was_revoked_while_it_asked_gets_nothing(office: Office) -> None:
    office.revoke(SITE, NOW + 5_000)
    with pytest.raises(Refused, match="was revoked"):
        office.renew(SITE, None, now=NOW + 10_000)
    with pytest.raises(Refused, match="was revoked"):
        office.token(NODE, by=SITE, now=NOW + 10_000)


def test_one_site_cannot_use_up_everybodys_tokens(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolment, "TOKENS_OF_SITE_MAX", 2)
    for n in range(2):
        office.token(NODE, f"t{n}", by=SITE)
    with pytest.raises(Refused, match="found 2 join tokens"):
        office.token(NODE, "t2", by=SITE)
    office.token(NODE, "t3", by=OLGA)


def test_nobody_revokes_themselves_or_without_a_reason(office: Office) -> None:
    with pytest.raises(Refused, match="nobody revokes"):
        office.revoke(OLGA)
    with office.store.transaction() as txn, pytest.raises(Refused, match="reason"):
        enrolment.revoke(txn, caller(office.ca, OLGA), SITE, "", NOW)
