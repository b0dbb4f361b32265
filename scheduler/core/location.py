"""Where the holder of a key can be, by how fast it answered: geometry on the sphere.

A light signal in vacuum covers 150 m in the half of a microsecond that one way takes of a round
trip; no answer outruns it, and everything else (glass, detours, queues, a tunnel, a slow signature)
only makes an answer later. So the least of many round-trip times bounds the distance to whoever
answered, and bounds from several landmarks bound the place: it lies in the intersection of discs.

* PROVED_IN: that intersection lies inside one of the country's inner polygons, even when any one
  operator's landmarks are left out, and every disc is widened by MARGIN_M.
* CLAIM_FALSE: the declared place lies outside some disc by more than the margin.
* UNPROVED: anything else. It is the ordinary answer, and says nothing against a place.

What is proved is where a holder of the key was. Nothing here can tell whether the key was copied.

The simple version tests points of a grid. This one tests the border: the intersection of discs is
connected, so if no point of a polygon's border is in it, one point says on which side all of it is.
Angles are in radians inside; positions come in millionths of a degree, distances in metres.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, pairwise
from math import acos, asin, atan2, cos, pi, radians, sin, sqrt

from scheduler.core.inner_polygons import INNER_POLYGONS, Polygon

METRES_PER_US = 150
"""Of round trip: c is 299.792 m/us, half of it each way, rounded up."""
EARTH_RADIUS_M = 6_356_752
"""The least there is: it makes every disc's angle at least as large as it may be."""
MARGIN_M = 10_000
"""For drawing by hand, for positions that are rounded, for the earth not being a sphere (0.5 %)."""
LANDMARKS_MIN = 3
OPERATORS_MIN = 2
RTT_US_MAX = 20_000
"""Past it a disc is no bound any more: it covers more than a continent."""
STEP_M = 2_000
"""Pieces that borders are tested in."""
OBSERVATIONS_MAX = 256
TOUCH_M = 5

Vector = tuple[float, float, float]


class Located(StrEnum):
    """What the answers say of a claim."""

    PROVED_IN = "PROVED_IN"
    CLAIM_FALSE = "CLAIM_FALSE"
    UNPROVED = "UNPROVED"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place, in millionths of a degree north and east."""

    latitude_udeg: int
    longitude_udeg: int


@dataclass(frozen=True, slots=True, order=True)
class Heard:
    """The least round-trip time that one landmark saw, in microseconds, rounded up."""

    landmark: str
    operator: str
    position: Position
    rtt_min_us: int


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict, why, and how far from the nearest landmark the answers came at most."""

    verdict: Located
    detail: str
    bound_m: int = 0


@dataclass(frozen=True, slots=True)
class _Disc:
    centre: Vector
    radius: float
    heard: Heard


def locate(country: str, declared: Position | None, heard: Sequence[Heard]) -> Finding:
    """Judges the claim that whoever answered is in `country`, at `declared` where that is known."""
    told = sorted(one for one in heard if 0 < one.rtt_min_us <= RTT_US_MAX)[:OBSERVATIONS_MAX]
    discs = [_disc(one, 0) for one in told]
    if not discs:
        return Finding(Located.UNPROVED, "no landmark was answered")
    bound_m = min(distance_bound_m(one.rtt_min_us) for one in told)
    if declared is not None and (outside := _outside(declared, discs)) is not None:
        return Finding(Located.CLAIM_FALSE, outside, bound_m)
    operators = sorted({one.operator for one in told})
    landmarks = {one.landmark for one in told}
    if len(landmarks) < LANDMARKS_MIN or len(operators) < OPERATORS_MIN:
        detail = (
            f"found {len(landmarks)} landmarks of {len(operators)} operators, "
            f"needed {LANDMARKS_MIN} of {OPERATORS_MIN}"
        )
        return Finding(Located.UNPROVED, detail, bound_m)
    polygons = INNER_POLYGONS.get(country, ())
    if not polygons:
        return Finding(Located.UNPROVED, f"no polygon of {country} is drawn", bound_m)
    wide = [_disc(one, MARGIN_M) for one in told]
    for operator in operators:
        others = [disc for disc in wide if disc.heard.operator != operator]
        if not any(_all_inside(others, polygon) for polygon in polygons):
            detail = f"not proved to be in {country} without the landmarks of {operator}"
            return Finding(Located.UNPROVED, detail, bound_m)
    return Finding(Located.PROVED_IN, f"within {bound_m // 1000} km of a landmark", bound_m)


def distance_bound_m(rtt_us: int) -> int:
    """How far away whoever answered in `rtt_us` can be."""
    return rtt_us * METRES_PER_US


def distance_m(one: Position, other: Position) -> int:
    """Along the sphere."""
    return round(_angle(_vector(one), _vector(other)) * EARTH_RADIUS_M)


