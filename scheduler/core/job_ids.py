"""Public names of jobs: a keyed permutation of row ids, so that names tell no volumes.

A Feistel network over 64 bits with keyed BLAKE2b as its round function: every 64-bit number has
exactly one public form and back. It hides order and count; it is no secret by itself, and nothing
may be authorised by knowing an id.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache

from scheduler.model.ids import JobId

ROUNDS = 6
KEY_BYTES_MIN = 16
KEY_BYTES_MAX = 64
JOB_ID_MAX = (1 << 63) - 1
NAMES_MAX = 8_192
"""Names that are remembered: a job is named in its leaf, and again in the answer to its tenant."""
PREFIX = "job-"
PUBLIC_ID_PATTERN = re.compile(r"job-[a-z2-7]{13}")
NUMBERS_MAX = 1 << 18
"""Jobs whose number in public is remembered, the newest of them: a name is made of it at a fifth of
what the number costs, and most jobs are placed, and end, soon after they were submitted. A power of
two; 14 MB when all are in use."""
_HALF_BITS = 32
_HALF_BYTES = _HALF_BITS // 8
_HALF_MASK = (1 << _HALF_BITS) - 1
_NUMBER_BITS = 2 * _HALF_BITS
_NUMBER_MASK = (1 << _NUMBER_BITS) - 1
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
# 13 letters of 5 bits, of which the last bit is no part of the number: one letter, then pairs.
_FIRST = tuple(PREFIX + letter for letter in _LETTERS)
_PAIRS = tuple(one + other for one in _LETTERS for other in _LETTERS)


class JobIdCodec:
    """Encodes row ids as `job-` and 13 base32 characters, and decodes them, under one key."""

    def __init__(self, key: bytes) -> None:
        if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
            raise ValueError(
                f"job id key: {len(key)} bytes, allowed {KEY_BYTES_MIN} to {KEY_BYTES_MAX}"
            )
        # One keyed state a round, copied for each use: keying BLAKE2b is most of its cost.
        self._rounds = tuple(
            hashlib.blake2b(key=key, digest_size=_HALF_BYTES, person=b"sov job %d" % n)
            for n in range(ROUNDS)
        )
        self._copies = tuple(state.copy for state in self._rounds)
        self._name_of = lru_cache(NAMES_MAX)(self._encoded)
        # Of a job and its number one integer, at the job's place in turn: threads share this, and
        # see both or neither.
        self._numbers: list[int] = [-1] * NUMBERS_MAX

    def encode(self, job: JobId) -> str:
        """The public form of `job`."""
        return self._name_of(job)

    def _encoded(self, job: JobId) -> str:
        if not 0 <= job <= JOB_ID_MAX:
            raise ValueError(f"job id {job}: allowed 0 to {JOB_ID_MAX}")
        known = self._numbers[job % NUMBERS_MAX]
        if known >> _NUMBER_BITS != job:
            known = job << _NUMBER_BITS | self._forward(job)
            self._numbers[job % NUMBERS_MAX] = known
        return _text(known & _NUMBER_MASK)

    def decode(self, public: str) -> JobId | None:
        """The row id that `public` names, or None when it is no job id under this key."""
        if PUBLIC_ID_PATTERN.fullmatch(public) is None:
            return None
        number = int.from_bytes(base64.b32decode(public[len(PREFIX) :].upper() + "==="), "big")
        # 13 characters hold 65 bits: only the spelling that we would write is a name.
        if _text(number) != public:
            return None
        job = self._backward(number)
        return JobId(job) if job <= JOB_ID_MAX else None

    def _mix(self, round_number: int, half: int) -> int:
        state = self._rounds[round_number].copy()
        state.update(half.to_bytes(_HALF_BYTES, "big"))
        return int.from_bytes(state.digest(), "big")

    def _forward(self, number: int) -> int:
        left, right = number >> _HALF_BITS, number & _HALF_MASK
        # `_mix` written out: every job that is submitted or placed is named, thousands a second.
        for copied in self._copies:
            state = copied()
            state.update(right.to_bytes(_HALF_BYTES, "big"))
            left, right = right, left ^ int.from_bytes(state.digest(), "big")
        return left << _HALF_BITS | right

    def _backward(self, number: int) -> int:
        left, right = number >> _HALF_BITS, number & _HALF_MASK
        for n in reversed(range(ROUNDS)):
            left, right = right ^ self._mix(n, left), left
        return left << _HALF_BITS | right


def _text(number: int) -> str:
    """Base32 (RFC 4648) of the 8 bytes of `number`, in small letters and without padding."""
    bits = number << 1
    return (
        f"{_FIRST[bits >> 60]}{_PAIRS[bits >> 50 & 1023]}{_PAIRS[bits >> 40 & 1023]}"
        f"{_PAIRS[bits >> 30 & 1023]}{_PAIRS[bits >> 20 & 1023]}{_PAIRS[bits >> 10 & 1023]}"
        f"{_PAIRS[bits & 1023]}"
    )
