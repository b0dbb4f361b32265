"""What a story's `submit` asks for."""

from __future__ import annotations

from scheduler.model.ids import GpuClass, TenantPath
from scheduler.model.job import (
    Dependency,
    JobArray,
    JobKind,
    JobSpec,
    Preemption,
    Priority,
    Resources,
    Retries,
    Topology,
    TopologyLevel,
    TopologyMode,
)
from scheduler.model.service import WITHOUT_END, Service
from scheduler.model.topology import Spread
from tests.scenarios.agreed import requirement
from tests.scenarios.declared import Line


def asked(
    line: Line, name: str, project: TenantPath, depends_on: tuple[Dependency, ...]
) -> JobSpec:
    """The specification of a job."""
    tasks, model = line.number("tasks"), line.take("model")
    replicas, over = line.number("replicas"), line.take("spread")
    spread = Spread(TopologyLevel[over.upper()], TopologyMode.REQUIRED) if over else None
    retries = Retries(application=line.number("retries"))
    return JobSpec(
        name=name,
        project=project,
        command=("work",),
        residency=requirement(line),
        resources=Resources(
            nodes=line.number("nodes", 1),
            gpus_per_node=line.number("gpus", 8),
            gpu_classes=(GpuClass(model),) if model else (),
            gpu_share_milli=line.number("share", 1000),
            mig_profile=line.take("mig"),
            max_nodes=line.number("max_nodes"),
        ),
        topology=Topology(
            TopologyLevel[line.take("within", "site").upper()],
            TopologyMode[line.take("mode", "required").upper()],
        ),
        priority=Priority[line.take("priority", "normal").upper()],
        time_limit_ms=line.time_ms("limit", "2h"),
        preemption=Preemption(
            allowed=line.take("preemptible", "yes") == "yes",
            grace_ms=line.time_ms("grace", "30s"),
            min_runtime_ms=line.time_ms("min_runtime", "0s"),
        ),
        kind=JobKind.SERVICE if replicas else JobKind.BATCH,
        service=Service(replicas, spread) if replicas else None,
        retries=Retries(WITHOUT_END, WITHOUT_END) if replicas else retries,
        array=JobArray(tasks, line.number("at_once")) if tasks else None,
        depends_on=depends_on,
    )
