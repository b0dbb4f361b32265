"""What a site's driver asks of a node for one rank, and hears: plain values, which cross Ray."""

from __future__ import annotations

from typing import TypedDict


class Hello(TypedDict):
    """What a node's executor says of itself; it stays so for as long as there is one."""

    address: str
    overlay_port: int | None
    """Where it takes what is for overlays; None: it can be part of none."""


class Prepared(TypedDict):
    """The answer to `prepare`."""

    address: str
    port: int
    has_bundle: bool
    boot_ms: int


class KeysAsked(TypedDict):
    """What of a launch is about keys; all values plain, they cross Ray."""

    secrets: dict[str, str]  # Variable to opaque name.
    sealed: dict[str, str]  # Variable to its sealed value, in base64.
    ticket: str  # In base64.


class RankSpec(TypedDict):
    """What `start` needs of one rank; all values plain, they cross Ray."""

    job_id: str
    attempt: int
    rank: int
    local_rank: int
    node_rank: int
    world_size: int
    local_world_size: int
    num_nodes: int
    gpus_per_node: int
    gpu_milli: int  # Of each of its GPUs.
    mig_profile: str  # Of its one unit: an instance that is cut so.
    gpus: list[int]  # The rank's own share, which its shim locks.
    visible_gpus: list[int]  # All of the job's GPUs on this node, as torchrun's ranks expect.
    master_address: str | None
    """Of no use to ranks in a network of their own. None: it was not prepared, and room is made for
    it as it starts."""
    master_port: int | None
    argv: list[str]
    env: dict[str, str]
    bundle_digest: str | None
    image: str  # By digest; empty: it runs in the node's own file system.
    isolation: str
    grace_ms: int
    lease_until_ms: int | None
    time_limit_ms: int | None
    signal_before_end: tuple[int, int] | None  # Signal number, milliseconds before the limit.
    egress: list[str]  # host:port that the job may reach.
    nodes: list[tuple[str, int]]
    """Where the attempt's nodes reach one another, by node rank; none: by their own network."""
    ray: bool  # It is part of a Ray cluster of the job's own.
    grant: str  # In base64.
    inputs: list[list[str]]  # Dataset, version and mount of each.
    outputs: list[list[str]]  # Dataset and path in the working directory.
    keys: KeysAsked
