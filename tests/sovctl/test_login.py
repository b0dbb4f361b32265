"""`sovctl login` against a real control plane and a real identity provider on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from sovapi.v1 import identity_pb2
from sovapi.v1.identity_pb2_grpc import IdentityServiceStub
from sovctl import Context, clock, config
from sovctl.async_operations import Joined
from sovctl.rpc_errors import sov_error
from sovshared import pki, spiffe
from tests.api import control_plane as control_plane_module
from tests.api.control_plane import ControlPlane
from tests.shared import provider as idp
from tests.shared.provider import Provider
from tests.sovctl.conftest import Result, invoke

TENANTS = Path(__file__).parents[2] / "deploy" / "tenants" / "demo.yaml"
WAIT_S = 60
ADA = "/tenant/trust-a/radiology/user/ada"


class Place:
    """A control plane, an identity provider that it knows, and files of a person."""

    def __init__(self, plane: ControlPlane, provider: Provider) -> None:
        self.plane, self.provider = plane, provider
        self.declare()
        self.trust = plane.directory / "ca.pem"
        self.trust.write_bytes(plane.ca.trust_pem)
        self.provider_ca = plane.directory / "state" / "provider-ca.pem"

    def declare(self, **more: Any) -> None:
        """Puts the provider into login.yaml, some of it otherwise."""
        state = self.plane.directory / "state"
        (state / "provider-ca.pem").write_bytes(self.provider.ca.trust_pem)
        radiology = {"when": {"groups": "radiology"}}
        told = {
            "issuer": self.provider.issuer,
            "country": "GB",
            "audience": idp.CLIENT,
            "algorithms": ["ES256", "RS256"],
            "ca": "provider-ca.pem",
            "people": [
                {**radiology, "name": "/tenant/trust-a/radiology/user/{preferred_username}"}
            ],
            "operators": [
                {"when": {"groups": "ops", "acr": "2"}, "name": "/operator/{preferred_username}"}
            ],
        }
        fresh = state / "login.new"
        fresh.write_text(yaml.safe_dump({"providers": [told | more]}))
        fresh.rename(state / "login.yaml")

    def first(self, *more: str) -> Result:
        """A first login."""
        return invoke(
            *("login", "--issuer", self.provider.issuer, "--issuer-ca", str(self.provider_ca)),
            *("--endpoint", self.plane.endpoint, "--join-endpoint", self.plane.join_endpoint),
            *("--ca", str(self.trust), *more),
        )

    def leaves(self, kind: str, who: str) -> list[dict[str, Any]]:
        """What the log says of that kind, as far as somebody may read it."""
        found = invoke("--context", who, "audit", "log", "-o", "json").json()
        texts = [leaf["canonical_json"] for leaf in found if leaf["kind"] == kind]
        return [json.loads(base64.b64decode(text)) for text in texts if text]

    async def by_hand(self, token: Callable[[str], str], **more: Any) -> identity_pb2.LoginResponse:
        """A login with a token of our own making, out of the nonce that it should have."""
        key = pki.new_key()
        said = token(pki.public_key_digest(key.public_key()))
        request = identity_pb2.LoginRequest(oidc_token=said, csr_der=pki.make_csr(key, "/"), **more)
        async with self.plane.anonymous(self.plane.join_endpoint) as channel:
            stub = IdentityServiceStub(channel)
            return await stub.Login(request, timeout=WAIT_S)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    provider = Provider(keys=[idp.rs256("r1"), idp.es256("e1")])
    with idp.serving(provider):
        for plane in control_plane_module.running(tmp_path_factory.mktemp("control-plane")):
            yield Place(plane, provider)


@pytest.fixture(autouse=True)
def person(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Who signs in, and a configuration of theirs; the operator is there, too."""
    path = tmp_path / "config.yaml"
    credentials = str(place.plane.operator_credentials)
    operator = Context(endpoint=place.plane.endpoint, credentials=credentials)
    config.save(path, "", {"op": operator})
    monkeypatch.setenv("SOVCTL_CONFIG", str(path))
    place.declare()
    place.provider.answers.clear()
    place.provider.discovery.clear()
    del place.provider.keys[2:]
    place.provider.person = {"preferred_username": "ada", "groups": ["radiology"]}
    return place.provider.person


