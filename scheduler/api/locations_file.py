"""`locations.yaml` of the state directory: landmarks, where sites stand, nodes' location keys."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from pydantic import Field

from scheduler.api.state_files import Strict, load_yaml, matching
from scheduler.core.location import Position
from scheduler.model.ids import NodeId, SiteId
from scheduler.runtime.locations import Declared, DeclaredLandmark, DeclaredNode

FILE_BYTES_MAX = 8 * 1024 * 1024
LANDMARKS_MAX = 256
NODES_MAX = 20_000

_KEY = re.compile(r"[0-9a-f]{64}")
_NODE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}/[a-z0-9][a-z0-9._-]{0,62}")
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[1-9]\d{0,4}")


Key = Annotated[str, matching(_KEY, "an Ed25519 key: 64 hexadecimal digits")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]
Latitude = Annotated[Decimal, Field(ge=-90, le=90, decimal_places=6)]
Longitude = Annotated[Decimal, Field(ge=-180, le=180, decimal_places=6)]


class _Placed(Strict):
    latitude: Latitude
    longitude: Longitude

    @property
    def position(self) -> Position:
        return Position(int(self.latitude * 1_000_000), int(self.longitude * 1_000_000))


class _Landmark(_Placed):
    name: Name
    operator: Name
    key: Key


class _Site(_Placed):
    site: Name


class _Node(Strict):
    node: Annotated[str, matching(_NODE, "SITE/SLOT")]
    address: Annotated[str, matching(_ADDRESS, "HOST:PORT")]
    key: Key


class LocationsFile(Strict):
    """The whole file."""

    landmarks: tuple[_Landmark, ...] = Field(default=(), max_length=LANDMARKS_MAX)
    sites: tuple[_Site, ...] = ()
    nodes: tuple[_Node, ...] = Field(default=(), max_length=NODES_MAX)


def load(path: Path) -> Declared:
    """What the file declares; nothing when there is none. Raises PkiInvalid with every fault."""
    found = load_yaml(path, LocationsFile, FILE_BYTES_MAX)
    if found is None:
        return Declared()
    return Declared(
        landmarks={
            one.name: DeclaredLandmark(one.name, one.operator, one.position, bytes.fromhex(one.key))
            for one in found.landmarks
        },
        sites={SiteId(one.site): one.position for one in found.sites},
        nodes={
            NodeId(one.node): DeclaredNode(NodeId(one.node), one.address, bytes.fromhex(one.key))
            for one in found.nodes
        },
    )
