"""What is said to the control plane and when: reports of changes, heartbeats, and the lease that
their answers give.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from agent.site.events import (
    Connected,
    Disconnected,
    HeartbeatAcked,
    SendHeartbeat,
    SendReport,
)
from sovapi.v1.sitelink_pb2 import AttemptReport, NodeReport, SiteReport

REPORT_GAP_MS = 50
FULL_REPORT_MS = 30_000  # Everything again this often: a report lost on the way costs no more.
HEARTBEATS_MAX = 64  # Unanswered ones remembered.

SessionEvent: TypeAlias = Connected | Disconnected | HeartbeatAcked


class Uplink:
    """The session with the control plane, as far as the machine needs it."""

    def __init__(self, now_ms: int) -> None:
        self._session: Connected | None = None
        self._sequence = 0
        self._beaten: dict[int, int] = {}
        self._next_beat_ms = now_ms
        self._lease_until_ms: int | None = None
        self._promised: dict[int, int] = {}
        self._attempts: Mapping[str, AttemptReport] = {}
        self._nodes: Mapping[str, NodeReport] = {}
        self._generation: int | None = None
        self._full_due_ms = now_ms
        self._next_report_ms = now_ms
        self._held_back = False

    def absorb(self, event: SessionEvent, now_ms: int) -> None:
        """Take in one event."""
        match event:
            case HeartbeatAcked():
                self._promise(event)
            case Connected() | Disconnected():
                self._beaten.clear()
                self._promised.clear()
                self._session = event if isinstance(event, Connected) else None
                self._next_beat_ms = self._full_due_ms = self._next_report_ms = now_ms

    @property
    def connected(self) -> bool:
        """Whether the control plane has answered our hello."""
        return self._session is not None

    def say_generation(self) -> None:
        """Have the next report say what we hold, so that the right part is sent."""
        self._generation = None

    def hold(self, generation: int) -> None:
        """Our journal holds this generation: leases that waited for it count."""
        for until_ms, presumed in list(self._promised.items()):
            if presumed <= generation:
                self._lease_until_ms = max(self._lease_until_ms or until_ms, until_ms)
                del self._promised[until_ms]

    def lease_left_ms(self, now_ms: int) -> int:
        """For how long leased work may run: counted from when the last heartbeat that was
        answered was sent.
        """
        return max(0, (self._lease_until_ms or now_ms) - now_ms)

    def rest_ms(self, now_ms: int, most_ms: int) -> int:
        """For how long nothing has to be said, as far as is known now; `most_ms` at most."""
        if not self._held_back or self._session is None:
            return most_ms
        return min(most_ms, max(0, self._next_report_ms - now_ms))

    def say(
        self,
        epoch: int,
        generation: int,
        attempts: Mapping[str, AttemptReport],
        nodes: Mapping[str, NodeReport],
        now_ms: int,
    ) -> Iterator[SendHeartbeat | SendReport]:
        """What is due to be sent."""
        if self._session is None:
            return
        if now_ms >= self._next_beat_ms:
            yield self._beat(self._session, now_ms)
        full = now_ms >= self._full_due_ms
        self._held_back = not full and now_ms < self._next_report_ms
        if self._held_back:
            return
        new = [r for k, r in sorted(attempts.items()) if full or r != self._attempts.get(k)]
        changed = [n for s, n in sorted(nodes.items()) if full or n != self._nodes.get(s)]
        if not (full or new or changed or generation != self._generation):
            return
        self._attempts, self._nodes, self._generation = dict(attempts), dict(nodes), generation
        self._next_report_ms = now_ms + REPORT_GAP_MS
        if full:
            self._full_due_ms = now_ms + FULL_REPORT_MS
        yield SendReport(
            SiteReport(epoch=epoch, generation=generation, attempts=new, nodes=changed, full=full)
        )

    def _promise(self, event: HeartbeatAcked) -> None:
        """A lease from when the heartbeat was sent, which counts once we hold what it presumes."""
        sent_ms = self._beaten.pop(event.sequence, None)
        if sent_ms is not None and self._session is not None:
            self._promised[sent_ms + self._session.lease_ms] = event.generation
            for oldest in sorted(self._promised)[:-HEARTBEATS_MAX]:
                del self._promised[oldest]

    def _beat(self, session: Connected, now_ms: int) -> SendHeartbeat:
        self._sequence += 1
        self._beaten[self._sequence] = now_ms
        for oldest in sorted(self._beaten)[:-HEARTBEATS_MAX]:
            del self._beaten[oldest]
        self._next_beat_ms = now_ms + max(1, session.heartbeat_interval_ms)
        return SendHeartbeat(self._sequence)