def test_a_person_logs_in_works_and_logs_in_again(place: Place) -> None:
    applied = invoke("--context", "op", "tenants", "apply", str(TENANTS))
    assert applied.code == 0, applied.err
    pending = {"error": "authorization_pending"}
    place.provider.answers += [pending, pending]
    done = place.first("-o", "json")
    assert done.code == 0, done.err
    assert (
        f"{place.provider.issuer}/activate in a browser and enter the code {idp.CODE}" in done.err
    )
    assert done.json()["context"] == "ada@trust-a.radiology"
    assert done.json()["not_after_ms"] <= clock.now_ms() + 8 * 3_600_000
    me = invoke("whoami", "-o", "json").json()
    assert (me["tenant"], me["vouched_by"]) == ("trust-a/radiology", place.provider.issuer)
    assert invoke("list").code == 0
    # The organisation has people now, so it is the organisation that says who vouches for them.
    refused = invoke("login")
    assert (refused.code, "does not let" in refused.err) == (5, True), refused.err
    consent = ("access", "set-policy", "--country", "GB", "--issuer", place.provider.issuer)
    for who in ("trust-a", "trust-a/radiology"):
        ann = spiffe.tenant_user(who, "ann")
        found = config.load()
        credentials = str(place.plane.credentials(ann))
        config.add(found, "ann", Context(endpoint=place.plane.endpoint, credentials=credentials))
        assert invoke("--context", "ann", *consent).code == 0
    assert place.provider.issuer in invoke("--context", "ann", "access", "policy").out
    again = invoke("--context", "ada@trust-a.radiology", "login")
    assert again.code == 0, again.err
    [first, second] = [
        t for t in place.leaves("certificate_issued", "ann") if t.get("how") == "login"
    ]
    assert first["name"] == second["name"] == ADA
    assert first["issuer"] == place.provider.issuer
    assert place.leaves("login_refused", "ann")[-1]["name"] == ADA


def test_an_operator_logs_in_where_a_second_factor_was_used(
    place: Place, person: dict[str, Any]
) -> None:
    person.update(preferred_username="otto", groups=["ops"], acr="1")
    assert "no rule" in place.first().err
    person["acr"] = "2"
    assert place.first("--as", "otto").code == 0
    assert invoke("whoami", "-o", "json").json()["role"] == "operator"
    assert invoke("sites").code == 0
    token = invoke("token", "create", "/operator/mallory")
    assert (token.code, "lets no people in" in token.err) == (5, True)


def test_a_login_that_has_ended_says_what_to_do(
    place: Place, person: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    person.update(preferred_username="otto", groups=["ops"], acr="2")
    assert place.first("--as", "otto").code == 0
    later_ms = clock.now_ms() + 9 * 3_600_000
    monkeypatch.setattr(clock, "now_ms", lambda: later_ms)
    ended = invoke("whoami")
    assert (ended.code, "log in again with `sovctl login`" in ended.err) == (2, True), ended.err


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param({"error": "access_denied"}, "access_denied", id="declined"),
        pytest.param({"error": "expired_token"}, "nobody signed in in time", id="too late"),
        pytest.param({}, "did not say why", id="for no reason"),
        pytest.param({"error": "\x1b[2Jno"}, "\\x1b[2Jno", id="with what steers a terminal"),
    ],
)
def test_what_a_provider_refuses_is_said(place: Place, answer: dict[str, str], told: str) -> None:
    place.provider.answers.append(answer)
    refused = place.first()
    assert (refused.code, told in refused.err) == (5, True), refused.err
    assert "Traceback" not in refused.err


@pytest.mark.parametrize(
    ("discovery", "told"),
    [
        pytest.param({"issuer": "https://evil.example"}, "found issuer", id="another's name"),
        pytest.param(
            {"device_authorization_endpoint": "https://evil.example/device"},
            "device_authorization_endpoint: found",
            id="another's address",
        ),
        pytest.param({"token_endpoint": "http://localhost/x"}, "allowed https", id="no https"),
        pytest.param({"token_endpoint": None}, "token_endpoint: found 'None'", id="no address"),
    ],
)
def test_a_provider_that_points_elsewhere_is_not_followed(
    place: Place, discovery: dict[str, Any], told: str
) -> None:
    place.provider.discovery.update(discovery)
    refused = place.first()
    assert (refused.code, told in refused.err) == (6, True), refused.err


def test_a_provider_with_another_ca_is_not_believed(place: Place) -> None:
    place.provider_ca.write_bytes(place.plane.ca.trust_pem)
    refused = place.first()
    assert (refused.code, "CERTIFICATE_VERIFY_FAILED" in refused.err) == (6, True), refused.err


def test_options_that_are_missing_are_named(place: Place) -> None:
    missing = invoke("login", "--issuer", place.provider.issuer)
    assert (missing.code, "--issuer-ca, --endpoint, --ca" in missing.err) == (2, True)
    wrong = invoke(
        *(
            "login",
            "--issuer",
            "ftp://x",
            "--issuer-ca",
            str(place.trust),
            "--ca",
            str(place.trust),
        ),
        *("--endpoint", place.plane.endpoint),
    )
    assert (wrong.code, "login.issuer" in wrong.err) == (2, True), wrong.err
    never = invoke("--context", "op", "login")
    assert (never.code, "was not logged in to" in never.err) == (2, True)


