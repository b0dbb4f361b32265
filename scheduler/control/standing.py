"""What is declared, in one revision of it, and what was found out about work while it stands.

The simple equivalent asks anew, at every submission, whether the work could ever run: over a fleet
of many sites that is most of its cost. Only welcome work is remembered, for refusals say when.
"""

from __future__ import annotations

from scheduler.core.feasibility import DeclaredFleet
from scheduler.core.quota import QuotaTree, lineage
from scheduler.core.residency import next_change_ms
from scheduler.model.ids import TenantPath
from scheduler.model.plan import JobClass
from scheduler.store.store import Snapshot

WELCOME_MAX = 20_000
"""Shapes of projects that are remembered; beyond it they are all forgotten."""
SHAPE_BYTES_MAX = 1_024
"""A larger shape is not remembered, nor one that asks for facts of an age of its own."""


class Standing:
    """Sites, nodes, tenants and policy as declared. Another one is made when any of them changes.

    May be asked from several threads: what one of them forgets, another finds out again.
    """

    def __init__(self, read: Snapshot) -> None:
        tenants = read.tenancy.tenants()
        self.policy = read.tenancy.policy()
        self.fleet = DeclaredFleet(
            (entry.site for entry in read.fleet.sites()),
            (entry.node for entry in read.fleet.nodes()),
            self.policy,
            QuotaTree(tenants),
        )
        self.projects = frozenset(tenant.path for tenant in tenants)
        queued_max = {tenant.path: tenant.max_queued_jobs for tenant in tenants}
        self._bounds = {
            path: tuple(
                (above, queued_max[above]) for above in lineage(path) if above in queued_max
            )
            for path in sorted(self.projects)
        }
        self._until_ms: int | None = 0
        self._welcome: dict[tuple[TenantPath, bytes], JobClass] = {}

    def bounds(self, project: TenantPath) -> tuple[tuple[TenantPath, int], ...]:
        """How many jobs may wait in it, and in each node of the tree above it."""
        return self._bounds.get(project, ())

    def welcome(self, project: TenantPath, shape: bytes, now_ms: int) -> JobClass | None:
        """The class of work that `admit` was told of, while that holds."""
        if self._until_ms is not None and now_ms >= self._until_ms:
            return None
        return self._welcome.get((project, shape))

    def admit(self, project: TenantPath, shape: bytes, job_class: JobClass, now_ms: int) -> None:
        """Work of this shape has no fault, and could run in what stands here, as of `now_ms`.

        Time alone takes permissions away and never gives any: what is let in now was let in
        before, and is until a fact changes its worth.
        """
        if self._until_ms is not None and now_ms >= self._until_ms:
            self._welcome.clear()
            changes = (next_change_ms(site, self.policy, now_ms) for site in self.fleet.sites)
            self._until_ms = min((ms for ms in changes if ms is not None), default=None)
        if len(shape) > SHAPE_BYTES_MAX or job_class.residency.facts:
            return
        if len(self._welcome) >= WELCOME_MAX:
            self._welcome.clear()
        self._welcome[project, shape] = job_class
