"""The tenants file: the whole tree with its quotas; `sovctl tenants apply` sends it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PlainValidator, model_validator

from sovapi.v1 import tenants_pb2
from sovctl.spec import Written, matching
from sovctl.spec_values import contradiction, listed, parse_gpu_milli

TENANTS_MAX = 100_000
CLASSES_MAX = 100
WEIGHT_MAX = 1_000_000

_PATH = re.compile(r"[a-z0-9._-]{1,63}(?:/[a-z0-9._-]{1,63}){0,3}")

Gpus: TypeAlias = Annotated[int | str | Decimal, PlainValidator(parse_gpu_milli)]
"""Written in GPUs, held in thousandths of one."""


class Quota(Written):
    """Of one GPU model, or of all together under the name "*"."""

    guarantee: Gpus | None = None
    limit: Gpus | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Quota:
        if self.limit is not None and int(self.guarantee or 0) > int(self.limit):
            raise contradiction("a guarantee above the limit", "at most the limit")
        return self


class Tenant(Written):
    """A node of the tree: an organisation, or something below one."""

    path: Annotated[str, matching(_PATH, "a path of one to four names, such as trust-a/radiology")]
    name: Annotated[str, Field(max_length=200)] = ""
    weight: Annotated[int, Field(ge=1, le=WEIGHT_MAX)] = 1
    quotas: Annotated[Mapping[str, Quota], Field(max_length=CLASSES_MAX)] = {}
    queue_order: Literal["age", "shortest"] = "age"
    max_queued_jobs: Annotated[int, Field(ge=1)] = 100_000


class Tenants(Written):
    """A whole tree."""

    tenants: Annotated[Sequence[Tenant], Field(max_length=TENANTS_MAX)]

    @model_validator(mode="after")
    def _consistent(self) -> Tenants:
        paths = [tenant.path for tenant in self.tenants]
        known = set(paths)
        if len(known) != len(paths):
            twice = sorted({path for path in paths if paths.count(path) > 1})
            raise contradiction(f"twice: {listed(twice)}", "each path once")
        orphans = sorted(
            path for path in known if "/" in path and path.rpartition("/")[0] not in known
        )
        if orphans:
            raise contradiction(f"no parent of {listed(orphans)}", "a parent for each tenant")
        return self

    def to_proto(self) -> list[tenants_pb2.Tenant]:
        """The tree on the wire, parents first."""
        return [_tenant(tenant) for tenant in sorted(self.tenants, key=lambda t: t.path)]


def _quota(gpu_class: str, quota: Quota) -> tenants_pb2.GpuQuota:
    message = tenants_pb2.GpuQuota(gpu_class=gpu_class)
    if quota.guarantee is not None:
        message.guarantee_milli = int(quota.guarantee)
    if quota.limit is not None:
        message.limit_milli = int(quota.limit)
    return message


def _tenant(tenant: Tenant) -> tenants_pb2.Tenant:
    return tenants_pb2.Tenant(
        path=tenant.path,
        display_name=tenant.name,
        weight=tenant.weight,
        quotas=[_quota(name, tenant.quotas[name]) for name in sorted(tenant.quotas)],
        queue_order=f"QUEUE_ORDER_{tenant.queue_order.upper()}",
        max_queued_jobs=tenant.max_queued_jobs,
    )
