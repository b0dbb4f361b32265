"""Identities: how one is joined, dialled with, and renewed.

Agents renew theirs while they run. Whoever holds one and is no program of ours, such as a
Prometheus, has `sov-agent renew` do it, now and then.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from sovapi.v1.identity_pb2 import JoinRequest, JoinResponse, RenewRequest
from sovapi.v1.identity_pb2_grpc import IdentityServiceStub
from sovapi.v1.nodelink_pb2_grpc import NodeLinkStub
from sovshared import pki, renewal, spiffe, tls

if TYPE_CHECKING:  # argparse does not name it.
    from argparse import _SubParsersAction  # pyright: ignore[reportPrivateUsage]

JOIN_S_MAX = 30.0


def dialler(
    credentials: Path, endpoint: str, server: spiffe.Name, trust_domain: str
) -> Callable[[], grpc.aio.Channel]:
    """Dials `server`, whatever its address, with the identity that is kept then."""

    def dial() -> grpc.aio.Channel:
        identity = tls.channel_credentials(pki.load(credentials))
        options = tls.channel_options(server, trust_domain)
        return grpc.aio.secure_channel(endpoint, identity, options=options)

    return dial


def anonymous(
    trust: Callable[[], bytes], endpoint: str, server: spiffe.Name, trust_domain: str
) -> Callable[[], grpc.aio.Channel]:
    """Dials `server` without a certificate: all it can do is join."""

    def dial() -> grpc.aio.Channel:
        options = tls.channel_options(server, trust_domain)
        credentials = tls.anonymous_credentials(trust())
        return grpc.aio.secure_channel(endpoint, credentials, options=options)

    return dial


def lapsed(credentials: Path, now_ms: int) -> bool:
    """Whether the certificate that is kept there has run out."""
    return now_ms >= pki.load(credentials).facts().not_after_ms


async def join(options: argparse.Namespace, _now_ms: Callable[[], int]) -> str:
    """Exchange a single-use token for a certificate, and keep it."""
    trust_pem = await asyncio.to_thread(Path(options.ca).read_bytes)
    name = spiffe.parse_path(options.name)
    node = name.role is spiffe.NameRole.NODE and not options.direct
    server = spiffe.site_agent(name.site) if node else spiffe.control_plane()
    key = pki.new_key()
    request = JoinRequest(
        token=options.token,
        name=name.path,
        csr_der=pki.make_csr(key, name.path),
        dns_names=options.dns,
        ip_addresses=options.ip,
    )
    dial = anonymous(lambda: trust_pem, options.endpoint, server, options.trust_domain)
    async with dial() as channel:
        answer: JoinResponse
        if node:
            answer = await NodeLinkStub(channel).Join(request, timeout=JOIN_S_MAX)
        else:
            answer = await IdentityServiceStub(channel).Join(request, timeout=JOIN_S_MAX)
    identity = pki.Identity(pki.key_to_pem(key), answer.certificate_pem, answer.trust_bundle_pem)
    if identity.facts().spiffe_id != name.uri(options.trust_domain):
        raise pki.PkiInvalid(f"join: found a certificate for {identity.facts().spiffe_id!r}")
    pki.save(Path(options.credentials), identity)
    return f"{identity.facts().spiffe_id} joined; kept in {options.credentials}"


async def renew(options: argparse.Namespace, now_ms: Callable[[], int]) -> str:
    """Renew the identity in a directory if that is due, and keep the new one there."""
    directory = Path(options.credentials)
    facts = pki.load(directory).facts()
    name = spiffe.parse(facts.spiffe_id, options.trust_domain)
    due_ms = renewal.renew_at_ms(facts.not_before_ms, facts.not_after_ms)
    left_ms = due_ms - now_ms()
    if left_ms > 0 and not options.now:
        return f"{facts.spiffe_id} is due for renewal in {left_ms // 60_000} minutes"
    if lapsed(directory, now_ms()):
        raise pki.PkiInvalid(
            f"{directory}: the certificate has run out: join with a new token"
            f" (`sovctl token create {name.path}`)"
        )
    server = spiffe.control_plane()
    dial = dialler(directory, options.endpoint, server, options.trust_domain)

    async def ask(csr_der: bytes) -> renewal.Renewed:
        async with dial() as channel:
            request = RenewRequest(csr_der=csr_der)
            answer = await IdentityServiceStub(channel).Renew(request, timeout=JOIN_S_MAX)
        return renewal.Renewed(answer.certificate_pem, answer.trust_bundle_pem)

    identity = await renewal.renew_once(directory, ask)
    left_ms = identity.facts().not_after_ms - now_ms()
    return f"{facts.spiffe_id} renewed for {left_ms // 60_000} minutes"


Command = Callable[[argparse.Namespace, Callable[[], int]], Coroutine[Any, Any, str]]
COMMANDS: Mapping[str, Command] = {"join": join, "renew": renew}
"""Each with the command line and UTC milliseconds; answers what to tell."""


def add_commands(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """The flags of both."""
    sub = commands.add_parser("join", help="exchange a join token for a certificate")
    for flag, text in (
        ("--endpoint", "port of Join: the control plane's, or a node's site agent's"),
        ("--name", "such as /site/exch-a/agent or /site/exch-a/node/n01"),
        ("--credentials", "directory to keep the identity in"),
        ("--ca", "file with the CA certificates to believe"),
    ):
        sub.add_argument(flag, required=True, help=text)
    sub.add_argument(
        "--token",
        default=os.environ.get("SOV_JOIN_TOKEN", ""),
        help="the single-use token; better in SOV_JOIN_TOKEN, where no process list shows it",
    )
    sub.add_argument("--trust-domain", default=spiffe.DEFAULT_TRUST_DOMAIN)
    sub.add_argument("--dns", action="append", default=[], help="a DNS name it is dialled by")
    sub.add_argument("--ip", action="append", default=[], help="an address it is dialled by")
    sub.add_argument(
        "--direct", action="store_true", help="a node that joins at the control plane itself"
    )
    sub = commands.add_parser("renew", help="renew an identity that no agent renews, if it is due")
    sub.add_argument("--endpoint", required=True, help="the control plane's main port")
    sub.add_argument("--credentials", required=True, help="directory that the identity is kept in")
    sub.add_argument("--trust-domain", default=spiffe.DEFAULT_TRUST_DOMAIN)
    sub.add_argument("--now", action="store_true", help="also when it is not due yet")
