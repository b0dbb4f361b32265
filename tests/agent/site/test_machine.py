"""The machine's single steps."""

from typing import TypeVar

import pytest

from agent.site import events as ev
from agent.site.ledger import RETRY_MS
from agent.site.machine import ORDER_REPEAT_MS, SiteMachine
from agent.site.reconcile import UNDESIRED_PATIENCE_MS
from agent.site.state import Journal, Release, StopRank, Verdict
from sovapi.v1 import common_pb2 as common
from sovapi.v1 import jobs_pb2 as jobs
from sovapi.v1 import sitelink_pb2 as sitelink
from sovapi.v1.nodelink_pb2 import SpoolEntry, SpoolReport
from sovapi.v1.sitelink_pb2 import Launch, NodeReport
from tests.agent.site.builders import (
    BOOT,
    RUN,
    STOP,
    Generous,
    desired,
    in_parts,
    launch,
    over,
    row,
    running,
)
from tests.agent.site.world import SLOTS

T = TypeVar("T")


def machine(journal: Journal | None = None) -> SiteMachine:
    return SiteMachine(journal or Journal(), judge=lambda _l, _i: None, grants=Generous(), now_ms=0)


def of(kind: type[T], instructions: list[ev.Instruction]) -> list[T]:
    return [i for i in instructions if isinstance(i, kind)]


def connect_node(site: SiteMachine, slot: str, now_ms: int, *ranks: jobs.RankStatus) -> None:
    entries = [SpoolEntry(key=f"job-a.1.{rank.rank}", status=rank) for rank in ranks]
    facts = NodeReport(slot=slot, isolation=common.ISOLATION_UID)
    site.handle(ev.NodeConnected(slot, BOOT), now_ms)
    site.handle(ev.NodeReported(slot, facts), now_ms)
    site.handle(ev.SpoolReported(slot, SpoolReport(full=True, entries=entries)), now_ms)


def ready(site: SiteMachine, what: Launch, now_ms: int = 0) -> list[ev.Instruction]:
    """Everything that a launch needs, up to the two writes it waits for."""
    for slot in SLOTS:
        connect_node(site, slot, now_ms)
    site.handle(ev.RuntimeChanged(frozenset(SLOTS)), now_ms)
    site.handle(ev.ReservationsSeen(frozenset()), now_ms)
    word = desired(row(what=what), to=1)
    return write_all(site, site.handle(ev.DesiredReceived(word), now_ms), now_ms)


def write_all(site: SiteMachine, out: list[ev.Instruction], now_ms: int) -> list[ev.Instruction]:
    """What comes once every write that is asked for is done."""
    while writes := of(ev.Persist, out):
        assert not of(ev.LaunchAttempt, out), "launched before that was durable"
        out = site.handle(ev.Persisted(writes[0].version), now_ms)
    return out


def test_nothing_starts_before_row_and_boots_are_durable() -> None:
    site = machine()
    (launched,) = of(ev.LaunchAttempt, ready(site, launch()))
    assert (launched.key, launched.lease_ms, launched.isolation) == (
        "job-a.1",
        None,
        common.ISOLATION_UID,
    )
    assert site.journal.memory["job-a.1"].boots == {"n01": BOOT, "n02": BOOT}


@pytest.mark.parametrize(
    ("slots", "writes"),
    [
        pytest.param(SLOTS, 1, id="with the nodes at hand"),
        pytest.param((*SLOTS, "n03"), 0, id="with a node that nobody has heard of"),
    ],
)
def test_what_can_start_at_once_waits_for_one_write(slots: tuple[str, ...], writes: int) -> None:
    site = machine()
    ready(site, launch("n01"))
    word = desired(row(job="job-b", generation=2, what=launch(*slots)), to=2, since=1)
    (write,) = of(ev.Persist, site.handle(ev.DesiredReceived(word), 10))
    assert len(write.journal.memory["job-b.1"].boots) == (2 if writes else 0)
    launched = of(ev.LaunchAttempt, site.handle(ev.Persisted(write.version), 20))
    assert [attempt.key for attempt in launched] == ["job-b.1"] * writes


def test_nodes_are_reserved_while_the_journal_is_written() -> None:
    site = machine()
    ready(site, launch("n01"))
    word = desired(row(job="job-b", generation=2, what=launch("n02")), to=2, since=1)
    out = site.handle(ev.DesiredReceived(word), 10)
    (write,) = of(ev.Persist, out)
    assert [each.key for each in of(ev.Reserve, out)] == ["job-b.1"]
    assert of(ev.Reserve, site.handle(ev.Tick(), 15)) == []
    out = site.handle(ev.Persisted(write.version), 20)  # The launch itself waits for the nodes.
    assert [each.key for each in of(ev.LaunchAttempt, out)] == ["job-b.1"]


