"""Operators' access to tenants' data: what was asked for, who approved it, and until when."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from scheduler.model.identity import Clearance
from scheduler.model.ids import JobId, TenantPath


class AccessAction(IntEnum):
    """What may be done with a tenant's data."""

    UNSPECIFIED = 0
    READ = 1
    LOGS = 2
    CANCEL = 3
    DOWNLOAD = 4
    EXEC = 5
    PORT_FORWARD = 6
    ENROL = 10
    """Lets somebody join in the tenant's name."""


class AccessReason(IntEnum):
    """Why an operator needs it."""

    UNSPECIFIED = 0
    SUPPORT = 1
    INCIDENT = 2
    ABUSE = 3
    LEGAL = 4


class AccessState(IntEnum):
    """Where a grant stands at a moment."""

    UNSPECIFIED = 0
    PENDING = 1
    ACTIVE = 2
    ENDED = 3
    REVOKED = 4


@dataclass(frozen=True, slots=True)
class AccessPerson:
    """An operator as its certificate said when it acted."""

    name: str
    country: str
    clearance: Clearance
    vouched_by: str = ""


@dataclass(frozen=True, slots=True)
class AccessAsked:
    """What an operator asks for. `ttl_ms` counts from the approval on; 0 is the default."""

    tenant: TenantPath
    job: JobId | None
    actions: tuple[AccessAction, ...]
    reason: AccessReason
    detail: str
    ttl_ms: int
    break_glass: bool


@dataclass(frozen=True, slots=True)
class AccessGrant:
    """An operator's leave to do `actions` with the data of `tenant` and all below it.

    `ends_at_ms`: until it is approved, when the request lapses; then, when the access does.
    """

    id: str
    tenant: TenantPath
    job: JobId | None
    actions: tuple[AccessAction, ...]
    reason: AccessReason
    detail: str
    break_glass: bool
    requested_by: AccessPerson
    requested_at_ms: int
    ttl_ms: int
    ends_at_ms: int
    approved_by: AccessPerson | None = None
    approved_at_ms: int = 0
    revoked_by: str = ""
    revoked_at_ms: int = 0

    def state(self, now_ms: int) -> AccessState:
        """Where it stands: its end is looked at whenever somebody asks, not by a clock."""
        if self.revoked_at_ms:
            return AccessState.REVOKED
        if now_ms >= self.ends_at_ms:
            return AccessState.ENDED
        approved = self.approved_by is not None or self.break_glass
        return AccessState.ACTIVE if approved else AccessState.PENDING

    def covers(self, tenant: TenantPath, job: JobId | None) -> bool:
        """Whether this is about `job` of `tenant`."""
        within = tenant == self.tenant or tenant.startswith(f"{self.tenant}/")
        return within and self.job in (None, job)


@dataclass(frozen=True, slots=True)
class OperatorUse:
    """A time at which an operator touched a job. Who it was is in the tenant's own log, by grant
    and time: a certificate is shown to strangers, and names nobody."""

    at_ms: int
    grant: str
    action: str
    reason: str
    """The code for which access was asked for."""
    break_glass: bool
    country: str
    clearance: str


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Whom a node of the tenant tree lets operators be who are given access to its data, and which
    identity providers it lets vouch for its own people.

    `set_by` is empty where nobody has set one, and this is the default.
    """

    tenant: TenantPath
    countries: tuple[str, ...] = ("GB",)
    min_clearance: Clearance = Clearance.UNSPECIFIED
    break_glass: bool = False
    set_by: str = ""
    set_at_ms: int = 0
    login_issuers: tuple[str, ...] = ()