async def refusal(place: Place, token: Callable[[str], str], **more: Any) -> str:
    """Why a token made by hand does not serve; its reason, and its sentence."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await place.by_hand(token, **more)
    error = sov_error(refused.value, "")
    return f"{error.reason}: {error.message}"


async def test_hostile_tokens_are_refused_and_told_in_the_log(place: Place) -> None:
    provider = place.provider

    def good(nonce: str) -> str:
        return provider.token(provider.claims(nonce))

    def unsigned(nonce: str) -> str:
        return f"{idp.b64_json({'alg': 'none', 'kid': 'e1'})}.{good(nonce).split('.')[1]}."

    past_s = clock.now_ms() // 1000 - 600
    wrong: dict[str, Callable[[str], str]] = {
        "which vouches for nobody": lambda n: provider.token(
            provider.claims(n, iss="https://evil.example")
        ),
        "alg: found 'none'": unsigned,
        "kid: found 'k9'": lambda n: provider.token(provider.claims(n), kid="k9"),
        "signature": lambda n: provider.token(provider.claims(n), key=idp.es256("e1")),
        "aud: found 'grafana'": lambda n: provider.token(provider.claims(n, aud="grafana")),
        "exp: found": lambda n: provider.token(provider.claims(n, exp=past_s)),
        "nonce: found": lambda n: good("of another key"),
    }
    for told, token in wrong.items():
        said = await refusal(place, token)
        assert said.startswith("LOGIN_REFUSED: "), said
        assert told in said
    leaves = await asyncio.to_thread(place.leaves, "login_refused", "op")
    told = [leaf["detail"] for leaf in leaves[-len(wrong) :]]
    assert all(part in detail for part, detail in zip(wrong, told, strict=True)), told
    assert await refusal(place, good, name="/operator/root") != ""
    key = (await refusal(place, lambda _: "", api_key="k")).partition(":")[0]
    assert key == "FEATURE_NOT_AVAILABLE"


async def test_new_keys_of_a_provider_are_found_by_themselves(
    place: Place, person: dict[str, Any]
) -> None:
    person.update(preferred_username="otto", groups=["ops"], acr="2")
    place.declare(clock_skew_s=61)  # Another declaration: nothing is remembered of its keys.
    before = place.provider.looked_for_keys
    for key in (place.provider.keys[0], idp.es256("e2")):
        if key not in place.provider.keys:
            place.declare(clock_skew_s=62)
            place.provider.keys.append(key)
        answer = await place.by_hand(
            lambda n, key=key: place.provider.token(place.provider.claims(n), key=key)
        )
        assert answer.spiffe_id == "spiffe://sov.example/operator/otto"
    assert place.provider.looked_for_keys == before + 2


async def test_a_token_serves_once_and_only_the_key_it_was_made_for(
    place: Place, person: dict[str, Any]
) -> None:
    person.update(preferred_username="otto", groups=["ops"], acr="2")
    kept: list[str] = []

    def keeping(nonce: str) -> str:
        kept.append(place.provider.token(place.provider.claims(nonce, jti="1")))
        return kept[0]

    answer = await place.by_hand(keeping)
    made = Joined(pki.Identity(b"", answer.certificate_pem, b""), answer.spiffe_id, 0)
    assert made.identity.facts().spiffe_id == "spiffe://sov.example/operator/otto"
    assert "nonce: found" in await refusal(place, lambda _: kept[0])


async def test_a_file_that_declares_nothing_lets_nobody_in(place: Place) -> None:
    (place.plane.directory / "state" / "login.yaml").unlink()
    told = await refusal(place, lambda n: place.provider.token(place.provider.claims(n)))
    assert "which vouches for nobody" in told
    entry = await asyncio.to_thread(outside)
    assert (entry["state"], entry["hosts"]) == ("NOT_USED", [])
    place.declare(country="US")
    entry = await asyncio.to_thread(outside)
    assert (entry["state"], entry["countries"]) == ("DECLARED", ["US"])
    assert entry["name"] == f"identity-provider-{entry['hosts'][0]}"


def outside() -> dict[str, Any]:
    """What is said of identity providers abroad."""
    listed = invoke("--context", "op", "fleet", "dependencies", "-o", "json").json()
    [entry] = [each for each in listed if each["name"].startswith("identity-provider")]
    return entry
