"""A whole cluster on this machine: control plane, sites, Ray, people; started, asked, stopped.

Everything is the real program with its real certificates; what stands in for hardware is that Ray's
GPUs are logical. Each step is one that `docs/operations.md` tells operators to take.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from agent.node.isolation import probe
from deploy.local.daemons import Daemons
from deploy.local.layout import (
    FLEET_FILE,
    POLICY_FILE,
    TENANTS_FILE,
    TRUST_DOMAIN,
    Layout,
    SiteLayout,
    lay_out,
)
from deploy.local.programs import node_agent, site_agent, stop_ranks, write_node_facts
from deploy.local.ray_cell import CellNode, RayCell, stop_cell
from deploy.local.runtime import ensure_runtime
from sovapi.v1 import common_pb2
from sovctl import Client, Context, SovError, config
from sovctl.async_client import join
from sovctl.cli.session import read_file
from sovctl.fleet_file import Fleet
from sovctl.link import load_trust
from sovctl.policy_file import Policy
from sovctl.tenants_file import Tenants
from sovshared import key_service, pki, sealing

TRUST_A = "trust-a"
KEY_ID_BYTES = 8
MET_LAB = "met-lab"
OPERATOR = "operator"
PEOPLE = {
    TRUST_A: ("/tenant/trust-a/user/ada", "trust-a/radiology"),
    MET_LAB: ("/tenant/met-lab/user/grace", "met-lab/forecast"),
}
MONITOR = "/monitor/prometheus"
RUNTIME_GRACE_MS = 60_000
"""How long a node's raylet may be dead before its work is fenced."""
READY_S = 90
POLL_S = 0.1


class ClusterError(Exception):
    """The cluster could not be brought to where it was wanted; the message says why."""


Say = Callable[[str], None]


