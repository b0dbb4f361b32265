"""Who we are: whoami, join, tokens and contexts. And the schema of a job file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from sovapi.v1 import common_pb2, identity_pb2
from sovctl import config
from sovctl.async_client import join as exchange_token
from sovctl.async_operations import Joined
from sovctl.cli.context_options import Project, SaveAs, TrustDomain
from sovctl.cli.documents import message_document
from sovctl.cli.job_verbs import moment
from sovctl.cli.output import Column, Listing, Output
from sovctl.cli.session import finished, session_of
from sovctl.errors import InvalidArgumentError
from sovctl.faults import check
from sovctl.link import load_trust
from sovctl.spec import job_schema
from sovctl.spec_values import duration_ms
from sovshared import pki, spiffe

_CLEARANCES: dict[str, common_pb2.Clearance] = {
    "": common_pb2.CLEARANCE_UNSPECIFIED,
    "bpss": common_pb2.CLEARANCE_BPSS,
    "sc": common_pb2.CLEARANCE_SC,
    "dv": common_pb2.CLEARANCE_DV,
}
_CONTEXT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?")


def whoami(ctx: typer.Context) -> None:
    """Say who the control plane takes you for."""
    session = session_of(ctx)
    found = session.run(lambda client: client.whoami())
    if not session.output.is_human:
        session.output.result(message_document(found), found.spiffe_id, "")
        return
    lines = [
        ("Identity", found.spiffe_id),
        ("Role", found.role),
        ("Tenant", found.tenant or "-"),
        ("Vouched for", _vouched(found)),
        ("Certificate", f"until {moment(found.certificate_not_after_ms)}"),
        ("Server", f"{session.context().endpoint} version {found.server_version or '-'}"),
    ]
    session.output.print(Text("\n".join(f"{f'{key}:':<13}{value}" for key, value in lines)))


def _vouched(found: identity_pb2.WhoamiResponse) -> str:
    """What somebody vouched for when we joined."""
    if not found.vouched_by:
        return "-"
    clearance = message_document(found)["clearance"] or "no clearance"
    until = moment(found.claims_until_ms)
    return f"{found.country or 'no country'}, {clearance}, by {found.vouched_by}, until {until}"


def join(
    ctx: typer.Context,
    endpoint: Annotated[
        str, typer.Option("--endpoint", metavar="HOST:PORT", help="The control plane.")
    ],
    name: Annotated[
        str, typer.Option(metavar="PATH", help="Your name, such as /tenant/trust-a/user/ada.")
    ],
    token: Annotated[
        str,
        typer.Option(metavar="TOKEN", envvar="SOVCTL_JOIN_TOKEN", help="From an operator; once."),
    ],
    ca: Annotated[str, typer.Option("--ca", metavar="FILE", help="The control plane's CA, PEM.")],
    join_endpoint: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Where joining is served; default: --endpoint."),
    ] = "",
    trust_domain: TrustDomain = spiffe.DEFAULT_TRUST_DOMAIN,
    project: Project = "",
    save_as: SaveAs = "",
) -> None:
    """Exchange a join token for credentials and a context."""
    session = session_of(ctx)
    found = config.load()
    label = label_of(name, save_as)
    context = check(
        config.Context,
        {
            "endpoint": endpoint,
            "credentials": str(directory_of(found, label)),
            "join_endpoint": join_endpoint or None,
            "trust_domain": trust_domain,
            "project": project,
        },
        "join",
    )
    joined = finished(exchange_token(context, load_trust(ca), name, token))
    keep(session.output, found, label, context, joined, "joined")


def keep(
    output: Output,
    known: config.Config,
    label: str,
    context: config.Context,
    joined: Joined,
    did: str,
) -> None:
    """Saves what somebody `did` as, in the context's directory, and makes the context current."""
    pki.save(Path(context.credentials), joined.identity)
    config.add(known, label, context)
    document = {
        "context": label,
        "spiffe_id": joined.spiffe_id,
        "not_after_ms": joined.not_after_ms,
    }
    until = moment(joined.not_after_ms)
    sentence = f"{did} as {joined.spiffe_id} until {until}; context {label} is current"
    output.result(document, label, sentence)


