"""The tenants file: the whole tree with quotas and budgets; `sovctl tenants apply` sends it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PlainValidator, model_validator

from sovapi.v1 import tenants_pb2
from sovctl.fleet_values import parse_moment
from sovctl.spec_fields import Written, matching
from sovctl.spec_values import contradiction, listed, parse_gpu_milli, refusal

TENANTS_MAX = 100_000
CLASSES_MAX = 100
SHARES_MAX = 100
WEIGHT_MAX = 1_000_000

GPU_HOUR_MS = 3600 * 1000
GPU_HOURS_MAX = (1 << 53) // GPU_HOUR_MS
DAY_MS = 24 * GPU_HOUR_MS

_PERIOD = re.compile(r"month|quarter|[1-9][0-9]{0,3}d")
_PATH = re.compile(r"[a-z0-9._-]{1,63}(?:/[a-z0-9._-]{1,63}){0,3}")

Gpus: TypeAlias = Annotated[int | str | Decimal, PlainValidator(parse_gpu_milli)]
"""Written in GPUs, held in thousandths of one."""


def parse_day(value: object) -> int:
    """A date, as days since 1970-01-01."""
    if isinstance(value, str) and len(value) != len("2026-04-01"):
        raise refusal(value, "a date, such as 2026-04-01")
    return parse_moment(value) // DAY_MS


Day: TypeAlias = Annotated[int | str, PlainValidator(parse_day)]
"""Written as a date, held in days since 1970-01-01."""


class Quota(Written):
    """Of one GPU model, or of all together under the name "*"."""

    guarantee: Gpus | None = None
    limit: Gpus | None = None
    weight: Annotated[int, Field(ge=1, le=WEIGHT_MAX)] | None = None
    borrow: Gpus | None = None
    """The most above the guarantee; left out: as much as the limit allows."""
    lend: Gpus | None = None
    """The most of the idle guarantee that others may use; left out: all of it."""

    @model_validator(mode="after")
    def _consistent(self) -> Quota:
        if self.limit is not None and int(self.guarantee or 0) > int(self.limit):
            raise contradiction("a guarantee above the limit", "at most the limit")
        if self.lend is not None and int(self.lend) > int(self.guarantee or 0):
            raise contradiction("a lend limit above the guarantee", "at most the guarantee")
        return self


class Budget(Written):
    """GPU-hours for each period, on one GPU model or on all together, "*"."""

    gpu: str = "*"
    gpu_hours: Annotated[int, Field(ge=0, le=GPU_HOURS_MAX)]
    period: Annotated[str, matching(_PERIOD, "month, quarter, or a number of days such as 30d")]
    start: Annotated[Day | None, Field(alias="from")] = None
    until: Day | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Budget:
        if self.period.endswith("d") and self.start is None:
            raise contradiction("a number of days and no first one", "`from`, a date")
        return self

    def to_proto(self) -> tenants_pb2.Budget:
        """The budget on the wire."""
        days = int(self.period[:-1]) if self.period.endswith("d") else 0
        message = tenants_pb2.Budget(
            gpu_class=self.gpu,
            amount_gpu_ms=self.gpu_hours * GPU_HOUR_MS,
            period="BUDGET_PERIOD_DAYS" if days else f"BUDGET_PERIOD_{self.period.upper()}",
            days=days,
            from_day=int(self.start or 0),
        )
        if self.until is not None:
            message.until_day = int(self.until)
        return message


class Share(Written):
    """What another tenant gives a joint project of its own quota, under an agreement."""

    of: Annotated[str, matching(_PATH, "a tenant's path, such as nrc/compute")]
    agreement: Annotated[str, Field(min_length=1, max_length=63)]
    gpu: Annotated[str, Field(min_length=1, max_length=63)]
    guarantee: Gpus = "0"
    limit: Gpus

    def to_proto(self) -> tenants_pb2.Share:
        """The share on the wire."""
        return tenants_pb2.Share(
            of=self.of,
            agreement=self.agreement,
            gpu_class=self.gpu,
            guarantee_milli=int(self.guarantee),
            limit_milli=int(self.limit),
        )


class Tenant(Written):
    """A node of the tree: an organisation, or something below one."""

    path: Annotated[str, matching(_PATH, "a path of one to four names, such as trust-a/radiology")]
    name: Annotated[str, Field(max_length=200)] = ""
    weight: Annotated[int, Field(ge=1, le=WEIGHT_MAX)] = 1
    quotas: Annotated[Mapping[str, Quota], Field(max_length=CLASSES_MAX)] = {}
    queue_order: Literal["age", "shortest"] = "age"
    max_queued_jobs: Annotated[int, Field(ge=1)] = 100_000
    budgets: Annotated[Sequence[Budget], Field(max_length=CLASSES_MAX)] = ()
    shares: Annotated[Sequence[Share], Field(max_length=SHARES_MAX)] = ()
    """What others give it, under agreements: with any, it is a joint project."""


class Tenants(Written):
    """A whole tree."""

    tenants: Annotated[Sequence[Tenant], Field(max_length=TENANTS_MAX)]
    unknown_gpu_classes: Literal["refuse", "warn"] = "refuse"
    """What becomes of GPU models that no node of the declared fleet has."""

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
    if quota.borrow is not None:
        message.borrow_limit_milli = int(quota.borrow)
    if quota.lend is not None:
        message.lend_limit_milli = int(quota.lend)
    message.weight = quota.weight or 0
    return message


def _tenant(tenant: Tenant) -> tenants_pb2.Tenant:
    return tenants_pb2.Tenant(
        path=tenant.path,
        display_name=tenant.name,
        weight=tenant.weight,
        quotas=[_quota(name, tenant.quotas[name]) for name in sorted(tenant.quotas)],
        queue_order=f"QUEUE_ORDER_{tenant.queue_order.upper()}",
        max_queued_jobs=tenant.max_queued_jobs,
        budgets=[budget.to_proto() for budget in tenant.budgets],
        shares=[share.to_proto() for share in tenant.shares],
    )
