"""A launch order as the driver gets it: checked, and answered in the port's words. No Ray here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from agent.site import executor as port

ATTEMPT_KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\.\d{1,9}")


class Failed(Exception):
    """A launch that did not work, as the port's result says it."""

    def __init__(self, reason: str, detail: str, *, retryable: bool) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.retryable = reason, detail, retryable


@dataclass(frozen=True, slots=True)
class Rank:
    """One rank of an order, with its spool key."""

    key: str
    node: str
    order: Mapping[str, Any]


def ranks_of(order: Mapping[str, Any]) -> list[Rank]:
    """An order's ranks, rank 0 first; an order that contradicts itself is refused."""
    rows = sorted(cast("list[Mapping[str, Any]]", order["ranks"]), key=lambda row: row["rank"])
    if not ATTEMPT_KEY.fullmatch(str(order["key"])):
        raise Failed(
            port.REASON_ORDER, f"key {order['key']!r}: want <job>.<attempt>", retryable=False
        )
    if [row["rank"] for row in rows] != list(range(len(rows))) or not rows:
        found = [row["rank"] for row in rows]
        raise Failed(port.REASON_ORDER, f"ranks {found}: want 0, 1, ...", retryable=False)
    places = {row["node"] for row in rows}
    if len(places) != order["num_nodes"]:
        detail = f"num_nodes {order['num_nodes']}: the ranks name {len(places)} nodes"
        raise Failed(port.REASON_ORDER, detail, retryable=False)
    return [Rank(f"{order['key']}.{row['rank']}", str(row["node"]), row) for row in rows]


def starts_at_once(order: Mapping[str, Any]) -> bool:
    """Whether nothing has to be asked, or be there, before the start, but what nodes say of
    themselves once: ranks without a lease and a bundle, of which each has a network of its own, or
    is alone. Their nodes make room for them as they start them.
    """
    meets = len(order["ranks"]) > 1 and order["isolation"] == "none"
    return not meets and not order["leased"] and order["bundle_digest"] is None


def result(
    key: str, reason: str = "", detail: str = "", *, retryable: bool = False
) -> dict[str, Any]:
    """A LaunchResult as JSON."""
    detail = detail[:2000]
    return {
        "key": key,
        "ok": not reason,
        "reason": reason,
        "detail": detail,
        "retryable": retryable,
    }


def first_line(error: BaseException) -> str:
    """The part of an error a person reads first."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"[:500]
