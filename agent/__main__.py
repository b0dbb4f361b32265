"""`sov-agent site | node | join | renew`: the only place that reads settings, clocks, chance."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import logging
import random
import signal
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import grpc
from pydantic import BaseModel

from agent import enrolment, settings
from agent.enrolment import JOIN_S_MAX, anonymous, dialler, lapsed
from agent.node import telemetry
from agent.node.agent import NodeAgent, Place
from agent.node.executor import NodeFacts, read_facts
from agent.node.exporter import Exporter, Identity
from agent.node.fault_file import ask_to_clear
from agent.node.isolation import probe
from agent.node.launcher import LEVELS
from agent.node.link import NodeLink
from agent.node.spool import Spool
from agent.node.watch import HealthWatch, Sources
from agent.settings import NodeSettings, SettingsInvalid, SiteSettings
from agent.site import exporter as site_exporter
from agent.site.agent import Hands, Inbox, SiteAgent
from agent.site.authority import ControlAuthority
from agent.site.bundles import BundleCache
from agent.site.executor import RayDriverProcess
from agent.site.guard import Guard
from agent.site.journal import JournalFile
from agent.site.machine import SiteMachine
from agent.site.nodelink import NodeLinkServer
from agent.site.session import ControlSession, Presence
from agent.site.state import ranks_of
from sovapi.v1.identity_pb2 import JoinRequest, RenewRequest
from sovapi.v1.nodelink_pb2_grpc import NodeLinkStub
from sovshared import monitoring, pki, renewal, spiffe

_log = logging.getLogger("sov-agent")


def boot_ms() -> int:
    """Milliseconds since boot, suspended time included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def utc_ms() -> int:
    """UTC milliseconds."""
    return time.time_ns() // 1_000_000


def version() -> str:
    """This release's."""
    return importlib.metadata.version("sovereign-compute-scheduler")


def renewing(
    credentials: Path, renew: renewal.Renew, drop: Callable[[], None]
) -> Coroutine[Any, Any, None]:
    """Keeps the identity there renewed; `drop` has a stream dialled anew, with the new one."""
    return renewal.keep_renewed(credentials, renew, now_ms=utc_ms, renewed=lambda _: drop())


def scraped(
    config: SiteSettings | NodeSettings, page: Callable[[], bytes]
) -> contextlib.AbstractAsyncContextManager[int | None]:
    """Serves `page` to monitors where that is wanted."""
    own = (config.metrics_listen, config.credentials, config.trust_domain)
    return monitoring.served(*own, page)


async def run_site(config: SiteSettings) -> None:
    """A site agent, until cancelled. Jobs run on without it."""
    journal_file = JournalFile(config.state_dir)
    guard = Guard(config.facts, config.site, utc_ms)
    machine = SiteMachine(
        journal_file.load(),
        judge=guard,
        now_ms=boot_ms(),
        runtime_grace_ms=config.runtime_grace_ms,
    )
    inbox = Inbox()
    control = spiffe.control_plane()
    dial = dialler(config.credentials, config.endpoint, control, config.trust_domain)
    authority = ControlAuthority(
        dial,
        anonymous(
            lambda: pki.load(config.credentials).trust_pem,
            config.join_endpoint or config.endpoint,
            control,
            config.trust_domain,
        ),
        own_path=spiffe.site_agent(config.site).path,
        lapsed=lambda: lapsed(config.credentials, utc_ms()),
    )
    nodes = NodeLinkServer(
        site=config.site, trust_domain=config.trust_domain, emit=inbox.put, authority=authority
    )

    def position() -> tuple[int, int]:
        return machine.journal.epoch, machine.journal.generation

    def place(key: str) -> dict[int, str]:
        row = machine.journal.rows.get(key)
        return {r.number: r.slot for r in ranks_of(key, row.launch)} if row is not None else {}

    session = ControlSession(
        presence=Presence(config.site, version(), str(uuid.uuid4()), settings.scraped_at(config)),
        dial=dial,
        position=position,
        emit=inbox.put,
        jitter=random.random,
        spools=nodes,
        place=place,
        power=nodes.power,
    )
    driver_config = {"address": config.ray_address, "reserve_ms": config.ray_reserve_ms}
    async with RayDriverProcess(driver_config, environment=config.ray_environment) as executor:
        hands = Hands(
            journal=journal_file,
            guard=guard,
            executor=executor,
            nodes=nodes,
            session=session,
            bundles=BundleCache(config.state_dir / "bundles"),
        )
        port = await nodes.start(config.credentials, config.listen, config.join_listen)
        _log.info("site %s: node agents may dial port %d", config.site, port)
        monitors = scraped(config, site_page(config, machine, executor))
        try:
            async with monitors, asyncio.TaskGroup() as group:
                group.create_task(SiteAgent(machine, hands, inbox, boot_ms).run())
                own = renewing(config.credentials, authority.renew_own, session.drop)
                group.create_task(own)
        finally:
            await nodes.stop()


def site_page(
    config: SiteSettings, machine: SiteMachine, executor: RayDriverProcess
) -> Callable[[], bytes]:
    """What a site agent tells monitors, made whenever they ask."""

    def page() -> bytes:
        facts = pki.load(config.credentials).facts()
        told = (config.site, version(), machine.standing(), facts)
        return site_exporter.page(*told, lambda: executor.pid)

    return page


