"""Packing replayed: pods arrive one by one on real nodes, and what does not fit is dropped.

Simple equivalent: for each arrival score every node that can hold it, take the best, ties to the
smallest node name. Departure: a score depends on the node's state and the request's kind alone, so
only nodes whose state changed since the kind last arrived are scored again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.traces import GPU_MILLI, Ints, PackTrace

GPUS_MAX = 8
"""GPUs of the largest node of the data sets."""
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
TokenT = TypeVar("TokenT")
SHARE_OF_ORDER = 2
"""With departures, the earliest of so many parts of the placed pods leaves."""


class Fleet:
    """Free capacity of every node; GPUs that a node lacks are marked absent by -1."""

    def __init__(self, trace: PackTrace) -> None:
        nodes = trace.nodes
        self.trace = trace
        self.models = tuple(sorted({node.model for node in nodes}))
        number = {model: at for at, model in enumerate(self.models)}
        self.model = np.array([number[node.model] for node in nodes], dtype=np.int64)
        self.gpus = np.array([node.gpus for node in nodes], dtype=np.int64)
        self.cpu = np.array([node.cpu_milli for node in nodes], dtype=np.int64)
        self.memory = np.array([node.memory_bytes for node in nodes], dtype=np.int64)
        self.free = np.full((len(nodes), GPUS_MAX), -1, dtype=np.int64)
        for at, node in enumerate(nodes):
            self.free[at, : node.gpus] = GPU_MILLI


class Kinds:
    """The requests of a trace as columns; `allowed[k, m]`: kind k may use model m."""

    def __init__(self, trace: PackTrace, models: tuple[str, ...]) -> None:
        kinds = trace.kinds
        self.cpu = np.array([kind.cpu_milli for kind in kinds], dtype=np.int64)
        self.memory = np.array([kind.memory_bytes for kind in kinds], dtype=np.int64)
        self.gpus = np.array([kind.gpus for kind in kinds], dtype=np.int64)
        self.milli = np.array([kind.gpu_milli for kind in kinds], dtype=np.int64)
        self.allowed = np.array(
            [[not kind.models or model in kind.models for model in models] for kind in kinds],
            dtype=np.bool_,
        )
        self.asked_milli = self.gpus * self.milli


class Policy(Protocol):
    """Says how good a node is for a kind of request: the least cost wins."""

    def costs(self, fleet: Fleet, kind: int, nodes: Ints) -> tuple[Floats, Ints]:
        """Cost of each of `nodes`, all of which have room, and the GPU a share goes to."""
        ...


@dataclass(frozen=True, slots=True)
class Packed:
    """What one order came to, in percent of the fleet's GPUs left unallocated.

    `at_100_pct`: where as much as the fleet has was asked for; `final_pct`: once all had arrived,
    of whom so many were `rejected`; `churned_pct`: once the earlier half of the placed had left
    and all had come back (None: not looked at).
    """

    at_100_pct: float
    final_pct: float
    rejected: int
    churned_pct: float | None = None


class Token(NamedTuple):
    """A request that was placed."""

    number: int
    kind: int
    node: int
    gpus: tuple[int, ...]


class Replay:
    """One order of arrivals under one policy."""

    def __init__(self, trace: PackTrace, policy: Policy) -> None:
        self.fleet = Fleet(trace)
        self.kinds = Kinds(trace, self.fleet.models)
        self.policy = policy
        self.placed = 0
        shape = (len(trace.kinds), len(trace.nodes))
        self.cost = np.full(shape, np.inf)
        self.gpu = np.zeros(shape, dtype=np.int64)
        self.seen = np.full(shape, -1, dtype=np.int64)
        self.version = np.zeros(len(trace.nodes), dtype=np.int64)

    def place(self, kind: int) -> Token | None:
        """Puts one request on the best node; None: it fits nowhere."""
        stale = np.flatnonzero(self.version != self.seen[kind])
        if len(stale):
            self.seen[kind, stale] = self.version[stale]
            self.cost[kind, stale] = np.inf
            fitting = stale[self._fits(kind, stale)]
            if len(fitting):
                cost, gpu = self.policy.costs(self.fleet, kind, fitting)
                self.cost[kind, fitting] = cost
                self.gpu[kind, fitting] = gpu
        node = int(np.argmin(self.cost[kind]))
        if self.cost[kind, node] == np.inf:
            return None
        taken = self._gpus(kind, node)
        self._move(kind, node, taken, -1)
        self.placed += 1
        return Token(self.placed, kind, node, taken)

    def leave(self, token: Token) -> None:
        """Gives back what a request holds."""
        self._move(token.kind, token.node, token.gpus, 1)

    def _move(self, kind: int, node: int, gpus: tuple[int, ...], sign: int) -> None:
        fleet, kinds = self.fleet, self.kinds
        fleet.cpu[node] += sign * kinds.cpu[kind]
        fleet.memory[node] += sign * kinds.memory[kind]
        for gpu in gpus:
            fleet.free[node, gpu] += sign * kinds.milli[kind]
        self.version[node] += 1

    def _fits(self, kind: int, nodes: Ints) -> Bools:
        fleet, kinds = self.fleet, self.kinds
        fits = (fleet.cpu[nodes] >= kinds.cpu[kind]) & (fleet.memory[nodes] >= kinds.memory[kind])
        fits &= kinds.allowed[kind, fleet.model[nodes]]
        if kinds.gpus[kind]:
            enough = (fleet.free[nodes] >= kinds.milli[kind]).sum(axis=1)
            fits &= enough >= kinds.gpus[kind]
        return fits

    def _gpus(self, kind: int, node: int) -> tuple[int, ...]:
        asked = int(self.kinds.gpus[kind])
        if not asked:
            return ()
        if self.kinds.milli[kind] < GPU_MILLI:
            return (int(self.gpu[kind, node]),)
        whole = np.flatnonzero(self.fleet.free[node] == GPU_MILLI)[:asked]
        return tuple(int(gpu) for gpu in whole)


class Placer(Protocol[TokenT]):
    """Puts requests somewhere, one at a time, and takes them away."""

    def place(self, kind: int) -> TokenT | None:
        """A token of where the request went; None: it fits nowhere and is dropped."""
        ...

    def leave(self, token: TokenT) -> None:
        """What was placed goes."""
        ...


def replay(
    trace: PackTrace, order: Ints, placer: Placer[TokenT], *, departures: bool = True
) -> Packed:
    """All arrive, as in the published experiment; then, with `departures`, the earlier half of what
    was placed leaves and all come back: the fleet is full before and after, so what differs is what
    the departures left behind."""
    percent, asked = capacity_milli(trace) / 100, asked_milli(trace)
    arrived = allocated = 0
    at_100: list[float] = []
    placed: list[tuple[TokenT, int]] = []
    for pod in order:
        kind = trace.pods[int(pod)]
        arrived += asked[kind]
        token = placer.place(kind)
        if token is not None:
            placed.append((token, asked[kind]))
            allocated += asked[kind]
        if round(arrived / percent) == 100:
            at_100.append(100 - allocated / percent)
    final = 100 - allocated / percent
    packed = Packed(sum(at_100) / len(at_100) if at_100 else final, final, len(order) - len(placed))
    if not departures:
        return packed
    leaving = len(placed) // SHARE_OF_ORDER
    for token, milli in placed[:leaving]:
        placer.leave(token)
        allocated -= milli
    for pod in order:
        kind = trace.pods[int(pod)]
        if placer.place(kind) is not None:
            allocated += asked[kind]
    return replace(packed, churned_pct=100 - allocated / percent)


def capacity_milli(trace: PackTrace) -> int:
    """All GPUs."""
    return sum(node.gpus for node in trace.nodes) * GPU_MILLI


def asked_milli(trace: PackTrace) -> list[int]:
    """GPU-milli of each kind."""
    return [kind.gpus * kind.gpu_milli for kind in trace.kinds]
