"""A control plane's granting, for tests of what is granted: real keys, real statements."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scheduler.model.ids import SiteId
from scheduler.wire.grants import Granter
from scheduler.wire.sitelink import launch_from_proto
from sovapi.v1.sitelink_pb2 import DesiredAttempt, Launch, PlacedNode
from sovshared import grants, signing
from sovshared.grants import Vouched
from tests.shared.ca import FROM_MS, UNTIL_MS, TestCa


@dataclass
class Granting:
    """Grants whatever a test asks for."""

    ca: TestCa = field(default_factory=TestCa)
    number: int = 1
    oldest: int = 0
    from_ms: int = FROM_MS
    until_ms: int = UNTIL_MS
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @functools.cached_property
    def vouched(self) -> Vouched:
        """The key with what the CA says of it: one statement for all grants, as in earnest."""
        return grants.vouch(
            signing.signer_of(self.key),
            self.ca.key,
            number=self.number,
            oldest=self.oldest,
            not_before_ms=self.from_ms,
            not_after_ms=self.until_ms,
        )

    @property
    def granter(self) -> Granter:
        vouched = self.vouched
        return Granter(self.ca.trust_domain, lambda _now_ms: vouched)

    def trust(self, path: Path) -> Path:
        """A file that believes this CA alone."""
        path.write_bytes(self.ca.trust_pem)
        return path

    def launch(
        self, launch: Launch, now_ms: int, *, key: str, site: str, generation: int = 1
    ) -> Launch:
        """`launch`, granted to the attempt `key` ("<job id>.<attempt>")."""
        job_id, _, attempt = key.rpartition(".")
        granted = Launch()
        granted.CopyFrom(launch)
        granted.grant = self.granter.grant(
            job_id,
            launch_from_proto(launch, SiteId(site)),
            attempt=int(attempt),
            site=SiteId(site),
            generation=generation,
            now_ms=now_ms,
        )
        return granted

    def row(self, row: DesiredAttempt, now_ms: int, *, site: str) -> DesiredAttempt:
        """`row`, its launch granted as it is."""
        granted = DesiredAttempt()
        granted.CopyFrom(row)
        key = f"{row.job_id}.{row.attempt}"
        launch = self.launch(row.launch, now_ms, key=key, site=site, generation=row.generation)
        granted.launch.CopyFrom(launch)
        return granted

    def rank(
        self, now_ms: int, *, key: str, argv: list[str], env: dict[str, str], bundle: str = "",
        egress: Sequence[str] = (), place: PlacedNode, site: str,
        inputs: Sequence[Sequence[str]] = (), outputs: Sequence[Sequence[str]] = (),
        secrets: Mapping[str, str] | None = None, image: str = "",
    ) -> bytes:  # fmt: skip
        """A grant for one node's part of an attempt, such as an executor is shown."""
        launch = Launch(command=argv, env=env, bundle_digest=bundle, nodes=[place], egress=egress)
        launch.image = image
        for name, version, mount in inputs:
            launch.inputs.add(dataset=name, version=version, mount=mount)
        for name, path in outputs:
            launch.outputs.add(dataset=name, **{"from": path})
        launch.secrets.update(secrets or {})
        return self.launch(launch, now_ms, key=key, site=site).grant
