"""Names of callers and servers: `spiffe://<trust domain>/<path>`, parsed strictly.

Owns the shape of names, and what DNS name a server of that name answers to. Decides nothing about
what a name may do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_TRUST_DOMAIN = "sov.example"
CONTROL_PLANE_PATH = "/control-plane"
URI_CHARS_MAX = 2048  # The SPIFFE specification's own limit.
TENANT_DEPTH_MAX = 4

_SEGMENT = r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?"
_TRUST_DOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?")
_TENANT = rf"{_SEGMENT}(?:/{_SEGMENT}){{0,{TENANT_DEPTH_MAX - 1}}}"
_SCHEME = "spiffe://"


class NameRole(StrEnum):
    """What sort of party a name belongs to."""

    TENANT = "tenant"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    SITE = "site"
    NODE = "node"
    MONITOR = "monitor"
    LANDMARK = "landmark"
    CONTROL_PLANE = "control-plane"


_PATTERNS: tuple[tuple[NameRole, re.Pattern[str]], ...] = (
    (NameRole.TENANT, re.compile(rf"/tenant/(?P<tenant>{_TENANT})/user/(?P<user>{_SEGMENT})")),
    (NameRole.SITE, re.compile(rf"/site/(?P<site>{_SEGMENT})/agent")),
    (NameRole.NODE, re.compile(rf"/site/(?P<site>{_SEGMENT})/node/(?P<slot>{_SEGMENT})")),
    (NameRole.OPERATOR, re.compile(rf"/operator/(?P<user>{_SEGMENT})")),
    (NameRole.AUDITOR, re.compile(rf"/auditor/(?P<user>{_SEGMENT})")),
    (NameRole.MONITOR, re.compile(rf"/monitor/(?P<user>{_SEGMENT})")),
    (NameRole.LANDMARK, re.compile(rf"/landmark/(?P<user>{_SEGMENT})")),
    (NameRole.CONTROL_PLANE, re.compile(CONTROL_PLANE_PATH)),
)

ALLOWED_PATHS = (
    "/tenant/<path>/user/<name>, /site/<site>/agent, /site/<site>/node/<slot>, /operator/<name>, "
    "/auditor/<name>, /monitor/<name>, /landmark/<name>"
)


class NameInvalid(ValueError):
    """Not a name of this system, or of another trust domain."""


@dataclass(frozen=True, slots=True)
class Name:
    """A party's name, taken apart. Fields that its role has no use for are empty.

    `tenant` is a path in the tenant tree, `user` the last word of the name of a person, a monitor
    or a landmark, `slot` a node's place in its site.
    """

    role: NameRole
    path: str
    tenant: str = ""
    user: str = ""
    site: str = ""
    slot: str = ""

    def uri(self, trust_domain: str) -> str:
        """The SPIFFE id."""
        return f"{_SCHEME}{check_trust_domain(trust_domain)}{self.path}"


def parse_path(path: str) -> Name:
    """The name that `path` spells, or NameInvalid."""
    if len(path) <= URI_CHARS_MAX:
        for role, pattern in _PATTERNS:
            if found := pattern.fullmatch(path):
                return Name(role, path, **found.groupdict())
    raise NameInvalid(f"name: found {path[:120]!r}, allowed {ALLOWED_PATHS}")


def parse(uri: str, trust_domain: str) -> Name:
    """The name that SPIFFE id `uri` spells. Ids of other trust domains are refused."""
    prefix = f"{_SCHEME}{check_trust_domain(trust_domain)}/"
    if len(uri) > URI_CHARS_MAX or not uri.startswith(prefix):
        raise NameInvalid(f"SPIFFE id: found {uri[:120]!r}, allowed ids under {prefix}")
    return parse_path(uri[len(prefix) - 1 :])


def check_trust_domain(trust_domain: str) -> str:
    """`trust_domain` itself, or NameInvalid."""
    if not _TRUST_DOMAIN.fullmatch(trust_domain):
        raise NameInvalid(
            f"trust domain: found {trust_domain[:120]!r}, allowed lower-case letters, digits, "
            "dots, dashes and underscores"
        )
    return trust_domain


def control_plane() -> Name:
    """The control plane's own name."""
    return Name(NameRole.CONTROL_PLANE, CONTROL_PLANE_PATH)


def tenant_user(tenant: str, user: str) -> Name:
    """A person who acts for `tenant`."""
    return parse_path(f"/tenant/{tenant}/user/{user}")


def operator(user: str) -> Name:
    """A person who operates the system."""
    return parse_path(f"/operator/{user}")


def site_agent(site: str) -> Name:
    """The agent of a site."""
    return parse_path(f"/site/{site}/agent")


def node_agent(site: str, slot: str) -> Name:
    """The agent of a node."""
    return parse_path(f"/site/{site}/node/{slot}")


def landmark(name: str) -> Name:
    """A landmark, from which nodes are measured."""
    return parse_path(f"/landmark/{name}")


def server_dns_name(name: Name, trust_domain: str) -> str | None:
    """The DNS name by which a client recognises the server `name`; None for who serves nothing.

    It lies under the trust domain, where the CA grants no name that is only asked for, and so it
    proves the role: a client that dials any address and expects this name talks to the control
    plane (or to its own site's agent) and to nobody else that the CA knows.
    """
    check_trust_domain(trust_domain)
    match name.role:
        case NameRole.CONTROL_PLANE:
            return f"control-plane.{trust_domain}"
        case NameRole.SITE:
            return f"{name.site}.site.{trust_domain}"
        case (
            NameRole.NODE
            | NameRole.TENANT
            | NameRole.OPERATOR
            | NameRole.AUDITOR
            | NameRole.MONITOR
            | NameRole.LANDMARK
        ):
            return None


def metrics_dns_name(trust_domain: str) -> str:
    """The DNS name that every agent's certificate holds beside its own, for those who scrape it.

    Prometheus expects one name of all targets of a job. It proves an agent that the CA knows, not
    which one: that a target is the agent it is labelled as follows from its address alone.
    """
    return f"metrics.{check_trust_domain(trust_domain)}"
