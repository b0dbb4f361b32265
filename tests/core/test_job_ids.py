from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.job_ids import (
    JOB_ID_MAX,
    NAMES_MAX,
    NUMBERS_MAX,
    PUBLIC_ID_PATTERN,
    JobIdCodec,
)
from scheduler.model.ids import JobId

CODEC = JobIdCodec(b"a key for tests, 32 bytes long..")


@given(st.integers(0, JOB_ID_MAX))
def test_every_row_id_has_one_public_form_and_back(number: int) -> None:
    public = CODEC.encode(JobId(number))
    assert PUBLIC_ID_PATTERN.fullmatch(public)
    assert CODEC.decode(public) == number


@given(st.text() | st.from_regex(r"job-[a-z2-7]{13}", fullmatch=True))
def test_what_decodes_is_what_would_be_encoded(text: str) -> None:
    number = CODEC.decode(text)
    assert number is None or CODEC.encode(number) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("job-", id="a prefix alone"),
        pytest.param("job-aaaaaaaaaaaaa\n", id="a line end after it"),
        pytest.param("job-AAAAAAAAAAAAA", id="capital letters"),
        pytest.param("job-1111111111111", id="digits outside the alphabet"),
        pytest.param("job-aaaaaaaaaaaa", id="too short"),
        pytest.param("7", id="a row id"),
    ],
)
def test_malformed_ids_are_no_ids(text: str) -> None:
    assert CODEC.decode(text) is None


def test_jobs_whose_numbers_are_remembered_in_one_place_keep_their_own_names() -> None:
    sharing = [JobId(5 + turn * NUMBERS_MAX) for turn in range(3)]
    first = [CODEC.encode(job) for job in sharing]
    for other in range(NAMES_MAX):  # So that none is remembered as a whole.
        CODEC.encode(JobId(1_000 + other))
    again = [CODEC.encode(job) for job in reversed(sharing)]
    assert again == first[::-1]
    assert [CODEC.decode(name) for name in first] == sharing


def test_the_last_character_has_one_spelling() -> None:
    public = CODEC.encode(JobId(1))
    last = public[-1]
    others = [c for c in "abcdefghijklmnopqrstuvwxyz234567" if c != last]
    same_bits = [c for c in others if CODEC.decode(public[:-1] + c) == 1]
    assert same_bits == []


def test_neighbours_look_unrelated_and_keys_differ() -> None:
    names = [CODEC.encode(JobId(n)) for n in range(1000)]
    assert len(set(names)) == 1000
    assert names != sorted(names)
    assert max(
        sum(a == b for a, b in zip(one[4:], two[4:], strict=True))
        for one, two in itertools.pairwise(names)
    ) < 10  # fmt: skip
    assert JobIdCodec(b"another key, also long enough...").decode(names[0]) != 0


@pytest.mark.parametrize("length", [0, 15, 65])
def test_a_key_of_the_wrong_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=rf"{length} bytes, allowed 16 to 64"):
        JobIdCodec(b"k" * length)
