"""A node agent with a real spool and real shims, and the site's server that it dials."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc

from agent.node import telemetry
from agent.node.agent import NodeAgent, Place
from agent.node.collectors.readings import Telemetry
from agent.node.goods import GoodsShelf
from agent.node.link import NodeLink
from agent.node.spool import Spool
from agent.node.store_expiry import StoreExpiry
from agent.node.watch import HealthWatch, Sources
from agent.site import events as ev
from agent.site.nodelink import NodeLinkServer
from sovapi.v1.identity_pb2 import JoinRequest, JoinResponse, RenewRequest, RenewResponse
from sovapi.v1.jobs_pb2 import RankStatus
from sovshared import pki, spiffe, tls
from tests.agent.identities import TRUST_DOMAIN, Identities
from tests.agent.node.rig import Site as Rig

SITE, SLOT, KEY = "exch-a", "n01", "job-a.1.0"
SERVER = spiffe.site_agent(SITE)


class FakeAuthority:
    """Remembers what was passed on."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.answers = asyncio.Event()
        self.answers.set()

    async def join(self, request: JoinRequest) -> JoinResponse:
        self.asked.append(request)
        await self.answers.wait()
        return JoinResponse(spiffe_id="joined")

    async def renew(self, request: RenewRequest) -> RenewResponse:
        self.asked.append(request)
        return RenewResponse(not_after_ms=7)


@dataclass
class Server:
    """The site's side: what it heard, and the ranks as a site sees them."""

    identities: Identities
    events: list[ev.Event] = field(default_factory=list[ev.Event])
    authority: FakeAuthority = field(default_factory=FakeAuthority)
    port: int = 0
    link: NodeLinkServer | None = None

    async def start(self, listen: str = "127.0.0.1:0") -> None:
        self.link = NodeLinkServer(
            site=SITE, trust_domain=TRUST_DOMAIN, emit=self.events.append, authority=self.authority
        )
        credentials = self.identities.of(SERVER.path)
        self.port = await self.link.start(credentials, listen, "127.0.0.1:0")

    def dial(self, path: str) -> grpc.aio.Channel:
        identity = pki.load(self.identities.of(path))
        return grpc.aio.secure_channel(
            f"127.0.0.1:{self.port}",
            tls.channel_credentials(identity),
            options=tls.channel_options(SERVER, TRUST_DOMAIN),
        )

    def ranks(self) -> dict[str, RankStatus]:
        found: dict[str, RankStatus] = {}
        for event in self.events:
            if isinstance(event, ev.SpoolReported):
                found = {} if event.report.full else found
                for entry in event.report.entries:
                    if entry.gone:
                        found.pop(entry.key, None)
                    else:
                        found[entry.key] = entry.status
        return found

    def phase(self, key: str = KEY) -> int:
        return self.ranks().get(key, RankStatus()).phase

    def count(self, kind: type[ev.Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)


@asynccontextmanager
async def node_agent(
    server: Server, rig: Rig, expiry: StoreExpiry | None = None
) -> AsyncGenerator[NodeAgent]:
    place = Place(SITE, SLOT, "1", "none")
    sources = Sources(
        telemetry=Telemetry.SIMULATED,
        interval_ms=1_000,
        spool=rig.spool.root,
        state_dir=rig.root / "health",
        logical=telemetry.logical_gpus(SITE, SLOT, 2),
        sysfs_root=rig.root / "none",
    )
    link = NodeLink(lambda: server.dial(f"/site/{SITE}/node/{SLOT}"), lambda: 0.0)
    goods = GoodsShelf(rig.root / "checkpoints", str(rig.root / "store"))
    agent = NodeAgent(place, Spool(rig.spool.root), link, HealthWatch(sources), goods, None, expiry)
    task = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        if task.done():
            task.result()  # It serves until it is cancelled: this raises what ended it.
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
