"""What a leftover of a GPU is worth, by a cutting-stock linear programme over the request mix.

The programme fills `gpus` GPUs with patterns of requests so that as much as possible is allocated,
when requests come in the shares of the mix and for DEMAND_PERCENT of the fleet together. Its dual
prices say what a request is worth to a GPU that could hold something else instead; the worth of a
leftover is the best that can be put into it at these prices.

Solved by the simplex method with columns made as they are needed: the best new pattern at the
current prices is a knapsack. Floating point inside, in one fixed order of operations; the prices
are rounded to integers at the end, and everything after that is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SCALE = 1000
"""Parts of a GPU-milli."""
GPU_MILLI = 1000
DEMAND_PERCENT = 105
PIVOTS_MAX = 20_000
SIZES_MAX = 64
"""Sizes that the programme distinguishes: the most asked for."""
EPSILON = 1e-7


def values(demand: Mapping[int, int], gpus: int) -> list[int]:
    """Worth of each leftover 0..GPU_MILLI, in 1/SCALE of a GPU-milli, for requests by size."""
    asked = {size: count for size, count in demand.items() if count > 0 and 0 < size <= GPU_MILLI}
    kept = sorted(sorted(asked, key=lambda size: (-size * asked[size], size))[:SIZES_MAX])
    total = sum(size * asked[size] for size in kept)
    if not total or gpus <= 0:
        return [0] * (GPU_MILLI + 1)
    scale = gpus * GPU_MILLI * DEMAND_PERCENT / 100 / total
    worths = _Programme(kept, [asked[size] * scale for size in kept], float(gpus)).solve()
    rounded = [max(0, round(worth * SCALE)) for worth in worths]
    best, _ = _knapsack_exact(kept, rounded)
    return best


class _Programme:
    """Maximise what is allocated: one row a size (its demand) and one for the GPUs."""

    def __init__(self, sizes: Sequence[int], demand: Sequence[float], gpus: float) -> None:
        self.sizes = sizes
        rows = len(sizes) + 1
        self.inverse = [[float(row == column) for column in range(rows)] for row in range(rows)]
        self.rhs = [*demand, gpus]
        self.gain = [0.0] * rows
        self.step = _common(sizes)

    def solve(self) -> list[float]:
        """What a request of each size is worth to a GPU, at the optimum."""
        rows = len(self.rhs)
        for _ in range(PIVOTS_MAX):
            prices = [
                sum(self.gain[row] * self.inverse[row][column] for row in range(rows))
                for column in range(rows)
            ]
            worths = [size - price for size, price in zip(self.sizes, prices, strict=False)]
            entering = self._entering(prices, worths)
            if entering is None:
                return worths
            self._pivot(*entering)
        raise AssertionError("the cutting-stock programme did not end")

    def _entering(
        self, prices: Sequence[float], worths: Sequence[float]
    ) -> tuple[list[float], float] | None:
        """A column that gains, and its gain: a slack with a negative price, else a pattern."""
        least = min(range(len(prices)), key=lambda row: (prices[row], row))
        if prices[least] < -EPSILON:
            return [float(row == least) for row in range(len(prices))], 0.0
        pattern, worth = self._pattern(worths)
        if worth <= prices[-1] + EPSILON:
            return None
        gain = float(sum(count * size for count, size in zip(pattern, self.sizes, strict=True)))
        return [*map(float, pattern), 1.0], gain

    def _pattern(self, worths: Sequence[float]) -> tuple[list[int], float]:
        """The best filling of one GPU."""
        room = GPU_MILLI // self.step
        best = [0.0] * (room + 1)
        last = [-1] * (room + 1)
        for at, (size, worth) in enumerate(zip(self.sizes, worths, strict=True)):
            units = size // self.step
            if worth <= 0:
                continue
            for filled in range(units, room + 1):
                found = best[filled - units] + worth
                if found > best[filled] + EPSILON / 100:
                    best[filled], last[filled] = found, at
        pattern = [0] * len(self.sizes)
        filled = room
        while filled > 0:
            if last[filled] < 0 or best[filled - 1] >= best[filled]:
                filled -= 1
                continue
            at = last[filled]
            pattern[at] += 1
            filled -= self.sizes[at] // self.step
        return pattern, best[room]

    def _pivot(self, column: Sequence[float], gain: float) -> None:
        rows = len(self.rhs)
        moved = [
            sum(line[k] * column[k] for k in range(rows) if column[k]) for line in self.inverse
        ]
        ratios = [(self.rhs[row] / moved[row], row) for row in range(rows) if moved[row] > EPSILON]
        assert ratios, "the cutting-stock programme has no bound"
        ratio, out = min(ratios)
        pivot = moved[out]
        self.inverse[out] = [value / pivot for value in self.inverse[out]]
        for row in range(rows):
            if row != out and moved[row]:
                factor, line = moved[row], self.inverse[out]
                self.inverse[row] = [
                    mine - factor * other
                    for mine, other in zip(self.inverse[row], line, strict=True)
                ]
                self.rhs[row] = max(0.0, self.rhs[row] - factor * ratio)
        self.rhs[out] = ratio
        self.gain[out] = gain


def _knapsack_exact(sizes: Sequence[int], worths: Sequence[int]) -> tuple[list[int], int]:
    best = [0] * (GPU_MILLI + 1)
    for size, worth in zip(sizes, worths, strict=True):
        for room in range(size, GPU_MILLI + 1):
            best[room] = max(best[room], best[room - size] + worth)
    return best, best[GPU_MILLI]


def _common(sizes: Sequence[int]) -> int:
    """The largest step of which all sizes and a whole GPU are multiples."""
    step = GPU_MILLI
    for size in sizes:
        while size:
            step, size = size, step % size
    return step
