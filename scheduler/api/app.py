"""The whole control plane, put together: what `__main__` runs, and what tests run in its place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from scheduler.api import locations_file, login_file, pack_keys
from scheduler.api import state as state_module
from scheduler.api.agreements import AgreementService
from scheduler.api.audit import AuditService
from scheduler.api.ca import AltNames
from scheduler.api.calls import Calls, Guard
from scheduler.api.certificates import CertificateService
from scheduler.api.datasets import DatasetService
from scheduler.api.desk import Desk
from scheduler.api.fleet import FleetService
from scheduler.api.fleet_what_if import FleetWhatIf
from scheduler.api.identity import Revocations
from scheduler.api.identity_service import IdentityService
from scheduler.api.jobs import JobService, Streams
from scheduler.api.locations import LocationService
from scheduler.api.login import Logins
from scheduler.api.monitors import Monitors, Sight, admission
from scheduler.api.operator_access import AccessService
from scheduler.api.policy import PolicyService
from scheduler.api.proofs import LogKeys, ProofService, keys_of
from scheduler.api.provider_keys import ProviderKeys
from scheduler.api.secrets import SecretCalls
from scheduler.api.server import Listen, Method, Server
from scheduler.api.sitelink import SiteLink
from scheduler.api.state import BUNDLES_FILE, STORE_FILE, State
from scheduler.api.state_files import Declarations
from scheduler.api.tenants import TenantService
from scheduler.api.tunnels import Tunnels
from scheduler.api.uploads import Uploads
from scheduler.control.control import Control
from scheduler.runtime import checkpoints, clock
from scheduler.runtime.addresses import host_and_port
from scheduler.runtime.feed import Feed
from scheduler.runtime.figures import CensusTaker
from scheduler.runtime.lineage import Lineage
from scheduler.runtime.locations import Locations
from scheduler.runtime.loop import BUDGET, Cogs, Planning, backfill_forever, tick_forever
from scheduler.runtime.planner_process import PlannerProcess
from scheduler.runtime.prover import Prover
from scheduler.runtime.reader import Reader
from scheduler.runtime.sites import Sites
from scheduler.runtime.telemetry import Metrics, ProbeServer
from scheduler.runtime.writer import Writer
from scheduler.store.backfill import Backfill
from scheduler.store.blobs import Blobs
from scheduler.store.scratch import News
from scheduler.store.store import Store
from sovapi.v1 import sitelink_pb2
from sovshared import pki, renewal, spiffe
from sovshared.monitoring import MonitorServer
from sovshared.renewal import Renewed

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where time, chance and names come from."""

    now_ms: Callable[[], int]
    boot_ms: Callable[[], int]
    salts: Callable[[], bytes]
    new_secret: Callable[[], str]
    incarnation: str
    version: str


