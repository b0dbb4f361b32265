"""From a specification to the wire. The only place that knows both; loses no field (tested)."""

from __future__ import annotations

from collections.abc import Mapping

from sovapi.v1 import common_pb2, jobs_pb2, policy_pb2
from sovctl.spec import (
    Array,
    FactName,
    FactQuality,
    JobSpec,
    NodeFactName,
    NodeFactQuality,
    Residency,
    Resources,
    SignalBeforeEnd,
)
from sovctl.spec_values import cpu_milli, duration_ms, duration_us, parse_bytes

RUN_MS_MAX = 30 * 24 * 3600 * 1000
"""How long one run of a replica may last: what nodes, windows and budgets are reckoned with."""


def resources_to_proto(resources: Resources) -> jobs_pb2.Resources:
    """The shape of a job."""
    per_gpu = resources.tasks_per_node == "per_gpu"
    return jobs_pb2.Resources(
        nodes=resources.nodes,
        gpus_per_node=resources.gpus_per_node,
        gpu_classes=resources.gpu,
        gpu_share_milli=resources.gpu_share,
        mig_profile=resources.mig,
        max_nodes=resources.max_nodes,
        cpu_arch=f"CPU_ARCH_{resources.cpu_arch.upper()}",
        tasks_per_node=1 if resources.tasks_per_node == "per_gpu" else resources.tasks_per_node,
        tasks_per_gpu=per_gpu,
        cpu_milli_per_node=cpu_milli(resources.cpus_per_node),
        memory_bytes_per_node=parse_bytes(resources.memory_per_node),
        interconnect=f"INTERCONNECT_{resources.interconnect.upper()}",
    )


def residency_to_proto(residency: Residency) -> jobs_pb2.ResidencyRequirement:
    """What must hold of a site."""
    return jobs_pb2.ResidencyRequirement(
        jurisdictions=residency.jurisdictions,
        tier=f"TIER_{residency.tier}",
        markings=residency.markings,
        tolerate_foreign_compulsion=residency.tolerate_foreign_compulsion,
        agreements=residency.agreements,
        node_sharing=f"NODE_SHARING_{residency.node_sharing.upper()}",
        min_assurance=f"ASSURANCE_{residency.min_assurance}",
        data_kinds=residency.data_kinds,
        node_facts=node_facts_to_proto(residency.node_facts),
        facts=facts_to_proto(residency.facts),
    )


def facts_to_proto(asked: Mapping[FactName, FactQuality]) -> list[policy_pb2.PolicyFactRule]:
    """How well facts about a site must be known, by name."""
    return [
        policy_pb2.PolicyFactRule(
            fact=name,
            min_assurance=f"ASSURANCE_{asked[name].min_assurance}",
            max_age_ms=None if (age := asked[name].max_age) is None else duration_ms(age),
        )
        for name in sorted(asked)
    ]


def node_facts_to_proto(
    asked: Mapping[NodeFactName, NodeFactQuality],
) -> list[common_pb2.NodeFactRule]:
    """How well facts about each node must be known, by name."""
    return [
        common_pb2.NodeFactRule(
            about=name,
            min_assurance=f"ASSURANCE_{asked[name].min_assurance}",
            max_age_ms=None if (age := asked[name].max_age) is None else duration_ms(age),
        )
        for name in sorted(asked)
    ]


def _array(array: Array | None) -> jobs_pb2.JobArray | None:
    if array is None:
        return None
    return jobs_pb2.JobArray(count=array.count, max_running=array.max_running)


def _retries(spec: JobSpec) -> jobs_pb2.Retries:
    """A service's replicas are started again without end, unless something else was written."""
    written = spec.retries.model_fields_set if "retries" in spec.model_fields_set else set[str]()
    endless = spec.kind == "service"
    return jobs_pb2.Retries(
        hardware=-1 if endless and "hardware" not in written else spec.retries.hardware,
        application=-1 if endless and "application" not in written else spec.retries.application,
    )


def _time_limit_ms(spec: JobSpec) -> int:
    """Of a service, of one run of a replica: as long as there is, unless something else was
    written."""
    if spec.kind == "service" and "time_limit" not in spec.model_fields_set:
        return RUN_MS_MAX
    return duration_ms(spec.time_limit)


def _service(spec: JobSpec) -> jobs_pb2.Service | None:
    if spec.kind != "service":
        return None
    spread = None
    if spec.spread is not None:
        spread = jobs_pb2.Spread(
            over=f"TOPOLOGY_LEVEL_{spec.spread.over.upper()}",
            mode=f"TOPOLOGY_MODE_{spec.spread.mode.upper()}",
        )
    return jobs_pb2.Service(replicas=spec.replicas or 1, spread=spread)


def _signal(signal: SignalBeforeEnd | None) -> jobs_pb2.SignalBeforeEnd | None:
    if signal is None:
        return None
    return jobs_pb2.SignalBeforeEnd(signal=signal.signal, before_ms=duration_ms(signal.before))


def to_proto(spec: JobSpec, *, bundle_digest: str = "", project: str = "") -> jobs_pb2.JobSpec:
    """The specification on the wire.

    Args:
        spec: What somebody wrote.
        bundle_digest: Of the uploaded `working_dir`; empty without one.
        project: Where the specification names none.
    """
    message = jobs_pb2.JobSpec(
        name=spec.name,
        kind=f"JOB_KIND_{spec.kind.upper()}",
        project=spec.project or project,
        command=spec.command,
        bundle_digest=bundle_digest,
        env=spec.env,
        secrets=spec.secrets,
        image=spec.image,
        egress=spec.egress,
        resources=resources_to_proto(spec.resources),
        topology=jobs_pb2.Topology(
            within=f"TOPOLOGY_LEVEL_{spec.topology.within.upper()}",
            mode=f"TOPOLOGY_MODE_{spec.topology.mode.upper()}",
        ),
        residency=residency_to_proto(spec.residency),
        inputs=[jobs_pb2.DatasetMount(dataset=i.dataset, mount=i.mount) for i in spec.inputs],
        priority=f"PRIORITY_{spec.priority.upper()}",
        time_limit_ms=_time_limit_ms(spec),
        signal_before_end=_signal(spec.signal_before_end),
        preemption=jobs_pb2.Preemption(
            allowed=spec.preemption.allowed,
            grace_ms=duration_ms(spec.preemption.grace),
            min_runtime_ms=duration_ms(spec.preemption.min_runtime),
        ),
        retries=_retries(spec),
        on_partition=f"ON_PARTITION_{spec.on_partition.upper()}",
        array=_array(spec.array),
        service=_service(spec),
        depends_on=[
            jobs_pb2.Dependency(job=d.job, state=f"JOB_STATE_{d.state}") for d in spec.depends_on
        ],
        max_path_latency_us=(
            0 if spec.max_path_latency is None else duration_us(spec.max_path_latency)
        ),
    )
    for output in spec.outputs:  # `from` is a keyword and cannot be an argument's name.
        message.outputs.add(dataset=output.dataset, **{"from": output.source})
    return message
