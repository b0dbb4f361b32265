"""The ledger of an agreement holds for whoever has the trust file, or shows what was changed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scheduler.api.agreements import ledger_page
from scheduler.control import agreements
from scheduler.model.ids import SiteId
from scheduler.model.residency import FactKey
from scheduler.runtime import checkpoints
from sovapi.v1 import policy_pb2
from sovctl import agreement_ledger, verify
from sovctl.verify import NotVerified, Trust
from sovshared import notes, signing
from tests.control.plant import OLGA, SECOND_MS, Plant
from tests.control.test_agreements import PACT, POLICY, stopped, work
from tests.store.builders import LONDON, site

Ledger = dict[str, Any]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ledger, Trust, int]:
    """A ledger of three uses, one of which is open; whom to believe; and what was settled."""
    directory: Path = tmp_path_factory.mktemp("ledger")
    plant = Plant(directory / "store.db")
    _lay_out_abroad(plant, LONDON)
    with plant.store.transaction() as txn:
        agreements.apply(
            txn, OLGA, PACT, b"signed", reason="agreed", dry_run=False, now_ms=plant.now_ms
        )
    for n in range(3):
        key = plant.run(work(name=f"job-{n}"))
        plant.now_ms += 9 * SECOND_MS
        if n < 2:
            stopped(plant, key)
    log = checkpoints.log_key("test", signing.kept_in(directory / "log.pem"))
    certifier = signing.kept_in(directory / "certificates.pem")
    vkey = notes.vkey("test/certificates", notes.ED25519, certifier.public_key)
    with plant.store.transaction() as txn:
        head = checkpoints.newest(txn, log, plant.now_ms)
    with plant.store.read() as view:
        request = policy_pb2.AgreementLedgerRequest(id="uk-ca")
        page = ledger_page(view, request, head.size, head.whole())
        settled = sum(use.charged_gpu_ms for use in view.usage.of_days(0, 1 << 30))
    plant.store.close()
    trust = verify.parse_trust(f"# certificates {vkey}\nlog {log.key}\nquorum none\n".encode())
    document = json.loads(json.dumps(agreement_ledger.document_of("uk-ca", [page])))
    return document, trust, settled


def _lay_out_abroad(plant: Plant, at: SiteId) -> None:
    plant.lay_out()
    facts = tuple(
        replace(fact, values=("CA",)) if fact.key is FactKey.COUNTRY else fact
        for fact in site().facts
    )
    with plant.store.transaction() as txn:
        entry = next(entry for entry in txn.fleet.sites() if entry.site.id == at)
        nodes = tuple(held.node for held in txn.fleet.nodes(at))
        declared = replace(entry.site, facts=facts)
        plant.control.apply_fleet(
            txn, OLGA, [(declared, nodes)], reason="moved", dry_run=False, now_ms=plant.now_ms
        )
    plant.connect()
    plant.apply_policy(POLICY)


def test_it_sums_to_what_the_store_settled(kept: tuple[Ledger, Trust, int]) -> None:
    document, trust, settled = kept
    totals = agreement_ledger.check(document, "uk-ca", trust)
    assert (totals.entries, totals.open_gpu_milli) == (5, 1_000)
    assert totals.settled_gpu_ms == settled == 18_000


def _entries(document: Ledger) -> list[dict[str, Any]]:
    return document["pages"][0]["entries"]


def _withhold(document: Ledger) -> None:
    del _entries(document)[2]


def _cut(document: Ledger) -> None:
    _entries(document)[1]["leaf"] = _entries(document)[1]["leaf"].replace("9000", "8000")


def _swap(document: Ledger) -> None:
    entries = _entries(document)
    entries[1], entries[2] = entries[2], entries[1]


def _fork(document: Ledger) -> None:
    note = document["pages"][0]["checkpoint"]
    document["pages"][0]["checkpoint"] = note.replace("test/log", "tess/log", 1)


def _rename(document: Ledger) -> None:
    document["agreement"] = "another"


@pytest.mark.parametrize("change", [_withhold, _cut, _swap, _fork, _rename])
def test_whatever_is_changed_shows(
    kept: tuple[Ledger, Trust, int], change: Callable[[Ledger], None]
) -> None:
    document, trust, _ = kept
    changed = copy.deepcopy(document)
    change(changed)
    assert changed != document
    with pytest.raises(NotVerified):
        agreement_ledger.check(changed, "uk-ca", trust)


HOUR_MS = 3_600 * SECOND_MS


def _entry(event: str, at_ms: int = 0, gpu_ms: int = 0, **more: Any) -> dict[str, Any]:
    return {"event": event, "use": "share-1", "gpu_milli": 2_000, "gpu_ms": gpu_ms} | {
        "at_ms": at_ms,
        **more,
    }


def test_a_giver_is_charged_for_the_time_in_which_its_share_was_given() -> None:
    totals = agreement_ledger.Totals()
    totals.take(_entry("given"))
    assert totals.given_milli == 2_000
    totals.take(_entry("taken_back", HOUR_MS, 2 * HOUR_MS))
    assert (totals.given_milli, totals.lent_gpu_ms) == (0, 2 * HOUR_MS)
    assert totals.settled_gpu_ms == 0


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(_entry("given"), id="given twice"),
        pytest.param(_entry("taken_back", HOUR_MS, 3 * HOUR_MS), id="charged too much"),
        pytest.param(_entry("taken_back", HOUR_MS, HOUR_MS), id="charged too little"),
        pytest.param(_entry("taken_back", gpu_milli=1_000), id="another amount"),
        pytest.param(_entry("taken_back", use="share-2"), id="never given"),
    ],
)
def test_a_share_that_does_not_add_up_shows(second: dict[str, Any]) -> None:
    totals = agreement_ledger.Totals()
    totals.take(_entry("given"))
    with pytest.raises(NotVerified):
        totals.take(second)
