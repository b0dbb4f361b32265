"""SiteLink: the session of a site agent, the tunnels it opens, the bundles it fetches.

A session is one loop each way. Up: reports go to the writer one after the other, so a site that
reports faster than we commit is slowed down by its own stream. Down: acknowledgements and orders at
once, desired state whenever the store has a generation that the site does not.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from scheduler.api import calls
from scheduler.api.desk import Desk
from scheduler.api.server import Methods
from scheduler.api.tunnels import Tunnels
from scheduler.api.uploads import Uploads
from scheduler.control.reports import Heard, Hello
from scheduler.core.recovery import LEASE_MS
from scheduler.model.ids import AttemptKey, SiteId, TenantPath
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid, not_found
from scheduler.model.sitelink import Desired, SiteReport
from scheduler.runtime.sites import Line, Power, Sites
from scheduler.runtime.telemetry import Metrics
from scheduler.store.store import Snapshot, Txn
from scheduler.wire.sitelink import report_from_proto, word_to_proto
from sovapi.v1 import sitelink_pb2
from sovshared.limits import SITE_PROTOCOL_VERSION, STORED_JOBS_MAX

HELLO_S_MAX = 20
HEARTBEAT_INTERVAL_MS = 5_000
SILENCE_S_MAX = 30
"""A session over which nothing came for so long is ended; the agent dials again."""
RESEND_MS = 3_000
"""Desired state that the site does not report to have is sent again after this long; what came in
parts after as many times that."""
SITE_WATTS_MAX = 10**12
"""No site draws more, whatever it says."""
VERSIONS = (SITE_PROTOCOL_VERSION,)

_log = logging.getLogger(__name__)

Messages = AsyncIterator[sitelink_pb2.SiteMessage]
Orders = Sites[sitelink_pb2.ControlMessage]


@dataclass(slots=True)
class _Sent:
    """What a site has, and what it was last sent."""

    acked: int
    sent: int
    sent_boot_ms: int
    parts: deque[Desired] = field(default_factory=deque[Desired])
    """What is still to be sent of what was read last."""
    resend_ms: int = RESEND_MS


class SiteLink:
    """Serves site agents."""

    def __init__(
        self,
        *,
        desk: Desk,
        sites: Orders,
        tunnels: Tunnels,
        uploads: Uploads,
        metrics: Metrics,
        boot_ms: Callable[[], int],
        version: str,
    ) -> None:
        self._desk = desk
        self._sites = sites
        self._tunnels = tunnels
        self._uploads = uploads
        self._metrics = metrics
        self._boot_ms = boot_ms
        self._version = version

    def methods(self) -> Methods:
        """What this serves."""
        return {
            "SiteLink/Session": self.session,
            "SiteLink/Tunnel": self.tunnel,
            "SiteLink/FetchBundle": self.fetch_bundle,
        }

    async def session(
        self, messages: Messages
    ) -> AsyncGenerator[sitelink_pb2.ControlMessage, None]:
        """A site's session, until either side ends it."""
        site = _site()
        hello = await _hello(messages, site)
        line = self._sites.open(site)
        try:
            epoch = await self._begin(site, hello)
            yield self._welcome(epoch)
            sent = _Sent(hello.generation, hello.generation, self._boot_ms() - RESEND_MS)
            line.wake()  # It may lack something already.
            up = asyncio.create_task(self._listen(line, messages, sent))
            try:
                while not (line.ended or up.done()):
                    for message in await self._next(line, sent):
                        yield message
                if up.done():
                    up.result()
            finally:
                up.cancel()
                await asyncio.gather(up, return_exceptions=True)
        finally:
            if self._sites.close(line):
                self._over(site, hello.incarnation)

    async def tunnel(
        self, ups: AsyncIterator[sitelink_pb2.TunnelUp]
    ) -> AsyncGenerator[sitelink_pb2.TunnelDown, None]:
        """The site's end of a stream that a tenant asked for."""
        async for down in self._tunnels.attach(_site(), ups):
            yield down

    async def fetch_bundle(
        self, request: sitelink_pb2.FetchBundleRequest
    ) -> AsyncGenerator[sitelink_pb2.FetchBundleResponse, None]:
        """A bundle, if an attempt that is desired at the calling site needs it."""
        site = _site()
        job = self._desk.codec.decode(request.job_id)
        key = AttemptKey(job, request.attempt) if job is not None else None
        tenant = await self._desk.reader.read(
            lambda snapshot: _owner(snapshot, site, key, request.digest)
        )
        if tenant is None or await self._uploads.size_bytes(tenant, request.digest) is None:
            raise not_found("bundle", request.digest[:80])
        async for chunk in self._uploads.send(tenant, request.digest):
            yield sitelink_pb2.FetchBundleResponse(chunk=chunk)

    async def _begin(self, site: SiteId, hello: sitelink_pb2.SiteHello) -> int:
        now_ms = self._desk.now_ms()
        presented = Hello(
            agent_version=hello.agent_version,
            incarnation=hello.incarnation,
            epoch=hello.epoch,
            generation=hello.generation,
            metrics_address=hello.metrics_address,
        )

        def begin(txn: Txn) -> int:
            self._desk.control.site_hello(txn, site, presented, now_ms)
            return txn.epoch

        epoch = await self._desk.writer.write(begin)
        _log.info("a site connected")
        return epoch

    def _welcome(self, epoch: int) -> sitelink_pb2.ControlMessage:
        hello = sitelink_pb2.ControlHello(
            protocol_version=SITE_PROTOCOL_VERSION,
            server_version=self._version,
            epoch=epoch,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            lease_ms=LEASE_MS,
        )
        return sitelink_pb2.ControlMessage(hello=hello)

    def _over(self, site: SiteId, incarnation: str) -> None:
        """The site has no session any more. If it cannot be written now, the tick finds out."""
        now_ms = self._desk.now_ms()
        try:
            self._desk.writer.post(
                lambda txn: self._desk.control.site_gone(txn, site, incarnation, now_ms)
            )
        except Refused as refused:
            _log.warning("cannot note that a site went away: %s", refused)
        _log.info("a site disconnected")

    async def _listen(
        self, line: Line[sitelink_pb2.ControlMessage], messages: Messages, sent: _Sent
    ) -> None:
        """Takes what the site says, until it ends or is silent for too long."""
        while not line.ended:
            try:
                async with asyncio.timeout(SILENCE_S_MAX):
                    message = await anext(messages, None)
            except TimeoutError:
                _log.warning("site %s was silent for %d s", line.site, SILENCE_S_MAX)
                message = None
            if message is None or line.ended:
                # What an older session still brings is older than what the newer one said.
                line.end()
                return
            self._sites.heard(line)
            await self._heard(line, message, sent)

    async def _heard(
        self,
        line: Line[sitelink_pb2.ControlMessage],
        message: sitelink_pb2.SiteMessage,
        sent: _Sent,
    ) -> None:
        if message.HasField("heartbeat"):
            line.power = _power(message.heartbeat)
        match message.WhichOneof("message"):
            case "heartbeat" if not self._sites.leads():
                pass  # An answer prolongs leases, and somebody else may be counting them down.
            case "heartbeat":
                ack = sitelink_pb2.HeartbeatAck(sequence=message.heartbeat.sequence)
                line.order(sitelink_pb2.ControlMessage(heartbeat_ack=ack))
            case "report":
                report = report_from_proto(message.report, line.site, self._desk.codec)
                told = line.site, report
                heard = await self._desk.writer.write_together(self._take_reports, told)
                self._metrics.egress_denied.labels(line.site).inc(heard.egress_denied)
                if heard.unanswered:
                    unwanted = "site %s reports %d attempts too many that nobody wants there"
                    _log.warning(unwanted, line.site, heard.unanswered)
                sent.acked = report.generation
                line.wake()
            case "stored_jobs":
                await self._tell_over(line, message.stored_jobs.job_ids[:STORED_JOBS_MAX])
            case "tunnel_refused":
                self._tunnels.refused(line.site, message.tunnel_refused)
            case "hello":
                found = "found a second hello, allowed one a session"
                raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "hello"))
            case _:
                pass  # Something that a newer agent knows and we do not.

    def _take_reports(
        self, txn: Txn, told: Sequence[tuple[SiteId, SiteReport]]
    ) -> Sequence[Heard | Refused]:
        """Takes the word of all sites that waited for the writer."""
        return self._desk.control.site_reports(txn, told, self._desk.now_ms())

    async def _tell_over(
        self, line: Line[sitelink_pb2.ControlMessage], job_ids: Sequence[str]
    ) -> None:
        """Which of the jobs that the site's store has checkpoints of are over."""
        now_ms = self._desk.now_ms()
        over = await self._desk.reader.read(
            lambda snapshot: self._desk.control.jobs_over(snapshot, line.site, job_ids, now_ms)
        )
        told = [sitelink_pb2.JobOver(job_id=job, ended_ago_ms=ago) for job, ago in over.items()]
        line.order(sitelink_pb2.ControlMessage(jobs_over=sitelink_pb2.JobsOver(jobs=told)))

    async def _next(
        self, line: Line[sitelink_pb2.ControlMessage], sent: _Sent
    ) -> list[sitelink_pb2.ControlMessage]:
        """What to send now; may be nothing.

        Desired state comes first: an acknowledgement gives a lease, and not before the site has
        what was desired by then, for it must not start under it what was ended while it was away.
        """
        messages = list(await line.wait(0 if sent.parts else RESEND_MS / 1000))
        await self._presume(line.site, messages)
        now = self._boot_ms()
        if sent.acked >= sent.sent:
            sent.parts.clear()
        elif sent.parts:
            return [self._part(sent), *messages]
        elif now - sent.sent_boot_ms < sent.resend_ms:
            return messages  # It is under way.
        now_ms = self._desk.now_ms()
        parts = await self._desk.reader.read(
            lambda snapshot: self._desk.control.desired(snapshot, line.site, sent.acked, now_ms)
        )
        if not parts:
            return messages
        sent.parts.extend(parts)
        sent.resend_ms = RESEND_MS * len(parts)
        sent.sent = parts[-1].to_generation
        return [self._part(sent), *messages]

    async def _presume(self, site: SiteId, messages: list[sitelink_pb2.ControlMessage]) -> None:
        """Has acknowledgements say what there is now: later than when the heartbeats came."""
        acks = [m.heartbeat_ack for m in messages if m.HasField("heartbeat_ack")]
        if acks:
            newest = await self._desk.reader.read(
                lambda snapshot: snapshot.fleet.contact(site).generation
            )
            for ack in acks:
                ack.generation = newest

    def _part(self, sent: _Sent) -> sitelink_pb2.ControlMessage:
        """The next part of what was read; acknowledgements may come between two of them."""
        sent.sent_boot_ms = self._boot_ms()
        return word_to_proto(sent.parts.popleft(), self._desk.codec)


