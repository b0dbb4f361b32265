"""A warm site of one machine for `bench launch`: real Ray, real agents, and a control plane that
says what is desired and hears what became of it.

The programs, their settings and their certificates are those of a local cluster; only the control
plane is a servicer of ours, so that a launch begins at a moment that we know.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import yaml

from agent.node.clock import wall_ms
from agent.node.isolation import probe
from agent.node.spool import Spool
from bench.ray_yardstick import WORD, Yardstick
from deploy.local import programs
from deploy.local.daemons import Daemons
from deploy.local.layout import Layout, SiteLayout
from deploy.local.ray_cell import CellNode, RayCell
from deploy.local.runtime import ensure_runtime
from sovapi.v1 import common_pb2 as common
from sovapi.v1 import sitelink_pb2 as pb
from sovapi.v1.jobs_pb2 import ResidencyRequirement
from sovapi.v1.sitelink_pb2 import ControlMessage, Desired, DesiredAttempt, Launch, PlacedNode
from sovapi.v1.sitelink_pb2_grpc import SiteLinkServicer, add_SiteLinkServicer_to_server
from sovshared import limits, pki, spiffe, tls
from tests.shared.ca import TestCa
from tests.shared.granting import Granting

SLOTS = ("n0", "n1", "n2", "n3")
GPUS = 8
SITE, DOMAIN = "bench-site", spiffe.DEFAULT_TRUST_DOMAIN
HEARTBEAT_MS, LEASE_MS = 5_000, 60_000
RUNTIME_GRACE_MS = 60_000
READY_S = 120.0
HOUR_MS = 3_600_000
STARTED = (pb.ATTEMPT_PHASE_RUNNING, pb.ATTEMPT_PHASE_ENDED)
FACTS = ("country", "landlord", "facility_operator", "service_operator", "key_custodian")


@dataclass(slots=True)
class _Told:
    """What the site said of one attempt, and when it first said that its ranks run."""

    phase: int = 0
    detail: str = ""
    started_ns: int = 0


@dataclass
class Control(SiteLinkServicer):
    """The control plane's end of the session."""

    granting: Granting
    generation: int = 0
    heard_generation: int = 0
    ready: set[str] = field(default_factory=set[str])
    told: dict[str, _Told] = field(default_factory=dict[str, _Told])
    line: asyncio.Queue[ControlMessage] | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def Session(self, request_iterator: Any, context: Any) -> AsyncIterator[ControlMessage]:
        """One session; the site dials again if it is lost, and the bench fails by then."""
        del context
        line: asyncio.Queue[ControlMessage] = asyncio.Queue()
        hello = pb.ControlHello(
            protocol_version=limits.SITE_PROTOCOL_VERSION,
            epoch=1,
            heartbeat_interval_ms=HEARTBEAT_MS,
            lease_ms=LEASE_MS,
        )
        line.put_nowait(ControlMessage(hello=hello))
        listening = asyncio.create_task(self._listen(request_iterator, line))
        self.line = line
        try:
            while True:
                yield await line.get()
        finally:
            listening.cancel()

    async def _listen(self, messages: Any, line: asyncio.Queue[ControlMessage]) -> None:
        async for message in messages:
            match message.WhichOneof("message"):
                case "heartbeat":
                    ack = pb.HeartbeatAck(
                        sequence=message.heartbeat.sequence, generation=self.generation
                    )
                    line.put_nowait(ControlMessage(heartbeat_ack=ack))
                case "report":
                    self._hear(message.report)
                case _:
                    pass

    def _hear(self, report: pb.SiteReport) -> None:
        now_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
        self.heard_generation = report.generation
        for node in report.nodes:
            well = node.health == common.HEALTH_OK and node.runtime_alive and node.agent_connected
            (self.ready.add if well else self.ready.discard)(node.slot)
        for attempt in report.attempts:
            told = self.told.setdefault(attempt.job_id, _Told())
            told.phase, told.detail = attempt.phase, f"{attempt.reason} {attempt.detail}".strip()
            if attempt.phase in STARTED and not told.started_ns:
                told.started_ns = now_ns
        self.news.set()

    def desire(self, *rows: DesiredAttempt) -> int:
        """Send rows at the next generation; the moment just before."""
        assert self.line is not None, "the site has not dialled"
        before, self.generation = self.generation, self.generation + 1
        for row in rows:
            row.generation = self.generation
        word = Desired(
            epoch=1, from_generation=before, to_generation=self.generation, attempts=rows
        )
        now_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
        self.line.put_nowait(ControlMessage(desired=word))
        return now_ns

    async def Tunnel(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.TunnelDown]:
        """A bench reads no logs through the control plane."""
        del request_iterator
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")
        yield pb.TunnelDown()

    async def FetchBundle(
        self, request: pb.FetchBundleRequest, context: Any
    ) -> AsyncIterator[pb.FetchBundleResponse]:
        """A bench's jobs have no bundles."""
        await context.abort(grpc.StatusCode.NOT_FOUND, f"no bundle {request.digest}")
        yield pb.FetchBundleResponse()

    async def until(self, holds: Any, what: str) -> None:
        """Until the site has said enough for `holds()`."""
        try:
            async with asyncio.timeout(READY_S):
                while not holds():
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            raise RuntimeError(f"the site did not come to: {what}; it said {self.told}") from None


