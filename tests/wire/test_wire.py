"""No field is lost between wire and domain: every one is set, sent over and back, and compared."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from scheduler.core.egress import DESTINATIONS_MAX
from scheduler.core.job_ids import JobIdCodec
from scheduler.model.ids import AttemptKey, GpuClass, JobId, NodeId, SiteId, TenantPath
from scheduler.model.job import (
    Attempt,
    Awaited,
    EgressUse,
    Job,
    JobState,
    NodePlacement,
    Placement,
    RankCause,
    RankEgress,
    RankPhase,
    RankStatus,
    TaskCounts,
    WrittenOutput,
)
from scheduler.model.outside import Contact, Dependency, Setting
from scheduler.model.plan import Explanation, SiteReasons
from scheduler.model.reasons import Denial, Reason, Refused
from scheduler.wire import datasets, fleet, jobs, outside, policy, sitelink, spec, tenants, windows
from sovapi.v1 import datasets_pb2, fleet_pb2, jobs_pb2, policy_pb2, sitelink_pb2, tenants_pb2
from tests.wire.filling import fill

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

CODEC = JobIdCodec(b"k" * 32)
SITE = SiteId("exch-a")
TEXTS = {
    "job_id": CODEC.encode(JobId(7)),
    "key": "country",
    "reason": "NODES_BUSY",
    "node": "n01",
    "fact": "country",
    "about": "location",
    "op": "each_in",
    "sets": "home",
}


def _spec_there_and_back(message: jobs_pb2.JobSpec) -> Message:
    return spec.spec_to_proto(spec.spec_from_proto(message))


def _tenant_there_and_back(message: tenants_pb2.Tenant) -> Message:
    return tenants.tenant_to_proto(tenants.tenant_from_proto(message))


def _site_there_and_back(message: fleet_pb2.SiteDeclaration) -> Message:
    return fleet.site_to_proto(*fleet.site_from_proto(message))


def _dataset_there_and_back(message: datasets_pb2.Dataset) -> Message:
    return datasets.dataset_to_proto(datasets.dataset_from_proto(message))


def _policy_there_and_back(message: policy_pb2.Policy) -> Message:
    return policy.policy_to_proto(policy.policy_from_proto(message))


def _desired_there_and_back(message: sitelink_pb2.Desired) -> Message:
    return sitelink.desired_to_proto(sitelink.desired_from_proto(message, SITE, CODEC), CODEC)


def _report_there_and_back(message: sitelink_pb2.SiteReport) -> Message:
    return sitelink.report_to_proto(sitelink.report_from_proto(message, SITE, CODEC), CODEC)


@pytest.mark.parametrize(
    ("message", "there_and_back"),
    [
        pytest.param(jobs_pb2.JobSpec(), _spec_there_and_back, id="a job's specification"),
        pytest.param(fleet_pb2.SiteDeclaration(), _site_there_and_back, id="a declared site"),
        pytest.param(tenants_pb2.Tenant(), _tenant_there_and_back, id="a tenant"),
        pytest.param(datasets_pb2.Dataset(), _dataset_there_and_back, id="a dataset"),
        pytest.param(policy_pb2.Policy(), _policy_there_and_back, id="a policy"),
        pytest.param(sitelink_pb2.Desired(), _desired_there_and_back, id="desired state"),
        pytest.param(sitelink_pb2.SiteReport(), _report_there_and_back, id="a site's report"),
    ],
)
def test_no_field_is_lost_there_and_back(
    message: Message, there_and_back: Callable[[Message], Message]
) -> None:
    full = fill(message, TEXTS)
    assert there_and_back(full) == full


def _full_job() -> Job:
    rank = RankStatus(
        rank=1,
        node=NodeId("exch-a/n01"),
        phase=RankPhase.OVER,
        exit_code=3,
        signal=9,
        cause=RankCause.STOP,
        started_at_ms=1,
        ended_at_ms=2,
        log_bytes=3,
        checkpoint_at_ms=4,
        detail="d",
        egress=RankEgress(1, (EgressUse(2, 3, 4),)),
        outputs=(WrittenOutput("trust-a/models", "sha256:1", 5),),
    )
    key = AttemptKey(JobId(7), 1)
    nodes = (NodePlacement(NodeId("exch-a/n01"), 0b101),)
    return Job(
        id=JobId(7),
        tenant=TenantPath("trust-a/radiology"),
        owner="/tenant/trust-a/user/ada",
        name="train",
        state=JobState.FAILED,
        spec=spec.spec_from_proto(fill(jobs_pb2.JobSpec(), TEXTS)),
        spec_digest="sha256:1",
        submitted_at_ms=1,
        attempts=(
            Attempt(
                key=key,
                site=SITE,
                state=JobState.FAILED,
                placement=Placement(key, SITE, GpuClass("H100"), nodes, 2000),
                ranks=(rank,),
                reason=Reason.EXIT_NONZERO,
                message="m",
                country="GB",
                placed_at_ms=1,
                started_at_ms=2,
                ended_at_ms=3,
            ),
        ),
        reason=Reason.EXIT_NONZERO,
        message="m",
        ended_at_ms=4,
        exit_code=3,
        array_id=JobId(5),
        task=2,
        tasks=TaskCounts(total=9, queued=1, live=2, succeeded=3, failed=2, cancelled=1, ready=1),
        waits_for=(Awaited(JobId(6), JobState.SUCCEEDED),),
        estimated_start_ms=7,
        estimated_start_p90_ms=8,
        effective=spec.requirement_from_proto(fill(jobs_pb2.ResidencyRequirement(), TEXTS)),
    )


def unset_fields(message: Message) -> list[str]:
    """Names of all fields, nested ones too, that hold their default."""
    present = {field.name for field, _ in message.ListFields()}
    unset = [f.full_name for f in message.DESCRIPTOR.fields if f.name not in present]
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for child in value if field.is_repeated else (value,):
            unset += unset_fields(child)
    return unset


def test_every_field_of_a_job_is_shown() -> None:
    assert unset_fields(jobs.job_to_proto(_full_job(), CODEC)) == []


def test_every_field_of_an_explanation_is_shown() -> None:
    denial = Denial(Reason.NODES_BUSY, "all busy", "exch-a", "a-rule")
    explanation = Explanation(
        summary="waits",
        sites=(SiteReasons(SITE, permitted=True, denials=(denial,)),),
        quota=(denial,),
        changes=((denial,),),
        queue_position=1,
        would_run_at=SITE,
        estimated_start_ms=1,
        estimated_start_p90_ms=2,
    )
    shown = jobs.explanation_to_proto(explanation, _full_job(), CODEC)
    assert unset_fields(shown) == []


def test_every_field_of_a_window_is_taken_or_shown() -> None:
    asked = fill(fleet_pb2.MaintenanceWindow(), {"target": "exch-a/n01", "nodes": "exch-a/n02"})
    taken = windows.window_from_proto(asked, 0)
    shown = windows.window_to_proto(replace(taken.window, added_by="/operator/o", begun=True))
    assert (taken.count, taken.gpu_class) == (asked.count, asked.gpu_class)
    for message in (asked, shown):
        for field in ("count", "gpu_class", "target", "nodes", "added_by"):
            message.ClearField(field)
    assert taken.window.nodes == ("exch-a/n01", "exch-a/n02", "exch-a/n02")
    assert shown == asked
    single = replace(taken.window, nodes=taken.window.nodes[:1])
    assert windows.window_to_proto(single).target == "exch-a/n01"


def test_a_specification_survives_its_stored_form() -> None:
    asked = spec.spec_from_proto(fill(jobs_pb2.JobSpec(), TEXTS))
    stored = spec.spec_to_bytes(asked)
    assert spec.spec_from_bytes(stored) == asked
    assert spec.spec_digest(stored).startswith("sha256:")


def test_a_number_that_no_enum_has_denies() -> None:
    message = sitelink_pb2.NodeReport(slot="n01", health=99, isolation=77)  # type: ignore[arg-type]
    report = fleet.node_report_from_proto(message, SITE)
    assert not report.ready()
    assert report.isolation == 0


def test_a_fact_that_nobody_interprets_is_refused_with_its_field() -> None:
    message = fleet_pb2.SiteDeclaration(id="exch-a", facts=[fleet_pb2.Fact(key="weather")])
    with pytest.raises(Refused, match=r"sites\[exch-a\]\.facts\.key: found 'weather'; allowed: "):
        fleet.site_from_proto(message)


def test_a_site_cannot_name_another_sites_node() -> None:
    message = jobs_pb2.RankStatus(rank=0, node="n01")
    assert jobs.rank_from_site(message, SITE).node == NodeId("exch-a/n01")


def test_what_a_site_counts_is_kept_within_bounds() -> None:
    absurd = jobs_pb2.EgressUse(connections=-1, sent_bytes=(1 << 63) - 1, received_bytes=5)
    told = jobs_pb2.RankEgress(denied=-7, uses=[absurd] * (DESTINATIONS_MAX + 1))
    found = jobs.rank_from_site(jobs_pb2.RankStatus(node="n01", egress=told), SITE).egress
    assert found is not None
    assert found.denied == 0
    assert found.uses == (EgressUse(0, jobs.EGRESS_COUNT_MAX, 5),) * DESTINATIONS_MAX


def test_what_is_outside_is_told_whole() -> None:
    found = Dependency(
        name="a",
        hosts=("b", "c"),
        program="d",
        when="e",
        needed=True,
        state=Contact.DECLARED,
        detail="f",
        settings=(Setting("g", "h", "i"),),
        site="j",
        countries=("NO",),
    )
    message = outside.dependency_to_proto(found)
    told = {field.name for field, _ in message.ListFields()}
    assert told == set(fleet_pb2.ExternalDependency.DESCRIPTOR.fields_by_name)
    assert (list(message.hosts), message.state) == (["b", "c"], fleet_pb2.CONTACT_STATE_DECLARED)
    setting = message.settings[0]
    assert (setting.name, setting.value, setting.file) == ("g", "h", "i")
