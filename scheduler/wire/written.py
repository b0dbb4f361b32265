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
from scheduler.model.job import JobSpec
from scheduler.wire.spec import spec_digest, spec_from_proto, spec_to_bytes, spec_to_proto
from sovapi.v1 import jobs_pb2

OWN = ("name", "project", "command", "bundle_digest", "env")
"""Fields in which jobs of one shape differ; of the domain's specification and of the wire's."""
SHAPES_MAX = 4_096
"""Shapes that are remembered; beyond it the one that was not used for longest is forgotten."""
SHAPE_BYTES_MAX = 1_024
"""A larger shape is read anew each time, so that what is remembered has a bound."""


@dataclass(frozen=True, slots=True)
class Written:
    """A specification, the bytes that are stored of it, and the digest that names those.

    `shape` is equal for specifications that differ in nothing but `OWN`; not conversely.
    """

    spec: JobSpec
    body: bytes
    digest: str
    shape: bytes


@dataclass(frozen=True, slots=True)
class _Rest:
    """What jobs of one shape share: the domain's fields, and the bytes stored of them."""

    values: Mapping[str, Any]
    stored: bytes


def read(message: jobs_pb2.JobSpec, project: TenantPath) -> Written:
    """What was sent, with `project` in place of the one that it names."""
    sent = jobs_pb2.JobSpec()
    sent.CopyFrom(message)
    sent.project = project
    body = sent.SerializeToString(deterministic=True)
    for name in OWN:
        sent.ClearField(name)
    shape = sent.SerializeToString(deterministic=True)
    rest = _rest(shape) if len(shape) <= SHAPE_BYTES_MAX else _read_rest(shape)
    env = dict(message.env)
    spec = JobSpec(
        name=message.name,
        project=project,
        command=tuple(message.command),
        bundle_digest=message.bundle_digest,
        env=tuple(sorted(env.items())),
        **rest.values,
    )
    if rest.stored != shape:  # What was sent says less than is stored, or more than we know.
        body = _stored(rest, spec)
    return Written(spec, body, spec_digest(body), shape)


def _stored(rest: _Rest, spec: JobSpec) -> bytes:
    """The bytes of `spec`, from those of its shape."""
    stored = jobs_pb2.JobSpec.FromString(rest.stored)
    stored.name = spec.name
    stored.project = spec.project
    stored.command.extend(spec.command)
    stored.bundle_digest = spec.bundle_digest
    stored.env.update(dict(spec.env))
    return stored.SerializeToString(deterministic=True)


def written(spec: JobSpec) -> Written:
    """A specification that did not arrive by wire."""
    return read(spec_to_proto(spec), spec.project)


def _read_rest(shape: bytes) -> _Rest:
    spec = spec_from_proto(jobs_pb2.JobSpec.FromString(shape))
    values = {f.name: getattr(spec, f.name) for f in fields(JobSpec) if f.name not in OWN}
    return _Rest(values, spec_to_bytes(spec))


_rest = lru_cache(maxsize=SHAPES_MAX)(_read_rest)
