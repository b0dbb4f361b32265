"""Identifiers, one type per kind, so that a site is never passed where a tenant is meant.

Limits on names live here too: everything that people name obeys them.
"""

from __future__ import annotations

import re
from typing import NamedTuple, NewType

JobId = NewType("JobId", int)
"""The store's row id. Its public form is a keyed permutation (`core/job_ids.py`)."""

TenantPath = NewType("TenantPath", str)
"""Path in the tenant tree, root first: "trust-a/radiology"."""

SiteId = NewType("SiteId", str)
NodeId = NewType("NodeId", str)
"""Site and slot: "exch-london-1/n01"."""

GpuClass = NewType("GpuClass", str)
"""The GPU's model name: "H100"."""

ALL_CLASSES = GpuClass("*")
"""All GPU models together."""

NAME_PATTERN = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
"""Names of sites, slots, tenants: as a DNS label, dots and underscores too."""

TENANT_DEPTH_MAX = 4
GPU_INDEX_MAX = 63
"""GPU indices of one node fit one 64-bit mask."""


class AttemptKey(NamedTuple):
    """One attempt at running one job. A tuple: keys are made, hashed and sent by the thousand."""

    job: JobId
    attempt: int


def node_id(site: SiteId, slot: str) -> NodeId:
    """The id of the node in `slot` of `site`."""
    return NodeId(f"{site}/{slot}")


def site_of(node: NodeId) -> SiteId:
    """The site that `node` stands at."""
    return SiteId(node.partition("/")[0])


def slot_of(node: NodeId) -> str:
    """The slot of `node` inside its site."""
    return node.partition("/")[2]


def organisation_of(tenant: TenantPath) -> TenantPath:
    """The root of the tree that `tenant` is in. Nothing is shared across roots by default."""
    return TenantPath(tenant.partition("/")[0])


def ancestry(tenant: TenantPath) -> tuple[TenantPath, ...]:
    """`tenant` and everything above it, root first."""
    parts = tenant.split("/")
    return tuple(TenantPath("/".join(parts[: n + 1])) for n in range(len(parts)))
