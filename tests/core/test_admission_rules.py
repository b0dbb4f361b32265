from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.admission_rules import (
    COMMAND_BYTES_MAX,
    is_plainly_sound,
    own_faults,
    unsupported,
    value_faults,
)
from scheduler.core.classes import BUCKET_MS_MIN, bucket_ms, class_of
from scheduler.model.fleet import CpuArch, Interconnect
from scheduler.model.ids import GpuClass, TenantPath
from scheduler.model.job import (
    DatasetOutput,
    Dependency,
    JobArray,
    JobKind,
    JobSpec,
    JobState,
    OnPartition,
    Preemption,
    Priority,
    Resources,
    Retries,
    SignalBeforeEnd,
    Topology,
    TopologyLevel,
)
from scheduler.model.reasons import Reason
from scheduler.model.residency import Assurance, NodeSharing, Requirement, Tier
from scheduler.model.service import Service
from tests.core.builders import GB_ONLY, H100, HOUR_MS, spec


def shaped(**changes: object) -> JobSpec:
    return spec(resources=replace(Resources(), **changes))  # type: ignore[arg-type]


def bound(**changes: object) -> JobSpec:
    return spec(residency=replace(GB_ONLY, **changes))  # type: ignore[arg-type]


def fields(of: JobSpec) -> list[str]:
    return [fault.subject for fault in value_faults(of)]


