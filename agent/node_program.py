"""What `sov-agent node` becomes once its settings are found good, in the same process.

A node gives its agent little memory, and what reads and checks settings would be a sixth of it. So
`__main__` reads them, leaves the result as JSON in a file without a name, and turns into
`python -m agent.node_program DESCRIPTOR`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import grpc

from agent.enrolment import JOIN_S_MAX, anonymous, dialler, lapsed
from agent.node import telemetry
from agent.node.agent import NodeAgent, Place
from agent.node.attestation import Attester, Verifier
from agent.node.clock import boot_ms, wall_ms
from agent.node.exporter import Exporter, Identity
from agent.node.facts import NodeFacts, read_facts
from agent.node.goods import GoodsShelf
from agent.node.instances import logical
from agent.node.isolation import probe
from agent.node.launcher import LEVELS
from agent.node.link import NodeLink
from agent.node.responder import Responder
from agent.node.spool import Spool
from agent.node.store_expiry import BoundedStore, StoreExpiry, StoreLimits
from agent.node.watch import HealthWatch, Sources
from agent.running import start_logging, until_told, version
from sovapi.v1.identity_pb2 import JoinRequest, RenewRequest
from sovapi.v1.nodelink_pb2_grpc import NodeLinkStub
from sovshared import monitoring, pki, renewal, signing, spiffe

JITTER_STEPS = 1 << 20

_log = logging.getLogger("sov-agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Settings that were checked: field by field what `settings.NodeSettings` says of them."""

    site: str
    slot: str
    endpoint: str
    join_endpoint: str | None
    trust_domain: str
    credentials: Path
    facts: Path
    logical_gpus: int
    logical_mig: str
    state_dir: Path | None
    poll_interval_ms: int
    nvml_library: str
    sysfs_root: Path
    kernel_log: Path
    rdma_exclude: str
    checkpoint_keep_ms: int
    checkpoint_store_bytes_max: int
    checkpoint_node_bytes_max: int
    location_listen: str | None
    location_key: Path | None
    attest_program: str
    attest_evidence: str
    attest_rim_url: str
    attest_ocsp_url: str
    metrics_listen: str | None
    metrics_address: str
    log_level: str


PATHS = ("credentials", "facts", "state_dir", "sysfs_root", "kernel_log", "location_key")


def become(settings: Mapping[str, object]) -> NoReturn:
    """Turn this process into the program; `settings` are NodeConfig's fields as JSON has them."""
    command = [sys.executable, "-m", "agent.node_program", str(left(settings))]
    os.execv(sys.executable, command)  # noqa: S606 (no shell: it is the point)


def left(settings: Mapping[str, object]) -> int:
    """A descriptor of a file without a name that holds the settings; it outlives the exec."""
    descriptor = os.memfd_create("settings", 0)
    body = json.dumps(settings).encode()
    while body:
        body = body[os.write(descriptor, body) :]
    return descriptor


def told_by(descriptor: int) -> NodeConfig:
    """The settings that were left there."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(descriptor, "rb") as file:
        found: dict[str, Any] = json.loads(file.read())
    for name in PATHS:
        found[name] = found[name] and Path(found[name])
    return NodeConfig(**found)


async def run(config: NodeConfig) -> None:
    """A node agent, until cancelled. Ranks run on without it."""
    facts = read_facts(config.facts)
    site = spiffe.site_agent(config.site)
    dial = dialler(config.credentials, config.endpoint, site, config.trust_domain)
    link = NodeLink(dial, lambda: secrets.randbelow(JITTER_STEPS) / JITTER_STEPS)
    place = Place(
        site=config.site,
        slot=config.slot,
        version=version(),
        isolation=await asyncio.to_thread(isolation_of, facts),
        metrics_address=config.metrics_address,
    )
    _log.info("node %s/%s: isolation %s", config.site, config.slot, place.isolation)
    watch = HealthWatch(sources_of(config, facts))
    exporter = Exporter(
        Identity(config.site, config.slot, version()),
        watch,
        lambda: pki.load(config.credentials).facts(),
    )
    own = (config.metrics_listen, config.credentials, config.trust_domain)
    renewing = renewal.keep_renewed(
        config.credentials, renewer(config, dial), now_ms=wall_ms, renewed=lambda _: link.drop()
    )
    served = monitoring.served(*own, exporter.page)
    with answering(config, facts):
        async with served, asyncio.TaskGroup() as group:
            spool = Spool(Path(facts.spool))
            goods = GoodsShelf(
                Path(facts.checkpoint_root), facts.data_store, facts.checkpoint_store
            )
            beside = (attester_of(config), expiry_of(config, facts))
            agent = NodeAgent(place, spool, link, watch, goods, *beside)
            group.create_task(agent.run())
            group.create_task(renewing)


def attester_of(config: NodeConfig) -> Attester | None:
    """Asks NVIDIA's verifier, where the settings name one."""
    if not config.attest_program:
        return None
    verifier = Verifier(
        config.attest_program,
        config.attest_evidence,
        config.attest_rim_url,
        config.attest_ocsp_url,
    )
    return Attester(verifier, lambda: secrets.token_hex(32), wall_ms)