def _disc(heard: Heard, margin_m: int) -> _Disc:
    radius_m = distance_bound_m(heard.rtt_min_us) + margin_m
    return _Disc(_vector(heard.position), radius_m / EARTH_RADIUS_M, heard)


def _outside(declared: Position, discs: Sequence[_Disc]) -> str | None:
    """Which answer came too soon to have come from the declared place."""
    place, margin = _vector(declared), MARGIN_M / EARTH_RADIUS_M
    for disc in discs:
        away = _angle(place, disc.centre)
        if away > disc.radius + margin:
            heard = disc.heard
            return (
                f"the declared place is {round(away * EARTH_RADIUS_M) // 1000} km from landmark "
                f"{heard.landmark}, which was answered within {heard.rtt_min_us} us: from at most "
                f"{distance_bound_m(heard.rtt_min_us) // 1000} km"
            )
    return None


def _all_inside(discs: Sequence[_Disc], polygon: Polygon) -> bool:
    """Whether all places that are in every disc are in the polygon; False where none is."""
    corners = [_vector(Position(north, east)) for north, east in polygon]
    for piece, half in _pieces(corners):
        if not any(_angle(piece, disc.centre) > disc.radius + half for disc in discs):
            return False  # The border may pass through the intersection.
    witness = next(_common(discs), None)
    return witness is not None and _contains(corners, witness)


def _pieces(corners: Sequence[Vector]) -> Iterator[tuple[Vector, float]]:
    """The border in short pieces: each one's middle, and its half length as an angle."""
    for one, other in pairwise((*corners, corners[0])):
        length = _angle(one, other)
        count = max(1, int(length * EARTH_RADIUS_M / STEP_M) + 1)
        for n in range(count):
            yield _between(one, other, (n + 0.5) / count), length / count / 2


def _common(discs: Sequence[_Disc]) -> Iterator[Vector]:
    """Places that are in every disc. If there are any, a centre or a crossing is one of them."""
    touch = TOUCH_M / EARTH_RADIUS_M
    for place in _candidates(discs):
        if all(_angle(place, disc.centre) <= disc.radius + touch for disc in discs):
            yield place


def _candidates(discs: Sequence[_Disc]) -> Iterator[Vector]:
    yield from (disc.centre for disc in discs)
    for one, other in combinations(discs, 2):
        yield from _crossings(one, other)


def _crossings(one: _Disc, other: _Disc) -> Iterator[Vector]:
    """Where two circles cross: solves x.a = cos r, x.b = cos s, |x| = 1."""
    a, b = one.centre, other.centre
    q = _dot(a, b)
    if 1 - q * q < 1e-15:
        return
    p, s = cos(one.radius), cos(other.radius)
    u, v = (p - s * q) / (1 - q * q), (s - p * q) / (1 - q * q)
    foot = _sum(_scaled(a, u), _scaled(b, v))
    rest = 1 - _dot(foot, foot)
    if rest < 0:
        return
    normal = _cross(a, b)
    reach = sqrt(rest / _dot(normal, normal))
    yield _sum(foot, _scaled(normal, reach))
    yield _sum(foot, _scaled(normal, -reach))


def _contains(corners: Sequence[Vector], place: Vector) -> bool:
    """Whether the corners go once round `place`, as seen from it."""
    turned = 0.0
    for one, other in pairwise((*corners, corners[0])):
        step = _bearing(place, other) - _bearing(place, one)
        turned += (step + pi) % (2 * pi) - pi
    return abs(turned) > pi


def _bearing(at: Vector, to: Vector) -> float:
    east = (-at[1], at[0], 0.0)
    north = _cross(at, east)
    return atan2(_dot(to, east), _dot(to, north))


def _vector(position: Position) -> Vector:
    north = radians(position.latitude_udeg / 1_000_000)
    east = radians(position.longitude_udeg / 1_000_000)
    return (cos(north) * cos(east), cos(north) * sin(east), sin(north))


def _angle(one: Vector, other: Vector) -> float:
    """Between two unit vectors; exact for small angles too."""
    across = _sum(one, _scaled(other, -1.0))
    chord = sqrt(_dot(across, across))
    return 2 * asin(min(1.0, chord / 2)) if chord < 1.4 else acos(max(-1.0, _dot(one, other)))


def _between(one: Vector, other: Vector, share: float) -> Vector:
    """On the great circle from one to the other."""
    whole = _angle(one, other)
    if whole < 1e-12:
        return one
    ahead, behind = sin(share * whole) / sin(whole), sin((1 - share) * whole) / sin(whole)
    return _sum(_scaled(one, behind), _scaled(other, ahead))


def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Vector, b: Vector) -> Vector:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def _sum(a: Vector, b: Vector) -> Vector:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])


def _scaled(a: Vector, by: float) -> Vector:
    return (a[0] * by, a[1] * by, a[2] * by)
