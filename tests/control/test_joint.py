"""A joint project: its shares come into force with their agreement, and leave with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from scheduler.core.explain import explain
from scheduler.core.fleet import FleetState
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.job import JobState
from scheduler.model.plan import QueuedJob
from scheduler.model.reasons import Reason, Refused
from scheduler.model.tenancy import GpuQuota, Share, Tenant
from tests.control.plant import HOUR_MS, OLGA, SECOND_MS, Plant, spec
from tests.control.test_agreements import PACT, POLICY, agree, certificate, ledger, revoke, stopped
from tests.store.builders import H100, RADIOLOGY, RIVALS

SHARE = Share(RIVALS, "uk-ca", H100, guarantee_milli=1_000, limit_milli=2_000)
JOINT = replace(PACT, scope=replace(PACT.scope, tenants=("trust-a", "uni-b")))


@pytest.fixture
def signed(plant: Plant) -> Iterator[Plant]:
    """A plant where both organisations are named by an agreement that is in force."""
    plant.apply_policy(POLICY)
    agree(plant, JOINT)
    yield plant
    plant.check()


def tree(*shares: Share) -> tuple[Tenant, ...]:
    """Two organisations of four GPUs; the project of one has two of its own."""
    four = (GpuQuota(H100, 2_000, 4_000),)
    return (
        Tenant(TenantPath("trust-a"), quotas=four),
        Tenant(RADIOLOGY, quotas=(GpuQuota(H100, 0, 2_000),), shares=shares),
        Tenant(TenantPath("uni-b"), quotas=four),
        Tenant(RIVALS, quotas=four),
    )


def declare(plant: Plant, *shares: Share) -> tuple[str, ...]:
    with plant.store.transaction() as txn:
        return plant.control.apply_tenants(
            txn, OLGA, tree(*shares), reason="joint", dry_run=False, now_ms=plant.now_ms
        )


def limit(plant: Plant, tenant: TenantPath) -> int | None:
    with plant.store.read() as view:
        lines = plant.control.quota(view, OLGA, tenant)
    return next(line.limit_milli for line in lines if line.gpu_class == H100)


def running(plant: Plant) -> int:
    with plant.store.read() as view:
        return sum(use.attempts for use in view.attempts.live_by_site())


def why(plant: Plant, job: JobId) -> list[str]:
    """What explain says of quota."""
    state = FleetState()
    with plant.store.read() as view:
        state.apply_all(*view.changes.load_all())
        row = view.jobs.row(job)
        assert row is not None
        queued = QueuedJob(job, view.jobs.job_class(row.class_id), row.submitted_at_ms, 1)
    return [f"{d.subject}: {d.detail}" for d in explain(state, queued, plant.now_ms).quota]


def test_a_project_runs_on_what_both_parties_give_it_and_on_no_more(signed: Plant) -> None:
    assert any("shares" in line for line in declare(signed, SHARE))
    jobs = [signed.submit(spec(name=f"job-{n}")) for n in range(5)]
    assert len(signed.cycle().kept) == 4
    [waits] = [job for job in jobs if signed.job(job).state is JobState.QUEUED]
    [said] = why(signed, waits)
    assert said.startswith(f"{RADIOLOGY}: H100 GPUs: limit 4, in use 4, asked 1; given to it: 2")
    assert said.endswith("2 of uni-b/physics under uk-ca")
    # Its giver has as much less: two of its four.
    rivals = [signed.submit(spec(name=f"own-{n}", project=RIVALS), who=OLGA) for n in range(3)]
    assert len(signed.cycle().kept) == 2
    assert sum(signed.job(job).state is JobState.QUEUED for job in rivals) == 1
    assert (limit(signed, RADIOLOGY), limit(signed, RIVALS)) == (4_000, 2_000)


def test_a_plan_made_before_the_agreement_ended_is_not_carried_out_after(signed: Plant) -> None:
    declare(signed, SHARE)
    for n in range(4):
        signed.submit(spec(name=f"job-{n}"))
    proposed = signed.plan()
    assert len(proposed.placements) == 4
    revoke(signed)
    signed.tick()
    with signed.store.transaction() as txn:
        applied = signed.control.apply_plan(txn, proposed, signed.now_ms)
    assert len(applied.kept) == 2


def test_when_its_agreement_is_revoked_what_was_given_is_the_givers_again(signed: Plant) -> None:
    declare(signed, SHARE)
    keys = [signed.run(spec(name=f"job-{n}")) for n in range(3)]
    signed.now_ms += HOUR_MS
    revoke(signed)
    signed.tick()
    assert (limit(signed, RADIOLOGY), limit(signed, RIVALS)) == (2_000, 4_000)
    late = signed.submit(spec(name="late"))
    assert signed.cycle().kept == ()
    assert "which is not in force and counts for nothing" in why(signed, late)[0]
    given, back = ledger(signed)
    assert (given["event"], given["gpu_milli"], given["guarantee_milli"]) == ("given", 2_000, 1_000)
    assert (back["event"], back["use"], back["prev"]) == (
        "taken_back", given["use"], back["prev"],
    )  # fmt: skip
    assert back["gpu_ms"] == 2 * HOUR_MS
    assert not any(str(path) in str(given) for path in (RADIOLOGY, RIVALS))
    # What runs goes on, as where a limit is lowered: it is the first that a guarantee reclaims.
    assert running(signed) == len(keys)


def test_a_share_begins_and_ends_with_its_agreement(plant: Plant) -> None:
    plant.apply_policy(POLICY)
    begins_ms, ends_ms = plant.now_ms + HOUR_MS, plant.now_ms + 2 * HOUR_MS
    agree(plant, replace(JOINT, valid_from_ms=begins_ms, valid_until_ms=ends_ms))
    declare(plant, SHARE)
    found: list[tuple[int | None, int]] = []
    for now_ms in (plant.now_ms, begins_ms, ends_ms - 1, ends_ms):
        plant.now_ms = now_ms
        plant.tick()
        found.append((limit(plant, RADIOLOGY), len(ledger(plant))))
    assert found == [(2_000, 0), (4_000, 1), (4_000, 1), (2_000, 2)]


def test_a_policy_that_honours_no_such_agreement_ends_its_shares(signed: Plant) -> None:
    declare(signed, SHARE)
    with signed.store.read() as view:
        policy = view.tenancy.policy()
    signed.apply_policy(replace(policy, instruments=()))
    signed.tick()
    assert limit(signed, RADIOLOGY) == 2_000


def test_the_certificate_says_what_was_given_to_the_project(signed: Plant) -> None:
    declare(signed, SHARE)
    key = signed.run(spec())
    signed.now_ms += SECOND_MS
    stopped(signed, key)
    [told] = certificate(signed, key.job)["joint"]
    assert (told["of"], told["agreement"], told["limit_milli"]) == (RIVALS, "uk-ca", 2_000)


def test_declaring_the_same_again_changes_nothing_and_tells_no_ledger(signed: Plant) -> None:
    declare(signed, SHARE)
    signed.now_ms += HOUR_MS
    assert declare(signed, SHARE) == ()
    assert len(ledger(signed)) == 1
    declare(signed, replace(SHARE, limit_milli=1_000))
    assert [entry["event"] for entry in ledger(signed)] == ["given", "taken_back", "given"]


def test_shares_without_an_agreement_that_names_both_are_refused_all_at_once(
    plant: Plant,
) -> None:
    plant.apply_policy(POLICY)
    agree(plant, PACT)  # It is for every tenant, and so says nothing of these two.
    with pytest.raises(Refused) as refused:
        declare(plant, SHARE, replace(SHARE, agreement="unheard-of"))
    told = [(denial.reason, denial.subject) for denial in refused.value.denials]
    field = "tenants[1].shares"
    assert told == [
        (Reason.AGREEMENT_SCOPE, f"{field}[0].agreement"),
        (Reason.AGREEMENT_SCOPE, f"{field}[0].agreement"),
        (Reason.AGREEMENT_UNKNOWN, f"{field}[1].agreement"),
    ]
