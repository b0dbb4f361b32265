"""`sovctl login`: a certificate by the word of an identity provider."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sovctl import config
from sovctl.async_client import login as sign_in
from sovctl.cli.context_options import Project, SaveAs, TrustDomain
from sovctl.cli.identity_verbs import directory_of, keep, label_of
from sovctl.cli.output import Output, safe
from sovctl.cli.session import Session, finished, session_of
from sovctl.device_login import DeviceCode, ProviderAsked
from sovctl.errors import InvalidArgumentError
from sovctl.faults import check
from sovctl.link import load_trust
from sovshared import spiffe

CLIENT_ID = "sovctl"
SCOPE = "openid profile"


def login(
    ctx: typer.Context,
    issuer: Annotated[
        str, typer.Option(metavar="URL", help="Your identity provider; default: the context's.")
    ] = "",
    issuer_ca: Annotated[
        str, typer.Option("--issuer-ca", metavar="FILE", help="Its web server's CA, PEM.")
    ] = "",
    client_id: Annotated[
        str, typer.Option("--client-id", metavar="ID", help="What sovctl is called there.")
    ] = CLIENT_ID,
    scope: Annotated[str, typer.Option(metavar="WORDS", help="What to ask it for.")] = SCOPE,
    name: Annotated[
        str, typer.Option(metavar="PATH", help="As whom, where it gives you several names.")
    ] = "",
    endpoint: Annotated[
        str, typer.Option("--endpoint", metavar="HOST:PORT", help="The control plane.")
    ] = "",
    ca: Annotated[
        str, typer.Option("--ca", metavar="FILE", help="The control plane's CA, PEM.")
    ] = "",
    join_endpoint: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Where logging in is served; default: --endpoint."),
    ] = "",
    trust_domain: TrustDomain = spiffe.DEFAULT_TRUST_DOMAIN,
    project: Project = "",
    save_as: SaveAs = "",
) -> None:
    """Log in by your identity provider, in any browser.

    An address and a code are shown: sign in there, and enter the code. The first
    time it takes --issuer, --issuer-ca, --endpoint and --ca, and makes a context.
    After that `sovctl login` is enough.
    """
    session = session_of(ctx)
    known = config.load()
    if not issuer:
        again(session, known, name)
        return
    needed = {"--issuer-ca": issuer_ca, "--endpoint": endpoint, "--ca": ca}
    if missing := [option for option, value in needed.items() if not value]:
        raise InvalidArgumentError(f"{', '.join(missing)}: found nothing; with --issuer needed")
    written = {
        "endpoint": endpoint,
        "join_endpoint": join_endpoint or None,
        "trust_domain": trust_domain,
        "project": project,
        "login": {
            "issuer": issuer,
            "client_id": client_id,
            "ca": str(Path(issuer_ca).absolute()),
            "scope": scope,
        },
    }
    context = check(config.Context, written, "login")
    show = partial(show_code, session.output)
    asked = _provider_of(context)
    joined = finished(sign_in(context, load_trust(ca), asked, name, show))
    label = label_of(spiffe.parse(joined.spiffe_id, trust_domain).path, save_as)
    directory = str(directory_of(known, label))
    context = context.model_copy(update={"credentials": directory})
    keep(session.output, known, label, context, joined, "logged in")


def again(session: Session, known: config.Config, name: str) -> None:
    """Logs in to the context that was chosen, as whom it was before."""
    label = session.context_name or known.current
    context = known.context(label)
    if context.login is None:
        raise InvalidArgumentError(f"--issuer: found nothing; context {label} was not logged in to")
    before = config.identity(context)
    own = name or spiffe.parse(before.facts().spiffe_id, context.trust_domain).path
    show = partial(show_code, session.output)
    asked = _provider_of(context)
    joined = finished(sign_in(context, before.trust_pem, asked, own, show))
    keep(session.output, known, label, context, joined, "logged in")


def _provider_of(context: config.Context) -> ProviderAsked:
    login = context.login
    assert login is not None, "the caller has looked"
    return ProviderAsked(login.issuer, login.client_id, login.scope, load_trust(login.ca))


def show_code(output: Output, code: DeviceCode) -> None:
    """Tells a person where to sign in: with --quiet too, or nobody could."""
    output.stderr.write(
        f"open {safe(code.url)} in a browser and enter the code {safe(code.code)}\n"
        + (f"or open {safe(code.whole_url)}\n" if code.whole_url else "")
    )
    output.stderr.flush()
