"""How NVML encodes bit error rates: mantissa in bits 8-11, negative decimal exponent in 0-7."""

from __future__ import annotations

NO_ERRORS_BER = 0xFFF
"""15e-255: its way to say zero."""


def worst_ber(encoded: list[int]) -> int | None:
    """The highest of several rates; NO_ERRORS_BER when all say zero, None when there is none."""
    real = [ber for ber in encoded if ber & 0xFFF != NO_ERRORS_BER and mantissa(ber)]
    if not real:
        return NO_ERRORS_BER if encoded else None
    # The rate with the fewest zeros behind the point: compare as whole numbers, exactly.
    return max(real, key=lambda ber: mantissa(ber) * 10 ** (255 - exponent(ber)))


def exceeds_ber(encoded: int | None, limit: tuple[int, int]) -> bool:
    """Whether a rate is above mantissa x 10^-exponent of `limit`."""
    if encoded is None or encoded & 0xFFF == NO_ERRORS_BER:
        return False
    most, power = limit
    return mantissa(encoded) * 10 ** (255 - exponent(encoded)) > most * 10 ** (255 - power)


def mantissa(encoded: int) -> int:
    """The rate's mantissa."""
    return encoded >> 8 & 0xF


def exponent(encoded: int) -> int:
    """The rate's negative exponent."""
    return encoded & 0xFF


def as_text(encoded: int) -> str:
    """As Prometheus writes numbers."""
    return "0" if encoded & 0xFFF == NO_ERRORS_BER else f"{mantissa(encoded)}e-{exponent(encoded)}"