def test_nodes_reserved_for_what_never_became_durable_are_given_back_and_not_before() -> None:
    site = machine()
    ready(site, launch("n01"))
    site.handle(ev.LaunchFinished("job-a.1", True), 0)
    late_ms = UNDESIRED_PATIENCE_MS + 1
    word = desired(row(job="job-b", generation=2, what=launch("n02")), to=2, since=1)
    (write,) = of(ev.Persist, site.handle(ev.DesiredReceived(word), late_ms))
    seen = ev.ReservationsSeen(frozenset({"job-a.1", "job-b.1"}))
    assert of(Release, site.handle(seen, late_ms)) == []
    assert of(Release, site.handle(ev.ReserveFinished("job-b.1"), late_ms)) == []
    assert of(Release, site.handle(seen, late_ms)) == []
    out = site.handle(ev.PersistFailed(write.version, "full"), late_ms)
    assert of(Release, out) == [Release("job-b.1")]


def test_nodes_still_being_reserved_are_given_back_once_they_are() -> None:
    site = machine()
    ready(site, launch("n01"))
    site.handle(ev.LaunchFinished("job-a.1", True), 0)
    late_ms = UNDESIRED_PATIENCE_MS + 1
    word = desired(row(job="job-b", generation=2, what=launch("n02")), to=2, since=1)
    (write,) = of(ev.Persist, site.handle(ev.DesiredReceived(word), late_ms))
    site.handle(ev.ReservationsSeen(frozenset({"job-a.1", "job-b.1"})), late_ms)
    assert of(Release, site.handle(ev.PersistFailed(write.version, "full"), late_ms)) == []
    out = site.handle(ev.ReserveFinished("job-b.1"), late_ms)
    assert of(Release, out) == [Release("job-b.1")]


def test_nothing_is_launched_while_its_nodes_are_being_given_back() -> None:
    """A late one would give the nodes back under the ranks."""
    site = machine()
    ready(site, launch("n01"))
    site.handle(ev.LaunchFinished("job-a.1", True), 0)
    now_ms = UNDESIRED_PATIENCE_MS + 1
    word = desired(row(job="job-b", generation=2, what=launch("n02")), to=2, since=1)
    (write,) = of(ev.Persist, site.handle(ev.DesiredReceived(word), now_ms))
    site.handle(ev.ReserveFinished("job-b.1"), now_ms)
    out = site.handle(ev.PersistFailed(write.version, "full"), now_ms)
    assert of(Release, out) == [Release("job-b.1")]
    again = site.handle(ev.DesiredReceived(word), now_ms + RETRY_MS)
    assert of(ev.Reserve, again) == []
    (write,) = of(ev.Persist, again)
    assert of(ev.LaunchAttempt, site.handle(ev.Persisted(write.version), now_ms + RETRY_MS)) == []
    later_ms = now_ms + RETRY_MS + ORDER_REPEAT_MS
    assert of(Release, site.handle(ev.Tick(), later_ms)) == []
    out = site.handle(ev.Released("job-b.1", True), later_ms)
    assert [each.key for each in of(ev.LaunchAttempt, out)] == ["job-b.1"]


def test_what_could_not_be_given_back_is_given_back_again_after_a_while() -> None:
    site = machine()
    ready(site, launch("n01"))
    site.handle(ev.LaunchFinished("job-a.1", True), 0)
    stray = ev.ReservationsSeen(frozenset({"job-a.1", "job-x.1"}))
    now_ms = UNDESIRED_PATIENCE_MS + 1
    assert of(Release, site.handle(stray, now_ms)) == [Release("job-x.1")]
    assert of(Release, site.handle(ev.Tick(), now_ms + ORDER_REPEAT_MS)) == []
    assert of(Release, site.handle(ev.Released("job-x.1", False), now_ms + ORDER_REPEAT_MS)) == [
        Release("job-x.1")
    ]
    assert of(Release, site.handle(ev.Released("job-x.1", False), now_ms + ORDER_REPEAT_MS)) == []


