"""The short way from what was sent to what is stored ends where the long way ends."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scheduler.model.ids import TenantPath
from scheduler.wire import spec as long_way
from scheduler.wire.written import OWN, SHAPE_BYTES_MAX, read, written
from sovapi.v1 import common_pb2, jobs_pb2
from tests.wire.filling import fill

PROJECT = TenantPath("trust-a/radiology")
NUMBERS = st.integers(0, 5)
TEXT = st.text("abc/_ é", max_size=5)
TEXTS = st.lists(TEXT, max_size=3)
PAIRS = st.dictionaries(TEXT, TEXT, max_size=4)

SPECS = st.builds(
    jobs_pb2.JobSpec,
    name=TEXT,
    project=TEXT,
    command=TEXTS,
    bundle_digest=TEXT,
    env=PAIRS,
    secrets=PAIRS,
    # Numbers that this version does not know are among them.
    kind=st.integers(0, 9),
    priority=st.integers(0, 9),
    time_limit_ms=NUMBERS,
    resources=st.none() | st.builds(jobs_pb2.Resources, nodes=NUMBERS, gpu_classes=TEXTS),
    residency=st.none()
    | st.builds(
        jobs_pb2.ResidencyRequirement, jurisdictions=TEXTS, tier=st.sampled_from([0, 1, 77])
    ),
    preemption=st.none() | st.builds(jobs_pb2.Preemption, grace_ms=NUMBERS),
    retries=st.none() | st.just(jobs_pb2.Retries()),
    array=st.none() | st.builds(jobs_pb2.JobArray, count=NUMBERS),
    signal_before_end=st.none() | st.just(jobs_pb2.SignalBeforeEnd()),
)

NAMED = {"about": "location", "fact": "sinks"}
"""What only words that both sides know may stand in."""


def check(message: jobs_pb2.JobSpec) -> None:
    found = read(message, PROJECT)
    wanted = replace(long_way.spec_from_proto(message), project=PROJECT)
    assert found.spec == wanted
    assert found.body == long_way.spec_to_bytes(wanted)
    assert found.digest == long_way.spec_digest(found.body)
    assert written(wanted) == replace(found, shape=written(wanted).shape)


@given(SPECS)
def test_both_ways_end_at_the_same_specification_and_bytes(message: jobs_pb2.JobSpec) -> None:
    check(message)
    check(message)  # And when its shape is known.


def test_no_field_is_lost_on_the_short_way() -> None:
    check(fill(jobs_pb2.JobSpec(), NAMED))


def test_a_shape_that_is_too_large_to_remember_is_read_all_the_same() -> None:
    markings = [f"MARKING {n}" for n in range(SHAPE_BYTES_MAX // 8)]
    check(jobs_pb2.JobSpec(residency=jobs_pb2.ResidencyRequirement(markings=markings)))


def test_fields_of_a_newer_client_are_not_stored() -> None:
    newer = jobs_pb2.JobSpec.FromString(
        jobs_pb2.JobSpec(name="a").SerializeToString() + b"\xfa\x3f\x03new"
    )
    assert newer.SerializeToString() != jobs_pb2.JobSpec(name="a").SerializeToString()
    assert read(newer, PROJECT).body == read(jobs_pb2.JobSpec(name="a"), PROJECT).body


def test_only_own_fields_leave_the_shape_as_it_is() -> None:
    full = fill(jobs_pb2.JobSpec(), NAMED)
    shape = read(full, PROJECT).shape
    for field in jobs_pb2.JobSpec.DESCRIPTOR.fields:
        other = jobs_pb2.JobSpec()
        other.CopyFrom(full)
        other.ClearField(field.name)
        assert (read(other, PROJECT).shape == shape) is (field.name in OWN), field.name
    low = jobs_pb2.JobSpec(residency=jobs_pb2.ResidencyRequirement(tier=common_pb2.TIER_OFFICIAL))
    high = jobs_pb2.JobSpec(residency=jobs_pb2.ResidencyRequirement(tier=common_pb2.TIER_SECRET))
    assert read(low, PROJECT).shape != read(high, PROJECT).shape
