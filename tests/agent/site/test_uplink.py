"""When what changed at a site is said."""

from agent.site.events import Connected, SendReport
from agent.site.uplink import REPORT_GAP_MS, Uplink
from sovapi.v1.sitelink_pb2 import NodeReport

MOST_MS = 200


def reports(uplink: Uplink, now_ms: int, *slots: str) -> list[list[str]]:
    """Of which nodes each report tells that is due, of a site that has these."""
    nodes = {slot: NodeReport(slot=slot) for slot in slots}
    said = uplink.say(1, 0, {}, nodes, now_ms)
    return [[node.slot for node in one.report.nodes] for one in said if isinstance(one, SendReport)]


def test_what_is_held_back_for_a_moment_is_said_when_that_is_over() -> None:
    uplink = Uplink(0)
    uplink.absorb(Connected(heartbeat_interval_ms=5_000, lease_ms=60_000), 1_000)
    assert reports(uplink, 1_000, "n01") == [["n01"]]
    assert uplink.rest_ms(1_000, MOST_MS) == MOST_MS
    assert reports(uplink, 1_020, "n01", "n02") == []
    assert uplink.rest_ms(1_020, MOST_MS) == REPORT_GAP_MS - 20
    assert reports(uplink, 1_000 + REPORT_GAP_MS, "n01", "n02") == [["n02"]]
    assert uplink.rest_ms(1_000 + REPORT_GAP_MS, MOST_MS) == MOST_MS
