"""What is desired of each attempt at its site: absolute rows, each with the generation it got.

Not a queue of commands. A row says all about its attempt; a newer one replaces it. It leaves the
table when it says FORGET and the site has confirmed a generation that includes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import func, select, update

from scheduler.model.ids import AttemptKey, JobId, SiteId
from scheduler.model.sitelink import DesiredAction
from scheduler.store.bulk import IDS, How, Statement, inserting
from scheduler.store.fleet import FleetWriter
from scheduler.store.link import Link
from scheduler.store.records import OutboxRow
from scheduler.store.schema import OUTBOX
from scheduler.store.scratch import Scratch

ROWS_OF_GENERATION_MAX = 64
"""Attempts that share a generation: it is sent whole, and their specs may be large."""


_PUT = inserting(OUTBOX, How.REPLACE)
_DROP = Statement(
    OUTBOX,
    "DELETE FROM outbox WHERE site = ? AND generation > ? AND generation <= ?"
    f" AND action = {int(DesiredAction.FORGET)}",
    part="confirmed",  # What is put has a later generation: neither need wait for the other.
)
_OF = Statement(
    OUTBOX,
    "SELECT site, job, attempt, generation, action, grace_ms, reason FROM outbox"
    f" WHERE site = ? AND job IN {IDS}",
)


class OutboxReader:
    """Reads what is desired."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def get(self, site: SiteId, key: AttemptKey) -> OutboxRow | None:
        """What is desired of one attempt."""
        return self.of(site, (key,)).get(key)

    def of(self, site: SiteId, keys: Iterable[AttemptKey]) -> dict[AttemptKey, OutboxRow]:
        """What is desired of those of `keys` of which `site` is told something."""
        wanted = set(keys)
        found = self._link.among(_OF, sorted({key.job for key in wanted}), (site,))
        return {row.key: row for row in map(_row, found) if row.key in wanted}

    def count(self, site: SiteId, reason: str) -> int:
        """How many rows of `site` there are for this reason."""
        query = select(func.count()).where(OUTBOX.c.site == site, OUTBOX.c.reason == reason)
        return int(self._link.execute(query).scalar_one())

    def since(self, site: SiteId, generation: int) -> tuple[OutboxRow, ...]:
        """Rows of `site` newer than `generation`, ordered by attempt."""
        query = select(OUTBOX).where(OUTBOX.c.site == site, OUTBOX.c.generation > generation)
        query = query.order_by(OUTBOX.c.job, OUTBOX.c.attempt)
        return tuple(_row(row) for row in self._link.execute(query))


class OutboxWriter(OutboxReader):
    """Changes what is desired."""

    def __init__(self, scratch: Scratch, fleet: FleetWriter) -> None:
        super().__init__(scratch.link)
        self._fleet = fleet

    def put(
        self,
        site: SiteId,
        keys: Sequence[AttemptKey],
        action: DesiredAction,
        *,
        grace_ms: int = 0,
        reason: str = "",
    ) -> None:
        """This is desired of `keys` at `site` from the next generation on: many share one."""
        for n in range(0, len(keys), ROWS_OF_GENERATION_MAX):
            generation = self._fleet.next_generation(site)
            rows = [
                (site, key.job, key.attempt, generation, int(action), grace_ms, reason)
                for key in keys[n : n + ROWS_OF_GENERATION_MAX]
            ]
            self._link.do(_PUT, *rows)

    def run(self, placed: Sequence[tuple[SiteId, AttemptKey]]) -> None:
        """New attempts to run, of many sites: as few generations each site as may be."""
        by_site: defaultdict[SiteId, list[AttemptKey]] = defaultdict(list)
        for site, key in placed:
            by_site[site].append(key)
        for site in sorted(by_site):
            self.put(site, by_site[site], DesiredAction.RUN)

    def renumber(self, site: SiteId, generation: int) -> int:
        """Every row of `site` gets `generation` or one after it, in the order that they had, for a
        site that is ahead of what we ever sent; the last one that was given."""
        found = sorted(self.since(site, -1), key=lambda row: (row.generation, row.key))
        given = generation
        for n, row in enumerate(found):
            given = generation + n // ROWS_OF_GENERATION_MAX
            change = update(OUTBOX).where(
                OUTBOX.c.site == site,
                OUTBOX.c.job == row.key.job,
                OUTBOX.c.attempt == row.key.attempt,
            )
            self._link.execute(change.values(generation=given))
        return given

    def drop_forgotten(self, site: SiteId, before: int, acked: int) -> None:
        """Deletes rows that say FORGET, of the generations after `before` up to `acked`, which
        `site` has confirmed now."""
        if before < acked:
            self._link.do(_DROP, (site, before, acked))


def _row(row: Any) -> OutboxRow:
    site, job, attempt, generation, action, grace_ms, reason = row
    key = AttemptKey(JobId(job), attempt)
    return OutboxRow(SiteId(site), key, generation, DesiredAction(action), grace_ms, reason)