@pytest.mark.parametrize(
    ("of", "field"),
    [
        pytest.param(spec(""), "name", id="no name"),
        pytest.param(spec("a" * 64), "name", id="a long name"),
        pytest.param(spec("a\x1b[2J"), "name", id="a name that clears the screen"),
        pytest.param(spec(project=TenantPath("a/../b")), "project", id="a path upwards"),
        pytest.param(spec(project=TenantPath("a/b/c/d/e")), "project", id="a deep path"),
        pytest.param(spec(bundle_digest="sha256:abc"), "bundle_digest", id="half a digest"),
        pytest.param(spec(command=()), "command", id="no command"),
        pytest.param(spec(command=("",)), "command", id="an empty program"),
        pytest.param(spec(command=("x",) * 1001), "command", id="too many words"),
        pytest.param(spec(command=("x" * COMMAND_BYTES_MAX,)), "command", id="a huge word"),
        pytest.param(spec(command=("a\0b",)), "command[0]", id="a NUL in a word"),
        pytest.param(spec(command=("\ud800",)), "command[0]", id="half a surrogate pair"),
        pytest.param(spec(env=tuple((f"V{n}", "") for n in range(1001))), "env",
                     id="too many variables"),
        pytest.param(spec(env=(("V", "x" * COMMAND_BYTES_MAX),)), "env", id="a huge variable"),
        pytest.param(spec(env=(("1A", ""),)), "env.1A", id="a variable that begins with a digit"),
        pytest.param(spec(env=(("A", "\0"),)), "env.A", id="a NUL in a value"),
        pytest.param(spec(env=(("A", "1"), ("A", "2"))), "env", id="a variable twice"),
        pytest.param(spec(env=(("RANK", "1"),)), "env.RANK", id="a variable that is ours"),
        pytest.param(spec(env=(("SOV_JOB_ID", "1"),)), "env.SOV_JOB_ID", id="another of ours"),
        pytest.param(shaped(nodes=0), "resources.nodes", id="no node"),
        pytest.param(shaped(nodes=10_000), "resources.nodes", id="ten thousand nodes"),
        pytest.param(shaped(gpus_per_node=65), "resources.gpus_per_node", id="65 GPUs"),
        pytest.param(shaped(gpus_per_node=-1), "resources.gpus_per_node", id="minus one GPU"),
        pytest.param(shaped(gpu_share_milli=0), "resources.gpu_share_milli", id="no share"),
        pytest.param(shaped(mig_profile="5g.1gb"), "resources.mig_profile", id="no such profile"),
        pytest.param(
            shaped(mig_profile="1g.10gb", gpus_per_node=2),
            "resources.mig_profile",
            id="two instances",
        ),
        pytest.param(
            shaped(mig_profile="1g.10gb", gpu_share_milli=500),
            "resources.mig_profile",
            id="a share of an instance",
        ),
        pytest.param(
            shaped(gpus_per_node=2, gpu_share_milli=500),
            "resources.gpu_share_milli",
            id="a share of two",
        ),
        pytest.param(shaped(nodes=4, max_nodes=2), "resources.max_nodes", id="shrinking"),
        pytest.param(shaped(tasks_per_node=0), "resources.tasks_per_node", id="no task"),
        pytest.param(shaped(tasks_per_gpu=True, gpus_per_node=0), "resources.tasks_per_gpu",
                     id="a task per GPU of none"),
        pytest.param(shaped(cpu_milli_per_node=1), "resources.cpu_milli_per_node",
                     id="a thousandth of a core"),
        pytest.param(shaped(memory_bytes_per_node=1), "resources.memory_bytes_per_node",
                     id="one byte"),
        pytest.param(shaped(gpu_classes=(GpuClass("H 100"),)), "resources.gpu_classes[0]",
                     id="a model with a space"),
        pytest.param(shaped(gpu_classes=(H100, H100)), "resources.gpu_classes", id="a model twice"),
        pytest.param(shaped(cpu_arch=CpuArch.UNSPECIFIED), "resources.cpu_arch", id="no arch"),
        pytest.param(shaped(interconnect=Interconnect.UNSPECIFIED), "resources.interconnect",
                     id="no interconnect"),
        pytest.param(replace(shaped(nodes=2), topology=Topology(TopologyLevel.NODE)),
                     "topology.within", id="a gang within one node"),
        pytest.param(spec(topology=Topology(TopologyLevel.UNSPECIFIED)), "topology.within",
                     id="no level"),
        pytest.param(bound(jurisdictions=("gb",)), "residency.jurisdictions[0]",
                     id="a country in small letters"),
        pytest.param(bound(jurisdictions=("GB", "GB")), "residency.jurisdictions",
                     id="a country twice"),
        pytest.param(bound(tolerate_foreign_compulsion=("USA",)),
                     "residency.tolerate_foreign_compulsion[0]", id="a country of three letters"),
        pytest.param(bound(markings=("secret stuff",)), "residency.markings[0]",
                     id="a marking in small letters"),
        pytest.param(bound(tier=Tier.UNSPECIFIED), "residency.tier", id="no tier"),
        pytest.param(bound(node_sharing=NodeSharing.UNSPECIFIED), "residency.node_sharing",
                     id="no sharing rule"),
        pytest.param(bound(min_assurance=Assurance.UNSPECIFIED), "residency.min_assurance",
                     id="no assurance"),
        pytest.param(spec(time_limit_ms=999), "time_limit_ms", id="less than a second"),
        pytest.param(spec(time_limit_ms=31 * 24 * HOUR_MS), "time_limit_ms", id="over a month"),
        pytest.param(spec(signal_before_end=SignalBeforeEnd("KILL", 1000)),
                     "signal_before_end.signal", id="a signal that cannot be caught"),
        pytest.param(spec(signal_before_end=SignalBeforeEnd("USR1", 25 * HOUR_MS)),
                     "signal_before_end.before_ms", id="a signal before the beginning"),
        pytest.param(spec(preemption=Preemption(grace_ms=-1)), "preemption.grace_ms",
                     id="a negative grace"),
        pytest.param(spec(retries=Retries(hardware=101)), "retries.hardware", id="101 retries"),
        pytest.param(spec(egress=("a:1", "b")), "egress[1]", id="a destination without a port"),
        pytest.param(spec(egress=("a:1", "b:1", "a:1")), "egress", id="a destination twice"),
        pytest.param(spec(egress=tuple(f"a:{n}" for n in range(1, 18))), "egress",
                     id="17 destinations"),
        pytest.param(spec(kind=JobKind.UNSPECIFIED), "kind", id="no kind"),
        pytest.param(spec(priority=Priority.UNSPECIFIED), "priority", id="no priority"),
        pytest.param(spec(on_partition=OnPartition.UNSPECIFIED), "on_partition", id="no answer"),
        pytest.param(spec(array=JobArray(0)), "array.count", id="an array of nothing"),
        pytest.param(spec(depends_on=(Dependency("j", JobState.QUEUED),)), "depends_on[0].state",
                     id="waiting for a job to wait"),
        pytest.param(spec(depends_on=(Dependency("j", JobState.FAILED),) * 101), "depends_on",
                     id="waiting for 101 jobs"),
    ],
)  # fmt: skip
def test_a_faulty_value_is_named_by_its_field(of: JobSpec, field: str) -> None:
    assert fields(of) == [field]


def test_a_plain_job_and_a_cpu_job_have_no_fault() -> None:
    assert value_faults(spec()) == ()
    assert value_faults(shaped(gpus_per_node=0, cpu_milli_per_node=4000)) == ()
    assert unsupported(spec()) == ()


def test_all_faults_come_at_once_and_say_found_and_allowed() -> None:
    bad = replace(shaped(nodes=10_000), name="", command=(), time_limit_ms=0)
    assert fields(bad) == ["name", "command", "resources.nodes", "time_limit_ms"]
    assert value_faults(bad)[2].detail == "found 10000, allowed 1 to 4096"


