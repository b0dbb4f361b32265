"""The census in Prometheus' words: gauges made anew from one census at each scrape.

Names and units as everywhere: prefix `sov_`, base units, GPUs as fractions of a GPU. A tenant's
name is a label here and on no series of hardware.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from scheduler.control.census import Access, Census, Enumerator, SiteCount
from scheduler.control.views import QuotaLine
from scheduler.model.fleet import Health
from scheduler.model.ids import SiteId
from scheduler.model.plan import Blocked, JobClass
from scheduler.runtime.reader import Reader
from scheduler.runtime.sites import Power

CENSUS_AGE_MS_MAX = 4_000
"""A scrape is answered from a census at most this old: two scrapers cost no more than one."""
NOT_PLANNED = "NOT_PLANNED"
"""The reason of queued jobs that no plan has looked at yet."""


@dataclass(frozen=True, slots=True)
class CertificateSpan:
    """One of our own certificates, and from when to when it is valid."""

    name: str
    not_before_ms: int
    not_after_ms: int


@dataclass(frozen=True, slots=True)
class Figures:
    """All that one scrape is made of."""

    census: Census = field(default_factory=Census)
    blocked: Mapping[JobClass, Blocked] = field(default_factory=dict[JobClass, Blocked])
    silence_ms: Mapping[SiteId, int] = field(default_factory=dict[SiteId, int])
    power: Mapping[SiteId, Power] = field(default_factory=dict[SiteId, Power])
    certificates: tuple[CertificateSpan, ...] = ()


class CensusTaker:
    """Takes a census when the last one is too old."""

    def __init__(
        self, reader: Reader, boot_ms: Callable[[], int], now_ms: Callable[[], int]
    ) -> None:
        self._reader = reader
        self._boot_ms = boot_ms
        self._now_ms = now_ms
        self._enumerator = Enumerator()
        self._turn = asyncio.Lock()
        self._census = Census()
        self._taken_boot_ms: int | None = None

    async def census(self) -> Census:
        """A census that is recent enough."""
        async with self._turn:
            now = self._boot_ms()
            if self._taken_boot_ms is None or now - self._taken_boot_ms > CENSUS_AGE_MS_MAX:
                self._census = await self._reader.read(
                    lambda snapshot: self._enumerator.take(snapshot, self._now_ms())
                )
                self._taken_boot_ms = now
            return self._census


class FiguresCollector(Collector):
    """Makes every gauge of the census. `figures` is set before each scrape."""

    def __init__(self) -> None:
        self.figures = Figures()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Every family, without samples where there is nothing to count."""
        found = self.figures
        yield from _jobs(found)
        yield from _sites(found.census.sites, found.silence_ms)
        yield from _leaving(found.census.sites)
        yield from _power(found)
        yield from _gpus(found.census.sites)
        yield from _tenants(found.census.quota)
        audit = _gauge("sov_audit_leaves", "Entries of the audit log")
        audit.add_metric((), found.census.audit_leaves)
        yield audit
        yield from _access(found.census.access)
        yield from _certificates(found.certificates)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=labels)


def _jobs(found: Figures) -> Iterator[GaugeMetricFamily]:
    jobs = _gauge("sov_jobs", "Jobs that are not over, by state", "state")
    for state, count in sorted(found.census.jobs.items()):
        jobs.add_metric((state.name.lower(),), count)
    yield jobs
    reasons: Counter[str] = Counter()
    for job_class, count in found.census.queued.items():
        blocked = found.blocked.get(job_class)
        known = blocked is not None and blocked.denials
        reasons[blocked.denials[0].reason.value if blocked and known else NOT_PLANNED] += count
    waiting = _gauge("sov_jobs_waiting", "Queued jobs, by what keeps them waiting", "reason")
    for reason, count in sorted(reasons.items()):
        waiting.add_metric((reason,), count)
    yield waiting


def _sites(
    sites: tuple[SiteCount, ...], silence_ms: Mapping[SiteId, int]
) -> Iterator[GaugeMetricFamily]:
    up = _gauge("sov_site_connected", "Whether the site's session is open", "site")
    silence = _gauge("sov_site_silence_seconds", "Time since the site was last heard", "site")
    desired = _gauge("sov_site_desired_generation", "Newest generation of what is wanted", "site")
    acked = _gauge("sov_site_acked_generation", "Generation that the site says it has", "site")
    cordoned = _gauge("sov_site_cordoned", "Whether an operator closed the site", "site")
    power = _gauge("sov_site_power_limit_watts", "Power that the site may draw", "site")
    expected = _gauge("sov_site_nodes_expected", "Nodes declared", "site")
    health = _gauge("sov_site_nodes", "Nodes, by the health they report", "site", "health")
    closed = _gauge("sov_site_nodes_cordoned", "Nodes that an operator closed", "site")
    open_ = _gauge("sov_site_nodes_schedulable", "Nodes that take new work", "site")
    breaker = _gauge(
        "sov_site_breaker_open", "So much has failed that its work is left to operators", "site"
    )
    for site in sites:
        name = (site.site,)
        up.add_metric(name, site.contact.connected)
        if site.site in silence_ms:
            silence.add_metric(name, silence_ms[site.site] / 1000)
        desired.add_metric(name, site.contact.generation)
        acked.add_metric(name, site.contact.acked_generation)
        cordoned.add_metric(name, site.cordoned)
        if site.power_cap_w is not None:
            power.add_metric(name, site.power_cap_w)
        expected.add_metric(name, sum(site.nodes.values()))
        for level, count in sorted(site.nodes.items()):
            health.add_metric((site.site, _word(level)), count)
        closed.add_metric(name, site.nodes_cordoned)
        breaker.add_metric(name, site.breaker_open)
        open_.add_metric(name, site.nodes_schedulable)
    yield from (up, silence, desired, acked, cordoned, power, expected, health, closed, open_)
    yield breaker