def label_of(name: str, save_as: str) -> str:
    """The name of somebody's context: the one asked for, or one out of theirs."""
    label = save_as or spiffe_label(name)
    if not _CONTEXT.fullmatch(label):
        raise InvalidArgumentError(f"--as: found {label!r}, allowed letters, digits, . _ @ and -")
    return label


def directory_of(known: config.Config, label: str) -> Path:
    """Where a context's credentials are kept."""
    return known.path.absolute().parent / "identities" / label


def spiffe_label(name: str) -> str:
    """A context's name out of an identity's: "ada@trust-a", "operator-root"."""
    try:
        parsed = spiffe.parse_path(name)
    except spiffe.NameInvalid as error:
        raise InvalidArgumentError(f"--name: {error}") from None
    if parsed.tenant:
        return f"{parsed.user}@{parsed.tenant.replace('/', '.')}"
    return parsed.path.strip("/").replace("/", "-")


def create_token(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Who may join with it, such as /site/exch-a/agent."),
    ],
    ttl: Annotated[
        str, typer.Option(metavar="DURATION", help="How long it is good for, such as 1h.")
    ] = "",
    country: Annotated[
        str, typer.Option(metavar="CC", help="Of a person: where they work; you vouch for it.")
    ] = "",
    clearance: Annotated[
        str, typer.Option(metavar="LEVEL", help="Of a person: bpss, sc or dv; you vouch for it.")
    ] = "",
) -> None:
    """Make a join token, good for one use by one name."""
    session = session_of(ctx)
    level = clearance_of(clearance)
    try:
        ttl_ms = duration_ms(ttl) if ttl else 0
    except ValueError as error:
        raise InvalidArgumentError(f"--ttl: {error}") from None
    found = session.run(
        lambda client: client.create_join_token(
            name, ttl_ms=ttl_ms, country=country, clearance=level
        )
    )
    session.output.note(f"for {name}, until {moment(found.expires_at_ms)}")
    session.output.result(message_document(found), found.token, found.token)


def clearance_of(word: str) -> common_pb2.Clearance:
    """A clearance by its word; none for an empty one."""
    found = _CLEARANCES.get(word.lower())
    if found is None:
        raise InvalidArgumentError(f"--clearance: found {word!r}, allowed bpss, sc or dv")
    return found


def schema_job(ctx: typer.Context) -> None:
    """Print the JSON Schema of a job file, for editors."""
    output = session_of(ctx).output
    output.stdout.write(json.dumps(job_schema(), indent=2) + "\n")


def list_contexts(ctx: typer.Context) -> None:
    """List the configured contexts."""
    session = session_of(ctx)
    found = config.load()
    names = sorted(found.contexts)
    chosen = session.context_name or found.current
    session.output.listing(
        Listing(
            columns=[
                Column("CURRENT"),
                Column("CONTEXT"),
                Column("ENDPOINT"),
                Column("PROJECT"),
                Column("CREDENTIALS", wide=True),
            ],
            rows=[
                [
                    "*" if name == chosen else "",
                    name,
                    found.contexts[name].endpoint,
                    found.contexts[name].project or "-",
                    found.contexts[name].credentials or found.contexts[name].certificate,
                ]
                for name in names
            ],
            documents=[
                {"name": name, "current": name == chosen, **found.contexts[name].model_dump()}
                for name in names
            ],
            names=names,
            empty=f"no contexts in {found.path}",
        )
    )


def use_context(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A configured context.")],
) -> None:
    """Make a context the current one."""
    config.use(config.load(), name)
    session_of(ctx).output.result({"context": name}, name, f"context {name} is current")