def test_a_message_carries_neither_control_characters_nor_the_whole_text() -> None:
    (fault,) = value_faults(spec("\x1b" * 10_000))
    assert fault.detail.isprintable()
    assert "(10000 characters)" in fault.detail
    assert len(fault.detail) < 250


@pytest.mark.parametrize("image", ["debian", "debian:12", "r.example/a/b:latest", "sha256:12"])
def test_an_image_is_named_by_its_digest_and_never_by_a_tag(image: str) -> None:
    assert "image" in {fault.subject for fault in value_faults(spec(image=image))}
    by_digest = f"r.example/a/b@sha256:{'0' * 64}"
    assert value_faults(spec(image=by_digest)) == ()
    assert unsupported(spec(image=by_digest)) == ()


@pytest.mark.parametrize(
    ("of", "field"),
    [
        (spec(max_path_latency_us=1), "max_path_latency_us"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_done_yet_is_refused_by_name(of: JobSpec, field: str) -> None:
    assert value_faults(of) == ()
    (fault,) = unsupported(of)
    assert (fault.subject, fault.reason) == (field, Reason.FEATURE_NOT_AVAILABLE)


def test_jobs_that_differ_in_what_placement_ignores_are_of_one_class() -> None:
    tenant = TenantPath("trust-a/radiology")
    one = class_of(spec("one", env=(("A", "1"),)), tenant)
    assert one == class_of(spec("two", command=("other",)), tenant)
    assert one != class_of(spec(residency=Requirement(("GB", "NO"))), tenant)


WORDS = st.sampled_from(("", "a", "A_1", "1A", "RANK", "RANKS", "SOV_X", "x\ny", "\0", "é", "a b"))


@given(
    WORDS | st.text(max_size=5),
    st.lists(WORDS | st.text(max_size=5), max_size=3),
    st.lists(st.tuples(WORDS | st.text(max_size=5), WORDS), max_size=4),
    st.sampled_from(("trust-a", "trust-a/radiology", "a/b/c/d/e", "A", "")),
)
def test_what_differs_between_jobs_of_a_shape_is_judged_as_the_whole_is(
    name: str, command: list[str], env: list[tuple[str, str]], project: str
) -> None:
    of = spec(name, command=tuple(command), env=tuple(sorted(env)), project=TenantPath(project))
    assert own_faults(of) == value_faults(of)
    assert not is_plainly_sound(of) or not value_faults(of)


def test_an_ordinary_job_is_plainly_sound() -> None:
    assert is_plainly_sound(spec("one", env=(("A", "1"),), bundle_digest=f"sha256:{'0' * 64}"))
    assert not is_plainly_sound(spec("one", bundle_digest="sha256:0"))


@given(st.integers(1, 30 * 24 * HOUR_MS))
def test_a_bucket_holds_its_limits_and_is_hardly_longer(limit_ms: int) -> None:
    bucket = bucket_ms(limit_ms)
    assert limit_ms <= bucket
    assert bucket_ms(bucket) == bucket
    assert bucket - limit_ms < BUCKET_MS_MIN or (bucket - limit_ms) * 30 < limit_ms


@pytest.mark.parametrize("hours", [1, 2, 4, 8, 12, 24, 48])
def test_limits_in_common_use_are_buckets_of_their_own(hours: int) -> None:
    assert bucket_ms(hours * HOUR_MS) == hours * HOUR_MS


@pytest.mark.parametrize(
    ("of", "fields"),
    [
        (spec(kind=JobKind.SERVICE, service=Service(2), retries=Retries(-1, -1)), []),
        (spec(kind=JobKind.SERVICE), ["service"]),
        (spec(service=Service(1)), ["service"]),
        (spec(kind=JobKind.RAY), []),
        (
            spec(kind=JobKind.RAY, resources=Resources(tasks_per_node=2)),
            ["resources.tasks_per_node"],
        ),
        (spec(retries=Retries(-1, -2)), ["retries.hardware", "retries.application"]),
        (
            spec(
                kind=JobKind.SERVICE,
                service=Service(0),
                array=JobArray(3),
                resources=Resources(nodes=1, max_nodes=2),
                outputs=(DatasetOutput("d", "o"),),
            ),
            ["service.replicas", "array", "resources.max_nodes", "outputs"],
        ),
        (
            spec(kind=JobKind.SERVICE, service=Service(5_001)),
            ["service.replicas"],
        ),
    ],
)
def test_all_faults_of_a_service_are_told_at_once(of: JobSpec, fields: list[str]) -> None:
    assert [fault.subject for fault in value_faults(of)] == fields
