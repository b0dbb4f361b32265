"""`sovctl access`: operators ask for access to a tenant's data, others approve, tenants watch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

from sovapi.v1 import access_pb2, audit_pb2
from sovctl.async_client import AsyncClient
from sovctl.cli.documents import message_document
from sovctl.cli.identity_verbs import clearance_of
from sovctl.cli.job_verbs import moment
from sovctl.cli.output import Column, Listing
from sovctl.cli.session import Session, session_of
from sovctl.errors import InvalidArgumentError, NotFoundError
from sovctl.spec_values import duration_ms

EVENTS = "operator_access_"
"""Leaves of the audit log that are about access begin so."""

GrantId = Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")]
OfTenant = Annotated[str, typer.Option("--tenant", metavar="PATH", help="Only this tenant's.")]


def request_access(
    ctx: typer.Context,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose data, and all below.")],
    action: Annotated[
        list[str],
        typer.Option("--action", metavar="ACTION", help="read, logs, cancel, download or enrol."),
    ],
    reason: Annotated[str, typer.Option(metavar="CODE", help="support, incident, abuse or legal.")],
    detail: Annotated[str, typer.Option(metavar="TEXT", help="Why; the tenant reads it.")],
    job: Annotated[str, typer.Option(metavar="JOB", help="Only this job's data.")] = "",
    length: Annotated[
        str, typer.Option("--for", metavar="DURATION", help="How long, from the approval on.")
    ] = "",
    break_glass: Annotated[
        bool, typer.Option("--break-glass", help="Declare an emergency: nobody approves, all hear.")
    ] = False,
) -> None:
    """Ask for access to a tenant's data; another operator has to approve."""
    session = session_of(ctx)
    asked = access_pb2.RequestAccessRequest(
        tenant=tenant,
        job_id=job,
        actions=[_number(access_pb2.AccessAction, "ACCESS_ACTION_", "--action", a) for a in action],
        reason=_number(access_pb2.AccessReason, "ACCESS_REASON_", "--reason", reason),
        detail=detail,
        ttl_ms=_duration(length),
        break_glass=break_glass,
    )
    _tell(session, session.run(lambda client: client.request_access(asked)))


def approve_access(ctx: typer.Context, name: GrantId) -> None:
    """Approve what another operator asked for."""
    session = session_of(ctx)
    _tell(session, session.run(lambda client: client.approve_access(name)))


def revoke_access(
    ctx: typer.Context,
    name: GrantId,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; audited.")],
) -> None:
    """End an operator's access, or a request for it."""
    session = session_of(ctx)
    _tell(session, session.run(lambda client: client.revoke_access(name, reason=reason)))


def list_access(ctx: typer.Context, tenant: OfTenant = "") -> None:
    """List what operators asked for and were granted."""
    session = session_of(ctx)
    session.output.listing(_grants(session.run(lambda client: _all_grants(client, tenant))))


def show_access(ctx: typer.Context, name: GrantId) -> None:
    """Show a grant, and each thing that was done under it."""
    session = session_of(ctx)

    async def work(client: AsyncClient) -> tuple[access_pb2.AccessGrant, list[audit_pb2.AuditLeaf]]:
        for grant in await _all_grants(client, ""):
            if grant.id == name:
                own = (await client.whoami()).tenant
                return grant, await _events(client, own or grant.tenant)
        raise NotFoundError(f"access grant {name!r} not found", reason="NOT_FOUND")

    grant, leaves = session.run(work)
    told = [leaf for leaf in leaves if _body(leaf).get("grant") == name]
    document = message_document(grant)
    document["events"] = [_body(leaf) for leaf in told]
    if session.output.is_human:
        session.output.note(_sentence(grant))
        session.output.listing(_told(told))
    else:
        session.output.result(document, name, "")


def access_log(ctx: typer.Context, tenant: OfTenant = "") -> None:
    """Show each access of an operator, those that were refused as well."""
    session = session_of(ctx)
    session.output.listing(_told(session.run(lambda client: _events(client, tenant))))


def show_policy(
    ctx: typer.Context,
    tenant: Annotated[str, typer.Argument(metavar="[TENANT]", help="Default: your own.")] = "",
) -> None:
    """Show whom operators with access have to be; all levels of the tree must permit."""
    session = session_of(ctx)
    session.output.listing(_policies(session.run(lambda client: client.access_policies(tenant))))


def set_policy(
    ctx: typer.Context,
    country: Annotated[
        list[str] | None, typer.Option("--country", metavar="CC", help="Where they may work.")
    ] = None,
    clearance: Annotated[str, typer.Option(metavar="LEVEL", help="At least: bpss, sc or dv.")] = "",
    break_glass: Annotated[
        bool, typer.Option("--break-glass", help="Let one operator alone declare an emergency.")
    ] = False,
    issuer: Annotated[
        list[str] | None,
        typer.Option("--issuer", metavar="URL", help="Who may vouch for your own people."),
    ] = None,
    tenant: Annotated[
        str, typer.Option(metavar="PATH", help="A project below; default: your own.")
    ] = "",
) -> None:
    """Say whom operators with access to your data have to be, and who lets your people log in.

    It replaces what was set before. Without --country no operator has access at all,
    without --issuer nobody of yours logs in by an identity provider.
    """
    session = session_of(ctx)
    level = clearance_of(clearance)
    policy = access_pb2.AccessPolicy(
        tenant=tenant,
        countries=country or (),
        min_clearance=level,
        break_glass=break_glass,
        login_issuers=issuer or (),
    )
    found = session.run(lambda client: client.set_access_policy(policy))
    session.output.result(message_document(found), found.tenant, f"{found.tenant} is set")


