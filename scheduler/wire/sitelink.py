"""The conversation with a site: desired state down, reports up."""

from __future__ import annotations

from scheduler.core.job_ids import JobIdCodec
from scheduler.model.fleet import Isolation
from scheduler.model.ids import AttemptKey, SiteId, node_id, slot_of
from scheduler.model.job import NodePlacement
from scheduler.model.sitelink import (
    AttemptPhase,
    AttemptReport,
    Desired,
    DesiredAction,
    DesiredAttempt,
    Launch,
    LaunchInput,
    SiteReport,
)
from scheduler.wire.enums import known, number
from scheduler.wire.fleet import node_report_from_proto, node_report_to_proto
from scheduler.wire.jobs import rank_from_site, rank_to_proto, reason_from_wire
from scheduler.wire.spec import (
    outputs_from_proto,
    outputs_to_proto,
    requirement_from_proto,
    requirement_to_proto,
    signal_from_proto,
    signal_to_proto,
)
from sovapi.v1 import common_pb2, sitelink_pb2


def launch_to_proto(launch: Launch) -> sitelink_pb2.Launch:
    """All that a site is told about a job."""
    message = sitelink_pb2.Launch(
        command=launch.command,
        env=dict(launch.env),
        bundle_digest=launch.bundle_digest,
        nodes=[
            sitelink_pb2.PlacedNode(slot=slot_of(node.node), gpu_indices=node.gpu_indices())
            for node in launch.nodes
        ],
        tasks_per_node=launch.tasks_per_node,
        gpus_per_node=launch.gpus_per_node,
        gpu_share_milli=launch.gpu_share_milli,
        mig_profile=launch.mig_profile,
        egress=launch.egress,
        time_limit_ms=launch.time_limit_ms,
        stop_grace_ms=launch.stop_grace_ms,
        leased=launch.leased,
        min_isolation=number(common_pb2.Isolation, launch.min_isolation),
        residency=requirement_to_proto(launch.residency),
        policy_revision=launch.policy_revision,
        controlling_stake_milli_percent=launch.controlling_stake_milli_percent,
        secrets=dict(launch.secrets),
        sealed_secrets=dict(launch.sealed_secrets),
        key_ticket=launch.key_ticket,
        image=launch.image,
        grant=launch.grant,
        inputs=[
            sitelink_pb2.LaunchInput(dataset=i.dataset, version=i.version, mount=i.mount)
            for i in launch.inputs
        ],
        outputs=outputs_to_proto(launch.outputs),
        ray=launch.ray,
    )
    if launch.signal_before_end is not None:
        message.signal_before_end.CopyFrom(signal_to_proto(launch.signal_before_end))
    return message


def launch_from_proto(message: sitelink_pb2.Launch, site: SiteId) -> Launch:
    """All that `site` is told about a job."""
    return Launch(
        command=tuple(message.command),
        env=tuple(sorted(message.env.items())),
        bundle_digest=message.bundle_digest,
        nodes=tuple(
            NodePlacement(node_id(site, node.slot), sum(1 << i for i in node.gpu_indices))
            for node in message.nodes
        ),
        tasks_per_node=message.tasks_per_node,
        gpus_per_node=message.gpus_per_node,
        gpu_share_milli=message.gpu_share_milli,
        mig_profile=message.mig_profile,
        egress=tuple(message.egress),
        time_limit_ms=message.time_limit_ms,
        stop_grace_ms=message.stop_grace_ms,
        signal_before_end=(
            signal_from_proto(message.signal_before_end)
            if message.HasField("signal_before_end")
            else None
        ),
        leased=message.leased,
        min_isolation=known(Isolation, message.min_isolation),
        residency=requirement_from_proto(message.residency),
        policy_revision=message.policy_revision,
        controlling_stake_milli_percent=message.controlling_stake_milli_percent,
        secrets=tuple(sorted(message.secrets.items())),
        sealed_secrets=tuple(sorted(message.sealed_secrets.items())),
        key_ticket=message.key_ticket,
        image=message.image,
        grant=message.grant,
        inputs=tuple(LaunchInput(i.dataset, i.version, i.mount) for i in message.inputs),
        outputs=outputs_from_proto(message.outputs),
        ray=message.ray,
    )


