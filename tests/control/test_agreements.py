"""Work under an agreement: let in, counted, capped, and gone when the agreement is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from scheduler.control import agreements
from scheduler.control.continuous import DEADLINE_MS
from scheduler.core.budgets import gpu_ms
from scheduler.core.explain import explain
from scheduler.core.fleet import FleetState
from scheduler.model.agreements import Agreement, Instrument, Scope, Signatory
from scheduler.model.ids import AttemptKey, JobId
from scheduler.model.job import JobSpec, JobState, RankCause
from scheduler.model.plan import QueuedJob
from scheduler.model.reasons import Reason, Refused
from scheduler.model.residency import FactKey, Policy, Requirement, Tier
from scheduler.model.tenancy import Budget, BudgetPeriod
from scheduler.store.agreements import LEAF_KIND
from tests.control.plant import HOUR_MS, OLGA, SECOND_MS, Plant, spec
from tests.store.builders import LONDON, NOW_MS, site

WORK = Requirement(jurisdictions=("CA", "GB"), agreements=("uk-ca",))
POLICY = Policy(name="uk-canada", instruments=("treaty",))
PACT = Agreement(
    name="uk-ca",
    instrument=Instrument.TREATY,
    text="shared compute",
    cites="a treaty",
    jurisdictions=("CA",),
    scope=Scope(tier_max=int(Tier.OFFICIAL), kinds=("batch",)),
    valid_from_ms=NOW_MS - HOUR_MS,
    valid_until_ms=NOW_MS + 1_000 * HOUR_MS,
    signatories=(Signatory("ca", "CA", "k1"), Signatory("gb", "GB", "k2")),
    digest="ab" * 32,
)


@pytest.fixture
def abroad(plant: Plant) -> Iterator[Plant]:
    """A plant whose one site is in Canada, under a policy that honours treaties."""
    facts = tuple(
        replace(fact, values=("CA",)) if fact.key is FactKey.COUNTRY else fact
        for fact in site().facts
    )
    with plant.store.transaction() as txn:
        entry = next(entry for entry in txn.fleet.sites() if entry.site.id == LONDON)
        nodes = tuple(held.node for held in txn.fleet.nodes(LONDON))
        plant.control.apply_fleet(
            txn, OLGA, [(replace(entry.site, facts=facts), nodes)],
            reason="moved", dry_run=False, now_ms=plant.now_ms,
        )  # fmt: skip
    plant.apply_policy(POLICY)
    yield plant
    plant.check()


def agree(plant: Plant, pact: Agreement = PACT, *, dry_run: bool = False) -> tuple[str, ...]:
    with plant.store.transaction() as txn:
        changes, _ = agreements.apply(
            txn, OLGA, pact, b"signed", reason="agreed", dry_run=dry_run, now_ms=plant.now_ms
        )
    return changes


def revoke(plant: Plant) -> None:
    with plant.store.transaction() as txn:
        agreements.revoke(
            txn, OLGA, "uk-ca", reason="it is over", dry_run=False, now_ms=plant.now_ms
        )


def work(**changes: Any) -> JobSpec:
    return replace(spec(**changes), residency=WORK)


def ledger(plant: Plant) -> list[dict[str, Any]]:
    with plant.store.read() as view:
        return [json.loads(leaf.body) for leaf in view.audit.all() if leaf.kind == LEAF_KIND]


def certificate(plant: Plant, job: JobId) -> dict[str, Any]:
    with plant.store.read() as view:
        held = view.certificates.of_job(job)
    assert held is not None
    return json.loads(held.statement)["predicate"]


def stopped(plant: Plant, key: AttemptKey, cause: RankCause = RankCause.EXIT) -> None:
    plant.push()
    plant.report(plant.ended(key, cause=cause, exit_code=0 if cause is RankCause.EXIT else 143))


def test_nothing_goes_abroad_without_one(abroad: Plant) -> None:
    refused = abroad.try_submit(work())
    assert refused.refusal.reason is Reason.AGREEMENT_UNKNOWN
    agree(abroad)
    without = replace(spec(), residency=replace(WORK, agreements=()))
    assert abroad.try_submit(without).refusal.reason is Reason.JURISDICTION_NOT_ALLOWED


def test_what_it_admits_is_placed_counted_and_certified(abroad: Plant) -> None:
    agree(abroad)
    key = abroad.run(work())
    [opened] = ledger(abroad)
    assert (opened["number"], opened["event"], opened["gpu_milli"]) == (1, "opened", 1_000)
    assert opened["use"] == f"{abroad.codec.encode(key.job)}.1"
    assert "tenant" not in opened
    abroad.now_ms += HOUR_MS
    stopped(abroad, key)
    _, closed = ledger(abroad)
    assert closed["event"] == "closed"
    assert closed["gpu_ms"] == gpu_ms(1_000, HOUR_MS)
    told = certificate(abroad, key.job)
    assert told["verdict"] == "IN_BOUNDS"
    assert [interval["agreement"] for interval in told["intervals"]] == ["uk-ca"]
    assert [each["document"] for each in told["agreements"]] == [f"sha256:{PACT.digest}"]


def test_a_dry_run_shows_the_difference_and_changes_nothing(abroad: Plant) -> None:
    assert agree(abroad, dry_run=True) == ("+ agreement uk-ca",)
    assert agree(abroad) == ("+ agreement uk-ca",)
    assert agree(abroad) == ()


def test_entries_follow_one_another_and_sum_to_what_was_settled(abroad: Plant) -> None:
    agree(abroad)
    keys = [abroad.run(work(name=f"job-{n}")) for n in range(3)]
    for key in keys:
        abroad.now_ms += 7 * SECOND_MS
        stopped(abroad, key)
    entries = ledger(abroad)
    assert [entry["number"] for entry in entries] == list(range(1, 7))
    assert entries[0]["prev"] == ""
    assert all(
        after["prev"] and after["prev"] != before["prev"] for before, after in pairwise(entries)
    )
    with abroad.store.read() as view:
        [standing] = agreements.listed(view, "uk-ca", abroad.now_ms)
        settled = sum(use.charged_gpu_ms for use in view.usage.of_days(0, 1 << 30))
        uses = [view.tenancy.agreements.use_of(key) for key in keys]
    charged = sum(entry["gpu_ms"] for entry in entries if entry["event"] == "closed")
    assert charged == settled == sum(use.gpu_ms for use in uses if use is not None)
    assert standing.gpu_milli_used == 0


def test_a_revoked_agreement_drains_what_runs_and_admits_nothing(abroad: Plant) -> None:
    agree(abroad)
    key = abroad.run(work())
    waits = abroad.submit(work(name="later"))
    abroad.now_ms += 60 * SECOND_MS
    revoke(abroad)
    assert not abroad.cycle().kept
    abroad.tick()
    job = abroad.job(key.job)
    assert (job.state, job.reason) == (JobState.PREEMPTING, Reason.RESIDENCY_LOST)
    with abroad.store.read() as view:
        row = view.outbox.get(LONDON, key)
    assert row is not None
    assert 0 < row.grace_ms <= DEADLINE_MS
    abroad.now_ms += 5 * SECOND_MS
    stopped(abroad, key, RankCause.STOP)
    assert not abroad.cycle().kept
    for name in (key.job, waits):
        assert abroad.job(name).state is JobState.QUEUED
        abroad.cancel(name)
    told = certificate(abroad, key.job)
    assert told["verdict"] == "OUT_OF_BOUNDS"
    inside, outside = told["intervals"]
    assert outside["to"] - outside["from"] == 5 * SECOND_MS
    assert {d["reason"] for d in outside["denials"]} == {
        "JURISDICTION_NOT_ALLOWED",
        "AGREEMENT_UNKNOWN",
    }
    assert inside["verdict"] == "IN_BOUNDS"


def test_one_that_runs_out_does_the_same_by_the_clock_alone(abroad: Plant) -> None:
    agree(abroad, replace(PACT, valid_until_ms=NOW_MS + HOUR_MS))
    key = abroad.run(work())
    abroad.tick()
    abroad.now_ms = NOW_MS + HOUR_MS - 1
    abroad.tick()
    assert abroad.job(key.job).state is JobState.RUNNING
    abroad.now_ms += 1
    abroad.tick()
    assert abroad.job(key.job).reason is Reason.RESIDENCY_LOST
    stopped(abroad, key)


def test_another_agreement_does_not_keep_what_one_admitted(abroad: Plant) -> None:
    """Else what is used would stand in the wrong ledger."""
    agree(abroad)
    key = abroad.run(work())
    agree(abroad, replace(PACT, name="zz"))
    revoke(abroad)
    abroad.tick()
    assert abroad.job(key.job).state is JobState.PREEMPTING
    stopped(abroad, key)


def test_a_revoked_document_needs_new_signatures(abroad: Plant) -> None:
    agree(abroad)
    revoke(abroad)
    with pytest.raises(Refused, match="signed anew"):
        agree(abroad)
    assert agree(abroad, replace(PACT, digest="cd" * 32)) == ("+ agreement uk-ca",)


def _explained(plant: Plant, job: JobId) -> set[tuple[Reason, str]]:
    state = FleetState()
    with plant.store.read() as view:
        sequence, changes = view.changes.load_all()
        state.apply_all(sequence, changes)
        row = view.jobs.row(job)
        assert row is not None
        waiting = QueuedJob(job, view.jobs.job_class(row.class_id), row.submitted_at_ms, 1)
    told = explain(state, waiting, plant.now_ms)
    return {(d.reason, d.subject) for each in told.changes for d in each}


def test_its_cap_on_gpus_is_a_hard_limit(abroad: Plant) -> None:
    agree(abroad, replace(PACT, gpu_milli_max=2_000))
    first = abroad.run(work(name="first", gpus=2))
    second = abroad.submit(work(name="second"))
    assert not abroad.cycle().kept
    assert _explained(abroad, second) == {(Reason.AGREEMENT_GPUS, "uk-ca")}
    stopped(abroad, first)
    [placed] = abroad.cycle().kept
    assert placed.key.job == second
    assert abroad.try_submit(work(gpus=3)).refusal.reason is Reason.AGREEMENT_GPUS


def test_several_jobs_of_one_plan_do_not_pass_it_together(abroad: Plant) -> None:
    agree(abroad, replace(PACT, gpu_milli_max=3_000))
    for n in range(5):
        abroad.submit(work(name=f"job-{n}"))
    applied = abroad.cycle()
    assert (len(applied.kept), applied.stale) == (3, ())


def test_its_budget_of_gpu_time_is_one_too(abroad: Plant) -> None:
    budget = Budget("*", gpu_ms(1_000, 30 * HOUR_MS), BudgetPeriod.MONTH)  # type: ignore[arg-type]
    agree(abroad, replace(PACT, budget=budget))
    first = abroad.run(work(name="first"))  # 24 hours are reserved.
    second = abroad.submit(work(name="second"))
    assert not abroad.cycle().kept
    assert _explained(abroad, second) == {(Reason.AGREEMENT_GPU_HOURS, "uk-ca")}
    abroad.now_ms += HOUR_MS
    stopped(abroad, first)
    assert len(abroad.cycle().kept) == 1


def test_faults_of_an_agreement_are_told_all_at_once(abroad: Plant) -> None:
    bad = replace(
        PACT, name="UK CA", jurisdictions=("Canada",), signatories=PACT.signatories[:1],
        valid_until_ms=PACT.valid_from_ms, scope=replace(PACT.scope, kinds=()),
    )  # fmt: skip
    with pytest.raises(Refused) as refused:
        agree(abroad, bad)
    assert {denial.subject for denial in refused.value.denials} == {
        f"agreement.{name}"
        for name in ("name", "jurisdictions", "parties", "valid_until_ms", "scope.kinds")
    }


SECOND = replace(PACT, name="zz-ca", digest="cd" * 32)
EITHER = replace(WORK, agreements=("uk-ca", "zz-ca"))


def test_work_goes_under_any_agreement_that_has_room_the_first_by_name_before_others(
    abroad: Plant,
) -> None:
    agree(abroad, replace(PACT, gpu_milli_max=1_000))
    agree(abroad, replace(SECOND, gpu_milli_max=1_000))
    jobs = [abroad.submit(replace(spec(name=f"job-{n}"), residency=EITHER)) for n in range(3)]
    assert [placed.key.job for placed in abroad.cycle().kept] == jobs[:2]
    assert [(e["agreement"], e["gpu_milli"]) for e in ledger(abroad)] == [
        ("uk-ca", 1_000),
        ("zz-ca", 1_000),
    ]
    told = {(reason, name) for reason, name in _explained(abroad, jobs[2])}
    assert told >= {(Reason.AGREEMENT_GPUS, "uk-ca"), (Reason.AGREEMENT_GPUS, "zz-ca")}


def test_what_was_admitted_by_the_second_stays_by_it_alone(abroad: Plant) -> None:
    agree(abroad, replace(PACT, gpu_milli_max=0))
    agree(abroad, SECOND)
    key = abroad.run(replace(spec(), residency=EITHER))
    abroad.tick()
    assert abroad.job(key.job).state is JobState.RUNNING
    agree(abroad, PACT)  # The first has room now: that changes nothing for what runs.
    abroad.tick()
    assert abroad.job(key.job).state is JobState.RUNNING
    abroad.now_ms += HOUR_MS
    stopped(abroad, key)
    told = certificate(abroad, key.job)
    assert [interval["agreement"] for interval in told["intervals"]] == ["zz-ca"]
    assert [each["name"] for each in told["agreements"]] == ["zz-ca"]
    assert {entry["agreement"] for entry in ledger(abroad)} == {"zz-ca"}


def test_the_writer_counts_placements_of_one_plan_under_the_agreement_with_room(
    abroad: Plant,
) -> None:
    """As many as both together have room for, however the planner saw it."""
    agree(abroad, replace(PACT, gpu_milli_max=2_000))
    agree(abroad, replace(SECOND, gpu_milli_max=1_000))
    for n in range(3):
        abroad.submit(replace(spec(name=f"job-{n}"), residency=EITHER))
    proposed = abroad.plan()
    assert len(proposed.placements) == 3
    agree(abroad, replace(PACT, gpu_milli_max=1_000))
    with abroad.store.transaction() as txn:
        applied = abroad.control.apply_plan(txn, proposed, abroad.now_ms)
    assert len(applied.kept) == 2
    assert sorted(entry["agreement"] for entry in ledger(abroad)) == ["uk-ca", "zz-ca"]


def test_work_that_no_agreement_will_ever_bear_is_refused_with_the_caps_of_each(
    abroad: Plant,
) -> None:
    agree(abroad, replace(PACT, gpu_milli_max=1_000))
    agree(abroad, replace(SECOND, gpu_milli_max=2_000))
    large = replace(spec(gpus=2), residency=EITHER)
    assert abroad.submit(large)
    refused = abroad.try_submit(replace(spec(gpus=4), residency=EITHER)).refusal
    subjects = {d.subject for d in refused.denials if d.reason is Reason.AGREEMENT_GPUS}
    assert subjects == {"uk-ca", "zz-ca"}
