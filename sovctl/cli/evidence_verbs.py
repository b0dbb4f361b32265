"""Verbs about evidence: the log's head, being its witness, the trust file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sovapi.v1 import audit_pb2
from sovctl import verify
from sovctl import witness as witnesses
from sovctl.async_client import AsyncClient
from sovctl.certificates import gaps
from sovctl.cli import evidence_tables as tables
from sovctl.cli.documents import message_document
from sovctl.cli.job_verbs import moment
from sovctl.cli.session import session_of
from sovctl.errors import ConfigError, Denial, InvalidArgumentError, SovError
from sovctl.log_check import Checked, check_log
from sovctl.spec_values import duration_ms
from sovctl.verify import NotVerified, Trust

EVERY_MS_MIN = 1_000

TrustOption = Annotated[
    Path, typer.Option("--trust", metavar="TRUST", help="Trust file, of `audit trust`.")
]


class VerificationError(SovError):
    """What was checked does not hold."""

    default_reason = "NOT_VERIFIED"


def certificate_of(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job that is over or was refused.")],
    file: Annotated[
        Path | None, typer.Option("--file", "-o", metavar="FILE", help="Write it there.")
    ] = None,
) -> None:
    """Fetch a job's residency certificate: where it was.

    Default file: JOB.residency.json, in this directory. `sovctl verify` checks it.
    """
    session = session_of(ctx)
    content = session.run(lambda client: client.certificate(job))
    path = file or Path(f"{job.replace('/', '_')}.residency.json")
    write_new(path, content)
    document = {"job": job, "file": str(path), "bytes": len(content)}
    session.output.result(document, str(path), f"certificate of {job} written to {path}")


def verify_files(
    ctx: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Certificates.")],
    trust: TrustOption,
) -> None:
    """Check certificates offline: every byte of them.

    Says whether a certificate is genuine; what it certifies is its verdict.
    """
    session = session_of(ctx)
    believed = read_trust(trust)
    found = [(path, _verified(path, believed)) for path in files]
    session.output.listing(tables.certificates_verified(found))


def list_certificates(
    ctx: typer.Context,
    tenant: Annotated[str, typer.Option(metavar="PATH", help="Of it and all below it.")] = "",
) -> None:
    """List certificates, and show gaps: what is missing was withheld.

    Exit status 1 when there is a gap.
    """
    session = session_of(ctx)

    async def work(client: AsyncClient) -> list[audit_pb2.CertificateLine]:
        return [line async for line in client.certificates(tenant)]

    lines = session.run(work)
    when = [moment(line.issued_at_ms) for line in lines]
    session.output.listing(tables.certificate_lines(lines, when))
    broken = gaps(lines)
    if broken:
        details = tuple(Denial("GAP", each.detail, each.tenant) for each in broken)
        said = f"{len(broken)} break(s) in the sequence of certificates"
        raise VerificationError(said, reason="GAP", details=details)


def _verified(path: Path, trust: Trust) -> verify.Verified:
    try:
        return verify.verify(path.read_bytes(), trust)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except NotVerified as error:
        raise VerificationError(f"{path}: not verified: {error}") from error


def audit_checkpoint(ctx: typer.Context) -> None:
    """Print the audit log's signed head (C2SP tlog-checkpoint)."""
    session = session_of(ctx)
    found = session.run(lambda client: client.checkpoint())
    sentence = found.signed_note.decode("utf-8", "replace").rstrip("\n")
    session.output.result(message_document(found), str(found.tree_size), sentence)


def audit_trust(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Option("--file", "-o", metavar="FILE", help="Write it there.")
    ] = None,
) -> None:
    """Print whom a verifier is to believe: keys, witnesses, quorum.

    Compare the keys with what the control plane's operator publishes before you rely on them.
    """
    session = session_of(ctx)
    text = session.run(lambda client: client.trust()).decode("utf-8", "replace")
    if file is not None:
        write_new(file, text.encode())
    document = {"trust": text, "file": str(file) if file else None}
    session.output.result(document, str(file or ""), f"{file} written" if file else text.rstrip())


def audit_verify(ctx: typer.Context, trust: TrustOption) -> None:
    """Hash the whole log again and compare it with its signed head."""
    session = session_of(ctx)
    believed = read_trust(trust)

    async def work(client: AsyncClient) -> Checked:
        note = (await client.checkpoint()).signed_note
        return await check_log(note, believed, client.audit_leaves)

    try:
        found = session.run(work)
    except NotVerified as error:
        raise VerificationError(str(error)) from error
    names = list(found.head.witnesses)
    document = {
        "origin": found.head.origin,
        "tree_size": found.head.size,
        "root_hash": found.head.root.hex(),
        "hidden": found.hidden,
        "witnesses": names,
    }
    said = f"{found.leaves} leaves are those that {found.head.origin} signed"
    if found.hidden:
        said += f"; of {found.hidden} you were shown the hashes alone"
    also = f", witnessed by {', '.join(names)}" if names else ", with no witness"
    session.output.result(document, str(found.leaves), said + also)


def audit_witness(
    ctx: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Keeps key and last head.")],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Of a new witness, such as lab.example/w1.")
    ] = "",
    every: Annotated[
        str, typer.Option(metavar="DURATION", help="Go on, looking so often; default: once.")
    ] = "",
    key_only: Annotated[
        bool, typer.Option("--key", help="Only print the key, for the operator to add.")
    ] = False,
) -> None:
    """Cosign the log's head, if it continues the one seen last; refuse a fork loudly."""
    session = session_of(ctx)
    keeper = witnesses.keep(directory, name)
    line = f"witness {keeper.key.name} {keeper.key}"
    if key_only:
        session.output.result({"witness": keeper.key.name, "vkey": str(keeper.key)}, line, line)
        return
    every_ms = _every_ms(every)
    while True:
        found = session.run(lambda client: client.witness(keeper))
        document = {"witness": keeper.key.name, "tree_size": found.tree_size}
        said = f"{keeper.key.name} cosigned {found.tree_size} leaves"
        session.output.result(document, str(found.tree_size), said)
        if not every_ms:
            return
        time.sleep(every_ms / 1000)


def _every_ms(every: str) -> int:
    if not every:
        return 0
    try:
        every_ms = duration_ms(every)
    except ValueError as error:
        raise InvalidArgumentError(f"--every: {error}") from None
    if every_ms < EVERY_MS_MIN:
        raise InvalidArgumentError(f"--every: found {every}, allowed 1s or more")
    return every_ms


def read_trust(path: Path) -> Trust:
    """A trust file; raises `ConfigError`."""
    try:
        return verify.parse_trust(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except NotVerified as error:
        raise ConfigError(f"{path}: {error}") from error


def write_new(path: Path, content: bytes) -> None:
    """Writes a file of an answer; raises `ConfigError`."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
