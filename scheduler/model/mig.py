"""MIG: GPUs that are cut into instances, each with compute and memory of its own.

How a GPU is cut is its node's affair, and declared: nothing here ever cuts one. An instance is one
more thing on a node that one job has whole. The units of a node are numbered: first its GPUs, by
index; then its instances, in the order of the declaration, which is sorted. A GPU that is cut is
itself no unit to be had.

Profiles and where on a GPU each may lie are those of NVIDIA's MIG user guide ("Supported MIG
profiles"): a GPU has seven compute slices and eight memory slices, an A30 four of each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

GPU_MILLI = 1000
PROFILES_KNOWN_MAX = 1024
"""Names whose worth is remembered."""

EXTENDED = "+me"
"""With the GPU's media engines: a profile that only one instance of a GPU can have."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Profiles that lie on a GPU alike: so many of its compute and memory slices, from where on."""

    compute: int
    memory: int
    starts: tuple[int, ...]


_NARROW = _Kind(1, 1, (0, 1, 2, 3, 4, 5, 6))
_WIDE = _Kind(1, 2, (0, 2, 4, 6))
_TWO = _Kind(2, 2, (0, 2, 4))
_THREE = _Kind(3, 4, (0, 4))
_FOUR = _Kind(4, 4, (0,))
_ALL = _Kind(7, 8, (0,))


@dataclass(frozen=True, slots=True)
class _Family:
    """GPUs that are cut alike: their compute slices, and the profiles by name."""

    compute: int
    kinds: Mapping[str, _Kind]


def _seven(narrow: int, wide: int, half: int, whole: int) -> _Family:
    """GPUs of seven compute slices, by the gigabytes of an eighth, quarter, half and all."""
    return _Family(
        7,
        {
            f"1g.{narrow}gb": _NARROW,
            f"1g.{wide}gb": _WIDE,
            f"2g.{wide}gb": _TWO,
            f"3g.{half}gb": _THREE,
            f"4g.{half}gb": _FOUR,
            f"7g.{whole}gb": _ALL,
        },
    )


_FAMILIES = (
    _seven(5, 10, 20, 40),  # A100 of 40 GB
    _seven(10, 20, 40, 80),  # A100 and H100 of 80 GB
    _seven(12, 24, 47, 94),  # H100 of 94 GB
    _seven(12, 24, 48, 96),  # H20, and H100 in a GH200
    _seven(18, 35, 71, 141),  # H200
    _seven(23, 45, 90, 180),  # B200
    _seven(23, 47, 93, 186),  # B200 in a GB200
    _seven(34, 67, 135, 269),  # B300
    _Family(  # A30
        4,
        {
            "1g.6gb": _Kind(1, 1, (0, 1, 2, 3)),
            "2g.12gb": _Kind(2, 2, (0, 2)),
            "4g.24gb": _Kind(4, 4, (0,)),
        },
    ),
)

_NAME = re.compile(r"[1-9]g\.[0-9]{1,3}gb(\+me)?")


@dataclass(frozen=True, slots=True, order=True)
class MigInstance:
    """One instance: the index of the GPU that it is a part of, and its profile."""

    gpu: int
    profile: str


@lru_cache(PROFILES_KNOWN_MAX)
def milli_of(profile: str) -> int:
    """What one instance is charged: its part of a GPU's compute slices, rounded down, so that the
    instances of a GPU are never more than the GPU. Of a name that is no profile's: a whole GPU."""
    name = profile.removesuffix(EXTENDED)
    for family in _FAMILIES:
        if name in family.kinds:
            return GPU_MILLI * family.kinds[name].compute // family.compute
    return GPU_MILLI


def is_profile(name: str) -> bool:
    """Whether GPUs that are known can be cut so."""
    return bool(_NAME.fullmatch(name)) and any(
        name.removesuffix(EXTENDED) in family.kinds for family in _FAMILIES
    )


def profiles() -> tuple[str, ...]:
    """The names of all profiles, without those with media engines."""
    return tuple(sorted({name for family in _FAMILIES for name in family.kinds}))


def cut(instances: Iterable[MigInstance]) -> dict[int, list[str]]:
    """The profiles on each GPU that is cut, by its index."""
    found: dict[int, list[str]] = {}
    for instance in sorted(instances):
        found.setdefault(instance.gpu, []).append(instance.profile)
    return found


def lies_on_one(found: Sequence[str]) -> bool:
    """Whether there is a GPU on which instances of all these profiles lie beside one another."""
    if sum(name.endswith(EXTENDED) for name in found) > 1:
        return False
    names = [name.removesuffix(EXTENDED) for name in found]
    return any(
        all(name in family.kinds for name in names)
        and _lie(sorted((family.kinds[name] for name in names), key=_widest_first), 0)
        for family in _FAMILIES
    )


def _widest_first(kind: _Kind) -> tuple[int, int]:
    return -kind.memory, -kind.compute


def _lie(kinds: Sequence[_Kind], used: int) -> bool:
    """Whether `kinds` can lie on a GPU of which the memory slices `used` are taken."""
    if not kinds:
        return True
    first, rest = kinds[0], kinds[1:]
    slices = (1 << first.memory) - 1
    return any(
        not used & slices << start and _lie(rest, used | slices << start) for start in first.starts
    )
