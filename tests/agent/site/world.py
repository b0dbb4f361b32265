"""A whole site around the machine, with every fault that can be thought of; and what must hold.

Spools, Ray, the disk and the control plane behave as the real ones promise to, no better: orders
get lost, launches die half-way and their starts arrive late, nodes restart, the agent crashes with
or without its journal. The checks look at what truly runs, never at what the machine believes.
"""

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from agent.site import events as ev
from agent.site.machine import SiteMachine
from agent.site.state import Archive, Journal, Release, StopRank, attempt_key, attempt_of, ranks_of
from sovapi.v1 import common_pb2 as common
from sovapi.v1 import jobs_pb2 as jobs
from sovapi.v1 import sitelink_pb2 as sitelink
from sovapi.v1.jobs_pb2 import RankStatus
from sovapi.v1.nodelink_pb2 import SpoolEntry, SpoolReport
from sovapi.v1.sitelink_pb2 import DesiredAttempt, NodeReport
from tests.agent.site.builders import FORGET, RUN, STOP, Generous, desired, launch

SLOTS = ("n01", "n02")
FINAL = (
    sitelink.ATTEMPT_PHASE_ENDED,
    sitelink.ATTEMPT_PHASE_LOST,
    sitelink.ATTEMPT_PHASE_REFUSED,
    sitelink.ATTEMPT_PHASE_FAILED_TO_START,
)


@dataclass
class Node:
    """A node: what its spool holds, and whether its agent is connected."""

    boot: int = 0
    spool: dict[str, RankStatus] = field(default_factory=dict[str, RankStatus])
    archive: set[str] = field(default_factory=set[str])
    connected: bool = False
    raylet: bool = True


