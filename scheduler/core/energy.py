"""Which site is liked better where work fits at several alike: the one whose energy costs less.

A preference and nothing more: it orders places that law allows and that the placement score finds
equally good, so no work waits for it and no GPU is packed worse. What is emitted is priced and
added to what the energy costs, and a site's cooling is paid for too. A site of which nothing is
known comes after those of which something is. Where that tells none apart the empty nodes do
(`in_turn`), and then the names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from scheduler.core.index import SiteIndex
from scheduler.model.fleet import Site
from scheduler.model.ids import SiteId

CARBON_PENCE_PER_KG = 25
"""What a kilogram of CO2e counts for beside the price of the energy: GBP 250 a tonne, about what
the UK's government reckons with when it appraises policies."""

WHOLE_MILLI = 1000
"""The power that is drawn for each unit that machines draw where a site does not say (its PUE)."""

Liking: TypeAlias = tuple[bool, int, SiteId]
"""Sites in this order: smaller is better."""


def cost_pence(site: Site) -> int | None:
    """What a megawatt-hour drawn by machines at `site` costs, emissions included; None: unknown."""
    energy = site.energy
    if energy is None:
        return None
    # A gram for a kilowatt-hour is a kilogram for a megawatt-hour.
    own_pence = energy.price_pence_per_mwh + CARBON_PENCE_PER_KG * energy.carbon_g_per_kwh
    return own_pence * (site.profile.pue_milli or WHOLE_MILLI) // WHOLE_MILLI


def liking(site: Site) -> Liking:
    """Where `site` stands among others: the planner has them in this order, and takes the first
    where all else is alike."""
    pence = cost_pence(site)
    return pence is None, pence or 0, site.id


def in_turn(sites: Sequence[tuple[Site, SiteIndex, bool]]) -> tuple[int, ...]:
    """The bits of `sites` in the order in which they are tried where they are alike: as they are
    liked, and of those that cost the same the one with the fewest empty nodes first, so that the
    largest hole stays whole for a gang that needs one."""

    def key(at: int) -> tuple[bool, int, int, int]:
        site, index, _ = sites[at]
        is_unknown, pence, _ = liking(site)
        return is_unknown, pence, index.empty_count(), at

    return tuple([1 << at for at in sorted(range(len(sites)), key=key)])


def in_words(site: Site) -> str:
    """What is known of a site's energy; empty when nothing is."""
    energy = site.energy
    if energy is None:
        return ""
    price, carbon = energy.price_pence_per_mwh, energy.carbon_g_per_kwh
    return f"{price} pence/MWh and {carbon} g CO2e/kWh, as {energy.source} says"