@dataclass(frozen=True, slots=True)
class Started:
    """One launch: from `Desired` sent to the last rank's own word, and to the site's report."""

    started_ms: float
    told_ms: float


class Site:
    """The site, while it is up."""

    def __init__(self, control: Control, layout: SiteLayout, yardstick: Yardstick) -> None:
        self._control = control
        self._layout = layout
        self._launched = 0
        self.yardstick = yardstick

    async def launch(self, nodes: int) -> Started:
        """One job on its first `nodes` nodes, from desired to forgotten."""
        self._launched += 1
        job, control = f"job-bench-{self._launched}", self._control
        row = DesiredAttempt(
            job_id=job, attempt=1, action=pb.DESIRED_ACTION_RUN, launch=_launch(SLOTS[:nodes])
        )
        row.generation = control.generation + 1
        began_ns = control.desire(control.granting.row(row, wall_ms(), site=SITE))
        own = control.told.setdefault(job, _Told())
        failed = (pb.ATTEMPT_PHASE_FAILED_TO_START, pb.ATTEMPT_PHASE_REFUSED)
        over = (pb.ATTEMPT_PHASE_ENDED, pb.ATTEMPT_PHASE_LOST, *failed)
        await control.until(lambda: own.phase in over, f"the end of {job}")
        if own.phase != pb.ATTEMPT_PHASE_ENDED:
            raise RuntimeError(f"{job} did not run: {own.detail}")
        words = [self._word(slot, f"{job}.1.{rank}") for rank, slot in enumerate(SLOTS[:nodes])]
        control.desire(DesiredAttempt(job_id=job, attempt=1, action=pb.DESIRED_ACTION_FORGET))
        want = control.generation
        await control.until(lambda: control.heard_generation >= want, f"{job} forgotten")
        del control.told[job]
        return Started((max(words) - began_ns) / 1e6, (own.started_ns - began_ns) / 1e6)

    def _word(self, slot: str, key: str) -> int:
        said = Spool(self._layout.node_dir(slot) / "spool").read_log(key, 0, 64).data
        return int(said)


def _launch(slots: tuple[str, ...]) -> Launch:
    return Launch(
        command=WORD,
        nodes=[PlacedNode(slot=slot, gpu_indices=range(GPUS)) for slot in slots],
        tasks_per_node=1,
        gpus_per_node=GPUS,
        stop_grace_ms=1_000,
        time_limit_ms=HOUR_MS,
        residency=ResidencyRequirement(
            jurisdictions=["GB"],
            tier=common.TIER_OFFICIAL,
            min_assurance=common.ASSURANCE_DECLARED,
        ),
        min_isolation=common.ISOLATION_NONE,
    )


