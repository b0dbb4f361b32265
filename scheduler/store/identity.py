"""Join tokens and revocations. Tokens are kept as hashes: the store cannot give one away."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import and_, delete, insert, or_, select, update

from scheduler.model.identity import Clearance
from scheduler.model.ids import TenantPath
from scheduler.store.link import Link
from scheduler.store.schema import AUDIT, JOIN_TOKENS, REVOCATIONS
from scheduler.store.scratch import Scratch

TOKENS_OPEN_MAX = 10_000
"""Most tokens that may wait to be used."""
TOKENS_OF_SITE_MAX = 1_000
"""Most of them that one site's agent may have made: one site must not use up everybody's."""


CERTIFICATE_ISSUED = "certificate_issued"
"""The kind of the leaf that says that somebody has a certificate, or a job has one of where it was:
there is no job of an organisation before there is a person."""


@dataclass(frozen=True, slots=True)
class JoinToken:
    """Lets its holder join once, under one name (a SPIFFE path), of whom this is vouched for."""

    token_hash: bytes
    name: str
    created_by: str
    expires_at_ms: int
    used_at_ms: int | None = None
    country: str = ""
    clearance: Clearance = Clearance.UNSPECIFIED
    consent: str = ""
    """Of a person of a tenant, by whose consent: a person's of the tenant, or an access grant.
    Empty: nobody's, and it serves as long as nobody of the organisation has joined."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """A name whose certificates made before `at_ms` no longer count."""

    name: str
    at_ms: int
    revoked_by: str
    reason: str


class IdentityReader:
    """Looks tokens and revocations up."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def join_token(self, token_hash: bytes) -> JoinToken | None:
        """The token with this hash, used or expired ones included."""
        query = select(JOIN_TOKENS).where(JOIN_TOKENS.c.token_hash == token_hash)
        row = self._link.execute(query).first()
        if row is None:
            return None
        return JoinToken(
            token_hash=row.token_hash,
            name=row.name,
            created_by=row.created_by,
            expires_at_ms=row.expires_at_ms,
            used_at_ms=row.used_at_ms,
            country=row.country,
            clearance=Clearance(row.clearance),
            consent=row.consent,
        )

    def open_tokens(self, created_by: str | None = None) -> int:
        """How many tokens were not used yet; those that one name made, if it is given."""
        query = select(JOIN_TOKENS.c.token_hash).where(JOIN_TOKENS.c.used_at_ms.is_(None))
        if created_by is not None:
            query = query.where(JOIN_TOKENS.c.created_by == created_by)
        return len(self._link.execute(query.limit(TOKENS_OPEN_MAX + 1)).all())

    def has_joined(self, organisation: TenantPath) -> bool:
        """Whether anybody was ever given a certificate as a person of an organisation: who was the
        first is among the first leaves of its log."""
        tenant = AUDIT.c.tenant
        below = and_(tenant > f"{organisation}/", tenant < f"{organisation}0")
        query = select(AUDIT.c.leaf_index).where(AUDIT.c.kind == CERTIFICATE_ISSUED)
        for where in (tenant == organisation, below):
            if self._link.execute(query.where(where).limit(1)).first() is not None:
                return True
        return False

    def revocation(self, name: str) -> Revocation | None:
        """Whether and why `name` is revoked."""
        query = select(REVOCATIONS).where(REVOCATIONS.c.name == name)
        row = self._link.execute(query).first()
        return None if row is None else Revocation(*row)

    def revocations(self) -> tuple[Revocation, ...]:
        """All of them, by name."""
        rows = self._link.execute(select(REVOCATIONS).order_by(REVOCATIONS.c.name))
        return tuple(Revocation(*row) for row in rows)


class IdentityWriter(IdentityReader):
    """Makes and uses tokens, revokes names."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.link)

    def add_join_token(self, token: JoinToken) -> None:
        """A new token."""
        row = {
            "token_hash": token.token_hash,
            "name": token.name,
            "created_by": token.created_by,
            "expires_at_ms": token.expires_at_ms,
            "used_at_ms": token.used_at_ms,
            "country": token.country,
            "clearance": token.clearance,
            "consent": token.consent,
        }
        self._link.execute(insert(JOIN_TOKENS), row)

    def use_join_token(self, token_hash: bytes, now_ms: int) -> None:
        """It was used; it cannot be again."""
        statement = (
            update(JOIN_TOKENS)
            .where(JOIN_TOKENS.c.token_hash == token_hash, JOIN_TOKENS.c.used_at_ms.is_(None))
            .values(used_at_ms=now_ms)
        )
        assert self._link.execute(statement).rowcount == 1, "the token was used before"

    def trim_join_tokens(self, now_ms: int) -> None:
        """Deletes tokens that have expired, used or not."""
        self._link.execute(delete(JOIN_TOKENS).where(JOIN_TOKENS.c.expires_at_ms < now_ms))

    def drop_open_tokens(self, name: str) -> int:
        """Deletes tokens not used yet that are bound to `name` or that it made; how many."""
        statement = delete(JOIN_TOKENS).where(
            JOIN_TOKENS.c.used_at_ms.is_(None),
            or_(JOIN_TOKENS.c.name == name, JOIN_TOKENS.c.created_by == name),
        )
        return self._link.execute(statement).rowcount

    def revoke(self, revocation: Revocation) -> None:
        """The name is revoked from now on; a later revocation replaces an earlier one."""
        row = {
            "name": revocation.name,
            "at_ms": revocation.at_ms,
            "revoked_by": revocation.revoked_by,
            "reason": revocation.reason,
        }
        self._link.upsert(REVOCATIONS, [row])