def _leaving(sites: tuple[SiteCount, ...]) -> Iterator[GaugeMetricFamily]:
    draining = _gauge(
        "sov_site_attempts_draining", "Attempts told to leave a closed place, still there", "site"
    )
    unpermitted = _gauge(
        "sov_site_attempts_unpermitted",
        "Attempts that the site may no longer hold, told to leave and still there",
        "site",
    )
    for site in sites:
        draining.add_metric((site.site,), site.draining)
        unpermitted.add_metric((site.site,), site.unpermitted)
    yield from (draining, unpermitted)


def _power(found: Figures) -> Iterator[GaugeMetricFamily]:
    """As the sites say it with each heartbeat, so that it is known wherever nobody scrapes them."""
    watts = _gauge("sov_site_power_watts", "Power that its nodes say their GPUs draw", "site")
    nodes = _gauge("sov_site_power_nodes", "Nodes that say what their GPUs draw", "site")
    for site in found.census.sites:
        if (power := found.power.get(site.site)) is not None:
            watts.add_metric((site.site,), power.gpu_watts)
            nodes.add_metric((site.site,), power.nodes)
    yield from (watts, nodes)


def _gpus(sites: tuple[SiteCount, ...]) -> Iterator[GaugeMetricFamily]:
    labels = ("site", "gpu_class")
    installed = _gauge("sov_site_gpus_installed", "GPUs declared", *labels)
    schedulable = _gauge("sov_site_gpus_schedulable", "GPUs of nodes that take work", *labels)
    allocated = _gauge("sov_site_gpus_allocated", "GPUs that live work holds", *labels)
    for site in sites:
        for gpu_class, count in site.gpus.items():
            name = (site.site, gpu_class)
            installed.add_metric(name, count.installed)
            schedulable.add_metric(name, count.schedulable)
            allocated.add_metric(name, count.allocated_milli / 1000)
    yield from (installed, schedulable, allocated)


def _tenants(lines: tuple[QuotaLine, ...]) -> Iterator[GaugeMetricFamily]:
    labels = ("tenant", "gpu_class")
    allocated = _gauge("sov_tenant_gpus_allocated", "GPUs in use; class * is all", *labels)
    guaranteed = _gauge("sov_tenant_gpus_guaranteed", "GPUs guaranteed", *labels)
    limit = _gauge("sov_tenant_gpus_limit", "GPUs that may be used at most", *labels)
    pending = _gauge(
        "sov_tenant_pending_gpus",
        "GPUs that queued jobs ask for; under a class what takes no other, under * all",
        *labels,
    )
    for line in lines:
        name = (line.tenant, line.gpu_class)
        allocated.add_metric(name, line.used_milli / 1000)
        guaranteed.add_metric(name, line.guarantee_milli / 1000)
        if line.limit_milli is not None:
            limit.add_metric(name, line.limit_milli / 1000)
        pending.add_metric(name, line.queued_milli / 1000)
    yield from (allocated, guaranteed, limit, pending)


def _certificates(spans: tuple[CertificateSpan, ...]) -> Iterator[GaugeMetricFamily]:
    end = _gauge(
        "sov_certificate_not_after_timestamp_seconds", "When it ends to be valid", "certificate"
    )
    life = _gauge("sov_certificate_lifetime_seconds", "For how long it was issued", "certificate")
    for span in spans:
        end.add_metric((span.name,), span.not_after_ms / 1000)
        life.add_metric((span.name,), (span.not_after_ms - span.not_before_ms) / 1000)
    yield from (end, life)


def _access(found: tuple[Access, ...]) -> Iterator[GaugeMetricFamily]:
    """How many operators may, or want to, touch tenants' data; whose is nobody's here."""
    grants = _gauge(
        "sov_operator_access_grants", "Operators' access to tenants' data, by its state", "state"
    )
    states = Counter("break_glass" if a.break_glass else a.state.name.lower() for a in found)
    for state in ("active", "break_glass", "pending"):
        grants.add_metric((state,), states[state])
    yield grants


def _word(health: Health) -> str:
    return health.name.lower()
