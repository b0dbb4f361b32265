"""Replicas that must be apart and are not: a check without any index or memory of the planner's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scheduler.core.layout import domain_of
from scheduler.model.fleet import Node
from scheduler.model.ids import JobId, NodeId, SiteId
from scheduler.model.plan import LiveAttempt

Domain = tuple[JobId, SiteId, tuple[str, ...]]


def spread_faults(nodes: Mapping[NodeId, Node], live: Iterable[LiveAttempt]) -> list[str]:
    """Two replicas of a service in one domain of the level over which it is spread."""
    holders: dict[Domain, JobId] = {}
    faults: list[str] = []
    for attempt in live:
        apart, placement = attempt.job_class.apart, attempt.placement
        if apart is None or not apart.required:
            continue
        job = placement.key.job
        domains = {domain_of(nodes[p.node], apart.over) for p in placement.nodes if p.node in nodes}
        for domain in sorted(domains):
            other = holders.setdefault((apart.service, placement.site, domain), job)
            if other != job:
                level = apart.over.name.lower()
                faults.append(f"replicas {other} and {job} share a {level} at {placement.site}")
    return faults