class World:
    """Everything but the machine. `now_ms` is the site's clock."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.nodes = {slot: Node() for slot in SLOTS}
        self.disk = Journal()
        self.disk_full = False
        self.channels: dict[str, deque[Any]] = defaultdict(deque)
        self.starts: list[tuple[str, str]] = []  # (slot, rank key): on their way through Ray.
        self.launches: dict[str, list[tuple[str, str]]] = {}
        self.placement_groups: set[str] = set()
        self.rows: dict[str, DesiredAttempt] = {}
        self.generation = 0
        self.heard_generation = 0
        self.session = False
        self.final: set[str] = set()
        self.forgotten: set[str] = set()
        self.ever: set[str] = set()
        self.machine = self.new_machine()

    def new_machine(self) -> SiteMachine:
        return SiteMachine(
            self.disk, judge=lambda _launch, _levels: None, grants=Generous(), now_ms=self.now_ms
        )

    # What the machine asks for.

    def tell(self, event: ev.Event) -> None:
        before = self.machine.journal
        for instruction in self.machine.step((event,), self.now_ms):
            self.carry_out(instruction)
        self.check(before)

    def carry_out(self, instruction: ev.Instruction) -> None:
        match instruction:
            case ev.Persist():
                answer: ev.Event = ev.Persisted(instruction.version)
                if self.disk_full:
                    answer = ev.PersistFailed(instruction.version, "no space left on device")
                else:
                    self.disk = instruction.journal
                self.channels["disk"].append(answer)
            case ev.LaunchAttempt():
                self.begin_launch(instruction.key)
            case ev.Reserve():
                self.reserve(instruction.key)
            case Release():
                self.release(instruction.key)
            case StopRank():
                self.channels[f"to-{instruction.slot}"].append(instruction)
            case Archive():
                self.channels[f"to-{instruction.slot}"].append(instruction)
            case ev.SendReport():
                self.channels["to-control"].append(instruction)
                self.check_report(instruction)
            case _:
                pass

    def begin_launch(self, key: str) -> None:
        assert key not in self.launches, f"{key} is launched while a launch is under way"
        assert key not in self.final, f"{key} is launched after its end was reported"
        assert self.disk.rows[key].action == RUN, f"{key} is launched and not durably to run"
        ranks = [(rank.slot, rank.key) for rank in ranks_of(key, self.disk.rows[key].launch)]
        self.launches[key] = ranks
        self.placement_groups.add(key)

    def reserve(self, key: str) -> None:
        assert key not in self.final, f"{key} is given nodes after its end was reported"
        self.placement_groups.add(key)
        self.channels[f"reserved-{key}"].append(ev.ReserveFinished(key))

    def release(self, key: str) -> None:
        assert not self.alive(key), f"{key} gave its nodes back while it ran"
        self.placement_groups.discard(key)
        self.channels[f"released-{key}"].append(ev.Released(key, True))

    # Ray.

    def send_starts(self, key: str) -> None:
        """The launch has asked every executor; the starts are on their way."""
        self.starts += self.launches[key]

    def finish_launch(self, key: str, ok: bool, retryable: bool = True) -> None:
        """The driver answers; a failed one may leave starts behind that still arrive."""
        ranks = self.launches.pop(key)
        if ok:
            for slot, rank_key in ranks:
                self.start(slot, rank_key)
        self.channels[f"launch-{key}"].append(ev.LaunchFinished(key, ok, "busy", retryable))

    def start(self, slot: str, key: str) -> None:
        node = self.nodes[slot]
        known = node.spool.get(key)
        if key in node.archive or (known and known.phase != jobs.RANK_PHASE_PREPARED):
            return
        assert attempt_of(key) not in self.final, f"{key} starts after its end was reported"
        self.put(slot, key, jobs.RANK_PHASE_RUNNING)

    # Nodes.

    def put(
        self,
        slot: str,
        key: str,
        phase: jobs.RankPhase,
        cause: jobs.RankCause = jobs.RANK_CAUSE_UNSPECIFIED,
        code: int | None = None,
    ) -> None:
        """Change a rank, and have the node agent tell of it."""
        number = int(key.rpartition(".")[2])
        status = RankStatus(rank=number, node=slot, phase=phase, cause=cause, exit_code=code)
        self.nodes[slot].spool[key] = status
        self.report(slot, SpoolReport(entries=[SpoolEntry(key=key, status=status)]))

    def report(self, slot: str, report: SpoolReport) -> None:
        if self.nodes[slot].connected:
            self.channels[f"from-{slot}"].append(ev.SpoolReported(slot, report))

    def obey(self, slot: str) -> None:
        """The node agent carries out the oldest order that reached it."""
        orders = self.channels[f"to-{slot}"]
        if not orders or not self.nodes[slot].connected:
            return
        order, node = orders.popleft(), self.nodes[slot]
        known = node.spool.get(order.key)
        if isinstance(order, StopRank):
            if order.key in node.archive or (known and known.phase == jobs.RANK_PHASE_OVER):
                return
            ran = known is not None and known.phase == jobs.RANK_PHASE_RUNNING
            cause = order.cause if ran else jobs.RANK_CAUSE_NEVER_STARTED
            self.put(slot, order.key, jobs.RANK_PHASE_OVER, cause)
        elif isinstance(order, Archive) and known is not None:
            assert known.phase == jobs.RANK_PHASE_OVER
            assert attempt_of(order.key) in self.forgotten, f"{order.key} is archived unasked"
            del node.spool[order.key]
            node.archive.add(order.key)
            self.report(slot, SpoolReport(entries=[SpoolEntry(key=order.key, gone=True)]))

    def connect_node(self, slot: str) -> None:
        node = self.nodes[slot]
        self.disconnect_node(slot)
        node.connected = True
        entries = [SpoolEntry(key=key, status=status) for key, status in sorted(node.spool.items())]
        facts = NodeReport(slot=slot, isolation=common.ISOLATION_UID)
        self.channels[f"from-{slot}"] += [
            ev.NodeConnected(slot, f"boot-{node.boot}"),
            ev.NodeReported(slot, facts),
            ev.SpoolReported(slot, SpoolReport(full=True, entries=entries)),
        ]

    def disconnect_node(self, slot: str) -> None:
        self.channels[f"to-{slot}"].clear()
        self.channels[f"from-{slot}"].clear()
        if self.nodes[slot].connected:
            self.nodes[slot].connected = False
            self.channels[f"from-{slot}"].append(ev.NodeDisconnected(slot))

    def reboot(self, slot: str, wipe: bool) -> None:
        """Everything on the node dies, and what was on its way to it; its spool may be lost."""
        self.disconnect_node(slot)
        node = self.nodes[slot]
        node.boot += 1
        self.starts = [start for start in self.starts if start[0] != slot]
        for key, ranks in self.launches.items():  # An executor starts only what it prepared.
            self.launches[key] = [rank for rank in ranks if rank[0] != slot]
        for key, status in sorted(node.spool.items()):
            if status.phase == jobs.RANK_PHASE_RUNNING:
                self.put(slot, key, jobs.RANK_PHASE_OVER, jobs.RANK_CAUSE_LOST)
        if wipe:
            node.spool.clear()

    # The site agent and the control plane.

    def crash(self, keep_journal: bool) -> None:
        if not keep_journal:
            self.disk = Journal()
        self.channels.clear()
        for key in sorted(self.launches):
            self.launches.pop(key)
        for node in self.nodes.values():
            node.connected = False
        self.session = False
        self.machine = self.new_machine()

    def look_at_ray(self) -> None:
        alive = frozenset(slot for slot in SLOTS if self.nodes[slot].raylet)
        self.channels["ray"] += [
            ev.RuntimeChanged(alive),
            ev.ReservationsSeen(frozenset(self.placement_groups)),
        ]

    def connect(self) -> None:
        self.channels["control"].clear()
        self.channels["to-control"].clear()
        self.session = True
        self.heard_generation = self.machine.journal.generation
        self.channels["control"].append(ev.Connected(heartbeat_interval_ms=1_000, lease_ms=60_000))
        self.send_desired()

    def disconnect(self) -> None:
        self.channels["control"].clear()
        self.channels["to-control"].clear()
        if self.session:
            self.session = False
            self.channels["control"].append(ev.Disconnected())

    def send_desired(self) -> None:
        since = self.heard_generation
        if self.session and since < self.generation:
            rows = [r for r in self.rows.values() if r.generation > since]
            word = desired(*rows, to=self.generation, since=since)
            self.channels["control"].append(ev.DesiredReceived(word))

    def set_row(self, job: str, action: sitelink.DesiredAction, slots: tuple[str, ...]) -> None:
        self.generation += 1
        key = attempt_key(job, 1)
        what = None if action == FORGET else launch(*slots)
        self.rows[key] = DesiredAttempt(
            job_id=job, attempt=1, generation=self.generation, action=action, launch=what
        )
        self.ever.add(key)

    def submit(self, job: str, slots: tuple[str, ...]) -> None:
        if attempt_key(job, 1) not in self.ever:
            self.set_row(job, RUN, slots)

    def cancel(self, job: str) -> None:
        row = self.rows.get(attempt_key(job, 1))
        if row is not None and row.action == RUN:
            self.set_row(job, STOP, tuple(node.slot for node in row.launch.nodes))

    def hear(self) -> None:
        """The control plane takes in the oldest report that reached it."""
        if not self.channels["to-control"]:
            return
        report = self.channels["to-control"].popleft().report
        self.heard_generation = report.generation
        for attempt in report.attempts:
            key = attempt_key(attempt.job_id, attempt.attempt)
            known = self.rows.get(key)
            if attempt.phase in FINAL:
                self.final.add(key)  # From now on the control plane may place it elsewhere.
            if known is None or (attempt.phase in FINAL and known.action != FORGET):
                self.set_row(attempt.job_id, FORGET, ())
                self.forgotten.add(key)
        for key, row in sorted(self.rows.items()):
            if row.action == FORGET and row.generation <= report.generation:
                del self.rows[key]

    # What must hold.

    def alive(self, key: str) -> list[str]:
        return [
            rank_key
            for node in self.nodes.values()
            for rank_key, status in node.spool.items()
            if attempt_of(rank_key) == key and status.phase == jobs.RANK_PHASE_RUNNING
        ]

    def check(self, before: Journal) -> None:
        now = self.machine.journal
        assert (now.epoch, now.generation) >= (before.epoch, before.generation)

    def check_report(self, said: ev.SendReport) -> None:
        assert said.report.generation <= self.disk.generation or self.disk_full
        for attempt in said.report.attempts:
            key = attempt_key(attempt.job_id, attempt.attempt)
            if attempt.phase in FINAL:
                assert not self.alive(key), f"{key} is reported over while it runs"
