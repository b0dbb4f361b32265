"""The asyncio client. Everything is implemented here; `sovctl.client` runs it on a thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import grpc

from sovctl import config
from sovctl.async_access import AsyncAccessCalls
from sovctl.async_agreements import AsyncAgreementCalls
from sovctl.async_datasets import AsyncDatasetCalls
from sovctl.async_evidence import AsyncEvidenceCalls
from sovctl.async_jobs import AsyncJobCalls
from sovctl.async_operations import AsyncOperationCalls, Joined
from sovctl.async_secrets import AsyncSecretCalls
from sovctl.device_login import DeviceCode, ProviderAsked, id_token
from sovctl.downloads import AsyncDownloadCalls
from sovctl.errors import ConfigError
from sovctl.forwarding import AsyncForwardCalls
from sovctl.link import CALL_TIMEOUT_MS, Link, open_channel, open_join_channel
from sovshared import pki, renewal


class AsyncClient(
    AsyncJobCalls,
    AsyncOperationCalls,
    AsyncEvidenceCalls,
    AsyncDatasetCalls,
    AsyncAccessCalls,
    AsyncSecretCalls,
    AsyncAgreementCalls,
    AsyncDownloadCalls,
    AsyncForwardCalls,
):
    """A control plane, as one identity sees it.

    Use it in an `async with`, or close it. Nothing is sent before the first call.
    """

    def __init__(
        self,
        context: str | config.Context = "",
        *,
        timeout_s: float = CALL_TIMEOUT_MS / 1000,
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        """Reads the configuration.

        Args:
            context: A context, or the name of a configured one; default: the current one.
            timeout_s: Deadline of each call.
            channel: A connection that somebody else made, in place of the context's own.

        Raises:
            ConfigError: There is no such context.
        """
        if isinstance(context, str):
            context = config.load().context(context)
        self.context = context
        self.project = context.project
        self.key_service = context.key_service
        self._timeout_ms = int(timeout_s * 1000)
        self._channel = channel
        self._link: Link | None = None

    @property
    def link(self) -> Link:
        """The connection; opened on first use, inside a running event loop."""
        if self._link is None:
            channel = self._channel or open_channel(self.context)
            self._link = Link(channel, self.context.endpoint, timeout_ms=self._timeout_ms)
        return self._link

    async def renew_if_due(self, now_ms: int) -> bool:
        """Renews the certificate at half its life; whether it did.

        Only identities kept in a directory (`credentials`) are renewed: three files that somebody
        else placed are somebody else's to replace. Who logged in logs in again.
        """
        if not self.context.credentials:
            return False
        identity = config.identity(self.context)
        facts = identity.facts()
        if not renewal.is_due(facts.not_before_ms, facts.not_after_ms, now_ms):
            return False
        if now_ms >= facts.not_after_ms:
            remedy = "ask for a token and join again"
            if self.context.login is not None:
                remedy = "log in again with `sovctl login`"
            raise ConfigError(
                f"the certificate of {facts.spiffe_id} has expired; {remedy}",
                reason="UNAUTHENTICATED",
            )
        if self.context.login is not None:
            return False
        joined = await self.renew(identity)
        pki.save(Path(self.context.credentials), joined.identity)
        await self.close()  # The next call connects with the new certificate.
        return True

    async def close(self) -> None:
        """Ends calls under way and the connection."""
        if self._link is not None:
            await self._link.close()
            self._link = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()


async def join(context: config.Context, trust_pem: bytes, name: str, token: str) -> Joined:
    """Makes a key and exchanges a join token for a certificate of `name`. Saves nothing."""
    channel = open_join_channel(context, trust_pem)
    async with AsyncClient(context, channel=channel) as client:
        return await client.join_as(name, token)


async def login(
    context: config.Context,
    trust_pem: bytes,
    provider: ProviderAsked,
    name: str,
    show: Callable[[DeviceCode], None],
) -> Joined:
    """Makes a key, and exchanges an identity provider's word for a certificate; `show` tells a
    person how to sign in. `name` may be empty where that word gives one name. Saves nothing."""
    key = pki.new_key()
    token = await id_token(provider, pki.public_key_digest(key.public_key()), show)
    channel = open_join_channel(context, trust_pem)
    async with AsyncClient(context, channel=channel) as client:
        return await client.log_in_as(name, token, key)
