"""The keys that identity providers sign with, as they publish them, fetched when somebody logs in.

A key that is not known is looked for once more: providers change keys and tell nobody. What is
known is believed for an hour, so a key that a provider takes back ends here with that; without the
provider nobody logs in after it, which nobody could anyhow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scheduler.api.errors import unavailable
from scheduler.api.id_tokens import keys_in, login_refused
from scheduler.model.login import Provider
from scheduler.model.reasons import Refused
from sovshared import https_json
from sovshared.https_json import HttpsFailed

BELIEVED_MS = 3_600_000
AGAIN_MS = 30_000
"""Between two looks at one provider: whoever makes up key ids must not send us there each time."""
AGAIN_FAILED_MS = 2_000
"""After a look that failed."""
RETRY_AFTER_MS = 5_000

Fetch = Callable[[Provider], dict[str, dict[str, Any]]]


def fetch(provider: Provider) -> dict[str, dict[str, Any]]:
    """A provider's keys as it publishes them now. Blocks; raises HttpsFailed."""
    found = https_json.discover(provider.issuer, provider.trust_pem)
    url = https_json.endpoint(found, "jwks_uri", provider.issuer)
    return keys_in(https_json.ask(url, provider.trust_pem)[1])


@dataclass(slots=True)
class _Known:
    keys: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    fetched_ms: int | None = None
    not_before_ms: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class ProviderKeys:
    """What is known of providers' keys. Owned by the event loop."""

    def __init__(self, boot_ms: Callable[[], int], fetch: Fetch = fetch) -> None:
        self._boot_ms = boot_ms
        self._fetch = fetch
        self._known: dict[Provider, _Known] = {}

    async def key(self, provider: Provider, key_id: str) -> dict[str, Any]:
        """The key with this id. Refuses one that the provider does not publish: UNAVAILABLE, where
        it cannot be asked."""
        known = self._known.setdefault(provider, _Known())
        async with known.turn:
            if not self._believed(known) or key_id not in known.keys:
                await self._look(provider, known)
            if self._believed(known) and key_id in known.keys:
                return known.keys[key_id]
            raise login_refused(
                f"kid: found {key_id[:64]!r}, allowed one that {provider.issuer} publishes"
            )

    def _believed(self, known: _Known) -> bool:
        return known.fetched_ms is not None and self._boot_ms() - known.fetched_ms < BELIEVED_MS

    async def _look(self, provider: Provider, known: _Known) -> None:
        now_ms = self._boot_ms()
        if now_ms < known.not_before_ms:
            if self._believed(known):
                return
            raise _away(provider, "it was asked a moment ago")
        known.not_before_ms = now_ms + AGAIN_FAILED_MS
        try:
            known.keys = await asyncio.to_thread(self._fetch, provider)
        except HttpsFailed as error:
            raise _away(provider, str(error)) from error
        known.fetched_ms = self._boot_ms()
        known.not_before_ms = now_ms + AGAIN_MS


def _away(provider: Provider, why: str) -> Refused:
    return unavailable(f"{provider.issuer} cannot be asked for its keys: {why}", RETRY_AFTER_MS)