@dataclass(slots=True)
class Cluster:
    """One local cluster. `up` and `down` may be called by different processes."""

    layout: Layout
    say: Say
    runtime_grace_ms: int = RUNTIME_GRACE_MS
    daemons: Daemons = field(init=False)
    cells: dict[str, RayCell] = field(default_factory=dict[str, RayCell])

    def __post_init__(self) -> None:
        self.daemons = Daemons(self.layout.daemons_dir)

    @property
    def sovctl_config(self) -> Path:
        """The configuration with everybody's contexts."""
        return self.layout.root / "config.yaml"

    def context(self, who: str) -> Context:
        """How to be somebody."""
        return config.load({"SOVCTL_CONFIG": str(self.sovctl_config)}).context(who)

    def up(self) -> None:
        """Starts everything and waits until every node may take work."""
        root = self.layout.root
        if self.daemons.known():
            raise ClusterError(f"a cluster is in {root} already; `make down` stops it")
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(mode=0o711, parents=True)
        root.chmod(0o711)  # A job's user passes through to its own directory, and sees nothing.
        self.layout.credentials_dir.mkdir(mode=0o700)  # Not even whose they are.
        with ThreadPoolExecutor() as pool:
            runtime = pool.submit(ensure_runtime)
            self.start_control_plane(found=True)
            self.enrol()
            reached = probe(root, runtime.result() / "bin" / "python3")
            why = f" ({reached.why_not_more})" if reached.why_not_more else ""
            self.say(f"jobs will be isolated at level {reached.level}{why}")
            for site in self.layout.sites:
                self.prepare_site(site, runtime.result(), reached.level)
            self.say("starting a Ray cluster at each site")
            list(pool.map(self.start_cell, self.layout.sites))
        self.say("starting site agents and node agents")
        for site in self.layout.sites:
            self.start_site_agent(site)
            for slot, _ in site.slots:
                self.start_node_agent(site, slot)
        self.wait_ready()
        self.say("every node is ready")

    def down(self) -> None:
        """Stops everything that was started, whoever started it; tenants' work first."""
        known = {daemon.name: daemon for daemon in self.daemons.known()}
        for name in [n for n in known if n.startswith(("control", "site-"))]:
            self.daemons.stop(known.pop(name))
        self._stop_ranks()
        self.daemons.stop(*known.values())
        with ThreadPoolExecutor() as pool:
            list(pool.map(stop_cell, [site.ray_root for site in self.layout.sites]))

    def start_control_plane(self, *, found: bool = False) -> None:
        """Starts the scheduler, founding it first when it is new, and waits until it is ready."""
        layout = self.layout
        state = ["--state-dir", str(layout.control_dir), "--trust-domain", TRUST_DOMAIN]
        if found:
            self.say("founding a control plane, with a CA of its own")
            operator = str(layout.credentials_dir / OPERATOR)
            person = ["--operator", "demo", "--country", "GB", "--clearance", "SC"]
            self._run("scheduler", "init", *person, "--credentials", operator, *state)
        addresses = ["--listen", layout.endpoint, "--join-listen", layout.join_endpoint]
        addresses += ["--telemetry-listen", layout.telemetry, "--metrics-listen", layout.metrics]
        self.daemons.start("control", ["scheduler", "serve", *state, *addresses])
        self._wait("the control plane is ready", self._control_plane_ready, "control")

    def enrol(self) -> None:
        """Declares policy, tenants and fleet, and makes credentials for everybody."""
        self.say("declaring policy, tenants and fleet; enrolling people, sites and nodes")
        layout = self.layout
        operator = self._context(OPERATOR)
        with Client(operator) as client:
            client.apply_policy(
                read_file(Policy, POLICY_FILE).to_proto(),
                reason="local cluster",
                override="a new control plane allows the United Kingdom alone; the demo has Norway",
            )
            client.apply_tenants(
                read_file(Tenants, TENANTS_FILE).to_proto(), reason="local cluster"
            )
            client.apply_fleet(read_file(Fleet, FLEET_FILE).to_proto(), reason="local cluster")
            joining: list[tuple[str, Path]] = [
                (path, layout.credentials_dir / who) for who, (path, _) in PEOPLE.items()
            ]
            joining.append((MONITOR, layout.monitor_credentials))
            for site in layout.sites:
                joining.append((f"/site/{site.id}/agent", site.agent_dir / "credentials"))
                joining += [
                    (f"/site/{site.id}/node/{slot}", site.node_dir(slot) / "credentials")
                    for slot, _ in site.slots
                ]
            tokens = [(name, client.create_join_token(name).token, to) for name, to in joining]
        trust = load_trust(str(layout.credentials_dir / OPERATOR / pki.TRUST_FILE))
        asyncio.run(_join_all(operator, trust, tokens))
        layout.keys_dir.mkdir(mode=0o700)
        for who in PEOPLE:
            key = os.urandom(sealing.KEY_BYTES)
            key_service.found(self.keys_of(who), trust, os.urandom(KEY_ID_BYTES).hex(), key)
        contexts = {who: self._context(who, project) for who, (_, project) in PEOPLE.items()}
        config.save(self.sovctl_config, TRUST_A, {**contexts, OPERATOR: operator})

    def keys_of(self, who: str) -> Path:
        """The key service of one of PEOPLE. Every site's facts name it, so it names no tenant."""
        return self.layout.keys_dir / str(1 + list(PEOPLE).index(who))

    def prepare_site(self, site: SiteLayout, runtime: Path, level: str) -> None:
        """Writes what the site's agents and executors read: facts of the site and of its nodes."""
        site.root.chmod(0o711)
        # The same statements, kept by the site itself: dates stay the text they were written as.
        declared = yaml.load(FLEET_FILE.read_text(), yaml.BaseLoader)["sites"]  # noqa: S506 (ours)
        stated = next(entry for entry in declared if entry["id"] == site.id)
        facts = site.agent_dir / "facts.yaml"
        facts.write_text(yaml.safe_dump({"site": site.id, "facts": stated["facts"]}))
        cell = self.cell(site)
        for slot, _ in site.slots:
            write_node_facts(site, slot, cell, runtime, level)

    def cell(self, site: SiteLayout) -> RayCell:
        """The site's Ray cluster; this object knows how to start it."""
        if site.id not in self.cells:
            nodes = [
                CellNode(slot, gpus, site.node_dir(slot) / "facts.json")
                for slot, gpus in site.slots
            ]
            self.cells[site.id] = RayCell(site.ray_root, nodes, subnet=site.subnet)
        return self.cells[site.id]

    def start_cell(self, site: SiteLayout) -> None:
        """Starts the site's Ray cluster."""
        self.cell(site).start()

    def start_site_agent(self, site: SiteLayout) -> None:
        """Starts the site's agent."""
        command = site_agent(self.layout, site, self.cell(site), self.runtime_grace_ms)
        self.daemons.start(f"site-{site.id}", command)

    def start_node_agent(self, site: SiteLayout, slot: str) -> None:
        """Starts one node's agent."""
        gpus = dict(site.slots)[slot]
        cuts = dict(site.cuts).get(slot, "")
        self.daemons.start(f"node-{site.id}-{slot}", node_agent(site, slot, gpus, cuts))

    def wait_ready(self) -> None:
        """Waits until every node may take work."""
        want = sum(len(site.slots) for site in self.layout.sites)
        with Client(self.context(OPERATOR)) as client:

            def all_ready() -> bool:
                nodes = list(client.nodes())
                return sum(node.health == common_pb2.HEALTH_OK for node in nodes) == want and all(
                    site.nodes_ready == site.nodes_total for site in client.sites()
                )

            names = [daemon.name for daemon in self.daemons.known()]
            self._wait(f"all {want} nodes are ready", all_ready, *names)

    def _context(self, who: str, project: str = "") -> Context:
        return Context(
            endpoint=self.layout.endpoint,
            join_endpoint=self.layout.join_endpoint,
            credentials=str(self.layout.credentials_dir / who),
            trust_domain=TRUST_DOMAIN,
            project=project,
        )

    def _control_plane_ready(self) -> bool:
        try:
            url = f"http://{self.layout.telemetry}/readyz"
            with urllib.request.urlopen(url, timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _wait(self, what: str, holds: Callable[[], bool], *needed: str) -> None:
        """Waits until something holds; gives up when a program it needs has ended."""
        give_up_at = time.monotonic() + READY_S
        while True:
            try:
                if holds():
                    return
            except SovError as error:
                trouble = str(error)
            else:
                trouble = ""
            for name in needed:
                if not self.daemons.get(name).alive():
                    raise ClusterError(f"{name} has ended: {self.daemons.tail(name)}")
            if time.monotonic() > give_up_at:
                tails = "\n".join(f"--- {name}:\n{self.daemons.tail(name)}" for name in needed)
                raise ClusterError(f"not in {READY_S} s: {what} {trouble}\n{tails}")
            time.sleep(POLL_S)

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", *command], capture_output=True, text=True, timeout=READY_S
        )
        if done.returncode != 0:
            raise ClusterError(f"{' '.join(command[:2])}: {done.stderr or done.stdout}")

    def _stop_ranks(self) -> None:
        """Ends what tenants still run: shims outlive every program, so nothing else would."""
        for site in self.layout.sites:
            for slot, _ in site.slots:
                spool = site.node_dir(slot) / "spool"
                if spool.is_dir():
                    stop_ranks(spool)


async def _join_all(
    operator: Context, trust: bytes, tokens: Sequence[tuple[str, str, Path]]
) -> None:
    """Exchanges every token for a certificate and keeps it where its owner looks."""
    for name, token, directory in tokens:
        joined = await join(operator, trust, name, token)
        pki.save(directory, joined.identity)


def local_cluster(
    root: Path, port: int, say: Say, runtime_grace_ms: int = RUNTIME_GRACE_MS
) -> Cluster:
    """The cluster of the demo's fleet below `root`."""
    return Cluster(lay_out(root, read_file(Fleet, FLEET_FILE), port), say, runtime_grace_ms)