def expiry_of(config: NodeConfig, facts: NodeFacts) -> StoreExpiry:
    """Keeps the node's own checkpoints, and the site's store where there is one, within limits."""
    keep_ms = config.checkpoint_keep_ms
    bounds = {facts.checkpoint_root: config.checkpoint_node_bytes_max}
    if facts.checkpoint_store:
        bounds[facts.checkpoint_store] = config.checkpoint_store_bytes_max
    return StoreExpiry(
        *(
            BoundedStore(Path(root), StoreLimits(keep_ms, bytes_max))
            for root, bytes_max in bounds.items()
        )
    )


def answering(
    config: NodeConfig, facts: NodeFacts
) -> contextlib.AbstractContextManager[Responder | None]:
    """Answers landmarks, where that is wanted."""
    if config.location_listen is None:
        return contextlib.nullcontext()
    host, _, port = config.location_listen.rpartition(":")
    kept = config.location_key or state_dir_of(config.state_dir, facts) / "location.pem"
    signer = signing.kept_in(kept)
    _log.info("answering landmarks on %s, key %s", config.location_listen, signer.public_key.hex())
    name = spiffe.node_agent(config.site, config.slot).path
    return Responder((host.strip("[]"), int(port)), name, signer, boot_ms)


def renewer(config: NodeConfig, dial: Callable[[], grpc.aio.Channel]) -> renewal.Renew:
    """Has this node's certificate renewed by its site agent, also one that has lapsed."""
    dial_join = anonymous(
        lambda: pki.load(config.credentials).trust_pem,
        config.join_endpoint or config.endpoint,
        spiffe.site_agent(config.site),
        config.trust_domain,
    )

    async def renew(csr_der: bytes) -> renewal.Renewed:
        if lapsed(config.credentials, wall_ms()):
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

    return renew


def sources_of(config: NodeConfig, facts: NodeFacts) -> Sources:
    """Where the node's health is read."""
    return Sources(
        telemetry=telemetry.source(config.nvml_library, config.logical_gpus),
        interval_ms=config.poll_interval_ms,
        spool=Path(facts.spool),
        state_dir=state_dir_of(config.state_dir, facts),
        logical=telemetry.logical_gpus(config.site, config.slot, config.logical_gpus),
        logical_mig=logical(config.logical_mig, config.site, config.slot),
        nvml_library=config.nvml_library,
        sysfs_root=config.sysfs_root,
        kernel_log=config.kernel_log,
        rdma_exclude=tuple(filter(None, config.rdma_exclude.split(","))),
    )


def state_dir_of(told: Path | None, facts: NodeFacts) -> Path:
    """Where the fault log is."""
    return told or Path(facts.spool).parent / "health"


def isolation_of(facts: NodeFacts) -> str:
    """The level this node declares, or the lower one that it was found to reach just now."""
    spool = Path(facts.spool)
    spool.parent.mkdir(parents=True, exist_ok=True)
    reached = probe(spool.parent, Path(facts.runtime_dir) / "bin" / "python3")
    if LEVELS.index(reached.level) < LEVELS.index(facts.level):
        _log.warning("isolation %s was declared: %s", facts.level, reached.why_not_more)
    return min(reached.level, facts.level, key=LEVELS.index)


def main(descriptor: int) -> int:
    """Run on the settings in `descriptor`; the exit code."""
    config = told_by(descriptor)
    start_logging(config.log_level)
    try:
        asyncio.run(until_told(run(config)))
    except (pki.PkiInvalid, spiffe.NameInvalid, OSError, ValueError) as error:
        sys.stderr.write(f"sov-agent: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
