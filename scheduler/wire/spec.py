"""A job's specification, there and back, and as the bytes that are stored and digested."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from scheduler.model.fleet import CpuArch, Interconnect
from scheduler.model.ids import GpuClass, SiteId, TenantPath
from scheduler.model.job import (
    DatasetMount,
    DatasetOutput,
    Dependency,
    JobArray,
    JobKind,
    JobSpec,
    JobState,
    OnPartition,
    Preemption,
    Priority,
    Resources,
    Retries,
    SignalBeforeEnd,
    Topology,
    TopologyLevel,
    TopologyMode,
)
from scheduler.model.reasons import Denial, Reason, invalid
from scheduler.model.residency import (
    Assurance,
    FactKey,
    NodeFactKey,
    NodeSharing,
    Requirement,
    Tier,
)
from scheduler.model.rules import FactRule
from scheduler.model.service import Service
from scheduler.model.topology import Spread
from scheduler.wire.enums import known, number
from sovapi.v1 import common_pb2, jobs_pb2, policy_pb2


def outputs_to_proto(outputs: Iterable[DatasetOutput]) -> list[jobs_pb2.DatasetOutput]:
    """What a job leaves in the catalogue."""
    # `from` is a keyword and cannot be an argument's name.
    return [
        jobs_pb2.DatasetOutput(dataset=output.dataset, **{"from": output.from_path})
        for output in outputs
    ]


def outputs_from_proto(messages: Iterable[jobs_pb2.DatasetOutput]) -> tuple[DatasetOutput, ...]:
    """What a job leaves in the catalogue."""
    return tuple(DatasetOutput(o.dataset, getattr(o, "from")) for o in messages)


def requirement_to_proto(requirement: Requirement) -> jobs_pb2.ResidencyRequirement:
    """What work demands of a site."""
    message = jobs_pb2.ResidencyRequirement(
        jurisdictions=requirement.jurisdictions,
        tier=number(common_pb2.Tier, requirement.tier),
        markings=requirement.markings,
        tolerate_foreign_compulsion=requirement.tolerate_foreign_compulsion,
        agreements=requirement.agreements,
        node_sharing=number(jobs_pb2.NodeSharing, requirement.node_sharing),
        min_assurance=number(common_pb2.Assurance, requirement.min_assurance),
        data_kinds=requirement.data_kinds,
        node_facts=[node_rule_to_proto(rule) for rule in requirement.node_facts],
        facts=[rule_to_proto(rule) for rule in requirement.facts],
    )
    if requirement.data_sites is not None:
        message.data_sites.CopyFrom(jobs_pb2.DataSites(sites=requirement.data_sites))
    return message


def requirement_from_proto(message: jobs_pb2.ResidencyRequirement) -> Requirement:
    """What work demands of a site."""
    return Requirement(
        jurisdictions=tuple(message.jurisdictions),
        tier=known(Tier, message.tier),
        markings=tuple(message.markings),
        tolerate_foreign_compulsion=tuple(message.tolerate_foreign_compulsion),
        agreements=tuple(message.agreements),
        node_sharing=known(NodeSharing, message.node_sharing),
        min_assurance=known(Assurance, message.min_assurance),
        data_kinds=tuple(message.data_kinds),
        data_sites=(
            tuple(SiteId(site) for site in message.data_sites.sites)
            if message.HasField("data_sites")
            else None
        ),
        node_facts=node_rules_from_proto(message.node_facts, "residency.node_facts"),
        facts=rules_from_proto(message.facts, "residency.facts"),
    )


def rule_to_proto(rule: FactRule) -> policy_pb2.PolicyFactRule:
    """How well one fact about a site must be known."""
    return policy_pb2.PolicyFactRule(
        fact=rule.fact,
        min_assurance=number(common_pb2.Assurance, Assurance(rule.min_assurance)),
        max_age_ms=rule.max_age_ms,
    )


def rules_from_proto(
    messages: Iterable[policy_pb2.PolicyFactRule], field: str
) -> tuple[FactRule, ...]:
    """How well facts about a site must be known. Raises Refused for one that nobody knows."""
    return tuple(
        _rule(message, message.fact, FactKey, f"{field}[{n}].fact")
        for n, message in enumerate(messages)
    )


def node_rule_to_proto(rule: FactRule) -> common_pb2.NodeFactRule:
    """How well one fact about each node must be known."""
    return common_pb2.NodeFactRule(
        about=rule.fact,
        min_assurance=number(common_pb2.Assurance, Assurance(rule.min_assurance)),
        max_age_ms=rule.max_age_ms,
    )


def node_rules_from_proto(
    messages: Iterable[common_pb2.NodeFactRule], field: str
) -> tuple[FactRule, ...]:
    """How well facts about each node must be known. Raises Refused for one that nobody knows."""
    return tuple(
        _rule(message, message.about, NodeFactKey, f"{field}[{n}].about")
        for n, message in enumerate(messages)
    )


def _rule(
    message: policy_pb2.PolicyFactRule | common_pb2.NodeFactRule,
    fact: str,
    keys: type[FactKey | NodeFactKey],
    field: str,
) -> FactRule:
    """How well `fact`, one of `keys`, must be known."""
    if fact not in tuple(keys):
        detail = f"found {fact[:64]!r}, allowed {', '.join(sorted(keys))}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, detail, field))
    age_ms = message.max_age_ms if message.HasField("max_age_ms") else None
    return FactRule(fact, known(Assurance, message.min_assurance), age_ms)


def resources_to_proto(resources: Resources) -> jobs_pb2.Resources:
    """The shape of a job."""
    return jobs_pb2.Resources(
        nodes=resources.nodes,
        gpus_per_node=resources.gpus_per_node,
        gpu_classes=resources.gpu_classes,
        gpu_share_milli=resources.gpu_share_milli,
        mig_profile=resources.mig_profile,
        max_nodes=resources.max_nodes,
        cpu_arch=number(common_pb2.CpuArch, resources.cpu_arch),
        tasks_per_node=resources.tasks_per_node,
        tasks_per_gpu=resources.tasks_per_gpu,
        cpu_milli_per_node=resources.cpu_milli_per_node,
        memory_bytes_per_node=resources.memory_bytes_per_node,
        interconnect=number(common_pb2.Interconnect, resources.interconnect),
    )


def resources_from_proto(message: jobs_pb2.Resources) -> Resources:
    """The shape of a job."""
    return Resources(
        nodes=message.nodes,
        gpus_per_node=message.gpus_per_node,
        gpu_classes=tuple(GpuClass(name) for name in message.gpu_classes),
        gpu_share_milli=message.gpu_share_milli,
        mig_profile=message.mig_profile,
        max_nodes=message.max_nodes,
        cpu_arch=known(CpuArch, message.cpu_arch),
        tasks_per_node=message.tasks_per_node,
        tasks_per_gpu=message.tasks_per_gpu,
        cpu_milli_per_node=message.cpu_milli_per_node,
        memory_bytes_per_node=message.memory_bytes_per_node,
        interconnect=known(Interconnect, message.interconnect),
    )


def signal_to_proto(signal: SignalBeforeEnd) -> jobs_pb2.SignalBeforeEnd:
    """A signal ahead of the time limit."""
    return jobs_pb2.SignalBeforeEnd(signal=signal.signal, before_ms=signal.before_ms)


def signal_from_proto(message: jobs_pb2.SignalBeforeEnd) -> SignalBeforeEnd:
    """A signal ahead of the time limit."""
    return SignalBeforeEnd(signal=message.signal, before_ms=message.before_ms)


def service_to_proto(service: Service) -> jobs_pb2.Service:
    """What makes work a service."""
    message = jobs_pb2.Service(replicas=service.replicas)
    if service.spread is not None:
        message.spread.over = number(jobs_pb2.TopologyLevel, service.spread.over)
        message.spread.mode = number(jobs_pb2.TopologyMode, service.spread.mode)
    return message


def service_from_proto(message: jobs_pb2.Service) -> Service:
    """What makes work a service."""
    spread = None
    if message.HasField("spread"):
        over = known(TopologyLevel, message.spread.over)
        spread = Spread(over, known(TopologyMode, message.spread.mode))
    return Service(replicas=message.replicas, spread=spread)


def spec_to_proto(spec: JobSpec) -> jobs_pb2.JobSpec:
    """All that a tenant asks for."""
    message = jobs_pb2.JobSpec(
        name=spec.name,
        kind=number(jobs_pb2.JobKind, spec.kind),
        project=spec.project,
        command=spec.command,
        bundle_digest=spec.bundle_digest,
        env=dict(spec.env),
        secrets=dict(spec.secrets),
        key_ticket=spec.key_ticket,
        image=spec.image,
        egress=spec.egress,
        resources=resources_to_proto(spec.resources),
        topology=jobs_pb2.Topology(
            within=number(jobs_pb2.TopologyLevel, spec.topology.within),
            mode=number(jobs_pb2.TopologyMode, spec.topology.mode),
        ),
        residency=requirement_to_proto(spec.residency),
        inputs=[jobs_pb2.DatasetMount(dataset=i.dataset, mount=i.mount) for i in spec.inputs],
        priority=number(jobs_pb2.Priority, spec.priority),
        time_limit_ms=spec.time_limit_ms,
        preemption=jobs_pb2.Preemption(
            allowed=spec.preemption.allowed,
            grace_ms=spec.preemption.grace_ms,
            min_runtime_ms=spec.preemption.min_runtime_ms,
        ),
        retries=jobs_pb2.Retries(
            hardware=spec.retries.hardware, application=spec.retries.application
        ),
        on_partition=number(jobs_pb2.OnPartition, spec.on_partition),
        depends_on=[
            jobs_pb2.Dependency(job=d.job, state=number(jobs_pb2.JobState, d.state))
            for d in spec.depends_on
        ],
        max_path_latency_us=spec.max_path_latency_us,
    )
    message.outputs.extend(outputs_to_proto(spec.outputs))
    if spec.signal_before_end is not None:
        message.signal_before_end.CopyFrom(signal_to_proto(spec.signal_before_end))
    if spec.array is not None:
        message.array.count = spec.array.count
        message.array.max_running = spec.array.max_running
    if spec.service is not None:
        message.service.CopyFrom(service_to_proto(spec.service))
    return message


def spec_from_proto(message: jobs_pb2.JobSpec) -> JobSpec:
    """All that a tenant asks for, as it was sent: admission judges it and fills nothing in."""
    return JobSpec(
        name=message.name,
        kind=known(JobKind, message.kind),
        project=TenantPath(message.project),
        command=tuple(message.command),
        bundle_digest=message.bundle_digest,
        env=tuple(sorted(message.env.items())),
        secrets=tuple(sorted(message.secrets.items())),
        key_ticket=message.key_ticket,
        image=message.image,
        egress=tuple(message.egress),
        resources=resources_from_proto(message.resources),
        topology=Topology(
            within=known(TopologyLevel, message.topology.within),
            mode=known(TopologyMode, message.topology.mode),
        ),
        residency=requirement_from_proto(message.residency),
        inputs=tuple(DatasetMount(i.dataset, i.mount) for i in message.inputs),
        outputs=outputs_from_proto(message.outputs),
        priority=known(Priority, message.priority),
        time_limit_ms=message.time_limit_ms,
        signal_before_end=(
            signal_from_proto(message.signal_before_end)
            if message.HasField("signal_before_end")
            else None
        ),
        preemption=Preemption(
            allowed=message.preemption.allowed,
            grace_ms=message.preemption.grace_ms,
            min_runtime_ms=message.preemption.min_runtime_ms,
        ),
        retries=Retries(hardware=message.retries.hardware, application=message.retries.application),
        on_partition=known(OnPartition, message.on_partition),
        array=(
            JobArray(message.array.count, message.array.max_running)
            if message.HasField("array")
            else None
        ),
        service=service_from_proto(message.service) if message.HasField("service") else None,
        depends_on=tuple(Dependency(d.job, known(JobState, d.state)) for d in message.depends_on),
        max_path_latency_us=message.max_path_latency_us,
    )


def spec_to_bytes(spec: JobSpec) -> bytes:
    """The stored form. Deterministic for one protobuf release: equal specs give equal bytes."""
    return spec_to_proto(spec).SerializeToString(deterministic=True)


def spec_from_bytes(stored: bytes) -> JobSpec:
    """Reads what `spec_to_bytes` wrote."""
    return spec_from_proto(jobs_pb2.JobSpec.FromString(stored))


def spec_digest(stored: bytes) -> str:
    """Names a stored specification: "sha256:" and the hex digest of its bytes."""
    return f"sha256:{hashlib.sha256(stored).hexdigest()}"