def desired_to_proto(desired: Desired, codec: JobIdCodec) -> sitelink_pb2.Desired:
    """What the control plane wants of a site."""
    rows: list[sitelink_pb2.DesiredAttempt] = []
    for attempt in desired.attempts:
        row = sitelink_pb2.DesiredAttempt(
            job_id=codec.encode(attempt.key.job),
            attempt=attempt.key.attempt,
            generation=attempt.generation,
            action=number(sitelink_pb2.DesiredAction, attempt.action),
            stop_grace_ms=attempt.stop_grace_ms,
            stop_reason=attempt.stop_reason,
        )
        if attempt.launch is not None:
            row.launch.CopyFrom(launch_to_proto(attempt.launch))
        rows.append(row)
    return sitelink_pb2.Desired(
        epoch=desired.epoch,
        from_generation=desired.from_generation,
        to_generation=desired.to_generation,
        attempts=rows,
        rows_total=desired.rows_total,
    )


def word_to_proto(desired: Desired, codec: JobIdCodec) -> sitelink_pb2.ControlMessage:
    """As `desired_to_proto`, in a message of its own kind if it is a part: an agent that knows
    nothing of parts must not take one for all."""
    message = desired_to_proto(desired, codec)
    if desired.rows_total:
        return sitelink_pb2.ControlMessage(desired_part=message)
    return sitelink_pb2.ControlMessage(desired=message)


def desired_from_proto(message: sitelink_pb2.Desired, site: SiteId, codec: JobIdCodec) -> Desired:
    """What the control plane wants of `site`; rows with an id that never was are left out."""
    rows: list[DesiredAttempt] = []
    for row in message.attempts:
        job = codec.decode(row.job_id)
        if job is None:
            continue
        rows.append(
            DesiredAttempt(
                key=AttemptKey(job, row.attempt),
                generation=row.generation,
                action=known(DesiredAction, row.action),
                stop_grace_ms=row.stop_grace_ms,
                stop_reason=row.stop_reason,
                launch=launch_from_proto(row.launch, site) if row.HasField("launch") else None,
            )
        )
    return Desired(
        message.epoch,
        message.from_generation,
        message.to_generation,
        tuple(rows),
        message.rows_total,
    )


def report_to_proto(report: SiteReport, codec: JobIdCodec) -> sitelink_pb2.SiteReport:
    """What a site says of itself."""
    return sitelink_pb2.SiteReport(
        epoch=report.epoch,
        generation=report.generation,
        attempts=[
            sitelink_pb2.AttemptReport(
                job_id=codec.encode(attempt.key.job),
                attempt=attempt.key.attempt,
                phase=number(sitelink_pb2.AttemptPhase, attempt.phase),
                ranks=[rank_to_proto(rank, node_as_slot=True) for rank in attempt.ranks],
                reason=attempt.reason or "",
                detail=attempt.detail,
            )
            for attempt in report.attempts
        ],
        nodes=[node_report_to_proto(node) for node in report.nodes],
        full=report.full,
    )


def report_from_proto(
    message: sitelink_pb2.SiteReport, site: SiteId, codec: JobIdCodec
) -> SiteReport:
    """What `site` says of itself; attempts with an id that never was are left out."""
    attempts: list[AttemptReport] = []
    for attempt in message.attempts:
        job = codec.decode(attempt.job_id)
        if job is None:
            continue
        attempts.append(
            AttemptReport(
                key=AttemptKey(job, attempt.attempt),
                phase=known(AttemptPhase, attempt.phase),
                ranks=tuple(rank_from_site(rank, site) for rank in attempt.ranks),
                reason=reason_from_wire(attempt.reason),
                detail=attempt.detail,
            )
        )
    return SiteReport(
        epoch=message.epoch,
        generation=message.generation,
        attempts=tuple(attempts),
        nodes=tuple(node_report_from_proto(node, site) for node in message.nodes),
        full=message.full,
    )
