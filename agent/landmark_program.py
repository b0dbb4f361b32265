"""What `sov-agent landmark` runs: a landmark's daemon with its identity, kept renewed."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Sequence

from agent.enrolment import dialler
from agent.landmark.daemon import Daemon
from agent.landmark.prober import Landmark, Sources, Target
from agent.node.clock import wall_ms
from agent.settings import LandmarkSettings
from sovapi.v1.identity_pb2 import RenewRequest
from sovapi.v1.identity_pb2_grpc import IdentityServiceStub
from sovshared import renewal, signing, spiffe

RENEW_S_MAX = 30.0


async def run(config: LandmarkSettings) -> None:
    """Measures until cancelled."""
    server = (config.endpoint, spiffe.control_plane(), config.trust_domain)
    dial = dialler(config.credentials, *server)
    signer = signing.kept_in(config.key)

    async def renew(csr_der: bytes) -> renewal.Renewed:
        async with dial() as channel:
            request = RenewRequest(csr_der=csr_der)
            answer = await IdentityServiceStub(channel).Renew(request, timeout=RENEW_S_MAX)
        return renewal.Renewed(answer.certificate_pem, answer.trust_bundle_pem)

    daemon = Daemon(
        landmark=landmark_of(config),
        signer=signer,
        dial=dial,
        sources=Sources(os.urandom, time.monotonic_ns, wall_ms),
        shuffled=shuffled,
        every_s=config.every_ms / 1000,
        probes=config.probes,
    )
    renewing = renewal.keep_renewed(
        config.credentials, renew, now_ms=wall_ms, renewed=lambda _: None
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(daemon.run())
        group.create_task(renewing)


def landmark_of(config: LandmarkSettings) -> Landmark:
    """Who measures, and where it stands."""
    north, east = int(config.latitude * 1_000_000), int(config.longitude * 1_000_000)
    return Landmark(config.name, config.operator, north, east)


def shuffled(targets: Sequence[Target]) -> Sequence[Target]:
    """In an order that nobody can foresee."""
    return secrets.SystemRandom().sample(targets, len(targets))
