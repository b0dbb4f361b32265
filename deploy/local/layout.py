"""Where a local cluster keeps its things, and which addresses its programs listen on.

Everything lies below one directory outside of any home, so that a job's user can reach its own
working directory. Paths are short: Ray's sockets must fit into 107 bytes.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from sovctl.fleet_file import Fleet
from sovctl.node_groups import NodeGroup

DEPLOY = Path(__file__).resolve().parent.parent
FLEET_FILE = DEPLOY / "fleets" / "demo.yaml"
TENANTS_FILE = DEPLOY / "tenants" / "demo.yaml"
POLICY_FILE = DEPLOY / "policies" / "demo.yaml"

TRUST_DOMAIN = "sov.example"
PORT_FIRST = 7443
PORTS_EACH = 10
METRICS_PORT = 9445
"""Of every agent, each on an address of its own."""


KEYS = "keys"


@dataclass(frozen=True, slots=True)
class SiteLayout:
    """One site of the cluster: its programs' directories and addresses."""

    id: str
    root: Path
    subnet: int
    node_link: str
    node_join: str
    slots: tuple[tuple[str, int], ...]
    """Each node's slot and its number of GPUs."""
    cuts: tuple[tuple[str, str], ...] = ()
    """How GPUs are cut by MIG, by slot, as a node agent's `logical_mig` says it."""

    @property
    def ray_root(self) -> Path:
        """Where Ray's processes live; short."""
        return self.root / "ray"

    @property
    def metrics(self) -> str:
        """Where monitors scrape the site agent; the nodes have the addresses 1 and up."""
        return f"127.0.{self.subnet}.254:{METRICS_PORT}"

    @property
    def agent_dir(self) -> Path:
        """The site agent's own directory."""
        return self.root / "agent"

    @property
    def data_dir(self) -> Path:
        """The site's store of datasets."""
        return self.root / "data"

    @property
    def checkpoints_dir(self) -> Path:
        """The site's store of checkpoints."""
        return self.root / "checkpoints"

    @property
    def images_dir(self) -> Path:
        """The site's store of container images."""
        return self.root / "images"

    @property
    def keys_dir(self) -> Path:
        """Tenants' file-backed key services: on one machine nodes and tenants share a disk."""
        return self.root.parent / KEYS

    def node_dir(self, slot: str) -> Path:
        """A node's directory: spool, facts, credentials."""
        return self.root / slot


@dataclass(frozen=True, slots=True)
class Layout:
    """A whole cluster below `root`."""

    root: Path
    port: int
    sites: tuple[SiteLayout, ...]

    @property
    def endpoint(self) -> str:
        """The control plane's main port."""
        return f"127.0.0.1:{self.port}"

    @property
    def join_endpoint(self) -> str:
        """The control plane's port of Join."""
        return f"127.0.0.1:{self.port + 1}"

    @property
    def telemetry(self) -> str:
        """The control plane's HTTP port."""
        return f"127.0.0.1:{self.port + 2}"

    @property
    def metrics(self) -> str:
        """The control plane's port of monitors."""
        return f"127.0.0.1:{self.port + 3}"

    @property
    def control_dir(self) -> Path:
        """The control plane's state."""
        return self.root / "control"

    @property
    def credentials_dir(self) -> Path:
        """People's credentials, one directory each."""
        return self.root / "credentials"

    @property
    def monitor_credentials(self) -> Path:
        """The identity that Prometheus scrapes with."""
        return self.credentials_dir / "prometheus"

    @property
    def keys_dir(self) -> Path:
        """Tenants' file-backed key services, one directory each."""
        return self.root / KEYS

    @property
    def daemons_dir(self) -> Path:
        """State and logs of the programs."""
        return self.root / "run"


def lay_out(root: Path, fleet: Fleet, port: int = PORT_FIRST) -> Layout:
    """The layout of `fleet` below `root`, its ports from `port` on."""
    sites: list[SiteLayout] = []
    for number, site in enumerate(sorted(fleet.sites, key=lambda site: site.id)):
        slots = [(slot, group.gpus) for group in site.nodes for slot in group.slots]
        sites.append(
            SiteLayout(
                id=site.id,
                root=root / f"s{number}",
                subnet=first_subnet(port) + number,
                node_link=f"127.0.0.1:{port + PORTS_EACH + 2 * number}",
                node_join=f"127.0.0.1:{port + PORTS_EACH + 2 * number + 1}",
                slots=tuple(sorted(slots)),
                cuts=tuple(
                    (slot, _cuts(group))
                    for group in site.nodes
                    for slot in group.slots
                    if group.mig
                ),
            )
        )
    return Layout(root, port, tuple(sites))


def first_subnet(port: int) -> int:
    """127.0.N.x of the first site, so that clusters on different ports keep apart."""
    return 10 + port % 23 * 10


def default_root() -> Path:
    """Where `make up` keeps its cluster: one for each user of this machine."""
    base = Path("/var/lib") if os.geteuid() == 0 else Path("/var/tmp")  # noqa: S108 (0700, ours)
    return base / ("sov-local" if os.geteuid() == 0 else f"sov-local-{os.geteuid()}")


def environment_config() -> Path:
    """The sovctl configuration of this Python environment: found before the user's own."""
    return Path(sys.prefix, "etc", "sovctl", "config.yaml")


def _cuts(group: NodeGroup) -> str:
    return ",".join(
        f"{gpu}:{cut.instances[profile]}x{profile}"
        for cut in group.mig
        for gpu in cut.gpus
        for profile in cut.instances
    )
