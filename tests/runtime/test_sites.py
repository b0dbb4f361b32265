"""The sessions of sites, as the event loop holds them."""

from scheduler.runtime.sites import LEADS_MS, Sites


def test_a_leader_that_cannot_commit_stops_counting_as_one() -> None:
    """Its answers would prolong leases that another leader may be counting down."""
    now_ms = 1_000
    sites: Sites[str] = Sites(lambda: now_ms)
    now_ms += LEADS_MS
    assert sites.leads()
    now_ms += 1
    assert not sites.leads()
    sites.led(now_ms - LEADS_MS)
    assert sites.leads()
    sites.led(0)
    assert sites.leads(), "a transaction that ends late takes nothing back"
