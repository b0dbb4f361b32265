"""Who may write. Taking the lease makes a new epoch; every transaction asserts that it is ours.

On SQLite whoever opens the file for writing last is the leader: a scheduler that was replaced finds
a newer epoch at its next transaction, is refused, and changes nothing.
"""

from __future__ import annotations

from sqlalchemy import Connection

from scheduler.model.reasons import Code, Reason, Refused
from scheduler.store.bulk import Statement
from scheduler.store.dialect import upsert
from scheduler.store.schema import LEASES

LEADER = "leader"
_EPOCH = Statement(LEASES, "SELECT epoch FROM leases WHERE name = ?")
_EPOCH_LOCKED = Statement(LEASES, f"{_EPOCH.text} FOR UPDATE")


def take(connection: Connection, beyond: int) -> int:
    """Makes the caller leader; its epoch is answered, which is later than `beyond` too."""
    epoch = max(current(connection), beyond) + 1
    upsert(connection, LEASES, [{"name": LEADER, "epoch": epoch}])
    return epoch


def current(connection: Connection) -> int:
    """The newest epoch, 0 when nobody ever led."""
    # Locked where rows can be: nobody takes the lease between our check and our commit.
    question = _EPOCH if connection.dialect.name == "sqlite" else _EPOCH_LOCKED
    return sum(row[0] for row in question.rows(connection, (LEADER,)))


def assert_leader(connection: Connection, epoch: int) -> None:
    """Refuses when somebody has taken over."""
    newest = current(connection)
    if newest != epoch:
        raise Refused(
            Code.UNAVAILABLE,
            Reason.NOT_LEADER,
            f"another scheduler has taken over: epoch {newest}, ours is {epoch}",
        )