@dataclass(frozen=True, slots=True)
class Words:
    """What an operator says of a start that would be refused without: why the store is an older
    one, and why it has acts of a later time than the clock's; empty where that is not so."""

    restored: str = ""
    clock_was_ahead: str = ""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Addresses to listen on, and the names the server is dialled by."""

    main: str
    join: str
    telemetry: str
    metrics: str
    names: AltNames


@dataclass(frozen=True, slots=True)
class App:
    """A control plane that runs."""

    server: Server
    telemetry_port: int
    metrics_port: int
    calls: Calls

    @property
    def main_port(self) -> int:
        """Where callers with certificates are served."""
        return self.server.main_port

    @property
    def join_port(self) -> int:
        """Where callers without one may join."""
        return self.server.join_port

    async def drain(self, grace_ms: int) -> None:
        """Takes no new calls, ends streams, and lets the rest end."""
        stopping = asyncio.create_task(self.server.stop(grace_ms))
        await asyncio.sleep(0)
        self.calls.end_streams()
        await stopping


@dataclass(frozen=True, slots=True)
class _Stores:
    """What is on disk, open."""

    store: Store
    blobs: Blobs
    remember: Callable[[bytes], None]
    """Keeps the newest head of the log that was signed."""

    def control(self, state: State) -> Control:
        """The control plane that works on them."""
        return Control(
            codec=state.codec,
            epoch=self.store.epoch,
            has_bundle=self.blobs.has,
            granter=state.granter(),
        )

    def close(self) -> None:
        self.store.close()
        self.blobs.close()


@asynccontextmanager
async def running(
    state: State,
    store_url: str,
    listeners: Listeners,
    sources: Sources,
    words: Words,
) -> AsyncGenerator[App, None]:
    """A control plane for as long as the block lasts. When a loop of it dies, the block is
    cancelled and the reason raised."""
    keys = keys_of(state)
    stores = _open(state, store_url, sources, words)
    own = state.server
    _ensure_identity(state, own, listeners.names, sources.now_ms())
    metrics = Metrics(sources.version)
    loop = asyncio.get_running_loop()
    sites: Sites[sitelink_pb2.ControlMessage] = Sites(sources.boot_ms)
    reader = Reader(stores.store)
    ended: asyncio.Future[None] = loop.create_future()
    feed = Feed(sites, changed=lambda: planning.changed())

    def committed(news: News) -> None:
        metrics.commits.inc()
        loop.call_soon_threadsafe(feed.committed, news)

    writer = Writer(
        stores.store,
        committed=committed,
        measured=metrics.batch,
        ended=lambda error: _settle_later(loop, ended, error),
    )
    planner = PlannerProcess(stores.store.url, restarted=metrics.planner_restarts.inc)
    control = stores.control(state)
    with stores.store.transaction() as txn:
        control.start(txn, sources.now_ms())
    cogs = Cogs(control, writer, reader, planner, sites, metrics, sources.now_ms)
    planning = Planning(cogs, BUDGET)
    planning.changed()  # Whatever was committed before us.
    with stores.store.read() as snapshot:
        revoked = {entry.name: entry.at_ms for entry in snapshot.identity.revocations()}
    parts = Parts(state, sources, cogs, feed, planning, stores.blobs, Revocations(revoked), keys)
    served = _serve(parts, listeners)
    probes = ProbeServer(lambda: "" if planning.planned else "no plan was made yet")
    monitors = _monitors(parts, served)
    writer.start()
    try:
        async with asyncio.TaskGroup() as group:
            endless = (_raise_when(ended), *_loops(parts, stores, listeners.names))
            tasks = [group.create_task(loop_) for loop_ in endless]
            ports = (
                await probes.start(*host_and_port(listeners.telemetry)),
                await monitors.start(*host_and_port(listeners.metrics)),
            )
            await served.server.start()
            yield App(served.server, *ports, served.calls)
            for task in tasks:
                task.cancel()
    finally:
        sites.end_all()
        await served.server.stop(0)
        await probes.close()
        await monitors.close()
        await asyncio.to_thread(writer.close)
        await planner.close()
        reader.close()
        stores.close()


@dataclass(frozen=True, slots=True)
class Parts:
    """What services are made of."""

    state: State
    sources: Sources
    cogs: Cogs
    feed: Feed
    planning: Planning
    blobs: Blobs
    revocations: Revocations
    keys: LogKeys


@dataclass(frozen=True, slots=True)
class _Served:
    server: Server
    calls: Calls
    tunnels: Tunnels


def _serve(parts: Parts, listeners: Listeners) -> _Served:
    """The server, with every service."""
    sources, cogs = parts.sources, parts.cogs
    sites: Sites[sitelink_pb2.ControlMessage] = cogs.sites
    tunnels = Tunnels(sites, new_id=sources.new_secret)
    uploads = Uploads(parts.blobs, parts.state.incoming, now_ms=sources.now_ms)
    guard = Guard(parts.state.ca.trust_domain, parts.revocations, cogs.metrics, sources.incarnation)
    calls = Calls(guard)
    identity = IdentityService(
        ca=parts.state.ca,
        writer=cogs.writer,
        reader=cogs.reader,
        revocations=parts.revocations,
        now_ms=sources.now_ms,
        new_secret=sources.new_secret,
        version=sources.version,
    )
    identity.ends_calls_through(calls)
    desk = Desk(cogs.control, cogs.writer, cogs.reader, parts.state.codec, sources.now_ms)
    link = SiteLink(
        desk=desk,
        sites=sites,
        tunnels=tunnels,
        uploads=uploads,
        metrics=cogs.metrics,
        boot_ms=sources.boot_ms,
        version=sources.version,
    )
    locations = Locations(Declarations(parts.state.locations_file, locations_file.load))
    providers = Declarations(parts.state.login_file, login_file.load)
    logins = Logins(
        ca=parts.state.ca,
        writer=cogs.writer,
        now_ms=sources.now_ms,
        declared=providers,
        keys=ProviderKeys(sources.boot_ms),
    )
    streams = Streams(tunnels, uploads, sources.new_secret)
    jobs = JobService(desk, parts.feed, parts.planning.waiting, cogs.planner, streams)
    methods: dict[str, Method] = {
        **identity.methods(),
        **logins.methods(),
        **link.methods(),
        **jobs.methods(),
        **TenantService(desk, cogs.planner).methods(),
        **SecretCalls(desk).methods(),
        **DatasetService(desk).methods(),
        **FleetService(desk, sites.power, providers).methods(),
        **FleetWhatIf(desk, cogs.planner).methods(),
        **LocationService(desk, locations).methods(),
        **PolicyService(desk, Prover(), pack_keys.load(parts.state.directory)).methods(),
        **AccessService(desk).methods(),
        **AgreementService(desk, parts.keys, parts.state.directory).methods(),
        **AuditService(desk).methods(),
        **ProofService(desk, parts.keys).methods(),
        **CertificateService(desk, parts.keys).methods(),
    }
    listen = Listen(main=listeners.main, join=listeners.join, credentials=parts.state.server)
    return _Served(Server(calls, methods, listen), calls, tunnels)


def _loops(parts: Parts, stores: _Stores, names: AltNames) -> tuple[Coroutine[Any, Any, None], ...]:
    """What goes on for as long as the control plane does."""
    cogs, state, now_ms = parts.cogs, parts.state, parts.sources.now_ms
    return (
        parts.planning.plan_forever(),
        tick_forever(cogs),
        backfill_forever(Backfill(stores.store.url)),
        checkpoints.sign_forever(cogs.writer, parts.keys.log, now_ms, stores.remember),
        _keep_own_identity(state, state.server, names, now_ms),
    )


def _monitors(parts: Parts, served: _Served) -> MonitorServer:
    """The listener of monitors, with its pages."""
    state, cogs = parts.state, parts.cogs
    sight = Sight(
        cogs=cogs,
        planning=parts.planning,
        taker=CensusTaker(cogs.reader, parts.sources.boot_ms, parts.sources.now_ms),
        tunnels_open=served.tunnels.count,
        own_certificate=lambda: pki.load(state.server).facts(),
        ca=state.ca,
    )
    admitted = admission(state.ca.trust_domain, parts.revocations)
    return MonitorServer(state.server, admitted, Monitors(sight).pages())


def _open(state: State, store_url: str, sources: Sources, words: Words) -> _Stores:
    lineage = Lineage(state.directory)
    kept = lineage.kept()
    store = Store(store_url or state.directory / STORE_FILE, salts=sources.salts, codec=state.codec)
    store.open(beyond=0 if kept is None else kept.epoch)
    with store.transaction() as txn:
        lineage.go_on(txn, words.restored, sources.now_ms())
        clock.go_on(txn, words.clock_was_ahead, sources.now_ms())
    blobs = Blobs(state.directory / BUNDLES_FILE)
    blobs.open()
    return _Stores(store, blobs, partial(lineage.remember, store.epoch))


def _settle_later(
    loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None], error: BaseException | None
) -> None:
    """On the writer's thread: lets the event loop know that the writer ended."""

    def settle() -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)

    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)


