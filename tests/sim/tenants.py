"""Tenants at their end: they submit, cancel and look, over a network that loses calls.

A call that was not answered is made again, with the same idempotency key, until it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from scheduler.model.identity import Principal, Role
from scheduler.model.ids import TenantPath
from scheduler.model.reasons import Reason, Refused
from tests.sim.clock import Loop
from tests.sim.plane import Down, Plane
from tests.sim.seeds import Dice
from tests.sim.services import Change
from tests.sim.trace import Trace
from tests.sim.workload import Ask

HOP_MS_MAX = 40
LOST_PER_MILLE = 40
RETRY_MS_MAX = 6_000
GETS_MAX = 4
TRANSIENT = frozenset({Reason.NOT_LEADER, Reason.UNAVAILABLE, Reason.RESOURCE_EXHAUSTED})

T = TypeVar("T")
ORGANISATIONS = ("trust-a", "uni-b")


class Leader(Protocol):
    """Who leads, if anybody does."""

    @property
    def plane(self) -> Plane | None:
        """The process that a caller reaches."""
        ...


def principal_of(user: str) -> Principal:
    """A tenant's user, from the path of its identity."""
    return Principal(user, Role.TENANT, TenantPath(user.split("/")[2]))


class Tenants:
    """Everybody who submits work."""

    def __init__(self, leader: Leader, *, loop: Loop, dice: Dice, trace: Trace) -> None:
        self._leader = leader
        self._loop = loop
        self._dice = dice
        self._trace = trace
        self.lossy = True
        self.violations: list[str] = []

    def submit(self, ask: Ask) -> None:
        """Submit until there is an answer; now and then once more after it."""

        def work(plane: Plane) -> str:
            return plane.submit(principal_of(ask.user), ask.spec, ask.key)

        def answered(job: str) -> None:
            if ask.job not in (None, job):
                self.violations.append(f"{ask.key} was answered {ask.job} and then {job}")
            first = ask.job is None
            ask.job = job
            self._trace.note("tenant", f"submission {ask.number} is {job}")
            if first and self._dice.chance(100):
                self._loop.after(self._dice.between(1, 60_000), lambda: self.submit(ask))
            if first and ask.cancel_after_ms is not None:
                self._loop.after(ask.cancel_after_ms, lambda: self.cancel(ask))
            if first and ask.wish is not None:
                ask.changing = True
                self._change(ask, list(ask.wish.changes))

        def refused(refusal: Refused) -> None:
            if ask.job is not None:
                self.violations.append(f"{ask.key} was {ask.job} and is refused: {refusal}")
            ask.refused = refusal.reason
            self._trace.note("tenant", f"submission {ask.number} refused: {refusal.reason}")

        self._call(work, answered, refused)

    def cancel(self, ask: Ask) -> None:
        """Cancel until it is answered."""
        job = ask.job
        assert job is not None
        ask.cancel_asked = True

        def work(plane: Plane) -> None:
            plane.cancel(principal_of(ask.user), job)

        def answered(_: None) -> None:
            self._trace.note("tenant", f"cancel of {job} is answered")

        def refused(refusal: Refused) -> None:
            self._trace.note("tenant", f"cancel of {job} refused: {refusal.reason}")

        self._call(work, answered, refused)

    def end_services(self, asks: list[Ask]) -> None:
        """Every service that goes on is cancelled."""
        for ask in asks:
            if ask.wish is not None and ask.job is not None and not ask.cancel_asked:
                self.cancel(ask)

    def _change(self, ask: Ask, changes: list[Change]) -> None:
        """Ask for one change of a service after the other."""
        if not changes:
            ask.changing = False
            return
        change, job = changes.pop(0), ask.job
        assert job is not None

        def work(plane: Plane) -> None:
            who = principal_of(ask.user)
            if change.replica is not None:
                plane.cancel(who, f"{job}[{change.replica}]")
                return
            wanted, now_ms = change.replicas or 0, self._loop.wall_ms
            plane.write(
                "scale", lambda txn: plane.control.scale(txn, who, job, wanted, now_ms)
            )  # fmt: skip

        def answered(_: None) -> None:
            self._trace.note("tenant", f"{change} of {job} is answered")
            if change.replicas is not None:
                ask.wanted = change.replicas
            self._change(ask, changes)

        def refused(refusal: Refused) -> None:
            self._trace.note("tenant", f"{change} of {job} refused: {refusal.reason}")
            self._change(ask, changes)

        self._loop.after(change.after_ms, lambda: self._call(work, answered, refused))

    def look(self, asks: list[Ask]) -> None:
        """Everybody lists, and asks for a job of somebody else's."""
        plane = self._leader.plane
        if plane is None or not plane.life.alive:
            return
        known = {ask.job: ask for ask in asks if ask.job is not None}
        for organisation in ORGANISATIONS:
            viewer = Principal(
                f"/tenant/{organisation}/user/eve", Role.TENANT, TenantPath(organisation)
            )
            for job, tenant, name in plane.list_jobs(viewer):
                if tenant.split("/")[0] != organisation:
                    self.violations.append(f"{organisation} is shown {job} of {tenant}")
                if job in known and known[job].spec.name != name:
                    self.violations.append(f"{job} is shown as {name}")
            for job in self._dice.some(sorted(known), min(len(known), GETS_MAX)):
                own = known[job].tenant.split("/")[0] == organisation
                if plane.may_get(viewer, job) is not own:
                    self.violations.append(f"{organisation} may get {job}: {not own}")

    def _call(
        self,
        work: Callable[[Plane], T],
        answered: Callable[[T], None],
        refused: Callable[[Refused], None],
    ) -> None:
        """One call: there, done, back; any of it may fail, and then it is made again."""

        def again() -> None:
            self._loop.after(
                self._dice.between(500, RETRY_MS_MAX),
                lambda: self._call(work, answered, refused),
            )

        def arrive() -> None:
            plane = self._leader.plane
            if plane is None or self._lost():
                again()
                return
            try:
                result = work(plane)
            except Down:
                again()
            except Refused as error:
                refusal = error
                if refusal.reason in TRANSIENT:
                    again()
                else:
                    self._back(plane, lambda: refused(refusal), again)
            else:
                self._back(plane, lambda: answered(result), again)

        self._loop.after(self._dice.between(1, HOP_MS_MAX), arrive)

    def _back(self, plane: Plane, reply: Callable[[], None], again: Callable[[], None]) -> None:
        """The answer travels, unless it is lost or its sender dies."""
        lost = self._lost()

        def arrive() -> None:
            if lost or not plane.life.alive:
                again()
            else:
                reply()

        self._loop.after(self._dice.between(1, HOP_MS_MAX), arrive)

    def _lost(self) -> bool:
        return self.lossy and self._dice.chance(LOST_PER_MILLE)