@contextlib.asynccontextmanager
async def running(root: Path) -> AsyncGenerator[Site]:
    """The site below `root`, once every node may take work; stopped at the end."""
    subnet = 1 + os.getpid() % 254
    with contextlib.ExitStack() as held:
        ports = [held.enter_context(socket.socket()) for _ in range(3)]
        for one in ports:
            one.bind(("127.0.0.1", 0))
        port, link, join = (one.getsockname()[1] for one in ports)
    slots = tuple((slot, GPUS) for slot in SLOTS)
    layout = SiteLayout(SITE, root / "s", subnet, f"127.0.0.1:{link}", f"127.0.0.1:{join}", slots)
    cell = RayCell(
        layout.ray_root,
        [CellNode(slot, GPUS, layout.node_dir(slot) / "facts.json") for slot in SLOTS],
        subnet=subnet,
    )
    ca = TestCa()
    daemons, control = Daemons(root / "run"), Control(Granting(ca))
    _prepare(root, layout, cell, ca)
    server = grpc.aio.server(options=tls.server_options())
    add_SiteLinkServicer_to_server(control, server)
    demand = tls.ClientCertificates.REQUIRED
    server.add_secure_port(f"127.0.0.1:{port}", tls.server_credentials(root / "control", demand))
    try:
        await server.start()
        await asyncio.to_thread(cell.start)
        whole = Layout(root, port, (layout,))
        command = programs.site_agent(whole, layout, cell, RUNTIME_GRACE_MS)
        daemons.start("site", command)
        for slot, gpus in layout.slots:
            daemons.start(f"node-{slot}", programs.node_agent(layout, slot, gpus))
        await control.until(lambda: control.ready >= set(SLOTS), "every node is ready")
        path = f"{ensure_runtime()}/bin:{os.defpath}"  # As a rank's.
        async with Yardstick(cell, SLOTS, GPUS, path) as yardstick:
            yield Site(control, layout, yardstick)
    finally:
        daemons.stop(*daemons.known())
        for slot in SLOTS:
            if (layout.node_dir(slot) / "spool").is_dir():
                programs.stop_ranks(layout.node_dir(slot) / "spool")
        await asyncio.to_thread(cell.stop)
        await server.stop(1.0)
        shutil.rmtree(root, ignore_errors=True)


def _prepare(root: Path, layout: SiteLayout, cell: RayCell, ca: TestCa) -> None:
    """Certificates, and what the site and its nodes know of themselves."""
    root.chmod(0o711)  # A job's user passes through.
    runtime = ensure_runtime()
    layout.root.mkdir(mode=0o711)
    layout.agent_dir.mkdir(mode=0o700)
    names = {
        root / "control": spiffe.control_plane(),
        layout.agent_dir / "credentials": spiffe.site_agent(SITE),
    }
    level = probe(root, runtime / "bin" / "python3").level
    for slot in SLOTS:
        programs.write_node_facts(layout, slot, cell, runtime, level)
        names[layout.node_dir(slot) / "credentials"] = spiffe.node_agent(SITE, slot)
    for folder, name in names.items():
        dns = spiffe.server_dns_name(name, DOMAIN)
        own = ca.issue(
            name.uri(DOMAIN),
            dns=(dns,) if dns else (),
            from_ms=wall_ms() - HOUR_MS,
            until_ms=wall_ms() + 7 * 24 * HOUR_MS,
        )
        pki.save(folder, own)
    one: dict[str, object] = {"assurance": "AUDITED", "source": "bench", "observed": "2026-01-01"}
    facts: dict[str, object] = {name: {"value": "GB", **one} for name in FACTS}
    facts |= {name: {"values": ["GB"], **one} for name in ("support_desk", "sinks")}
    facts["accreditation"] = {"value": "OFFICIAL", **one}
    facts["markings"] = {"values": [], **one}
    facts["ultimate_parents"] = {
        "parties": [{"name": "Bench plc", "country": "GB", "stake": "100%"}],
        **one,
    }
    document = {"site": SITE, "facts": facts}
    (layout.agent_dir / "facts.yaml").write_text(yaml.safe_dump(document))
