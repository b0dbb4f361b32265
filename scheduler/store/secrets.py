"""Sealed secrets by name: "trust-a/hf" is `hf` of trust-a. Values are never opened here."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import delete, func, select

from scheduler.model.ids import TenantPath
from scheduler.store.dialect import upsert
from scheduler.store.schema_access import SECRETS
from scheduler.store.store import Snapshot, Txn


def names(read: Snapshot, tenant: TenantPath) -> tuple[str, ...]:
    """Names of the secrets of a tenant and all below it, sorted."""
    below = SECRETS.c.tenant.startswith(f"{tenant}/", autoescape=True)
    query = select(SECRETS.c.name).where((SECRETS.c.tenant == tenant) | below)
    return tuple(read.connection.execute(query.order_by(SECRETS.c.name)).scalars())


def count(read: Snapshot, tenant: TenantPath) -> int:
    """How many secrets this very tenant has."""
    query = select(func.count()).where(SECRETS.c.tenant == tenant)
    return read.connection.execute(query).scalar() or 0


def sealed(read: Snapshot, wanted: Iterable[str]) -> dict[str, bytes]:
    """Those of the named secrets that there are, sealed."""
    names_wanted = sorted(set(wanted))
    if not names_wanted:
        return {}
    query = select(SECRETS.c.name, SECRETS.c.sealed).where(SECRETS.c.name.in_(names_wanted))
    return {name: bytes(value) for name, value in read.connection.execute(query)}


def put(txn: Txn, name: str, tenant: TenantPath, value: bytes) -> None:
    """Sets a secret."""
    upsert(txn.connection, SECRETS, [{"name": name, "tenant": tenant, "sealed": value}])


def remove(txn: Txn, name: str) -> bool:
    """Whether there was such a secret; now there is none."""
    return txn.connection.execute(delete(SECRETS).where(SECRETS.c.name == name)).rowcount > 0
