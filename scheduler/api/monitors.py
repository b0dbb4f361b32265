"""What monitors read of the control plane: `/metrics`, and `/sd/agents`, which names the agents
that can be scraped.

Both over mutual TLS, to `/monitor/<name>` alone (`sovshared.monitoring`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from scheduler.api.ca import Ca
from scheduler.api.identity import Revocations
from scheduler.control.census import Scraped
from scheduler.runtime.figures import CensusTaker, CertificateSpan, Figures, FiguresCollector
from scheduler.runtime.loop import Cogs, Planning
from sovshared import pki, spiffe
from sovshared.monitoring import Admission, Page, Render

TARGETS_MAX = 200_000
"""Agents named in one answer."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What pages are made of."""

    cogs: Cogs
    planning: Planning
    taker: CensusTaker
    tunnels_open: Callable[[], int]
    own_certificate: Callable[[], pki.CertificateFacts]
    ca: Ca


class Monitors:
    """Makes the pages."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self._collector = FiguresCollector()
        sight.cogs.metrics.registry.register(self._collector)

    def pages(self) -> Mapping[str, Render]:
        """By path."""
        return {"/metrics": self.metrics, "/sd/agents": self.agents}

    async def metrics(self) -> Page:
        """Everything that is counted, as of now."""
        cogs = self._sight.cogs
        self._collector.figures = await self._figures()
        cogs.metrics.writer_waiting.set(cogs.writer.waiting())
        cogs.metrics.sites_connected.set(len(cogs.sites.connected()))
        cogs.metrics.tunnels.set(self._sight.tunnels_open())
        cogs.metrics.last_cycle.set(self._sight.planning.current_until_ms() / 1000)
        # On a thread: thousands of lines are tens of milliseconds that no call should wait for.
        body = await asyncio.to_thread(generate_latest, cogs.metrics.registry)
        return Page(body, CONTENT_TYPE_LATEST)

    async def agents(self) -> Page:
        """Target groups for Prometheus' HTTP service discovery."""
        census = await self._sight.taker.census()
        body = json.dumps(targets(census.scraped)).encode()
        return Page(body, "application/json")

    async def _figures(self) -> Figures:
        sight = self._sight
        census = await sight.taker.census()
        own = await asyncio.to_thread(sight.own_certificate)
        root = pki.facts_of(sight.ca.certificate)
        return Figures(
            census=census,
            blocked=sight.planning.waiting.blocked,
            silence_ms=sight.cogs.sites.silence_ms(tuple(site.site for site in census.sites)),
            power=sight.cogs.sites.power(),
            certificates=(
                CertificateSpan("control-plane", own.not_before_ms, own.not_after_ms),
                CertificateSpan("root", root.not_before_ms, root.not_after_ms),
            ),
        )


def admission(trust_domain: str, revocations: Revocations) -> Admission:
    """Monitors of ours that were not revoked."""

    def counts(name: spiffe.Name, facts: pki.CertificateFacts) -> bool:
        return revocations.counts(name.path, facts)

    return Admission(trust_domain, counts)


def targets(scraped: tuple[Scraped, ...]) -> list[dict[str, object]]:
    """Target groups, one an agent. The labels are what we declared, not what the agent says: it
    speaks for its own address alone."""
    groups: list[dict[str, object]] = []
    for agent in scraped[:TARGETS_MAX]:
        role = {"slot": agent.slot, "role": "node"} if agent.slot else {"role": "site"}
        groups.append({"targets": [agent.address], "labels": {"site": agent.site, **role}})
    return groups