async def _all_grants(client: AsyncClient, tenant: str) -> list[access_pb2.AccessGrant]:
    return [grant async for grant in client.access_grants(tenant)]


async def _events(client: AsyncClient, tenant: str) -> list[audit_pb2.AuditLeaf]:
    """Leaves about access, oldest first."""
    leaves = client.audit_leaves(tenant=tenant)
    return [leaf async for leaf in leaves if leaf.kind.startswith(EVENTS)]


def _number(kind: Any, prefix: str, option: str, word: str) -> Any:
    """A word of an enum of the contract as its number."""
    words = {name.removeprefix(prefix).lower(): number for name, number in kind.items() if number}
    if word.lower() not in words:
        allowed = ", ".join(words)
        raise InvalidArgumentError(f"{option}: found {word!r}, allowed {allowed}")
    return words[word.lower()]


def _duration(text: str) -> int:
    try:
        return duration_ms(text) if text else 0
    except ValueError as error:
        raise InvalidArgumentError(f"--for: {error}") from None


def _body(leaf: audit_pb2.AuditLeaf) -> dict[str, Any]:
    """What is in a leaf; nothing for an operator without a grant to read it."""
    return json.loads(leaf.canonical_json) if leaf.canonical_json else {}


def _tell(session: Session, grant: access_pb2.AccessGrant) -> None:
    session.output.result(message_document(grant), grant.id, _sentence(grant))


def _sentence(grant: access_pb2.AccessGrant) -> str:
    document = message_document(grant)
    actions = ", ".join(action.lower() for action in document["actions"])
    what = f"{actions} of {grant.job_id or 'any job'} of {grant.tenant}"
    return f"{grant.id}: {document['state']}, {what}, until {moment(grant.ends_at_ms)}"


def _grants(found: Sequence[access_pb2.AccessGrant]) -> Listing:
    documents = [message_document(grant) for grant in found]
    return Listing(
        columns=[
            Column("ID"),
            Column("STATE"),
            Column("TENANT"),
            Column("MAY"),
            Column("OPERATOR"),
            Column("APPROVED BY"),
            Column("UNTIL"),
            Column("WHY", whole=False),
            Column("JOB", wide=True),
        ],
        rows=[
            [
                grant.id,
                document["state"],
                grant.tenant,
                ",".join(action.lower() for action in document["actions"]),
                grant.requested_by.name.rpartition("/")[2],
                "BROKEN GLASS" if grant.break_glass else _approver(grant),
                moment(grant.ends_at_ms),
                f"{document['reason'].lower()}: {grant.detail}",
                grant.job_id or "-",
            ]
            for grant, document in zip(found, documents, strict=True)
        ],
        documents=documents,
        names=[grant.id for grant in found],
        empty="no operator has asked for access",
    )


def _approver(grant: access_pb2.AccessGrant) -> str:
    return grant.approved_by.name.rpartition("/")[2] or "-"


def _told(leaves: Iterable[audit_pb2.AuditLeaf]) -> Listing:
    found = list(leaves)
    bodies = [_body(leaf) for leaf in found]
    return Listing(
        columns=[
            Column("AT"),
            Column("WHAT"),
            Column("WHO"),
            Column("ACTION"),
            Column("JOB"),
            Column("GRANT"),
            Column("DETAIL", whole=False),
        ],
        rows=[
            [
                moment(leaf.at_ms),
                leaf.kind.removeprefix(EVENTS).replace("_", " "),
                _who(body),
                str(body.get("action") or ",".join(body.get("actions", ())) or "-"),
                str(body.get("job", "-")),
                str(body.get("grant", "-")),
                str(body.get("detail") or body.get("why") or "-"),
            ]
            for leaf, body in zip(found, bodies, strict=True)
        ],
        documents=bodies,
        names=[leaf.kind for leaf in found],
        empty="no operator has touched this data, or tried to",
    )


def _who(body: dict[str, Any]) -> str:
    by: Any = body.get("by", "-")
    if not isinstance(by, dict):
        return str(by)
    known = f"{by['country'] or 'country unknown'}, {by['clearance'] or 'no clearance'}"
    return f"{by['name']} ({known})"


def _policies(found: Sequence[access_pb2.AccessPolicy]) -> Listing:
    documents = [message_document(policy) for policy in found]
    return Listing(
        columns=[
            Column("TENANT"),
            Column("COUNTRIES"),
            Column("CLEARANCE"),
            Column("BREAK GLASS"),
            Column("LOGIN BY"),
            Column("SET BY"),
        ],
        rows=[
            [
                policy.tenant,
                ",".join(policy.countries) or "none",
                document["min_clearance"] or "any",
                "allowed" if policy.break_glass else "no",
                ",".join(policy.login_issuers) or "nobody",
                policy.set_by or "(default)",
            ]
            for policy, document in zip(found, documents, strict=True)
        ],
        documents=documents,
        names=[policy.tenant for policy in found],
        empty="no policy",
    )
