"""The part of the synchronous client about operators' access to tenants' data, and secrets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sovapi.v1 import access_pb2
from sovctl.async_client import AsyncClient
from sovctl.event_loop import EventLoop


class AccessCalls:
    """Calls of AccessService, and about secrets, each until its answer is there."""

    _loop: EventLoop
    _client: AsyncClient

    def request_access(self, asked: access_pb2.RequestAccessRequest) -> access_pb2.AccessGrant:
        """Asks, as an operator, for access to a tenant's data; another operator approves."""
        return self._loop.run(self._client.request_access(asked))

    def approve_access(self, name: str) -> access_pb2.AccessGrant:
        """Approves what another operator asked for."""
        return self._loop.run(self._client.approve_access(name))

    def revoke_access(self, name: str, *, reason: str) -> access_pb2.AccessGrant:
        """Ends access, or a request for it."""
        return self._loop.run(self._client.revoke_access(name, reason=reason))

    def access_grants(self, tenant: str = "") -> Iterator[access_pb2.AccessGrant]:
        """Every request and grant that the caller may see, by id."""
        return self._loop.iterate(lambda: self._client.access_grants(tenant))

    def set_access_policy(self, policy: access_pb2.AccessPolicy) -> access_pb2.AccessPolicy:
        """Says, as a tenant, whom operators with access to its data have to be."""
        return self._loop.run(self._client.set_access_policy(policy))

    def access_policies(self, tenant: str = "") -> Sequence[access_pb2.AccessPolicy]:
        """What a tenant and all above it say of that."""
        return self._loop.run(self._client.access_policies(tenant))

    def set_secret(self, name: str, value: bytes) -> None:
        """Seals a value with the key of the context's key service, and keeps it under `name`."""
        self._loop.run(self._client.set_secret(name, value))

    def secrets(self) -> Iterator[str]:
        """Names of secrets."""
        return self._loop.iterate(self._client.secrets)

    def remove_secret(self, name: str) -> None:
        """There is no such secret any more."""
        self._loop.run(self._client.remove_secret(name))
