"""What is durable and what should be: the journal's two versions, one write at a time."""

from __future__ import annotations

from dataclasses import replace

from agent.site.events import Persist, Persisted, PersistFailed
from agent.site.state import Journal, Memory, Verdict

RETRY_MS = 2_000


class Ledger:
    """`durable` is acted upon; `proposed` is what to write next. Never the other way round."""

    def __init__(self, journal: Journal) -> None:
        self.durable = journal
        self.proposed = journal
        self._version = 0
        self._in_flight: tuple[int, Journal] | None = None
        self._not_before_ms: int | None = None

    @property
    def failing(self) -> bool:
        """Whether the last write failed: what we were told since may not be durable."""
        return self._not_before_ms is not None

    def propose(self, journal: Journal) -> None:
        """What should be durable from now on."""
        assert journal.generation >= self.durable.generation
        assert journal.epoch >= self.durable.epoch
        self.proposed = journal
        self._version += 1

    def remember(self, key: str, memory: Memory) -> None:
        """Propose another memory of one attempt."""
        self.propose(replace(self.proposed, memory={**self.proposed.memory, key: memory}))

    def pronounce(self, key: str, verdict: Verdict) -> None:
        """Propose a verdict; the first one stands."""
        memory = self.proposed.memory.get(key, Memory(unsure=True))
        if key in self.proposed.rows and memory.verdict is None:
            self.remember(key, replace(memory, verdict=verdict))

    def learn_boot(self, key: str, slot: str, boot_id: str) -> None:
        """A rank lives in this boot: remember it, in case its launch was forgotten."""
        memory = self.proposed.memory.get(key)
        if memory is not None and slot not in memory.boots:
            self.remember(key, replace(memory, boots={**memory.boots, slot: boot_id}))

    def drop(self, keys: frozenset[str]) -> None:
        """Propose to let go of attempts that are over, forgotten and cleaned up.

        A row that was changed meanwhile stays.
        """
        proposed = self.proposed
        gone = {key for key in keys if proposed.rows.get(key) is self.durable.rows.get(key)}
        if not gone:
            return
        rows = {key: row for key, row in proposed.rows.items() if key not in gone}
        memory = {key: held for key, held in proposed.memory.items() if key not in gone}
        self.propose(replace(proposed, rows=rows, memory=memory))

    def write_due(self, now_ms: int) -> Persist | None:
        """What to write now, if anything."""
        paused = self._not_before_ms is not None and now_ms < self._not_before_ms
        if self.proposed is self.durable or self._in_flight is not None or paused:
            return None
        self._in_flight = (self._version, self.proposed)
        return Persist(self._version, self.proposed)

    def written(self, event: Persisted | PersistFailed, now_ms: int) -> None:
        """The write is over. When it failed, what was desired is dropped, for it will be sent
        again; what we must remember is kept and tried again.
        """
        if self._in_flight is None or event.version != self._in_flight[0]:
            return
        journal, self._in_flight = self._in_flight[1], None
        if isinstance(event, Persisted):
            self.durable, self._not_before_ms = journal, None
            return
        self._not_before_ms = now_ms + RETRY_MS
        memory = {
            key: self.proposed.memory.get(key, held) for key, held in self.durable.memory.items()
        }
        unchanged = memory == dict(self.durable.memory)
        self.propose(self.durable if unchanged else replace(self.durable, memory=memory))