async def run_node(config: NodeSettings) -> None:
    """A node agent, until cancelled. Ranks run on without it."""
    facts = read_facts(config.facts)
    site = spiffe.site_agent(config.site)
    dial = dialler(config.credentials, config.endpoint, site, config.trust_domain)
    link = NodeLink(dial, random.random)
    place = Place(
        site=config.site,
        slot=config.slot,
        version=version(),
        isolation=await asyncio.to_thread(isolation_of, facts),
        metrics_address=settings.scraped_at(config),
    )
    _log.info("node %s/%s: isolation %s", config.site, config.slot, place.isolation)

    dial_join = anonymous(
        lambda: pki.load(config.credentials).trust_pem,
        config.join_endpoint or config.endpoint,
        site,
        config.trust_domain,
    )

    async def renew(csr_der: bytes) -> renewal.Renewed:
        if lapsed(config.credentials, utc_ms()):
            # It opens no channel any more: the request itself has to do.
            name = spiffe.node_agent(config.site, config.slot).path
            async with dial_join() as channel:
                joining = JoinRequest(name=name, csr_der=csr_der)
                joined = await NodeLinkStub(channel).Join(joining, timeout=JOIN_S_MAX)
            return renewal.Renewed(joined.certificate_pem, joined.trust_bundle_pem)
        async with dial() as channel:
            request = RenewRequest(csr_der=csr_der)
            answer = await NodeLinkStub(channel).Renew(request, timeout=JOIN_S_MAX)
        return renewal.Renewed(answer.certificate_pem, answer.trust_bundle_pem)

    watch = HealthWatch(sources_of(config, facts))
    exporter = Exporter(
        Identity(config.site, config.slot, version()),
        watch,
        lambda: pki.load(config.credentials).facts(),
    )
    async with scraped(config, exporter.page), asyncio.TaskGroup() as group:
        agent = NodeAgent(place, Spool(Path(facts.spool)), link, watch)
        group.create_task(agent.run())
        group.create_task(renewing(config.credentials, renew, link.drop))


def sources_of(config: NodeSettings, facts: NodeFacts) -> Sources:
    """Where the node's health is read."""
    return Sources(
        telemetry=telemetry.source(config.nvml_library, config.logical_gpus),
        interval_ms=config.poll_interval_ms,
        spool=Path(facts.spool),
        state_dir=state_dir_of(config, facts),
        logical=telemetry.logical_gpus(config.site, config.slot, config.logical_gpus),
        nvml_library=config.nvml_library,
        sysfs_root=config.sysfs_root,
        rdma_exclude=tuple(filter(None, config.rdma_exclude.split(","))),
    )


def state_dir_of(config: NodeSettings, facts: NodeFacts) -> Path:
    """Where the fault log is."""
    return config.state_dir or Path(facts.spool).parent / "health"


def isolation_of(facts: NodeFacts) -> str:
    """The level this node declares, or the lower one that it was found to reach just now."""
    spool = Path(facts.spool)
    spool.parent.mkdir(parents=True, exist_ok=True)
    reached = probe(spool.parent, Path(facts.runtime_dir) / "bin" / "python3")
    if LEVELS.index(reached.level) < LEVELS.index(facts.level):
        _log.warning("isolation %s was declared: %s", facts.level, reached.why_not_more)
    return min(reached.level, facts.level, key=LEVELS.index)


def parser() -> argparse.ArgumentParser:
    """The command line. Every setting is a flag too."""
    top = argparse.ArgumentParser(prog="sov-agent", description="Runs a site or a node.")
    commands = top.add_subparsers(dest="command", required=True)
    for command, kind in (("site", SiteSettings), ("node", NodeSettings)):
        sub = commands.add_parser(command, help=f"run the agent of a {command}")
        sub.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings")
        add_flags(sub, kind)
    sub = commands.add_parser("clear-faults", help="state that a node's hardware is well again")
    sub.add_argument("--config", type=Path, metavar="FILE", help="the node agent's settings")
    sub.add_argument("--reason", required=True, help="what was done, for the agent's log")
    enrolment.add_commands(commands)
    return top


def add_flags(sub: argparse.ArgumentParser, kind: type[BaseModel]) -> None:
    """A flag for each setting but maps, which only a file can hold well."""
    for name, field in kind.model_fields.items():
        if name != "ray_environment":
            flag = f"--{name.replace('_', '-')}"
            sub.add_argument(flag, dest=name, default=argparse.SUPPRESS, help=field.description)


async def until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run until done, or until SIGTERM or SIGINT ends it in good order."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def start_logging(level: str) -> None:
    """To standard error, one line an event."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = parser().parse_args(argv)
    try:
        if options.command in enrolment.COMMANDS:
            told = asyncio.run(enrolment.COMMANDS[options.command](options, utc_ms))
            sys.stdout.write(f"{told}\n")
            return 0
        if options.command == "clear-faults":
            node = settings.load(NodeSettings, options.config, {})
            ask_to_clear(state_dir_of(node, read_facts(node.facts)), options.reason)
            return 0
        flags = {k: v for k, v in vars(options).items() if k not in ("command", "config")}
        if options.command == "site":
            site = settings.load(SiteSettings, options.config, flags)
            start_logging(site.log_level)
            asyncio.run(until_told(run_site(site)))
        else:
            node = settings.load(NodeSettings, options.config, flags)
            start_logging(node.log_level)
            asyncio.run(until_told(run_node(node)))
    except grpc.aio.AioRpcError as error:
        sys.stderr.write(f"sov-agent: {error.code().name}: {error.details()}\n")
        return 1
    except (SettingsInvalid, pki.PkiInvalid, spiffe.NameInvalid, OSError, ValueError) as error:
        sys.stderr.write(f"sov-agent: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
