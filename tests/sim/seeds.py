"""Randomness of a simulation: one seed, and a stream of its own for each purpose.

A purpose that draws once more, or not at all, shifts no other purpose's numbers: a change in one
place leaves the rest of a run as it was.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

PER_MILLE = 1000

T = TypeVar("T")


class Dice:
    """One stream. Everything is drawn as integers, so no platform's floats matter."""

    def __init__(self, seed: int, *purpose: str) -> None:
        name = "/".join((str(seed), *purpose))
        digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
        self._seed = seed
        self._purpose = purpose
        self._random = random.Random(int.from_bytes(digest, "big"))

    def fork(self, *purpose: str) -> Dice:
        """A stream for a narrower purpose. Depends on the names alone, not on what was drawn."""
        return Dice(self._seed, *self._purpose, *purpose)

    def between(self, least: int, most: int) -> int:
        """A whole number, both ends included."""
        return self._random.randint(least, most)

    def chance(self, per_mille: int) -> bool:
        """True so many times in a thousand."""
        return self._random.randrange(PER_MILLE) < per_mille

    def pick(self, choices: Sequence[T]) -> T:
        """One of `choices`."""
        return choices[self._random.randrange(len(choices))]

    def some(self, choices: Sequence[T], count: int) -> list[T]:
        """`count` different ones of `choices`, in their order."""
        positions = sorted(self._random.sample(range(len(choices)), count))
        return [choices[position] for position in positions]

    def name(self, length: int = 12) -> str:
        """A name that nothing else has, as lowercase letters and digits."""
        return "".join(self.pick("abcdefghijklmnopqrstuvwxyz234567") for _ in range(length))

    def octets(self, count: int) -> bytes:
        """Random bytes."""
        return self._random.randbytes(count)
