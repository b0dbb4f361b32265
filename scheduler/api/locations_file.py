"""`locations.yaml` of the state directory: landmarks, where sites stand, nodes' location keys."""

from __future__ import annotations

import logging
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from scheduler.core.location import Position
from scheduler.model.ids import NodeId, SiteId
from scheduler.runtime.locations import Declared, DeclaredLandmark, DeclaredNode
from sovshared import yamlio
from sovshared.pki import PkiInvalid

FILE_BYTES_MAX = 8 * 1024 * 1024
LANDMARKS_MAX = 256
NODES_MAX = 20_000

_log = logging.getLogger(__name__)
_KEY = re.compile(r"[0-9a-f]{64}")
_NODE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}/[a-z0-9][a-z0-9._-]{0,62}")
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[1-9]\d{0,4}")


def _matching(pattern: re.Pattern[str], allowed: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"found {text[:80]!r}, allowed {allowed}")
        return text

    return AfterValidator(check)


Key = Annotated[str, _matching(_KEY, "an Ed25519 key: 64 hexadecimal digits")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]
Latitude = Annotated[Decimal, Field(ge=-90, le=90, decimal_places=6)]
Longitude = Annotated[Decimal, Field(ge=-180, le=180, decimal_places=6)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Placed(_Strict):
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


class _Node(_Strict):
    node: Annotated[str, _matching(_NODE, "SITE/SLOT")]
    address: Annotated[str, _matching(_ADDRESS, "HOST:PORT")]
    key: Key


class LocationsFile(_Strict):
    """The whole file."""

    landmarks: tuple[_Landmark, ...] = Field(default=(), max_length=LANDMARKS_MAX)
    sites: tuple[_Site, ...] = ()
    nodes: tuple[_Node, ...] = Field(default=(), max_length=NODES_MAX)


class Declarations:
    """What the file at `path` declares, as it is now; while it cannot be read, what it last did."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._declared = load(path)

    def __call__(self) -> Declared:
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._declared = load(self._path)
            except PkiInvalid as error:
                _log.error("landmarks stay as they were declared before: %s", error)
        return self._declared


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        stat = path.stat()
    except OSError:
        return ()
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size)


def load(path: Path) -> Declared:
    """What the file declares; nothing when there is none. Raises PkiInvalid with every fault."""
    if not path.exists():
        return Declared()
    try:
        document = yamlio.load(path, bytes_max=FILE_BYTES_MAX)
        found = LocationsFile.model_validate(document.value)
    except yamlio.YamlInvalid as error:
        raise PkiInvalid(str(error)) from error
    except ValidationError as error:
        faults = (
            f"{path}: {'.'.join(map(str, f['loc'])) or 'document'}: "
            f"{f['msg'].removeprefix('Value error, ')}"
            for f in error.errors()
        )
        raise PkiInvalid("; ".join(faults)) from error
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
