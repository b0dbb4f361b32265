"""Grants placements: writes down what one attempt may be, and signs it.

Grants nothing twice the same way: each is bound to the row that it is sent with, and is good for a
few minutes, in which the attempt must begin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scheduler.model.ids import SiteId, slot_of
from scheduler.model.sitelink import Launch
from scheduler.wire.enums import number
from sovapi.v1 import common_pb2, jobs_pb2
from sovapi.v1.grants_pb2 import PlacementGrant
from sovapi.v1.sitelink_pb2 import PlacedNode
from sovshared import grants
from sovshared.grants import Vouched

GRANT_LIFE_MS = 600_000
"""A site gives up starting what it could not start for three minutes; what is told it later is
told with a new grant."""


@dataclass(frozen=True, slots=True)
class Granter:
    """Signs for the trust domain `issuer`, with the key that `key_at` gives for a moment (UTC)."""

    issuer: str
    key_at: Callable[[int], Vouched]

    def grant(
        self,
        job_id: str,
        launch: Launch,
        *,
        attempt: int,
        site: SiteId,
        generation: int,
        now_ms: int,
    ) -> bytes:
        """The grant of `launch` for an attempt of the job with this public id, to begin from
        `now_ms` (UTC) on; `generation` of the row that tells `site`."""
        statement = PlacementGrant(
            format=grants.FORMAT,
            issuer=self.issuer,
            job_id=job_id,
            attempt=attempt,
            site=site,
            generation=generation,
            nodes=[
                PlacedNode(slot=slot_of(node.node), gpu_indices=node.gpu_indices())
                for node in launch.nodes
            ],
            policy_revision=launch.policy_revision,
            requirement_digest=_requirement_digest(launch),
            work_digest=grants.work_digest(
                command=launch.command,
                env=dict(launch.env),
                bundle_digest=launch.bundle_digest,
                image=launch.image,
                secrets=dict(launch.secrets),
                egress=launch.egress,
                inputs=[(i.dataset, i.version, i.mount) for i in launch.inputs],
                outputs=[(o.dataset, o.from_path) for o in launch.outputs],
            ),
            terms_digest=_terms_digest(launch),
            not_before_ms=now_ms,
            not_after_ms=now_ms + GRANT_LIFE_MS,
        )
        return grants.sign(statement, self.key_at(now_ms))


def _requirement_digest(launch: Launch) -> bytes:
    need = launch.residency
    return grants.requirement_digest(
        jurisdictions=need.jurisdictions,
        tier=number(common_pb2.Tier, need.tier),
        markings=need.markings,
        tolerate_foreign_compulsion=need.tolerate_foreign_compulsion,
        agreements=need.agreements,
        node_sharing=number(jobs_pb2.NodeSharing, need.node_sharing),
        min_assurance=number(common_pb2.Assurance, need.min_assurance),
        min_isolation=number(common_pb2.Isolation, launch.min_isolation),
        controlling_stake_milli_percent=launch.controlling_stake_milli_percent,
        data_sites=need.data_sites,
    )


def _terms_digest(launch: Launch) -> bytes:
    warning = launch.signal_before_end
    return grants.terms_digest(
        tasks_per_node=launch.tasks_per_node,
        gpus_per_node=launch.gpus_per_node,
        gpu_share_milli=launch.gpu_share_milli,
        time_limit_ms=launch.time_limit_ms,
        stop_grace_ms=launch.stop_grace_ms,
        signal="" if warning is None else warning.signal,
        signal_before_ms=0 if warning is None else warning.before_ms,
        leased=launch.leased,
        mig_profile=launch.mig_profile,
        ray=launch.ray,
    )
