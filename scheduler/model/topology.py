"""How close together nodes are, and how close or how far apart work wants to be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from scheduler.model.ids import JobId


class TopologyLevel(IntEnum):
    """How close together a gang's nodes are, closest first."""

    UNSPECIFIED = 0
    NODE = 1
    NVLINK = 2
    LEAF = 3
    POD = 4
    SITE = 5


class TopologyMode(IntEnum):
    """Whether closeness, or distance, must hold, or is only liked."""

    UNSPECIFIED = 0
    REQUIRED = 1
    PREFERRED = 2


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything of a gang is within one domain of this level. A site is always required."""

    within: TopologyLevel = TopologyLevel.SITE
    mode: TopologyMode = TopologyMode.REQUIRED


@dataclass(frozen=True, slots=True)
class Spread:
    """The replicas of a service are in different domains of this level."""

    over: TopologyLevel
    mode: TopologyMode = TopologyMode.PREFERRED


@dataclass(frozen=True, slots=True)
class Apart:
    """Of a class: whose replicas its jobs are, and how those are spread."""

    service: JobId
    over: TopologyLevel
    required: bool
