"""Who calls, as the rest of the control plane sees them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from scheduler.model.ids import SiteId, TenantPath


class Role(StrEnum):
    """What sort of identity a certificate names."""

    TENANT = "tenant"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    SITE = "site"
    NODE = "node"
    MONITOR = "monitor"
    LANDMARK = "landmark"


class Clearance(IntEnum):
    """Security clearance of a person; ordered, 0 where none is known."""

    UNSPECIFIED = 0
    BPSS = 1
    SC = 2
    DV = 3


@dataclass(frozen=True, slots=True)
class Claims:
    """What `vouched_by`, an operator or an identity provider, vouched for of a person, until
    `until_ms` (UTC)."""

    country: str = ""
    clearance: Clearance = Clearance.UNSPECIFIED
    vouched_by: str = ""
    until_ms: int = 0

    @property
    def logged_in(self) -> bool:
        """Whether it was an identity provider, by its address: a person's name begins with "/"."""
        return self.vouched_by.startswith("https://")


NO_CLAIMS = Claims()


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. `path` is the SPIFFE path, "/tenant/trust-a/user/ada".

    A tenant's principal acts for `tenant` and everything below it; other roles have none. A site's
    or node's principal has `site`.
    """

    path: str
    role: Role
    tenant: TenantPath | None = None
    site: SiteId | None = None
    claims: Claims = NO_CLAIMS

    def may_see(self, tenant: TenantPath) -> bool:
        """Whether work of `tenant` is this caller's to know of."""
        if self.role is not Role.TENANT or self.tenant is None:
            return self.role is Role.OPERATOR
        return tenant == self.tenant or tenant.startswith(f"{self.tenant}/")
