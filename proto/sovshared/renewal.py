"""When to renew a certificate, and the small loop that does.

A certificate is renewed at half its life, or after a day if that is earlier, so that an outage of
the CA has to last long before anybody is locked out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from sovshared import pki

RENEW_AFTER_MS_MAX = 24 * 3600 * 1000
CHECK_MS = 60_000
RETRY_MS_MIN = 5_000
RETRY_MS_MAX = 600_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Renewed:
    """The CA's answer."""

    chain_pem: bytes
    trust_pem: bytes


Renew = Callable[[bytes], Awaitable[Renewed]]
"""Sends a signing request (DER) to the CA."""


def renew_at_ms(not_before_ms: int, not_after_ms: int) -> int:
    """When a certificate of this validity is to be renewed."""
    assert not_before_ms < not_after_ms
    return not_before_ms + min((not_after_ms - not_before_ms) // 2, RENEW_AFTER_MS_MAX)


def is_due(not_before_ms: int, not_after_ms: int, now_ms: int) -> bool:
    """Whether a certificate of this validity is to be renewed by now."""
    return now_ms >= renew_at_ms(not_before_ms, not_after_ms)


def retry_in_ms(failures: int) -> int:
    """How long to wait after `failures` failures in a row: doubling, bounded."""
    assert failures >= 1
    return min(RETRY_MS_MIN << min(failures - 1, 16), RETRY_MS_MAX)


async def renew_once(directory: Path, renew: Renew) -> pki.Identity:
    """Renews the identity in `directory` with a fresh key, and keeps the new one there."""
    old = pki.load(directory)
    key = pki.new_key()
    answer = await renew(pki.make_csr(key, old.facts().spiffe_id, replaces=old))
    new = pki.Identity(pki.key_to_pem(key), answer.chain_pem, answer.trust_pem)
    if new.facts().spiffe_id != old.facts().spiffe_id:
        raise pki.PkiInvalid(f"renewal: found a certificate for {new.facts().spiffe_id!r}")
    pki.save(directory, new)
    return new


async def keep_renewed(
    directory: Path,
    renew: Renew,
    *,
    now_ms: Callable[[], int],
    renewed: Callable[[pki.Identity], None],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Renews the identity in `directory` whenever it is due, for ever; `renewed` hears of each.

    A failure is logged and tried again, ever less often: the old certificate is still good.
    """
    failures = 0
    while True:
        facts = pki.load(directory).facts()
        if not is_due(facts.not_before_ms, facts.not_after_ms, now_ms()):
            await sleep(CHECK_MS / 1000)
            continue
        try:
            identity = await renew_once(directory, renew)
        except Exception as error:  # Whatever went wrong, the next try may succeed.
            failures += 1
            _log.warning("renewal failed (%d in a row): %s", failures, error)
            await sleep(retry_in_ms(failures) / 1000)
            continue
        failures = 0
        renewed(identity)
