"""Job files: what they become on the wire, and what is refused, with field, line and allowed."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from scheduler.wire.spec import spec_from_proto, spec_to_proto
from sovctl import JobSpec, Residency, Resources, Retries, SpecError
from sovctl.sealed import put_ticket
from sovctl.spec import job_schema
from sovctl.spec_proto import to_proto
from sovctl.spec_values import (
    duration_ms,
    format_bytes,
    format_duration_ms,
    format_milli,
    parse_bytes,
    parse_cpus,
    parse_duration,
    parse_percent_milli,
)
from sovshared.sealing import TenantKey

WHOLE = """
name: finetune-notes
kind: batch
project: radiology
command: [python, train.py]
working_dir: .
env: {EPOCHS: "3"}
secrets: {HF_TOKEN: trust-a/hf}
image: sha256:abc
egress: ["example.org:443"]
resources:
  nodes: 2
  gpus_per_node: 1
  gpu: [H100, H200]
  gpu_share: 1000
  mig: 1g.10gb
  max_nodes: 4
  cpu_arch: amd64
  tasks_per_node: per_gpu
  cpus_per_node: 64
  memory_per_node: 512GiB
  interconnect: infiniband
topology: {within: leaf, mode: required}
residency:
  jurisdictions: [GB]
  tier: OFFICIAL
  markings: [SENSITIVE]
  tolerate_foreign_compulsion: [US]
  agreements: [uk-ca-compute]
  data_kinds: [health]
  node_facts: {location: {min_assurance: MEASURED, max_age: 10m}}
  facts: {key_custodian: {min_assurance: AUDITED, max_age: 90d}}
  node_sharing: tenant
