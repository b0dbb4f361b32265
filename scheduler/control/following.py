"""The planner's state, kept in step with the store, and plans from it.

A plan may be asked for while the one before it is being committed. Then all of that counts as
committed, as of the moment that the writer was given, until the change log tells; what it tells
otherwise is read whole. Nearly always the writer keeps all of it, and nothing is read. Else the
plan was made for a fleet that was thought to be fuller than it is. Rightness never rests on it: the
writer holds each plan against the tables.
"""

from __future__ import annotations

from scheduler.core.fleet import FleetState
from scheduler.core.planner import plan
from scheduler.model.plan import Plan, PlanBudget, Underway
from scheduler.store.changes import ChangesTrimmed
from scheduler.store.store import ReadStore

CHANGES_MAX = 50_000
"""Further behind than this, starting anew is cheaper than following."""


class Following:
    """The planner's state, kept in step with the store."""

    def __init__(self, store: ReadStore) -> None:
        self.store = store
        self.state = FleetState()
        self._loaded = False

    def plan(
        self, now_ms: int, budget: PlanBudget, number: int, underway: Underway | None = None
    ) -> Plan | None:
        """What to place, as of what is committed and of the plan that is `underway`; whatever was
        underway before has been committed by now, or never will be.

        None: more than that plan was heard of since it was made, or it takes more than nodes and
        quota. Ask again when it is committed.
        """
        if underway is None:
            self.catch_up(0)
            return plan(self.state, now_ms, budget, number)
        presuming = self.state
        if not presuming.alarm.presume(underway):
            return None
        self.catch_up(underway.plan)
        if self.state is not presuming:  # It was read anew, where nothing is presumed.
            return None
        return plan(self.state, now_ms, budget, number)

    def catch_up(self, underway: int | None = None) -> None:
        """Applies what was committed since the last time. `underway`: the number of the only plan
        that may be about to be, 0 where none is; None: nobody knows."""
        with self.store.read() as snapshot:
            if self._loaded:
                try:
                    own = self.state.alarm.own(underway)
                    feed = snapshot.changes.since(self.state.sequence, CHANGES_MAX, own)
                except ChangesTrimmed:
                    self._loaded = False
                else:
                    self.state.apply_all(feed.sequence, feed.changes)
                    return
            self._begin()
            sequence, changes = snapshot.changes.load_all()
            self.state.apply_all(sequence, changes)
            self._loaded = True

    def _begin(self) -> None:
        """All is about to be read."""
        self.state = FleetState()
