"""Whom jobs of one class may ask to leave: those who may be, are willing, and ran long enough.

Those who rank lowest come first, where work of other projects ranks by its priority alone, and of
one rank those whose checkpoint, or else whose start, is newest.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import merge

from scheduler.core.evictable import EVERYBODY, ripe_at_ms
from scheduler.core.outlook import Outlook, stake_of
from scheduler.core.ranks import Rank, outranks
from scheduler.core.stakes import Stake, standing
from scheduler.model.ids import JobId
from scheduler.model.plan import LiveAttempt

CANDIDATES_MAX = 8_192
"""Attempts found for one class of jobs at most: further ones have more to lose."""


def whom_to_ask(outlook: Outlook, stake: Stake) -> tuple[list[LiveAttempt], int]:
    """The attempts that `stake` may ask to leave, and how many were looked at to find them."""
    found: list[LiveAttempt] = []
    looked = 0
    for line in _lines(outlook, stake):
        for _, job in line:
            looked += 1
            live = outlook.fleet.live[job]
            if job in outlook.leaving or ripe_at_ms(live) > outlook.now_ms:
                continue
            victim = stake_of(outlook.fleet, live.placement, live.job_class)
            if not outlook.ledger.may_ask(stake, victim):
                continue
            found.append(live)
            if len(found) >= CANDIDATES_MAX:
                return found, looked
    return found, looked


def _lines(outlook: Outlook, stake: Stake) -> Iterable[Iterable[tuple[int, JobId]]]:
    """The lines of those whom the rules let `stake` ask, lowest rank first."""
    by_rank: dict[Rank, list[list[tuple[int, JobId]]]] = {}
    for tenant, lines in outlook.evictable.lines.items():
        own = tenant == stake.tenant
        # Whether the rules let it ask the smallest piece of work there is. Of another tenant's, it
        # is the same whatever its rank.
        least = Stake(tenant, EVERYBODY, stake.gpu_class, 1)
        if not own and not outlook.ledger.may_ask(stake, least):
            continue
        for (gpu_class, rank), line in lines.items():
            if gpu_class == stake.gpu_class and (not own or outranks(stake.rank, rank)):
                by_rank.setdefault(standing(stake, tenant, rank), []).append(line.in_order())
    return [merge(*by_rank[rank]) for rank in sorted(by_rank)]
