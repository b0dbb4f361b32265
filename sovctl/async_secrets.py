"""Secrets, as coroutines: sealed here, so that nobody on the way ever has a value."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sovapi.v1 import common_pb2, tenants_pb2
from sovctl.errors import ConfigError
from sovctl.link import Connected
from sovctl.sealed import key_at, seal_secret

PAGE_SIZE = 500


class AsyncSecretCalls(Connected):
    """Calls of TenantService about secrets."""

    async def set_secret(self, name: str, value: bytes) -> None:
        """Seals a value with the key of the context's key service, and keeps it under `name`."""
        if not self.key_service:
            raise ConfigError("key_service: found none in the context; `sovctl keys create` first")
        sealed = seal_secret(name, value, key_at(self.key_service))
        request = tenants_pb2.SetSecretRequest(name=name, value=sealed)
        await self.link.call(self.link.tenants.SetSecret, request)

    async def secrets(self) -> AsyncIterator[str]:
        """Names of secrets."""
        token = ""
        while True:
            page = common_pb2.PageRequest(page_size=PAGE_SIZE, page_token=token)
            request = tenants_pb2.ListSecretsRequest(page=page)
            response = await self.link.call(self.link.tenants.ListSecrets, request)
            for name in response.names:
                yield name
            token = response.next_page_token
            if not token:
                return

    async def remove_secret(self, name: str) -> None:
        """There is no such secret any more."""
        request = tenants_pb2.RemoveSecretRequest(name=name)
        await self.link.call(self.link.tenants.RemoveSecret, request)
