"""Pages by opaque token. A token says where the next page begins, and of which list."""

from __future__ import annotations

import base64
from typing import TypeVar

from scheduler.model.reasons import Denial, Reason, invalid
from sovapi.v1 import common_pb2

PAGE_DEFAULT = 100
PAGE_MAX = 1_000
TOKEN_CHARS_MAX = 512

T = TypeVar("T")


def size_of(page: common_pb2.PageRequest) -> int:
    """How many items to answer."""
    if page.page_size < 0:
        found = f"found {page.page_size}, allowed 0 (the default) to {PAGE_MAX}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "page.page_size"))
    return min(page.page_size or PAGE_DEFAULT, PAGE_MAX)


def token_of(kind: str, cursor: str) -> str:
    """The token of the page that begins after `cursor` in the list `kind`."""
    return base64.urlsafe_b64encode(f"1:{kind}:{cursor}".encode()).decode().rstrip("=")


def cursor_of(kind: str, page: common_pb2.PageRequest) -> str | None:
    """Where the page that is asked for begins; None for the first."""
    token = page.page_token
    if not token:
        return None
    found = _decoded(token) if len(token) <= TOKEN_CHARS_MAX else []
    if len(found) != 3 or found[:2] != ["1", kind] or not found[2]:
        fault = "found no token of this list, allowed the one from the page before"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, fault, "page.page_token"))
    return found[2]


def page_by_name(
    items: list[T], names: list[str], kind: str, page: common_pb2.PageRequest
) -> tuple[list[T], str]:
    """One page of `items`, which are sorted by `names`, and the next page's token."""
    after = cursor_of(kind, page)
    first = 0 if after is None else sum(1 for name in names if name <= after)
    last = first + size_of(page)
    more = last < len(items)
    return items[first:last], token_of(kind, names[last - 1]) if more else ""


def _decoded(token: str) -> list[str]:
    padded = token + "=" * (-len(token) % 4)
    try:
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except ValueError:  # binascii's and Unicode's errors are ValueErrors.
        return []
    return text.split(":", 2)
