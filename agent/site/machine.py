"""The site agent without sockets, disks or clocks: events in, instructions out.

The caller's whole loop:

    events = whatever arrived, or Tick() a few times a second
    for instruction in machine.step(events, now_ms):
        carry it out; its result, if it has one, is a later event

`now_ms` counts on a clock that suspend does not stop. A step absorbs its events, reconciles once,
and asks for what has to happen; nothing is adopted, launched or finally reported before the journal
that says so is durable. Orders are repeated until what they ask for is seen: none need arrive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

from agent.site import desired as rules
from agent.site import events as ev
from agent.site.ledger import Ledger
from agent.site.nodes import Nodes
from agent.site.reconcile import reconcile
from agent.site.state import (
    RUNTIME_GRACE_MS,
    Archive,
    Drop,
    GiveUp,
    Journal,
    Memory,
    Observed,
    Release,
    Report,
    Start,
    StopRank,
    Verdict,
    attempt_of,
)
from agent.site.tries import Tries
from agent.site.underway import UnderWay
from agent.site.uplink import Uplink
from sovapi.v1 import sitelink_pb2 as sitelink
from sovapi.v1.sitelink_pb2 import AttemptReport, DesiredAttempt, Launch, NodeReport

ORDER_REPEAT_MS = 3_000
FIRST_LEASE_MS_MAX = 30_000  # A launch may arrive late; renewals count on the node's own clock.

Judge = Callable[[Launch, Mapping[str, int] | None], Verdict | None]
"""The guard: why this launch is refused. With the isolation of its nodes, once they are known."""


class Grants(Protocol):
    """What the control plane granted: `granted.SiteGrants`."""

    def refuse_row(self, row: DesiredAttempt, held: int) -> Verdict | None:
        """Why a row that is new, and to run, is refused by a site that has had `held`."""
        ...

    def refuse_start(self, key: str, launch: Launch) -> Verdict | None:
        """Why an attempt may not begin now."""
        ...


Order = StopRank | Archive | Release


@dataclass(frozen=True, slots=True)
class Standing:
    """A site as its agent sees it: the session, its attempts by phase, its nodes by slot."""

    connected: bool
    attempts: Mapping[sitelink.AttemptPhase, int]
    nodes: Mapping[str, NodeReport]


class SiteMachine:
    """One site's agent. `step` is the only mutator."""

    def __init__(
        self,
        journal: Journal,
        *,
        judge: Judge,
        grants: Grants,
        now_ms: int,
        runtime_grace_ms: int = RUNTIME_GRACE_MS,
    ) -> None:
        self._judge = judge
        self._grants = grants
        self._runtime_grace_ms = runtime_grace_ms
        self._began_ms = now_ms
        self._ledger = Ledger(journal)
        self._nodes = Nodes()
        self._uplink = Uplink(now_ms)
        self._parts = rules.Parts()
        self._reservations: frozenset[str] | None = None
        self._calls = UnderWay()
        self._tries = Tries()
        self._ordered: dict[Order, int] = {}
        self._reports: dict[str, AttemptReport] = {}
        self._out: list[ev.Instruction] = []

    @property
    def journal(self) -> Journal:
        """What is durable."""
        return self._ledger.durable

    def standing(self) -> Standing:
        """How the site is, for those who only look on."""
        phases = Counter(report.phase for report in self._reports.values())
        return Standing(self._uplink.connected, dict(phases), self._nodes.reports())

    def lease_left_ms(self, now_ms: int) -> int:
        """For how long leased work may run unless the control plane answers again."""
        return self._uplink.lease_left_ms(now_ms)

    def rest_ms(self, now_ms: int, most_ms: int) -> int:
        """For how long, `most_ms` at most, no step is needed if nothing happens."""
        return self._uplink.rest_ms(now_ms, most_ms)

    def handle(self, event: ev.Event, now_ms: int) -> list[ev.Instruction]:
        """A step with one event."""
        return self.step((event,), now_ms)

    def step(self, events: Sequence[ev.Event], now_ms: int) -> list[ev.Instruction]:
        """Take in what happened; what to do about it, in this order."""
        self._out = []
        for event in events:  # 1. What happened.
            self._absorb(event, now_ms)
            self._uplink.hold(self._ledger.durable.generation)
        running = rules.running_rows(self._ledger.durable.rows)
        self._tries.follow(running, self._calls.launching, now_ms)
        self._reports = reports = self._act(now_ms)  # 2. What should be.
        self._foresee()
        if (write := self._ledger.write_due(now_ms)) is not None:
            self._out.append(write)  # 3. What must not be forgotten.
        journal = self._ledger.durable  # 4. What the control plane should know.
        said = (journal.epoch, journal.generation, reports, self._nodes.reports(), now_ms)
        self._out.extend(self._uplink.say(*said))
        self._check()
        return self._out

    def _absorb(self, event: ev.Event, now_ms: int) -> None:
        match event:
            case ev.Connected() | ev.Disconnected():
                self._parts.clear()
                self._uplink.absorb(event, now_ms)
            case ev.HeartbeatAcked():
                self._uplink.absorb(event, now_ms)
            case ev.DesiredReceived():
                self._accept(event)
            case ev.NodeConnected() | ev.NodeDisconnected():
                self._nodes.absorb(event, now_ms)
                self._ordered = {o: at for o, at in self._ordered.items() if not _to(o, event.slot)}
            case ev.SpoolReported() | ev.RuntimeChanged() | ev.NodeReported():
                self._observe(event, now_ms)
            case ev.NodePinged():
                self._pong(event, now_ms)
            case ev.LaunchFinished() | ev.Released() | ev.ReservationsSeen() | ev.ReserveFinished():
                self._executor_said(event, now_ms)
            case ev.Persisted() | ev.PersistFailed():
                self._written(event, now_ms)
            case ev.Tick():
                pass
            case _:
                assert_never(event)

    def _accept(self, event: ev.DesiredReceived) -> None:
        word, journal = event.desired, self._ledger.proposed
        if word.rows_total and rules.follows(journal, word):
            whole = self._gathered(word)
            if whole is None:
                return
            word = whole
        if not word.rows_total and rules.accepts(journal, word):
            held = journal.generation
            self._ledger.propose(rules.accept(journal, word, lambda row: self._refuse(row, held)))
        else:
            self._uplink.say_generation()

    def _refuse(self, row: DesiredAttempt, held: int) -> Verdict | None:
        """Why a row that is new is refused: the guard says more of it than a grant does."""
        return self._judge(row.launch, None) or self._grants.refuse_row(row, held)

    def _gathered(self, part: sitelink.Desired) -> sitelink.Desired | None:
        """A word that came in parts, once this was the last one missing."""
        try:
            return self._parts.add(part)
        except rules.TooMuch as too_much:
            self._out.append(ev.Note(f"what is desired here cannot be taken: {too_much}"))
            return None

    def _observe(
        self, event: ev.SpoolReported | ev.RuntimeChanged | ev.NodeReported, now_ms: int
    ) -> None:
        self._nodes.absorb(event, now_ms)
        if isinstance(event, ev.SpoolReported):
            for key in self._nodes.living(event):
                boot_id = self._nodes.boot_id(event.slot)
                self._ledger.learn_boot(attempt_of(key), event.slot, boot_id)

    def _pong(self, event: ev.NodePinged, now_ms: int) -> None:
        """Tell a node how long its leased attempts may run. Those forgotten are not renewed."""
        left_ms = self._uplink.lease_left_ms(now_ms)
        leased: dict[str, int] = {}
        for key, row in self._ledger.durable.rows.items():
            here = any(node.slot == event.slot for node in row.launch.nodes)
            if left_ms > 0 and here and row.launch.leased:
                leased[key] = left_ms
        self._out.append(ev.SendPong(event.slot, event.sequence, leased))

    def _written(self, event: ev.Persisted | ev.PersistFailed, now_ms: int) -> None:
        self._ledger.written(event, now_ms)
        if isinstance(event, ev.PersistFailed):
            self._uplink.say_generation()
            self._out.append(ev.Note(f"the journal cannot be written: {event.detail}"))

    def _executor_said(
        self,
        event: ev.LaunchFinished | ev.Released | ev.ReservationsSeen | ev.ReserveFinished,
        now_ms: int,
    ) -> None:
        held = self._reservations
        match event:
            case ev.ReservationsSeen():
                self._reservations = event.keys
            case ev.Released():
                self._calls.releasing.discard(event.key)
                if event.ok and held is not None:
                    self._reservations = held - {event.key}
            case ev.ReserveFinished():
                self._calls.reserving.discard(event.key)
                if held is not None:
                    self._reservations = held | {event.key}
            case ev.LaunchFinished():
                if held is not None and not event.refused:
                    self._reservations = held | {event.key}  # However it ended, it may hold one.
                self._calls.launching.discard(event.key)
                self._tries.finished(event, now_ms)
                if event.refused:
                    refused = sitelink.ATTEMPT_PHASE_REFUSED
                    verdict = Verdict(refused, event.refused, event.detail)
                    self._ledger.pronounce(event.key, verdict)

    def _observed(self, now_ms: int) -> Observed:
        return Observed(
            generation=self._ledger.durable.generation,
            age_ms=now_ms - self._began_ms,
            nodes=self._nodes.views(now_ms),
            reservations=self._reservations,
            launching=frozenset(self._calls.launching) | self._not_yet_durable(),
            memory=self._ledger.durable.memory,
            progress=self._tries.progress(self._without_lease(now_ms), now_ms),
            runtime_grace_ms=self._runtime_grace_ms,
        )

    def _not_yet_durable(self) -> Set[str]:
        """Attempts being written: what was reserved for one is not given back under its hands."""
        durable, proposed = self._ledger.durable.rows, self._ledger.proposed.rows
        return (self._calls.reserving | proposed.keys()) - durable.keys()

    def _without_lease(self, now_ms: int) -> Set[str]:
        """Attempts that must not begin for want of a lease."""
        # What ends it may be what cannot be written, and its lease be counted down elsewhere.
        if self._uplink.lease_left_ms(now_ms) > 0 and not self._ledger.failing:
            return frozenset()
        rows = self._ledger.durable.rows
        return {key for key, row in rows.items() if row.launch.leased}

    def _act(self, now_ms: int) -> dict[str, AttemptReport]:
        """Carry out what reconcile asks for; the reports it made."""
        reports: dict[str, AttemptReport] = {}
        orders: dict[Order, int] = {}
        dropped: set[str] = set()
        for action in reconcile(self._ledger.durable.rows, self._observed(now_ms)):
            match action:
                case StopRank() | Archive() | Release():
                    if (sent_ms := self._order(action, now_ms)) is not None:
                        orders[action] = sent_ms
                case GiveUp():
                    failed = sitelink.ATTEMPT_PHASE_FAILED_TO_START
                    verdict = Verdict(failed, action.reason, action.detail)
                    self._ledger.pronounce(action.key, verdict)
                case Drop():
                    dropped.add(action.key)
                case Start():
                    self._start(action, now_ms)
                case Report():
                    reports[action.key] = action.report
        self._ordered = orders  # What is no longer asked for may be asked anew at once.
        self._ledger.drop(frozenset(dropped))
        return reports

    def _order(self, order: Order, now_ms: int) -> int | None:
        """Send an order unless it was sent just now or may not be yet; when it was last sent."""
        sent_ms = self._ordered.get(order)
        if sent_ms is not None and now_ms - sent_ms < ORDER_REPEAT_MS:
            return sent_ms
        if isinstance(order, Release):
            if not self._calls.may_release(order.key):
                return sent_ms
            self._calls.releasing.add(order.key)
        self._out.append(order)
        return now_ms

    def _start(self, start: Start, now_ms: int) -> None:
        """Launch, once the guard agrees and it is durable that, and in which boots, we try."""
        key = start.key
        durable, proposed = self._ledger.durable, self._ledger.proposed
        row, memory = durable.rows[key], durable.memory.get(key, Memory(unsure=True))
        outdated = proposed.rows.get(key) is not row or proposed.memory.get(key) != memory
        if outdated or not self._calls.may_launch(key):
            return
        isolation = {node.slot: self._nodes.isolation(node.slot) for node in row.launch.nodes}
        refusal = self._judge(row.launch, isolation)
        if refusal is None and start.begins:
            refusal = self._grants.refuse_start(key, row.launch)
        if refusal is not None:
            self._ledger.pronounce(key, refusal)
            return
        boots = {slot: self._nodes.boot_id(slot) for slot in isolation} | dict(memory.boots)
        if boots != memory.boots:
            self._ledger.remember(key, replace(memory, boots=boots))
            return
        lease_ms = None
        if row.launch.leased:
            lease_ms = min(self._uplink.lease_left_ms(now_ms), FIRST_LEASE_MS_MAX)
        self._calls.launching.add(key)
        self._out.append(ev.LaunchAttempt(key, row.launch, lease_ms, min(isolation.values())))

    def _foresee(self) -> None:
        """Of an attempt that is new and can be started at once, remember so with the first write of
        it, for a second one would keep it waiting; and have its nodes reserved meanwhile.
        """
        durable, proposed = self._ledger.durable, self._ledger.proposed
        if proposed is durable or self._reservations is None:
            return
        for key in sorted(rules.running_rows(proposed.rows) - durable.rows.keys()):
            launch = proposed.rows[key].launch
            memory = proposed.memory.get(key, Memory(unsure=True))
            slots = [node.slot for node in launch.nodes]
            if memory.boots or memory.unsure or memory.verdict or launch.leased:
                continue
            isolation = {slot: self._nodes.isolation(slot) for slot in slots}
            if self._nodes.can_start(slots) and self._judge(launch, isolation) is None:
                boots = {slot: self._nodes.boot_id(slot) for slot in slots}
                self._ledger.remember(key, replace(memory, boots=boots))
                if not self._ledger.failing and self._calls.may_reserve(key):
                    self._calls.reserving.add(key)
                    self._out.append(ev.Reserve(key, launch))

    def _check(self) -> None:
        """What must hold after every step."""
        self._nodes.check()
        self._calls.check()
        for key in self._calls.launching:
            memory = self._ledger.durable.memory.get(key)
            assert memory is not None, f"{key} is being launched and was forgotten"
            assert memory.boots, f"{key} was launched before that was durable"


def _to(order: Order, slot: str) -> bool:
    return not isinstance(order, Release) and order.slot == slot
