"""Whether a rank may start on this node: the last look at the control plane's grant.

By the node's own certificates and its own name, so that whoever holds the site's agent or its Ray
cluster still starts nothing here that was not granted for here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sovshared import grants
from sovshared.grants import GrantInvalid, GrantTrust


@dataclass(frozen=True, slots=True, kw_only=True)
class RankAsked:
    """A rank that is to start: its key, its GPUs, and the work as it would be run."""

    key: str
    gpus: Sequence[int]
    command: Sequence[str]
    env: Mapping[str, str]
    bundle_digest: str
    secrets: Mapping[str, str]
    egress: Sequence[str] = ()
    inputs: Sequence[Sequence[str]] = ()
    outputs: Sequence[Sequence[str]] = ()
    image: str = ""


def check(
    trust: GrantTrust, token: bytes, asked: RankAsked, *, site: str, slot: str, now_ms: int
) -> None:
    """Raises GrantInvalid unless `token` grants this rank to this node at `now_ms` (UTC)."""
    opened = trust.open(token)
    grant = opened.grant
    grants.check_time(opened, now_ms)
    attempt = asked.key.rpartition(".")[0]
    if f"{grant.job_id}.{grant.attempt}" != attempt:
        detail = f"granted for {grant.job_id[:80]}.{grant.attempt}, found {attempt}"
        raise GrantInvalid(grants.MISPLACED, detail)
    place = next((node for node in grant.nodes if node.slot == slot), None)
    if grant.site != site or place is None:
        raise GrantInvalid(grants.MISPLACED, f"not granted for {site}/{slot}")
    if not set(asked.gpus) <= set(place.gpu_indices):
        detail = f"gpus: found {sorted(asked.gpus)}, granted {sorted(place.gpu_indices)}"
        raise GrantInvalid(grants.MISPLACED, detail)
    found = grants.work_digest(
        command=asked.command,
        env=asked.env,
        bundle_digest=asked.bundle_digest,
        image=asked.image,
        egress=asked.egress,
        inputs=asked.inputs,
        outputs=asked.outputs,
        secrets=asked.secrets,
    )
    if found != grant.work_digest:
        detail = f"work: found {found.hex()[:16]}, granted {grant.work_digest.hex()[:16]}"
        raise GrantInvalid(grants.MISMATCHED, detail)
