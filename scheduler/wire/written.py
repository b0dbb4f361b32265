"""A specification as it arrives, in every form that admission needs, for less than making each.

The simple equivalent: `spec_from_proto`, its project resolved, then `spec_to_bytes`. That is most
of what a submission costs. Jobs of one kind differ in a few fields (`OWN`); all the rest of them,
their *shape*, is read and written once and remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from scheduler.model.ids import TenantPath
from scheduler.model.job import JobSpec, OnPartition
from scheduler.wire.spec import spec_digest, spec_from_proto, spec_to_bytes, spec_to_proto
from sovapi.v1 import jobs_pb2

OWN = ("name", "project", "command", "bundle_digest", "env")
"""Fields in which jobs of one shape differ; of the domain's specification and of the wire's."""
SHAPES_MAX = 4_096
"""Shapes that are remembered; beyond it the one that was not used for longest is forgotten."""
SHAPE_BYTES_MAX = 1_024
"""A larger shape is read anew each time, so that what is remembered has a bound."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What jobs of one shape share: the domain's fields, and the bytes stored of them."""

    values: Mapping[str, Any]
    stored: bytes
    plain: bool
    """It is one job that waits for no other, reads no dataset and is told no secret."""
    leased: bool
    """Its attempts run under a lease: `on_partition: requeue`."""


@dataclass(slots=True)
class Written:
    """A specification, the bytes that are stored of it, and the digest that names those.

    `shape` is equal for specifications that differ in nothing but `OWN`; not conversely. Never
    changed: a frozen one costs a microsecond more, and thousands are made a second.
    """

    name: str
    project: TenantPath
    command: tuple[str, ...]
    bundle_digest: str
    env: tuple[tuple[str, str], ...]
    shared: Shared
    body: bytes
    digest: str
    shape: bytes

    @property
    def spec(self) -> JobSpec:
        """The specification; made when asked for, because of most jobs nobody asks."""
        return JobSpec(
            name=self.name,
            project=self.project,
            command=self.command,
            bundle_digest=self.bundle_digest,
            env=self.env,
            **self.shared.values,
        )


def read(message: jobs_pb2.JobSpec, project: TenantPath) -> Written:
    """What was sent, with `project` in place of the one that it names."""
    sent = jobs_pb2.JobSpec()
    sent.CopyFrom(message)
    sent.project = project
    body = sent.SerializeToString(deterministic=True)
    for name in OWN:
        sent.ClearField(name)
    shape = sent.SerializeToString(deterministic=True)
    shared = _shared(shape) if len(shape) <= SHAPE_BYTES_MAX else _read_shared(shape)
    found = Written(
        message.name,
        project,
        tuple(message.command),
        message.bundle_digest,
        tuple(sorted(dict(message.env).items())),
        shared,
        body,
        "",
        shape,
    )
    if shared.stored != shape:  # What was sent says less than is stored, or more than we know.
        found.body = _stored(found)
    found.digest = spec_digest(found.body)
    return found


def _stored(found: Written) -> bytes:
    """The bytes of a specification, from those of its shape."""
    stored = jobs_pb2.JobSpec.FromString(found.shared.stored)
    stored.name = found.name
    stored.project = found.project
    stored.command.extend(found.command)
    stored.bundle_digest = found.bundle_digest
    stored.env.update(dict(found.env))
    return stored.SerializeToString(deterministic=True)


def written(spec: JobSpec) -> Written:
    """A specification that did not arrive by wire."""
    return read(spec_to_proto(spec), spec.project)


def _read_shared(shape: bytes) -> Shared:
    spec = spec_from_proto(jobs_pb2.JobSpec.FromString(shape))
    values = {f.name: getattr(spec, f.name) for f in fields(JobSpec) if f.name not in OWN}
    return Shared(
        values,
        spec_to_bytes(spec),
        plain=spec.array is None
        and spec.service is None
        and not (spec.depends_on or spec.inputs or spec.secrets),
        leased=spec.on_partition is OnPartition.REQUEUE,
    )


_shared = lru_cache(maxsize=SHAPES_MAX)(_read_shared)
