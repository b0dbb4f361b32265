"""Bundles by content, in a database of their own beside the store, deduplicated inside a tenant.

Two tenants that upload the same bytes have two rows: whether a digest exists tells nobody anything
about others. A bundle appears whole or not at all, and only under the digest that its bytes have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    LargeBinary,
    MetaData,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from scheduler.model.ids import TenantPath, organisation_of
from scheduler.model.reasons import Code, Reason, Refused
from scheduler.store.dialect import reading_engine, url_of, writing_engine
from scheduler.store.store import StoreFailed

BUNDLE_BYTES_MAX = 256 << 20
CHUNK_BYTES = 1 << 20
"""Size of a stored chunk. Chunks that arrive may have any size."""
TENANT_BYTES_MAX = 16 << 30
"""Most that the bundles of one organisation may take together."""
DIGEST_PREFIX = "sha256:"

_METADATA = MetaData()
_BUNDLES = Table(
    "bundles",
    _METADATA,
    Column("tenant", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("stored_at_ms", BigInteger, nullable=False),
)
_CHUNKS = Table(
    "chunks",
    _METADATA,
    Column("tenant", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("ordinal", BigInteger, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)


class Blobs:
    """The bundles of all tenants. `tenant` may be any node of a tree: its organisation counts."""

    def __init__(self, place: str | Path) -> None:
        url = url_of(place)
        self._writer = writing_engine(url)
        self._readers = reading_engine(url)

    def open(self) -> None:
        """Creates the tables where they are missing."""
        with self._failures(), self._writer.begin() as connection:
            _METADATA.create_all(connection)

    def put(
        self,
        tenant: TenantPath,
        digest: str,
        size_bytes: int,
        chunks: Iterable[bytes],
        now_ms: int,
    ) -> bool:
        """Stores a bundle; whether it was there already.

        `chunks` must be at hand, in a spooled file say: a transaction is open while they are read.

        Refused, and nothing kept, when it is too large or is not what its digest or size say.
        """
        refuse_bad_announcement(digest, size_bytes)
        owner = organisation_of(tenant)
        with self._failures(), self._writer.begin() as connection:
            mine = (_BUNDLES.c.tenant == owner, _BUNDLES.c.digest == digest)
            if connection.execute(select(_BUNDLES.c.digest).where(*mine)).first():
                return True
            self._refuse_over_quota(connection, owner, size_bytes)
            found = hashlib.sha256()
            received = 0
            for ordinal, body in enumerate(_rechunked(chunks)):
                received += len(body)
                if received > size_bytes:
                    break
                found.update(body)
                row = {"tenant": owner, "digest": digest, "ordinal": ordinal, "body": body}
                connection.execute(insert(_CHUNKS), row)
            _refuse_mismatch(digest, size_bytes, found.hexdigest(), received)
            row = {
                "tenant": owner,
                "digest": digest,
                "size_bytes": size_bytes,
                "stored_at_ms": now_ms,
            }
            connection.execute(insert(_BUNDLES), row)
        return False

    def has(self, tenant: TenantPath, digest: str) -> bool:
        """Whether this tenant has such a bundle."""
        return self.size_bytes(tenant, digest) is not None

    def size_bytes(self, tenant: TenantPath, digest: str) -> int | None:
        """A bundle's size; None when this tenant has none such."""
        mine = (_BUNDLES.c.tenant == organisation_of(tenant), _BUNDLES.c.digest == digest)
        with self._failures(), self._readers.begin() as connection:
            return connection.execute(select(_BUNDLES.c.size_bytes).where(*mine)).scalar()

    def read(self, tenant: TenantPath, digest: str) -> Iterator[bytes]:
        """A bundle's bytes in chunks; each chunk is a read of its own."""
        ordinal = 0
        while True:
            query = select(_CHUNKS.c.body).where(
                _CHUNKS.c.tenant == organisation_of(tenant),
                _CHUNKS.c.digest == digest,
                _CHUNKS.c.ordinal == ordinal,
            )
            with self._failures(), self._readers.begin() as connection:
                body: bytes | None = connection.execute(query).scalar()
            if body is None:
                return
            yield body
            ordinal += 1

    def remove(self, tenant: TenantPath, digest: str) -> None:
        """Deletes a bundle."""
        owner = organisation_of(tenant)
        with self._failures(), self._writer.begin() as connection:
            for table in (_BUNDLES, _CHUNKS):
                mine: tuple[Any, ...] = (table.c.tenant == owner, table.c.digest == digest)
                connection.execute(delete(table).where(*mine))

    def close(self) -> None:
        """Closes every connection."""
        self._writer.dispose()
        self._readers.dispose()

    def _refuse_over_quota(
        self, connection: Connection, owner: TenantPath, size_bytes: int
    ) -> None:
        held = select(func.sum(_BUNDLES.c.size_bytes)).where(_BUNDLES.c.tenant == owner)
        held_bytes = connection.execute(held).scalar() or 0
        if held_bytes + size_bytes > TENANT_BYTES_MAX:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                Reason.RESOURCE_EXHAUSTED,
                f"bundles of {owner} take {held_bytes} bytes, {size_bytes} more would go past"
                f" {TENANT_BYTES_MAX}",
            )

    @contextmanager
    def _failures(self) -> Generator[None]:
        try:
            yield
        except SQLAlchemyError as failure:
            raise StoreFailed(str(failure.__cause__ or failure)) from failure


def refuse_bad_announcement(digest: str, size_bytes: int) -> None:
    """Refuses a bundle by what is said of it, before any of it is read."""
    digits = digest.removeprefix(DIGEST_PREFIX)
    if not digest.startswith(DIGEST_PREFIX) or len(digits) != 64 or set(digits) - set(_HEX):
        raise Refused(
            Code.INVALID_ARGUMENT,
            Reason.INVALID_ARGUMENT,
            f"digest: found {digest!r}, allowed {DIGEST_PREFIX} and 64 hex digits",
        )
    if not 0 < size_bytes <= BUNDLE_BYTES_MAX:
        raise Refused(
            Code.INVALID_ARGUMENT,
            Reason.TOO_LARGE if size_bytes > 0 else Reason.INVALID_ARGUMENT,
            f"size_bytes: found {size_bytes}, allowed 1 to {BUNDLE_BYTES_MAX}",
        )


_HEX = "0123456789abcdef"


def _refuse_mismatch(digest: str, size_bytes: int, found: str, received: int) -> None:
    if received != size_bytes:
        more = "at least " if received > size_bytes else ""
        raise Refused(
            Code.INVALID_ARGUMENT,
            Reason.INVALID_ARGUMENT,
            f"size_bytes: {size_bytes} announced, {more}{received} received",
        )
    if DIGEST_PREFIX + found != digest:
        raise Refused(
            Code.INVALID_ARGUMENT,
            Reason.INVALID_ARGUMENT,
            f"digest: {digest} announced, {DIGEST_PREFIX}{found} received",
        )


def _rechunked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in chunks of CHUNK_BYTES, the last one shorter."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES])
            del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)
