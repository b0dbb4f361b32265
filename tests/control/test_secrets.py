"""Secrets are kept sealed, by name, and told to the site that runs a job of their tenant's."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from scheduler.control import secrets
from scheduler.model.identity import Principal
from scheduler.model.ids import AttemptKey
from scheduler.model.job import JobState
from scheduler.model.reasons import Reason, Refused
from scheduler.model.sitelink import AttemptPhase, AttemptReport
from sovshared import sealing
from sovshared.sealing import TenantKey
from tests.control.plant import ADA, EVE, Plant, spec

KEY = TenantKey("k1", b"k" * 32)
NAME = "trust-a/hf"


def sealed(name: str = NAME, purpose: str = sealing.SECRET) -> bytes:
    target = io.BytesIO()
    sealing.seal(io.BytesIO(b"xylophone"), target, KEY, purpose, sealing.opaque(name))
    return target.getvalue()


def put(plant: Plant, value: bytes, name: str = NAME, who: Principal = ADA) -> None:
    with plant.store.transaction() as txn:
        secrets.set_secret(txn, who, name, value, plant.now_ms)


def refusal(plant: Plant, value: bytes, name: str = NAME, who: Principal = ADA) -> str:
    with pytest.raises(Refused) as refused:
        put(plant, value, name, who)
    return refused.value.denials[0].subject


def test_names_are_listed_to_their_tenant_and_to_nobody_else(plant: Plant) -> None:
    put(plant, sealed())
    with plant.store.read() as view:
        assert secrets.listed(view, ADA) == (NAME,)
        assert secrets.listed(view, EVE) == ()
    with pytest.raises(Refused), plant.store.transaction() as txn:
        secrets.remove_secret(txn, EVE, NAME, plant.now_ms)
    with plant.store.transaction() as txn:
        secrets.remove_secret(txn, ADA, NAME, plant.now_ms)
    with plant.store.read() as view:
        assert secrets.listed(view, ADA) == ()
        kinds = [leaf.kind for leaf in view.audit.page(first=0, limit=99, tenant=ADA.tenant)]
    assert kinds == ["secret_set", "secret_removed"]


def test_what_is_not_sealed_for_this_name_is_not_kept(plant: Plant) -> None:
    assert refusal(plant, b"xylophone") == "value"
    assert refusal(plant, sealed("trust-a/other")) == "value"
    assert refusal(plant, sealed(purpose=sealing.BUNDLE)) == "value"
    assert refusal(plant, sealed() + bytes(secrets.SEALED_BYTES_MAX)) == "value"
    assert refusal(plant, sealed("uni-b/hf"), "uni-b/hf") == "name"
    assert refusal(plant, sealed("hf"), "hf") == "name"


def test_a_site_is_told_the_sealed_value_under_a_name_that_says_nothing(plant: Plant) -> None:
    put(plant, sealed())
    plant.submit(replace(spec(), secrets=(("TOKEN", NAME),), key_ticket=b"ticket"))
    plant.cycle()
    (row,) = plant.push().rows.values()
    assert row.launch is not None
    assert row.launch.secrets == (("TOKEN", sealing.opaque(NAME)),)
    assert dict(row.launch.sealed_secrets)["TOKEN"].startswith(sealing.MAGIC)
    assert row.launch.key_ticket == b"ticket"


def test_the_tenants_log_and_certificate_say_that_keys_were_released(plant: Plant) -> None:
    put(plant, sealed())
    asked = replace(spec(), secrets=(("TOKEN", NAME),), key_ticket=b"ticket")
    key = plant.run(asked)
    plant.report(plant.ended(key))
    with plant.store.read() as view:
        leaves = [leaf for leaf in view.audit.page(first=0, limit=99) if leaf.job == key.job]
        certificate = view.certificates.of_job(key.job)
    (released,) = [json.loads(leaf.body) for leaf in leaves if leaf.kind == "keys_released"]
    assert (released["attempt"], released["secrets"]) == (1, [NAME])
    assert certificate is not None
    keys = json.loads(certificate.statement)["predicate"]["keys"]
    assert keys["held_by"] == "CUSTOMER"
    assert [each["attempt"] for each in keys["released"]] == [1]


@pytest.mark.parametrize("name", ["trust-a/none", "uni-b/hf"])
def test_a_job_names_secrets_that_are_there_and_its_tenants(plant: Plant, name: str) -> None:
    put(plant, sealed())
    put(plant, sealed("uni-b/hf"), "uni-b/hf", EVE)
    with pytest.raises(Refused) as refused:
        plant.submit(replace(spec(), secrets=(("TOKEN", name),)))
    assert [denial.subject for denial in refused.value.denials] == ["secrets.TOKEN"]


def test_a_job_whose_key_is_withheld_fails_at_once_and_uses_up_no_retry(plant: Plant) -> None:
    job = plant.submit()
    plant.cycle()
    plant.push()
    why = (Reason.KEY_WITHHELD, "its owner withholds the key")
    plant.report(AttemptReport(AttemptKey(job, 1), AttemptPhase.REFUSED, (), *why))
    found = plant.job(job)
    assert (found.state, found.reason) == (JobState.FAILED, Reason.KEY_WITHHELD)
    assert len(found.attempts) == 1
