"""Who may write. Taking the lease makes a new epoch; every transaction asserts that it is ours.

On SQLite whoever opens the file for writing last is the leader: a scheduler that was replaced finds
a newer epoch at its next transaction, is refused, and changes nothing.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from scheduler.model.reasons import Code, Reason, Refused
from scheduler.store.dialect import upsert
from scheduler.store.schema import LEASES

LEADER = "leader"


def take(connection: Connection) -> int:
    """Makes the caller leader; its epoch is answered."""
    epoch = current(connection) + 1
    upsert(connection, LEASES, [{"name": LEADER, "epoch": epoch}])
    return epoch


def current(connection: Connection) -> int:
    """The newest epoch, 0 when nobody ever led."""
    # Locked where rows can be: nobody takes the lease between our check and our commit.
    query = select(LEASES.c.epoch).where(LEASES.c.name == LEADER).with_for_update()
    return connection.execute(query).scalar() or 0


def assert_leader(connection: Connection, epoch: int) -> None:
    """Refuses when somebody has taken over."""
    newest = current(connection)
    if newest != epoch:
        raise Refused(
            Code.UNAVAILABLE,
            Reason.NOT_LEADER,
            f"another scheduler has taken over: epoch {newest}, ours is {epoch}",
        )
