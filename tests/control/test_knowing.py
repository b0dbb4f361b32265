"""What is found out about nodes reaches placements, running work, the log and certificates."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from scheduler.control.knowing import learn
from scheduler.model.fleet import Attestation
from scheduler.model.job import JobState, RankCause
from scheduler.model.reasons import Reason
from scheduler.model.residency import Assurance, NodeFact, Policy
from scheduler.model.rules import FactRule
from tests.control.plant import N01, N02, Plant, spec
from tests.core.builders import GB_ONLY, PROVED, located
from tests.store.builders import LONDON

ASKING = replace(spec(), residency=replace(GB_ONLY, node_facts=(PROVED,)))


def found(plant: Plant, verdict: str = "PROVED_IN", **changes: Any) -> NodeFact:
    """What landmarks find out now."""
    return located(
        verdict,
        observed_at_ms=plant.now_ms,
        expires_at_ms=None if verdict == "CLAIM_FALSE" else plant.now_ms + 600_000,
        **changes,
    )


def tell(plant: Plant, fact: NodeFact, node: Any = N01) -> bool:
    with plant.store.transaction() as txn:
        return learn(txn, node, fact, plant.now_ms)


def known(plant: Plant) -> tuple[str, ...]:
    with plant.store.read() as view:
        entry = view.fleet.node(N01)
    assert entry is not None
    return entry.node.facts[0].values


def leaves(plant: Plant, kind: str) -> list[dict[str, Any]]:
    with plant.store.read() as view:
        return [json.loads(leaf.body) for leaf in view.audit.all() if leaf.kind == kind]


def certified(plant: Plant, job: Any) -> dict[str, Any]:
    with plant.store.read() as view:
        certificate = view.certificates.of_job(job)
    assert certificate is not None
    return json.loads(certificate.statement)["predicate"]


def over(plant: Plant, key: Any, cause: RankCause = RankCause.EXIT, code: int = 0) -> None:
    plant.push()
    plant.report(plant.ended(key, cause=cause, exit_code=code))


def test_work_that_asks_for_a_proved_location_waits_for_one(plant: Plant) -> None:
    job = plant.submit(ASKING)
    assert plant.cycle().kept == ()
    tell(plant, found(plant, "UNPROVED"))
    assert plant.cycle().kept == ()
    tell(plant, found(plant))
    [placed] = plant.cycle().kept
    assert (placed.key.job, placed.nodes[0].node) == (job, N01)


def test_a_policy_may_ask_it_of_all_work(plant: Plant) -> None:
    plant.apply_policy(Policy(node_facts=(PROVED,)))
    plant.submit()
    assert plant.cycle().kept == ()
    tell(plant, found(plant), N02)
    [placed] = plant.cycle().kept
    assert placed.nodes[0].node == N02


def test_the_writer_does_not_take_the_planners_word_for_it(plant: Plant) -> None:
    plant.submit(ASKING)
    tell(plant, found(plant))
    made = plant.plan()
    tell(plant, found(plant, "CLAIM_FALSE"))
    with plant.store.transaction() as txn:
        applied = plant.control.apply_plan(txn, made, plant.now_ms)
    [stale] = applied.stale
    assert stale.denial.reason is Reason.NODE_REFUTED


def test_a_refuted_node_loses_what_runs_there_and_the_certificate_shows_when(plant: Plant) -> None:
    tell(plant, found(plant))
    key = plant.run()
    plant.tick()
    assert plant.job(key.job).state is JobState.RUNNING
    plant.now_ms += 5_000
    tell(plant, found(plant, "CLAIM_FALSE", detail="answered too soon"))
    plant.tick()
    job = plant.job(key.job)
    assert (job.state, job.reason) == (JobState.PREEMPTING, Reason.RESIDENCY_LOST)
    [leaf] = leaves(plant, "residency_lost")
    assert leaf["denials"][0]["reason"] == "NODE_REFUTED"
    refuted_ms = plant.now_ms
    plant.now_ms += 2_000
    over(plant, key, RankCause.STOP, 143)
    plant.cancel(key.job)
    told = certified(plant, key.job)
    assert told["verdict"] == "OUT_OF_BOUNDS"
    home, away = told["intervals"]
    assert (home["verdict"], home["to"]) == ("IN_BOUNDS", refuted_ms)
    assert away["denials"][0]["reason"] == "NODE_REFUTED"


def test_a_proof_that_runs_out_ends_what_relied_on_it_at_that_moment(plant: Plant) -> None:
    tell(plant, found(plant))
    key = plant.run(ASKING)
    plant.tick()
    plant.now_ms += 599_999
    plant.tick()
    assert plant.job(key.job).state is JobState.RUNNING
    plant.now_ms += 1
    plant.tick()
    assert plant.job(key.job).state is JobState.PREEMPTING


def test_a_proof_that_runs_out_ends_what_was_placed_after_its_site_was_judged(plant: Plant) -> None:
    tell(plant, found(plant))
    plant.tick()
    key = plant.run(ASKING)
    plant.tick()
    plant.now_ms += 599_999
    plant.tick()
    assert plant.job(key.job).state is JobState.RUNNING
    plant.now_ms += 1
    plant.tick()
    assert plant.job(key.job).state is JobState.PREEMPTING


def test_a_proof_that_is_renewed_in_time_lets_work_stay(plant: Plant) -> None:
    tell(plant, found(plant))
    key = plant.run(ASKING)
    for _ in range(4):
        plant.tick()
        plant.now_ms += 300_000
        assert tell(plant, found(plant))
    plant.tick()
    assert plant.job(key.job).state is JobState.RUNNING
    over(plant, key)
    told = certified(plant, key.job)
    assert (told["verdict"], told["location"]) == ("IN_BOUNDS", "MEASURED")
    [evidence] = told["node_evidence"]
    assert evidence["values"] == ["PROVED_IN", "GB"]
    assert evidence["landmarks"][0]["rtt_us"] == 65
    assert evidence["digest"] == "sha256:statements"
    assert not any("was not measured" in limit for limit in told["limits"])
    assert any("copy of the key" in limit for limit in told["limits"])


def test_a_certificate_of_work_on_nodes_that_nobody_measured_says_so(plant: Plant) -> None:
    key = plant.run()
    over(plant, key)
    told = certified(plant, key.job)
    assert (told["location"], told["attestation"], told["node_evidence"]) == (
        "NOT_MEASURED",
        "NONE",
        [],
    )
    assert any("was not measured" in limit for limit in told["limits"])


def test_what_was_refuted_stays_refuted_whatever_is_measured_after(plant: Plant) -> None:
    tell(plant, found(plant, "CLAIM_FALSE"))
    plant.now_ms += 10_000_000
    for verdict in ("UNPROVED", "PROVED_IN"):
        assert not tell(plant, found(plant, verdict))
    assert known(plant) == ("CLAIM_FALSE", "GB")
    assert tell(plant, found(plant, "UNPROVED", claim="key 2 in GB"))
    plant.submit()
    assert len(plant.cycle().kept) == 1


def test_a_proof_outlasts_a_round_that_proves_nothing_but_not_its_time(plant: Plant) -> None:
    tell(plant, found(plant))
    plant.now_ms += 100_000
    assert not tell(plant, found(plant, "UNPROVED"))
    assert known(plant) == ("PROVED_IN", "GB")
    plant.now_ms += 500_000
    assert tell(plant, found(plant, "UNPROVED"))
    assert known(plant) == ("UNPROVED", "GB")


def test_only_news_is_in_the_log(plant: Plant) -> None:
    for _ in range(3):
        tell(plant, found(plant))
        plant.now_ms += 120_000
    assert [leaf["fact"]["values"] for leaf in leaves(plant, "node_located")] == [
        ["PROVED_IN", "GB"]
    ]


def test_a_declaration_leaves_what_is_known_alone(plant: Plant) -> None:
    tell(plant, found(plant, "CLAIM_FALSE"))
    with plant.store.read() as view:
        entries = [entry.node for entry in view.fleet.nodes(LONDON)]
    with plant.store.transaction() as txn:
        for node in entries:
            txn.fleet.put_node(replace(node, facts=()))
    assert known(plant) == ("CLAIM_FALSE", "GB")


def test_a_node_need_of_a_kind_that_nobody_can_meet_denies(plant: Plant) -> None:
    asked = (FactRule("attestation", Assurance.ATTESTED),)
    plant.submit(replace(spec(), residency=replace(GB_ONLY, node_facts=asked)))
    tell(plant, found(plant))
    assert plant.cycle().kept == ()


def attest(plant: Plant, verdict: str, boot: str = "boot-1") -> None:
    said = Attestation(verdict, "2 devices", "sha256:printed", plant.now_ms)
    with plant.store.read() as view:
        entry = view.fleet.node(N01)
    assert entry is not None
    assert entry.report is not None
    plant.report(nodes=(replace(entry.report, boot_id=boot, attestation=said),))


def test_gpus_that_a_verifier_passed_open_a_node_to_work_that_asks(plant: Plant) -> None:
    asked = (FactRule("attestation", Assurance.ATTESTED, 7_200_000),)
    job = plant.submit(replace(spec(), residency=replace(GB_ONLY, node_facts=asked)))
    attest(plant, "NONE")
    assert plant.cycle().kept == ()
    attest(plant, "PASSED")
    [placed] = plant.cycle().kept
    plant.push()
    plant.report(plant.running(placed.key))
    over(plant, placed.key)
    told = certified(plant, job)
    assert (told["verdict"], told["attestation"]) == ("IN_BOUNDS", "ATTESTED")
    assert told["node_evidence"][0]["digest"] == "sha256:printed"
    assert any("own word" in limit for limit in told["limits"])


def test_gpus_that_failed_close_a_node_until_it_has_booted_again(plant: Plant) -> None:
    attest(plant, "FAILED")
    attest(plant, "PASSED")
    assert known(plant) == ("FAILED",)
    plant.submit()
    [placed] = plant.cycle().kept
    assert placed.nodes[0].node == N02
    attest(plant, "PASSED", boot="boot-2")
    assert known(plant) == ("PASSED",)


def test_a_word_that_no_verifier_says_is_no_attestation(plant: Plant) -> None:
    attest(plant, "EXCELLENT")
    assert known(plant) == ("NONE",)