async def _raise_when(ended: asyncio.Future[None]) -> None:
    await ended


def _ensure_identity(state: State, own: Path, names: AltNames, now_ms: int) -> None:
    """An identity of our own for the names we are dialled by now."""
    name = spiffe.control_plane()
    try:
        facts = pki.load(own).facts()
    except pki.PkiInvalid:
        facts = None
    wanted = {*names.dns, *names.ip}
    if (
        facts is None
        or renewal.is_due(facts.not_before_ms, facts.not_after_ms, now_ms)
        or not wanted <= {*facts.dns_names, *facts.ip_addresses}
    ):
        state_module.issue_identity(state.ca, name, own, names, now_ms)


async def _keep_own_identity(
    state: State, own: Path, names: AltNames, now_ms: Callable[[], int]
) -> None:
    """Renews our own identity with the CA at hand; the listeners take the new one up."""

    async def renew(csr_der: bytes) -> Renewed:
        key = pki.load_csr(csr_der).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        issued = state.ca.issue(spiffe.control_plane(), key, names, now_ms())
        return Renewed(issued.chain_pem, issued.trust_pem)

    def renewed(identity: pki.Identity) -> None:
        _log.info("renewed our own certificate until %d", identity.facts().not_after_ms)

    await renewal.keep_renewed(own, renew, now_ms=now_ms, renewed=renewed)