inputs:  [{dataset: trust-a/scans-2026, mount: /data/scans}]
outputs: [{dataset: trust-a/models, from: out/}]
priority: normal
time_limit: 4h
signal_before_end: {signal: USR1, before: 5m}
preemption: {allowed: true, grace: 60s, min_runtime: 10m}
retries: {hardware: 3, application: 1}
on_partition: keep
array: {count: 100, max_running: 20}
depends_on: [{job: prep-7, state: SUCCEEDED}]
max_path_latency: 5ms
"""
ARRAY = "array: {count: 100, max_running: 20}"
SERVICE = WHOLE.replace("kind: batch", "kind: service").replace(
    ARRAY, "replicas: 3\nspread: {over: site, mode: required}"
)
"""What a job file may say of a service: it is no array."""


def empty_fields(message: Message, path: str = "") -> list[str]:
    """Paths of the fields that say nothing, at any depth."""
    empty: list[str] = []
    for field in message.DESCRIPTOR.fields:
        value: Any = getattr(message, field.name)
        here = f"{path}{field.name}"
        if not value or (field.has_presence and not message.HasField(field.name)):
            empty.append(here)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for each in value if field.is_repeated else [value]:
                empty += empty_fields(each, f"{here}.")
    return empty


@pytest.mark.parametrize(("text", "other"), [(WHOLE, "service"), (SERVICE, "array")])
def test_every_field_of_the_wire_is_reached_by_a_job_file(text: str, other: str) -> None:
    message = to_proto(JobSpec.from_yaml(text), bundle_digest="sha256:00")
    put_ticket(message, TenantKey("k1", bytes(32)), None)  # Of no file: each job has its own.
    # Which sites have the data is found out at admission, and asked for by nobody.
    assert empty_fields(message) == ["residency.data_sites", other]


@pytest.mark.parametrize("text", [WHOLE, SERVICE])
def test_the_control_plane_reads_what_we_write(text: str) -> None:
    message = to_proto(JobSpec.from_yaml(text), bundle_digest="sha256:00")
    assert spec_to_proto(spec_from_proto(message)) == message


def test_a_service_runs_for_good_unless_its_file_says_otherwise() -> None:
    plain = to_proto(JobSpec(name="x", command="true", kind="service"))
    assert plain.service.replicas == 1
    assert (plain.retries.hardware, plain.retries.application) == (-1, -1)
    assert plain.time_limit_ms == 30 * 24 * 3600 * 1000
    told = JobSpec(
        name="x", command="true", kind="service", time_limit="7d", retries=Retries(hardware=2)
    )
    message = to_proto(told)
    assert (message.retries.hardware, message.retries.application) == (2, -1)
    assert message.time_limit_ms == 7 * 24 * 3600 * 1000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: batch\nreplicas: 2", "replicas of a batch job"),
        ("kind: service\nreplicas: 0", "replicas"),
        ("kind: service\narray: {count: 2}", "an array of a service"),
    ],
)
def test_what_is_no_service_is_refused(text: str, told: str) -> None:
    with pytest.raises(SpecError) as caught:
        JobSpec.from_yaml(f"name: x\ncommand: 'true'\n{text}\n")
    (found,) = caught.value.details
    assert told in f"{found.subject}: {found.detail}"


def test_no_enum_is_left_to_be_guessed() -> None:
    message = to_proto(JobSpec(name="x", command="true"))
    parts: list[Message] = [message, message.resources, message.topology, message.residency]
    for part in parts:
        for field in part.DESCRIPTOR.fields:
            if field.enum_type is not None:
                assert getattr(part, field.name) != 0, f"{part.DESCRIPTOR.name}.{field.name}"


def test_defaults_are_the_contracts() -> None:
    message = to_proto(JobSpec(name="x", command=["true"]))
    assert list(message.residency.jurisdictions) == ["GB"]
    assert list(message.residency.tolerate_foreign_compulsion) == []
    assert message.time_limit_ms == 24 * 3600 * 1000
    assert (message.resources.nodes, message.resources.tasks_per_node) == (1, 1)
    assert message.resources.gpu_share_milli == 1000


@pytest.mark.parametrize(
    ("written", "argv"),
    [
        pytest.param(["a", "b c"], ["a", "b c"], id="a list is run as it stands"),
        pytest.param("a | b", ["/bin/sh", "-c", "a | b"], id="text is run by a shell"),
    ],
)
def test_commands(written: str | list[str], argv: list[str]) -> None:
    assert list(to_proto(JobSpec(name="x", command=written)).command) == argv


@pytest.mark.parametrize(
    ("yaml", "field", "line", "told"),
    [
        pytest.param("comand: x", "comand", 2, "did you mean 'command'?", id="an unknown field"),
        pytest.param("command: []", "command", 2, "not empty", id="an empty command"),
        pytest.param("command: ''", "command", 2, "not empty", id="an empty shell command"),
        pytest.param("command: [1]", "command", 2, "quote numbers", id="a word that is a number"),
        pytest.param("env: {A: 1}", "env.A", 2, "text (quote it)", id="a variable's number"),
        pytest.param("env: {'1A': x}", "env.1A", 2, "letters, digits", id="a variable's name"),
        pytest.param("resources: {nodes: two}", "resources.nodes", 2, "a whole number", id="text"),
        pytest.param("resources: {nodes: 10000}", "resources.nodes", 2, "at most 4096", id="many"),
        pytest.param("resources: {nodes: 0}", "resources.nodes", 2, "at least 1", id="no node"),
        pytest.param("resources: {nodes: 1.5}", "resources.nodes", 2, "whole number", id="half"),
        pytest.param("resources: {nodes: true}", "resources.nodes", 2, "whole number", id="true"),
        pytest.param("resources: [1]", "resources", 2, "a mapping", id="a list for a mapping"),
        pytest.param("resources: {nodes: 4, max_nodes: 2}", "resources", 2, "4", id="max below"),
        pytest.param("time_limit: 4", "time_limit", 2, "with its unit", id="a unit is missing"),
        pytest.param("time_limit: 0s", "file", None, "at least 1s", id="no time at all"),
        pytest.param("residency: {jurisdictions: []}", "residency.jurisdictions", 2, "at least 1",
                     id="an empty requirement"),
        pytest.param("residency: {jurisdictions: [gb]}", "residency.jurisdictions[0]", 2,
                     "two capital letters", id="a country in small letters"),
        pytest.param("residency: {tier: PUBLIC}", "residency.tier", 2, "OFFICIAL", id="a tier"),
        pytest.param("name: 'a b'", "name", 2, "letters", id="a name with a blank"),
    ],
)  # fmt: skip
def test_refusals_name_field_line_and_what_is_allowed(
    yaml: str, field: str, line: int | None, told: str
) -> None:
    base = {"name": "name: x", "command": "command: [true-cmd]"}
    rest = [text for key, text in base.items() if not yaml.startswith(f"{key}:")]
    with pytest.raises(SpecError) as caught:
        JobSpec.from_yaml("\n".join(["kind: batch", yaml, *rest]), "job.yaml")
    detail = next(d for d in caught.value.details if d.subject == field)
    assert told in detail.detail
    assert line is None or f"line {line}:" in detail.detail


def test_several_faults_are_told_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        JobSpec.from_yaml("nmae: x\nresources: {nodes: two, gpus: 3}\ntime_limit: soon\n", "j.yaml")
    assert {d.subject for d in caught.value.details} == {
        *("nmae", "name", "command", "resources.nodes", "resources.gpus", "time_limit")
    }
    assert caught.value.message == "j.yaml: 6 faults"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: &x [1]\nb: *x\n", id="an anchor"),
        pytest.param("- a\n", id="a list"),
        pytest.param("\x00\x01\x02", id="binary junk"),
        pytest.param("a: b: c", id="no YAML"),
        pytest.param("name: x\nname: y\n", id="a key twice"),
        pytest.param("!!python/object:os.system {}", id="a tag"),
        pytest.param("x" * 2_000_000, id="too much"),
        pytest.param("[" * 5000, id="too deep"),
        pytest.param("", id="nothing"),
    ],
)
def test_what_is_no_job_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        JobSpec.from_yaml(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_order(content: bytes) -> None:
    with pytest.raises(SpecError):
        JobSpec.from_yaml(content)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("90s", 90_000), ("4h", 14_400_000), ("1h30m", 5_400_000), ("5ms", 5), ("1us", 1)],
)  # fmt: skip
def test_durations(text: str, ms: int) -> None:
    assert duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "4", "h", "4 h", "-1s", "1h1h", "1e3s", "9999999999d", 4])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="allowed"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "count"), [("512GiB", 1 << 39), ("80GB", 80 * 10**9), ("1.5KiB", 1536)]
)  # fmt: skip
def test_sizes(text: object, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["512", "1.0000001GiB", "GiB", 512, True, "-1GiB", "1XB", None])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="allowed"):
        parse_bytes(text)


def test_fractions_are_exact() -> None:
    assert parse_cpus(0.1) + parse_cpus("0.2") == Decimal("0.3")
    assert parse_percent_milli("24.5%") == 24_500
    with pytest.raises(ValueError, match="three decimals"):
        parse_cpus("0.0001")
    with pytest.raises(ValueError, match="from 0 to 100"):
        parse_percent_milli(101)


@given(st.integers(0, 10**12))
def test_milli_is_written_and_read_back(milli: int) -> None:
    assert Decimal(format_milli(milli)) * 1000 == milli


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0ms"), (999, "999ms"), (61_000, "1m1s"), (3_600_000, "1h"), (90_061_000, "1d1h")],
)
def test_durations_for_people(ms: int, text: str) -> None:
    assert format_duration_ms(ms) == text


def test_sizes_for_people() -> None:
    assert [format_bytes(n) for n in (0, 1023, 1024, 1536, 1 << 40)] == [
        *("0 B", "1023 B", "1 KiB", "1.5 KiB", "1 TiB")
    ]


def test_a_specification_never_changes() -> None:
    spec = JobSpec(name="x", command="y", resources=Resources(memory_per_node="1GiB"))
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "z"  # type: ignore[misc]
    assert spec.time_limit == timedelta(hours=24)
    assert isinstance(Residency(jurisdictions=["GB", "NO"]).jurisdictions, tuple)


def test_the_schema_knows_every_field_of_a_job_file() -> None:
    schema = job_schema()
    assert set(schema["properties"]) == set(JobSpec.model_fields)
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"name", "command"}
    assert "from" in schema["$defs"]["Output"]["properties"]