def _power(beat: sitelink_pb2.Heartbeat) -> Power | None:
    """What a site says it draws. It speaks for nothing but a picture: no limit rests on it."""
    if not beat.HasField("power"):
        return None
    told = beat.power
    return Power(min(max(told.gpu_watts, 0), SITE_WATTS_MAX), max(told.nodes, 0))


def _site() -> SiteId:
    site = calls.principal().site
    assert site is not None, "the access table lets only sites through"
    return site


async def _hello(messages: Messages, site: SiteId) -> sitelink_pb2.SiteHello:
    """The first message of a session, its version and name checked."""
    try:
        async with asyncio.timeout(HELLO_S_MAX):
            first = await anext(messages, None)
    except TimeoutError:
        first = None
    if first is None or first.WhichOneof("message") != "hello":
        found = "found something else, allowed a hello as the first message"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "message"))
    hello = first.hello
    if hello.protocol_version not in VERSIONS:
        found = f"found {hello.protocol_version}, allowed {', '.join(map(str, VERSIONS))}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "hello.protocol_version"))
    if hello.site != site:
        raise Refused(
            Code.PERMISSION_DENIED,
            Reason.PERMISSION_DENIED,
            f"hello.site: found {hello.site[:64]!r}, allowed {site}, which the certificate names",
        )
    return hello


def _owner(
    snapshot: Snapshot, site: SiteId, key: AttemptKey | None, digest: str
) -> TenantPath | None:
    """Whose bundle it is, when an attempt desired at `site` was submitted with it."""
    if key is None or snapshot.outbox.get(site, key) is None:
        return None
    placed = snapshot.attempts.row(key)
    if placed is None or placed.site != site:
        return None  # A row is there too for what a site only claims to run.
    job = snapshot.jobs.get(key.job)
    if job is None or job.spec is None or not digest or job.spec.bundle_digest != digest:
        return None
    return job.tenant
