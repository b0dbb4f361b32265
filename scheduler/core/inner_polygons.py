"""Polygons that lie inside a country: coarse, drawn by hand for this project, on the safe side.

Corners stand on land or on the coast and are joined by great circles; where a line crosses water,
that is a bay of the country itself. What is outside a polygon is not proved to be abroad: islands,
the tips of Kent and Cornwall and a strip along the Irish border are left out. No other country's
soil is inside, nor the Isle of Man. Corners are (north, east) in millionths of a degree, in order.
"""

from __future__ import annotations

from collections.abc import Mapping

Polygon = tuple[tuple[int, int], ...]


def _drawn(*corners: tuple[int, int]) -> Polygon:
    """Corners written in hundredths of a degree."""
    return tuple((north * 10_000, east * 10_000) for north, east in corners)


GREAT_BRITAIN = _drawn(
    (5015, -555), (5035, -415), (5062, -245), (5080, -130), (5078, 20), (5098, 92), (5120, 125),
    (5138, 135), (5180, 115), (5245, 170), (5293, 128), (5295, 45), (5315, 33), (5365, 5),
    (5410, -15), (5465, -115), (5500, -145), (5575, -200), (5605, -260), (5630, -265),
    (5710, -210), (5765, -195), (5770, -330), (5785, -400), (5855, -315), (5855, -490),
    (5785, -570), (5725, -560), (5670, -595), (5605, -555), (5545, -475), (5475, -495),
    (5480, -400), (5490, -340), (5455, -355), (5410, -315), (5355, -300), (5335, -330),
    (5330, -430), (5280, -445), (5245, -400), (5195, -510), (5175, -505), (5155, -415),
    (5140, -335), (5120, -380), (5100, -445), (5045, -495),
)  # fmt: skip
NORTHERN_IRELAND = _drawn(
    (5510, -670), (5495, -600), (5470, -565), (5445, -560), (5430, -585), (5430, -625),
    (5445, -660), (5455, -695), (5475, -710), (5495, -700),
)  # fmt: skip

INNER_POLYGONS: Mapping[str, tuple[Polygon, ...]] = {"GB": (GREAT_BRITAIN, NORTHERN_IRELAND)}
"""By ISO 3166-1 alpha-2 code. A country that is not here can be proved of nobody."""
