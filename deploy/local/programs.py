"""How the agents of a local cluster are started: what each is told."""

from __future__ import annotations

import time
from pathlib import Path

import yaml

from agent.node.facts import NodeFacts, read_facts, write_facts
from agent.node.spool import Phase, Spool
from deploy.local.layout import METRICS_PORT, TRUST_DOMAIN, Layout, SiteLayout
from deploy.local.ray_cell import RayCell
from sovshared import key_service, pki

UID_FIRST = 200_000
UIDS_EACH = 1_000
"""Nodes of one machine have spools of their own, so each gives out user ids of its own."""
STOP_RANKS_S = 15
POLL_S = 0.05


def write_node_facts(site: SiteLayout, slot: str, cell: RayCell, runtime: Path, level: str) -> None:
    """What a node's executor and its agent must know of it."""
    node = site.node_dir(slot)
    (node / "credentials").mkdir(parents=True, exist_ok=True)
    node.chmod(0o711)
    checkpoints = node / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    checkpoints.chmod(0o711)
    site.data_dir.mkdir(mode=0o700, exist_ok=True)
    site.checkpoints_dir.mkdir(mode=0o700, exist_ok=True)
    site.images_dir.mkdir(mode=0o700, exist_ok=True)
    number = (site.subnet * 16 + [name for name, _ in site.slots].index(slot)) % 60
    facts = NodeFacts(
        site=site.id,
        slot=slot,
        trust=str(node / "credentials" / pki.TRUST_FILE),
        spool=str(node / "spool"),
        address=cell.address_of(slot),
        runtime_dir=str(runtime),
        checkpoint_root=str(checkpoints),
        data_store=str(site.data_dir),
        checkpoint_store=str(site.checkpoints_dir),
        image_store=str(site.images_dir),
        hide=(
            *(str(node / "credentials"), str(site.ray_root), str(site.agent_dir)),
            str(site.keys_dir),
        ),
        level=level,
        uid_first=UID_FIRST + number * UIDS_EACH,
        uid_last=UID_FIRST + (number + 1) * UIDS_EACH - 1,
        key_services=tuple(
            f"{key_service.SCHEME}{keys}" for keys in sorted(site.keys_dir.glob("*"))
        ),
    )
    write_facts(node / "facts.json", facts)


def site_agent(layout: Layout, site: SiteLayout, cell: RayCell, runtime_grace_ms: int) -> list[str]:
    """The command of a site's agent; its settings are written beside its credentials."""
    settings = {
        "site": site.id,
        "endpoint": layout.endpoint,
        "join_endpoint": layout.join_endpoint,
        "trust_domain": TRUST_DOMAIN,
        "credentials": str(site.agent_dir / "credentials"),
        "state_dir": str(site.agent_dir / "state"),
        "facts": str(site.agent_dir / "facts.yaml"),
        "listen": site.node_link,
        "join_listen": site.node_join,
        "ray_address": cell.address,
        "ray_environment": cell.driver_environment(),
        "runtime_grace_ms": runtime_grace_ms,
        "metrics_listen": site.metrics,
    }
    file = site.agent_dir / "settings.yaml"
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    file.chmod(0o600)
    return ["agent", "site", "--config", str(file)]


def node_agent(site: SiteLayout, slot: str, gpus: int, cuts: str = "") -> list[str]:
    """The command of a node's agent."""
    node = site.node_dir(slot)
    settings = {
        "site": site.id,
        "slot": slot,
        "endpoint": site.node_link,
        "join_endpoint": site.node_join,
        "trust_domain": TRUST_DOMAIN,
        "credentials": str(node / "credentials"),
        "facts": str(node / "facts.json"),
        "logical_gpus": gpus,
        "logical_mig": cuts,
        "metrics_listen": f"{read_facts(node / 'facts.json').address}:{METRICS_PORT}",
    }
    file = node / "settings.yaml"
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    file.chmod(0o600)
    return ["agent", "node", "--config", str(file)]


def stop_ranks(spool: Path) -> None:
    """Ends every rank in a spool, at once, and waits until it is over."""
    own = Spool(spool)
    give_up_at = time.monotonic() + STOP_RANKS_S
    while live := [status for status in own.known() if status.phase is not Phase.OVER]:
        for status in live:
            own.stop(status.key, 0)
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"ranks did not end: {', '.join(status.key for status in live)}")
        time.sleep(POLL_S)
