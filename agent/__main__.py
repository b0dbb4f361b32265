"""`sov-agent site | node | join | renew`: the only place that reads settings and makes ids."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
from pydantic import BaseModel

from agent import enrolment, landmark_program, node_program, settings
from agent.enrolment import anonymous, dialler, lapsed
from agent.node.clock import boot_ms, wall_ms
from agent.node.facts import read_facts
from agent.node.fault_file import ask_to_clear
from agent.running import start_logging, until_told, version
from agent.settings import LandmarkSettings, NodeSettings, SettingsInvalid, SiteSettings
from agent.site import exporter as site_exporter
from agent.site.agent import Hands, Inbox, SiteAgent
from agent.site.authority import ControlAuthority
from agent.site.bundles import BundleCache
from agent.site.executor import RayDriverProcess
from agent.site.granted import SiteGrants
from agent.site.guard import Guard
from agent.site.journal import JournalFile
from agent.site.machine import SiteMachine
from agent.site.nodelink import NodeLinkServer
from agent.site.session import ControlSession, Presence
from agent.site.state import ranks_of
from sovshared import monitoring, pki, renewal, signing, spiffe

_log = logging.getLogger("sov-agent")


async def run_site(config: SiteSettings) -> None:
    """A site agent, until cancelled. Jobs run on without it."""
    journal_file = JournalFile(config.state_dir)
    guard = Guard(config.facts, config.site, wall_ms)
    granted = grants_of(config)
    machine = SiteMachine(
        journal_file.load(),
        judge=guard,
        grants=granted,
        now_ms=boot_ms(),
        runtime_grace_ms=config.runtime_grace_ms,
    )
    inbox = Inbox()
    server = (config.endpoint, spiffe.control_plane(), config.trust_domain)
    dial = dialler(config.credentials, *server)
    authority = ControlAuthority(
        dial,
        join_dialler(config),
        own_path=spiffe.site_agent(config.site).path,
        lapsed=lambda: lapsed(config.credentials, wall_ms()),
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
        stores=nodes,
        visited=nodes,
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
        monitors = scraped(config, machine, executor, granted)
        renewing = renewal.keep_renewed(
            config.credentials,
            authority.renew_own,
            now_ms=wall_ms,
            renewed=lambda _: session.drop(),
        )
        try:
            async with monitors, asyncio.TaskGroup() as group:
                group.create_task(SiteAgent(machine, hands, inbox, boot_ms).run())
                group.create_task(renewing)
        finally:
            await nodes.stop()


def join_dialler(config: SiteSettings) -> Callable[[], grpc.aio.Channel]:
    """Dials the control plane where it asks nobody for a certificate."""
    endpoint = config.join_endpoint or config.endpoint
    server = (endpoint, spiffe.control_plane(), config.trust_domain)
    return anonymous(lambda: pki.load(config.credentials).trust_pem, *server)


def grants_of(config: SiteSettings) -> SiteGrants:
    """Judges placement grants by what this agent got when it joined."""
    return SiteGrants(
        config.credentials / pki.TRUST_FILE,
        site=config.site,
        trust_domain=config.trust_domain,
        seen=config.state_dir / "grants.json",
        utc_now_ms=wall_ms,
    )


def scraped(
    config: SiteSettings, machine: SiteMachine, executor: RayDriverProcess, granted: SiteGrants
) -> contextlib.AbstractAsyncContextManager[int | None]:
    """Serves what a site agent tells monitors, made whenever they ask, where that is wanted."""

    def page() -> bytes:
        facts = pki.load(config.credentials).facts()
        told = (config.site, version(), machine.standing(), facts)
        return site_exporter.page(*told, lambda: executor.pid, granted.refusals)

    own = (config.metrics_listen, config.credentials, config.trust_domain)
    return monitoring.served(*own, page)


def parser() -> argparse.ArgumentParser:
    """The command line. Every setting is a flag too."""
    top = argparse.ArgumentParser(prog="sov-agent", description="Runs a site or a node.")
    commands = top.add_subparsers(dest="command", required=True)
    for command, kind, what in (
        ("site", SiteSettings, "run the agent of a site"),
        ("node", NodeSettings, "run the agent of a node"),
        ("landmark", LandmarkSettings, "measure where nodes are"),
    ):
        sub = commands.add_parser(command, help=what)
        sub.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings")
        add_flags(sub, kind)
    sub = commands.add_parser("clear-faults", help="state that a node's hardware is well again")
    sub.add_argument("--config", type=Path, metavar="FILE", help="the node agent's settings")
    sub.add_argument("--reason", required=True, help="what was done, for the agent's log")
    sub = commands.add_parser("location-key", help="print a location key's public half")
    sub.add_argument("file", type=Path, help="the key's file; made if it is not there")
    enrolment.add_commands(commands)
    return top


def add_flags(sub: argparse.ArgumentParser, kind: type[BaseModel]) -> None:
    """A flag for each setting but maps, which only a file can hold well."""
    for name, field in kind.model_fields.items():
        if name != "ray_environment":
            flag = f"--{name.replace('_', '-')}"
            sub.add_argument(flag, dest=name, default=argparse.SUPPRESS, help=field.description)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = parser().parse_args(argv)
    try:
        if options.command in enrolment.COMMANDS:
            told = asyncio.run(enrolment.COMMANDS[options.command](options, wall_ms))
            sys.stdout.write(f"{told}\n")
            return 0
        if options.command == "clear-faults":
            node = settings.load(NodeSettings, options.config, {})
            facts = read_facts(node.facts)
            ask_to_clear(node_program.state_dir_of(node.state_dir, facts), options.reason)
            return 0
        flags = {k: v for k, v in vars(options).items() if k not in ("command", "config")}
        if options.command == "location-key":
            sys.stdout.write(f"{signing.kept_in(options.file).public_key.hex()}\n")
            return 0
        if options.command == "landmark":
            landmark = settings.load(LandmarkSettings, options.config, flags)
            start_logging(landmark.log_level)
            asyncio.run(until_told(landmark_program.run(landmark)))
        elif options.command == "site":
            site = settings.load(SiteSettings, options.config, flags)
            start_logging(site.log_level)
            asyncio.run(until_told(run_site(site)))
        else:
            node_program.become(settings.plain(settings.load(NodeSettings, options.config, flags)))
    except grpc.aio.AioRpcError as error:
        sys.stderr.write(f"sov-agent: {error.code().name}: {error.details()}\n")
        return 1
    except (SettingsInvalid, pki.PkiInvalid, spiffe.NameInvalid, OSError, ValueError) as error:
        sys.stderr.write(f"sov-agent: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