def test_a_site_may_be_told_all_that_it_has_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the control plane was put back: what is known already takes no more room."""
    monkeypatch.setattr("agent.site.desired.ATTEMPTS_MAX", 2)
    rows = [row(job=f"job-{n}") for n in range(3)]
    site = machine()
    write_all(site, site.handle(ev.DesiredReceived(desired(*rows, to=1)), 0), 0)
    write_all(site, site.handle(ev.DesiredReceived(desired(*rows, to=2)), 0), 0)
    assert site.journal.generation == 2
    more = [row(job=f"job-{n}") for n in range(5)]
    site.handle(ev.DesiredReceived(desired(*more, to=3)), 0)
    assert site.journal.generation == 2


def test_a_word_in_parts_counts_once_all_of_it_is_there_in_whatever_order() -> None:
    rows = [row(job=f"job-{n}") for n in range(5)]
    known = Journal(1, 1, {"job-4.1": rows[4], "job-9.1": row(job="job-9")})
    first, second, third = in_parts(tuple(rows[:2]), tuple(rows[2:4]), (rows[4],), to=2)
    site = machine(known)
    for part in (third, first, third, first):
        assert not of(ev.Persist, site.handle(ev.DesiredReceived(part), 0))
    (write,) = of(ev.Persist, site.handle(ev.DesiredReceived(second), 0))
    assert write.journal.generation == 2
    actions = {key: row.action for key, row in write.journal.rows.items()}
    assert actions.pop("job-9.1") == STOP, "what no part has is not desired"
    assert actions == {f"job-{n}.1": RUN for n in range(5)}


def test_parts_of_two_words_or_of_two_sessions_are_never_taken_together() -> None:
    rows = [row(job=f"job-{n}") for n in range(4)]
    older = in_parts((rows[0],), (rows[1],), to=1)
    newer = in_parts((rows[2],), (rows[3],), to=2)
    fewer = in_parts((rows[2],), to=1)  # As `older`, when a forgotten row was dropped since.
    site = machine()
    for part in (older[0], newer[0], older[1], fewer[0]):
        assert not of(ev.Persist, site.handle(ev.DesiredReceived(part), 0))
    site.handle(ev.Disconnected(), 0)
    site.handle(ev.Connected(1_000, 9_000), 0)
    assert not of(ev.Persist, site.handle(ev.DesiredReceived(newer[1]), 0))
    (write,) = of(ev.Persist, site.handle(ev.DesiredReceived(newer[0]), 0))
    assert write.journal.rows.keys() == {"job-2.1", "job-3.1"}


def test_a_word_that_is_more_than_a_site_takes_is_not_gathered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.site.desired.PARTS_BYTES_MAX", 2 * row().ByteSize())
    site = machine()
    parts = in_parts(*[(row(job=f"job-{n}"),) for n in range(3)])
    out = [site.handle(ev.DesiredReceived(part), 0) for part in parts]
    assert [len(of(ev.Note, each)) for each in out] == [0, 0, 1]
    assert site.journal == Journal()


def test_a_disk_that_cannot_be_written_keeps_what_runs_and_accepts_nothing() -> None:
    site = machine()
    (write,) = of(ev.Persist, site.handle(ev.DesiredReceived(desired(row(), to=1)), 0))
    out = site.handle(ev.PersistFailed(write.version, "disk full"), 0)
    assert "disk full" in of(ev.Note, out)[0].text
    assert site.journal == Journal()
    (said,) = of(ev.SendReport, site.handle(ev.Connected(1_000, 9_000), 10))
    assert (said.report.generation, list(said.report.attempts)) == (0, [])
    again = site.handle(ev.DesiredReceived(desired(row(), to=1)), 10_000)
    write_all(site, again, 10_000)
    assert site.journal.generation == 1


def test_leased_work_waits_for_a_lease_which_counts_from_when_we_asked() -> None:
    site = machine()
    assert not of(ev.LaunchAttempt, ready(site, launch(leased=True)))
    out = site.handle(ev.Connected(heartbeat_interval_ms=1_000, lease_ms=9_000), 100)
    (beat,) = of(ev.SendHeartbeat, out)
    out = write_all(site, site.handle(ev.HeartbeatAcked(beat.sequence), 4_100), 4_100)
    (launched,) = of(ev.LaunchAttempt, out)
    assert launched.lease_ms == 5_000
    pongs = of(ev.SendPong, site.handle(ev.NodePinged("n01", 3), 6_100))
    assert pongs == [ev.SendPong("n01", 3, {"job-a.1": 3_000})]
    # An answer counted once counts no more, and a lapsed lease is not renewed.
    site.handle(ev.HeartbeatAcked(beat.sequence), 9_000)
    pongs = of(ev.SendPong, site.handle(ev.NodePinged("n01", 4), 9_100))
    assert pongs == [ev.SendPong("n01", 4, {})]


def test_a_lease_waits_for_the_generation_that_it_presumes() -> None:
    """Else the attempt that was ended while the site was away would be started under it."""
    site = machine()
    ready(site, launch(leased=True))
    (beat,) = of(ev.SendHeartbeat, site.handle(ev.Connected(1_000, 9_000), 100))
    assert not of(ev.LaunchAttempt, site.handle(ev.HeartbeatAcked(beat.sequence, 2), 200))
    assert site.lease_left_ms(200) == 0
    ended = desired(row(STOP, generation=2), to=2, since=1)
    out = write_all(site, site.handle(ev.DesiredReceived(ended), 300), 300)
    assert not of(ev.LaunchAttempt, out)
    assert site.lease_left_ms(300) == 8_800, "it counts from when we asked, late as it came"


def test_a_promise_of_an_earlier_session_gives_no_lease() -> None:
    site = machine()
    (beat,) = of(ev.SendHeartbeat, site.handle(ev.Connected(1_000, 9_000), 0))
    site.handle(ev.HeartbeatAcked(beat.sequence, 1), 10)
    site.handle(ev.Disconnected(), 20)
    write_all(site, site.handle(ev.DesiredReceived(desired(row(), to=1)), 30), 30)
    assert (site.journal.generation, site.lease_left_ms(30)) == (1, 0)


def test_leased_work_is_not_launched_while_the_journal_cannot_be_written() -> None:
    site = machine()
    ready(site, launch(leased=True))
    (beat,) = of(ev.SendHeartbeat, site.handle(ev.Connected(60_000, 90_000), 0))
    word = ev.DesiredReceived(desired(row(STOP, generation=2), to=2, since=1))
    (write,) = of(ev.Persist, site.handle(word, 10))
    site.handle(ev.PersistFailed(write.version, "disk full"), 20)
    out = site.handle(ev.HeartbeatAcked(beat.sequence, 1), 30)
    assert site.lease_left_ms(30) > 0
    assert not of(ev.LaunchAttempt, out + site.handle(ev.Tick(), 40_000))
    other = desired(row(job="job-b", generation=2, what=launch("n09")), to=2, since=1)
    out = write_all(site, site.handle(ev.DesiredReceived(other), 50_000), 50_000)
    assert [launched.key for launched in of(ev.LaunchAttempt, out)] == ["job-a.1"]


def test_a_heartbeat_of_an_earlier_session_gives_no_lease() -> None:
    site = machine()
    (beat,) = of(ev.SendHeartbeat, site.handle(ev.Connected(1_000, 9_000), 0))
    site.handle(ev.Disconnected(), 10)
    site.handle(ev.Connected(1_000, 9_000), 20)
    site.handle(ev.HeartbeatAcked(beat.sequence), 30)
    assert site.lease_left_ms(30) == 0


def test_what_the_guard_refuses_is_durable_before_it_is_reported() -> None:
    refusal = Verdict(sitelink.ATTEMPT_PHASE_REFUSED, "GUARD_REFUSED", "JURISDICTION: in NO")
    site = SiteMachine(Journal(1, 1), judge=lambda _l, _i: refusal, grants=Generous(), now_ms=0)
    site.handle(ev.Connected(1_000, 9_000), 0)
    out = site.handle(ev.DesiredReceived(desired(row(generation=2), to=2, since=1)), 100)
    assert not of(ev.SendReport, out)
    (write,) = of(ev.Persist, out)
    (said,) = of(ev.SendReport, site.handle(ev.Persisted(write.version), 200))
    (report,) = said.report.attempts
    assert (report.phase, report.reason, report.detail) == (
        sitelink.ATTEMPT_PHASE_REFUSED,
        "GUARD_REFUSED",
        "JURISDICTION: in NO",
    )


def test_a_refusal_at_the_last_moment_gives_the_keys_up_before_it_is_reported() -> None:
    site = machine()
    ready(site, launch())
    site.handle(ev.Connected(1_000, 9_000), 0)
    out = site.handle(
        ev.LaunchFinished("job-a.1", False, "FACT_EXPIRED", refused="GUARD_REFUSED"), 100
    )
    (write,) = of(ev.Persist, out)
    out = site.handle(ev.Persisted(write.version), 200)
    assert {stop.key for stop in of(StopRank, out)} == {"job-a.1.0", "job-a.1.1"}
    gone = [over(rank, jobs.RANK_CAUSE_NEVER_STARTED) for rank in (0, 1)]
    connect_node(site, "n01", 300, gone[0])
    out = site.handle(ev.NodeConnected("n02", BOOT), 400)
    entry = SpoolEntry(key="job-a.1.1", status=gone[1])
    out = site.handle(ev.SpoolReported("n02", SpoolReport(full=True, entries=[entry])), 500)
    (report,) = of(ev.SendReport, out)[0].report.attempts
    assert report.phase == sitelink.ATTEMPT_PHASE_REFUSED


def test_an_order_is_repeated_until_it_is_seen_to_be_done_and_not_too_often() -> None:
    site = machine()
    ready(site, launch())
    site.handle(ev.LaunchFinished("job-a.1", True), 0)
    connect_node(site, "n01", 0, running(0))
    connect_node(site, "n02", 0, running(1))
    word = ev.DesiredReceived(desired(row(STOP, generation=2), to=2, since=1))
    (write,) = of(ev.Persist, site.handle(word, 0))
    assert len(of(StopRank, site.handle(ev.Persisted(write.version), 0))) == 2
    assert of(StopRank, site.handle(ev.Tick(), 2_000)) == []
    assert len(of(StopRank, site.handle(ev.Tick(), 4_000))) == 2
    connect_node(site, "n01", 4_500, over(0, jobs.RANK_CAUSE_STOP))
    assert [stop.slot for stop in of(StopRank, site.handle(ev.Tick(), 8_000))] == ["n02"]
    out = site.handle(ev.ReservationsSeen(frozenset({"job-a.1"})), 8_000)
    assert of(Release, out) == []
    entry = SpoolEntry(key="job-a.1.1", status=over(1, jobs.RANK_CAUSE_STOP))
    out = site.handle(ev.SpoolReported("n02", SpoolReport(entries=[entry])), 8_100)
    assert of(Release, out) == [Release("job-a.1")]


def test_reports_carry_only_changes_and_everything_after_a_reconnect() -> None:
    site = machine()
    ready(site, launch())
    (first,) = of(ev.SendReport, site.handle(ev.Connected(60_000, 9_000), 0))
    assert (first.report.full, len(first.report.attempts), len(first.report.nodes)) == (True, 1, 2)
    assert of(ev.SendReport, site.handle(ev.Tick(), 1_000)) == []
    (second,) = of(ev.SendReport, site.handle(ev.NodeDisconnected("n02"), 2_000))
    assert [node.slot for node in second.report.nodes] == ["n02"]
    assert not second.report.full
    site.handle(ev.Disconnected(), 3_000)
    (third,) = of(ev.SendReport, site.handle(ev.Connected(60_000, 9_000), 4_000))
    assert (third.report.full, len(third.report.nodes)) == (True, 2)


def test_a_spool_that_was_not_told_whole_says_nothing() -> None:
    site = machine()
    ready(site, launch())
    site.handle(ev.NodeConnected("n01", "boot-b"), 0)
    entry = SpoolEntry(key="job-a.1.0", status=over(0))
    site.handle(ev.SpoolReported("n01", SpoolReport(entries=[entry])), 10)
    site.handle(ev.LaunchFinished("job-a.1", False, "lost", retryable=True), 10)
    out = site.handle(ev.Tick(), 60_000)
    assert of(ev.LaunchAttempt, out) == []
    assert of(StopRank, out) == []


def test_a_node_cannot_speak_for_another_nor_crash_its_site() -> None:
    """Another spelling of a key is another attempt here, and the same one to who hears of it."""
    site = machine()
    ready(site, launch("n01"))
    site.handle(ev.Connected(60_000, 9_000), 0)
    connect_node(site, "n01", 0, running(0))
    forged = jobs.RankStatus(
        rank=0, node="n01", phase=jobs.RANK_PHASE_OVER, cause=jobs.RANK_CAUSE_EXIT, exit_code=0
    )
    keys = ("job-a.1.0", "job-a.01.0", "job-a.1.00", "job-a.x.0", "no key", "job-b.1.1")
    entries = [SpoolEntry(key=key, status=forged) for key in keys]
    site.handle(ev.SpoolReported("n02", SpoolReport(full=True, entries=entries)), 100)
    site.handle(ev.Disconnected(), 100_000)
    (said,) = of(ev.SendReport, site.handle(ev.Connected(60_000, 9_000), 100_000))
    (report,) = said.report.attempts
    assert (report.attempt, report.phase) == (1, sitelink.ATTEMPT_PHASE_RUNNING)
