"""The part of TenantService that is about secrets."""

from __future__ import annotations

from scheduler.api import calls, pages
from scheduler.api.desk import Desk
from scheduler.api.server import Methods
from scheduler.control import secrets as control
from sovapi.v1 import tenants_pb2

SECRETS_KIND = "secrets"


class SecretCalls:
    """Serves tenants."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def methods(self) -> Methods:
        """What this serves."""
        return {
            "TenantService/ListSecrets": self.list,
            "TenantService/RemoveSecret": self.remove,
            "TenantService/SetSecret": self.set,
        }

    async def set(self, request: tenants_pb2.SetSecretRequest) -> tenants_pb2.SetSecretResponse:
        """Keeps a sealed value."""
        desk, principal, now_ms = self._desk, calls.principal(), self._desk.now_ms()
        await desk.writer.write(
            lambda txn: control.set_secret(txn, principal, request.name, request.value, now_ms)
        )
        return tenants_pb2.SetSecretResponse()

    async def list(
        self, request: tenants_pb2.ListSecretsRequest
    ) -> tenants_pb2.ListSecretsResponse:
        """Names."""
        principal = calls.principal()
        names = list(
            await self._desk.reader.read(lambda snapshot: control.listed(snapshot, principal))
        )
        page, token = pages.page_by_name(names, names, SECRETS_KIND, request.page)
        return tenants_pb2.ListSecretsResponse(names=page, next_page_token=token)

    async def remove(
        self, request: tenants_pb2.RemoveSecretRequest
    ) -> tenants_pb2.RemoveSecretResponse:
        """There is no such secret any more."""
        desk, principal, now_ms = self._desk, calls.principal(), self._desk.now_ms()
        await desk.writer.write(
            lambda txn: control.remove_secret(txn, principal, request.name, now_ms)
        )
        return tenants_pb2.RemoveSecretResponse()
