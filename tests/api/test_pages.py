"""Pages by opaque token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.api import pages
from scheduler.model.reasons import Refused
from sovapi.v1 import common_pb2

PageRequest = common_pb2.PageRequest


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=4), unique=True), st.integers(1, 7))
def test_walking_the_pages_finds_everything_once(names: list[str], size: int) -> None:
    items = sorted(names)
    found: list[str] = []
    token = ""
    while True:
        request = PageRequest(page_size=size, page_token=token)
        page, token = pages.page_by_name(items, items, "sites", request)
        assert len(page) <= size
        found += page
        if not token:
            break
    assert found == items


@pytest.mark.parametrize(
    "token", ["x", "!!!", "é", "a" * 1000, pages.token_of("nodes", "a"), pages.token_of("s", "")]
)
def test_tokens_of_other_lists_and_junk_are_refused(token: str) -> None:
    with pytest.raises(Refused, match="page_token"):
        pages.cursor_of("sites", PageRequest(page_token=token))


def test_page_sizes_are_bounded() -> None:
    assert pages.size_of(PageRequest()) == pages.PAGE_DEFAULT
    assert pages.size_of(PageRequest(page_size=10**9)) == pages.PAGE_MAX
    with pytest.raises(Refused, match="page_size"):
        pages.size_of(PageRequest(page_size=-1))
