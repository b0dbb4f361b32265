"""Which ID tokens count: good ones of each algorithm, and every way in which one may be wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest

from scheduler.api import id_tokens
from scheduler.model.login import LoggedIn, PersonRule, Provider
from scheduler.model.reasons import Reason, Refused
from scheduler.runtime import clock
from tests.shared import provider as idp

ISSUER = "https://login.trust-a.example/realm"
NONCE = "6e" * 32
RADIOLOGY = PersonRule((("groups", "radiology"),), "/tenant/trust-a/user/", "preferred_username")
OPERATORS = PersonRule((("acr", "2"), ("groups", "ops")), "/operator/", "preferred_username")
ADA: dict[str, Any] = {"preferred_username": "ada", "groups": ["staff", "radiology"]}
EC, RSA, OTHER = idp.es256("k1"), idp.rs256("r1"), idp.es256("k1")


def provider_of(**more: Any) -> Provider:
    told: dict[str, Any] = {
        "issuer": ISSUER,
        "country": "GB",
        "audience": idp.CLIENT,
        "algorithms": ("ES256", "RS256"),
        "trust_pem": b"",
        "skew_ms": 60_000,
        "session_ms": 3_600_000,
        "nonce_required": True,
        "rules": (RADIOLOGY, OPERATORS),
    }
    return Provider(**(told | more))


def made(*, key: idp.SigningKey = EC, header: dict[str, Any] | None = None, **more: Any) -> str:
    """A good token, but for what is given."""
    realm = idp.Provider(keys=[key], person=ADA, issuer=ISSUER)
    return realm.token(realm.claims(NONCE, **more), key=key, **(header or {}))


def check(token: str, provider: Provider | None = None, key: idp.SigningKey = EC) -> LoggedIn:
    """As the servicer does it."""
    provider = provider or provider_of()
    heading = id_tokens.heading(token)
    id_tokens.check_algorithm(heading, provider)
    keys = id_tokens.keys_in({"keys": [key.jwk()]})
    if heading.key_id not in keys:
        raise id_tokens.login_refused("kid: unknown")
    return id_tokens.checked(token, provider, keys[heading.key_id], clock.now_ms(), NONCE)


@pytest.mark.parametrize("key", [EC, RSA], ids=["ES256", "RS256"])
def test_a_good_token_says_who_somebody_is(key: idp.SigningKey) -> None:
    person = check(made(key=key), key=key)
    assert person.names == ("/tenant/trust-a/user/ada",)
    assert (person.issuer, person.country, person.subject) == (ISSUER, "GB", "248289761001")
    assert (person.algorithm, person.key_id) == (key.algorithm, key.key_id)


def now_s() -> int:
    return clock.now_ms() // 1000


def unsigned(algorithm: str) -> Callable[[], str]:
    """A token without a signature, or with one that anybody can make from the public key."""

    def make() -> str:
        header, claims, _ = made(header={"alg": algorithm}).split(".")
        if algorithm == "none":
            return f"{header}.{claims}."
        secret = json.dumps(EC.jwk()).encode()
        mac = hmac.new(secret, f"{header}.{claims}".encode(), hashlib.sha256).digest()
        return f"{header}.{claims}.{idp.b64(mac)}"

    return make


def forged() -> str:
    """The claims of another token, under the signature of this one."""
    header, _, signature = made().split(".")
    return f"{header}.{made(preferred_username='eve').split('.')[1]}.{signature}"


def cut() -> str:
    return made().rpartition(".")[0]


WRONG = [
    pytest.param(unsigned("none"), "alg: found 'none'", id="alg none"),
    pytest.param(unsigned("nOnE"), "alg: found 'nOnE'", id="alg none in other letters"),
    pytest.param(unsigned("HS256"), "alg: found 'HS256'", id="a shared secret: the public key"),
    pytest.param(
        lambda: made(key=RSA, header={"kid": "k1"}), "signature", id="a key of another sort"
    ),
    pytest.param(lambda: made(key=OTHER), "signature", id="another key of the same id"),
    pytest.param(forged, "signature", id="other claims under a signature"),
    pytest.param(lambda: made(header={"kid": "k9"}), "kid", id="a key nobody publishes"),
    pytest.param(lambda: made(header={"kid": None}), "kid: found nothing", id="no key id"),
    pytest.param(lambda: made(header={"kid": ["k1"]}), "kid: found", id="a key id that is a list"),
    pytest.param(lambda: made(header={"crit": ["x"]}), "header: found ['crit']", id="crit"),
    pytest.param(lambda: made(header={"jwk": EC.jwk()}), "header: found ['jwk']", id="its own key"),
    pytest.param(
        lambda: made(header={"jku": ISSUER}), "header: found ['jku']", id="a key's address"
    ),
    pytest.param(lambda: made(header={"typ": "at+jwt"}), "typ: found", id="an access token"),
    pytest.param(lambda: made(aud="grafana"), "aud: found 'grafana'", id="for somebody else"),
    pytest.param(lambda: made(aud=["x", "y"]), "aud: found", id="for others"),
    pytest.param(lambda: made(aud=[idp.CLIENT, "x"]), "azp: found nothing", id="for several"),
    pytest.param(lambda: made(azp="x"), "azp: found 'x'", id="asked for by another"),
    pytest.param(lambda: made(iss=f"{ISSUER}/"), "iss: found", id="of another issuer"),
    pytest.param(lambda: made(exp=now_s() - 61), "it has expired", id="expired"),
    pytest.param(lambda: made(exp=None), "exp: found nothing", id="without an end"),
    pytest.param(lambda: made(exp="9999999999"), "exp: found", id="an end that is text"),
    pytest.param(lambda: made(exp=float("nan")), "exp: found nan", id="an end that is no number"),
    pytest.param(lambda: made(exp=True), "exp: found True", id="an end that is a truth value"),
    pytest.param(lambda: made(iat=now_s() + 120), "ahead of our clock", id="made in the future"),
    pytest.param(lambda: made(iat=now_s() - 900), "iat: found", id="made long ago"),
    pytest.param(lambda: made(nbf=now_s() + 120), "nbf", id="good only later"),
    pytest.param(lambda: made(nonce="x"), "nonce: found 'x'", id="asked for with another key"),
    pytest.param(lambda: made(nonce=None), "nonce: found nothing", id="asked for with no key"),
    pytest.param(lambda: made(sub=""), "sub: found", id="of nobody"),
    pytest.param(lambda: made(sub="s" * 256), "sub: found 256", id="a subject without end"),
    pytest.param(lambda: made(sub="\ud800"), "sub: found", id="a subject that is no text"),
    pytest.param(lambda: made(groups=["staff"]), "gives you a name", id="in no group"),
    pytest.param(lambda: made(groups="radiology-2"), "gives you a name", id="in a group like it"),
    pytest.param(
        lambda: made(preferred_username="Ada/../x"), "'Ada/../x', allowed a name", id="no name"
    ),
    pytest.param(lambda: made(preferred_username=None), "found nothing", id="no name at all"),
    pytest.param(cut, "no signed ID token", id="two parts"),
    pytest.param(lambda: "a.b.c", "no signed ID token", id="no JSON"),
    pytest.param(lambda: "x" * 20_000, "found 20000 characters", id="endless"),
    pytest.param(lambda: "W10.W10.W10", "no signed ID token", id="lists"),
    pytest.param(
        lambda: f"{idp.b64(b'[' * 5_000)}.e30.x", "no signed ID token", id="nested without end"
    ),
]


@pytest.mark.parametrize(("make", "told"), WRONG)
def test_a_token_that_is_wrong_is_refused_with_what_is_wrong(
    make: Callable[[], str], told: str
) -> None:
    with pytest.raises(Refused) as refused:
        check(make())
    assert refused.value.reason is Reason.LOGIN_REFUSED
    assert told in refused.value.message


def test_a_clock_that_is_a_little_off_is_forgiven() -> None:
    assert check(made(exp=now_s() - 30, iat=now_s() - 330))
    assert check(made(iat=now_s() + 30))
    with pytest.raises(Refused, match="expired"):
        check(made(exp=now_s() - 30), provider_of(skew_ms=0))


def test_a_nonce_may_be_missing_where_that_is_declared_and_never_wrong() -> None:
    lax = provider_of(nonce_required=False)
    assert check(made(nonce=None), lax)
    with pytest.raises(Refused, match="nonce: found 'x'"):
        check(made(nonce="x"), lax)


def test_an_algorithm_counts_only_where_it_is_declared() -> None:
    with pytest.raises(Refused, match="alg: found 'RS256', allowed ES256"):
        check(made(key=RSA), provider_of(algorithms=("ES256",)), key=RSA)


def test_each_rule_gives_its_name_and_all_its_conditions_must_hold() -> None:
    both = check(made(groups=["ops", "radiology"], acr=2))
    assert both.names == ("/operator/ada", "/tenant/trust-a/user/ada")
    assert check(made(groups=["ops", "radiology"], acr="1")).names == both.names[1:]
    with pytest.raises(Refused, match="gives you a name"):
        check(made(), provider_of(rules=()))


def test_one_token_has_one_id_however_its_signature_is_written() -> None:
    token = made()
    assert check(token).token_id == check(token).token_id
    again = idp.Provider(keys=[EC], issuer=ISSUER)
    signed, _, _ = token.rpartition(".")
    body = json.loads(base64.urlsafe_b64decode(signed.split(".")[1] + "=="))
    assert check(again.token(body, key=EC)).token_id == check(token).token_id


def test_of_two_keys_with_one_id_neither_counts_nor_does_one_for_encryption() -> None:
    good, cipher = idp.es256("a").jwk(), {**idp.es256("b").jwk(), "use": "enc"}
    listed = [good, EC.jwk(), OTHER.jwk(), cipher, "no key", {"kty": "EC"}]
    assert set(id_tokens.keys_in({"keys": listed})) == {"a"}
    assert id_tokens.keys_in({"keys": "none"}) == id_tokens.keys_in({}) == {}
