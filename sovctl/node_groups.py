"""Nodes as the fleet file has them: in groups that are alike, cut into domains, leaves, pods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PlainValidator, model_validator

from sovapi.v1 import common_pb2, fleet_pb2
from sovctl.fleet_values import NODES_MAX, SLOTS_ALLOWED, expand_slots
from sovctl.spec_fields import Bytes, Cpus, Written, matching
from sovctl.spec_values import MIG_PROFILE, contradiction, cpu_milli, listed, parse_bytes, refusal

GPUS_MAX = 64
INSTANCES_MAX = 7
NODE_WATTS_MAX = 1_000_000


def _slots(value: object) -> tuple[str, ...]:
    if not isinstance(value, str):
        raise refusal(value, SLOTS_ALLOWED)
    return expand_slots(value)


Slots: TypeAlias = Annotated[tuple[str, ...], PlainValidator(_slots)]
Watts: TypeAlias = Annotated[int, Field(ge=0, le=NODE_WATTS_MAX)]
PartSize: TypeAlias = Annotated[int, Field(ge=1, le=NODES_MAX)] | None


class Cut(Written):
    """GPUs of each node that are cut alike by MIG: `instances` says how many of each profile."""

    gpus: Annotated[Sequence[Annotated[int, Field(ge=0, lt=GPUS_MAX)]], Field(min_length=1)]
    instances: Annotated[
        Mapping[
            Annotated[str, matching(MIG_PROFILE, "a MIG profile, such as 1g.10gb")],
            Annotated[int, Field(ge=1, le=INSTANCES_MAX)],
        ],
        Field(min_length=1),
    ]


class NodeGroup(Written):
    """Nodes that are alike.

    `nodes_per_...` cuts them, in the order of their slots, into NVLink domains, leaves and pods,
    whose names are numbered: rack-1, rack-2 where `nvlink_domain` is rack.

    A node draws `base_w` whether it works or not, and `gpu_w` more for each GPU that a job holds;
    what is not said is assumed after the model. The site's `power_cap_w` is held against the sum.
    """

    slots: Slots
    gpus: Annotated[int, Field(ge=0, le=GPUS_MAX)]
    gpu: Annotated[str, Field(max_length=64)] = ""
    pod: str = "pod-1"
    leaf: str = "leaf-1"
    nvlink_domain: str = ""
    nodes_per_pod: PartSize = None
    nodes_per_leaf: PartSize = None
    nodes_per_nvlink_domain: PartSize = None
    spare_per_nvlink_domain: Annotated[int, Field(ge=0, le=NODES_MAX)] = 0
    """Nodes of each NVLink domain that are kept free for others of it that break: none unless
    said."""
    cpu_arch: Literal["amd64", "arm64"] = "amd64"
    cpus: Cpus
    memory: Bytes
    base_w: Watts | None = None
    gpu_w: Watts | None = None
    interconnects: Annotated[
        Sequence[Literal["ethernet", "roce", "infiniband", "nvlink"]], Field(min_length=1)
    ] = ("ethernet",)
    mig: Annotated[Sequence[Cut], Field(max_length=GPUS_MAX)] = ()
    """How GPUs of each node are cut. The scheduler never cuts one: this says what is so."""

    @model_validator(mode="after")
    def _consistent(self) -> NodeGroup:
        cut = [gpu for each in self.mig for gpu in each.gpus]
        if len(cut) != len(set(cut)) or any(gpu >= self.gpus for gpu in cut):
            raise contradiction(
                f"mig of GPUs {listed([str(gpu) for gpu in sorted(cut)])}",
                f"each once, below gpus, {self.gpus}",
            )
        if bool(self.gpus) != bool(self.gpu):
            raise contradiction(
                f"gpus {self.gpus} and gpu {self.gpu!r}",
                "gpu, the model, just where there are gpus",
            )
        if self.nodes_per_nvlink_domain and not self.nvlink_domain:
            raise contradiction(
                "nodes_per_nvlink_domain without nvlink_domain", "both, or no nodes_per_..."
            )
        if self.spare_per_nvlink_domain and not self.nvlink_domain:
            raise contradiction("spare_per_nvlink_domain without nvlink_domain", "both, or neither")
        sizes = [
            ("nodes_per_nvlink_domain", self.nodes_per_nvlink_domain),
            ("nodes_per_leaf", self.nodes_per_leaf),
            ("nodes_per_pod", self.nodes_per_pod),
        ]
        given = [(name, size) for name, size in sizes if size]
        for (inner, less), (outer, more) in pairwise(given):
            if more % less:
                raise contradiction(f"{outer} {more}", f"a multiple of {inner}, {less}")
        return self


def _part(name: str, size: int | None, at: int) -> str:
    """The part of a group that its `at`-th node is in."""
    return name if size is None else f"{name}-{at // size + 1}"


def node_to_proto(slot: str, at: int, group: NodeGroup) -> fleet_pb2.NodeDeclaration:
    return fleet_pb2.NodeDeclaration(
        slot=slot,
        pod=_part(group.pod, group.nodes_per_pod, at),
        leaf=_part(group.leaf, group.nodes_per_leaf, at),
        nvlink_domain=_part(group.nvlink_domain, group.nodes_per_nvlink_domain, at),
        gpu_class=group.gpu,
        gpus=group.gpus,
        cpu_arch=f"CPU_ARCH_{group.cpu_arch.upper()}",
        cpu_milli=cpu_milli(group.cpus),
        memory_bytes=parse_bytes(group.memory),
        interconnects=[f"INTERCONNECT_{name.upper()}" for name in sorted(group.interconnects)],
        base_w=group.base_w,
        gpu_w=group.gpu_w,
        nvlink_spares=group.spare_per_nvlink_domain,
        mig=[
            common_pb2.MigInstance(gpu=gpu, profile=profile)
            for cut in group.mig
            for gpu in sorted(cut.gpus)
            for profile in sorted(cut.instances)
            for _ in range(cut.instances[profile])
        ],
    )
