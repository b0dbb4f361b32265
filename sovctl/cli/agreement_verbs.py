"""Operators' verbs on agreements, and the ledger that either party checks."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from sovapi.v1 import policy_pb2
from sovctl import agreement_ledger, countersigned
from sovctl.agreement_file import SIGNED_AS, Agreement
from sovctl.async_client import AsyncClient
from sovctl.cli.documents import message_document
from sovctl.cli.evidence_verbs import VerificationError, read_trust, write_new
from sovctl.cli.job_verbs import moment
from sovctl.cli.operate_verbs import ApplyReason, DryRun, FileArgument, show_changes
from sovctl.cli.output import Column, Listing, safe
from sovctl.cli.policy_verbs import read_signature
from sovctl.cli.session import read_file, session_of
from sovctl.errors import InvalidArgumentError
from sovctl.spec_values import format_milli
from sovctl.verify import NotVerified
from sovshared import pki, signing

LEDGER_BYTES_MAX = 256 << 20
GPU_HOUR_MS = 3_600_000
PARTY = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="An agreement, such as uk-ca-compute.")
]


def apply_agreement(
    ctx: typer.Context, file: FileArgument, dry_run: DryRun = False, reason: ApplyReason = ""
) -> None:
    """Put the agreement of FILE in force; every party must have signed it.

    Signatures are read from FILE.*.sig, as `agreements sign` writes them.
    """
    session = session_of(ctx)
    document = read_file(Agreement, file).to_document()
    beside = sorted(file.parent.glob(f"{file.name}.*.sig"))
    signatures = [read_signature(path) for path in beside]
    response = session.run(
        lambda client: client.apply_agreement(
            document, signatures, dry_run=dry_run, reason=reason or file.name
        )
    )
    show_changes(
        session.output, response.changes, dry_run=dry_run, revision=response.policy_revision
    )


def sign_agreement(
    ctx: typer.Context,
    file: FileArgument,
    party: Annotated[str, typer.Option("--as", metavar="PARTY", help="A party that FILE names.")],
    key: Annotated[
        Path, typer.Option("--key", metavar="FILE", help="An Ed25519 key; made if not there.")
    ],
) -> None:
    """Sign FILE for a party into FILE.PARTY.sig, and print the public key.

    The control plane accepts it by the party's key in its `agreement-parties`.
    """
    session = session_of(ctx)
    agreement = read_file(Agreement, file)
    names = [each.name for each in agreement.parties]
    if party not in names:
        raise InvalidArgumentError(f"--as: found {party!r}, allowed {', '.join(names)}")
    try:
        signer = signing.kept_in(key)
    except pki.PkiInvalid as error:
        raise InvalidArgumentError(f"--key: {error}") from None
    target = file.with_name(f"{file.name}.{party}.sig")
    signature = signer.sign(SIGNED_AS + agreement.to_document())
    target.write_bytes(base64.b64encode(signature) + b"\n")
    public = base64.b64encode(signer.public_key).decode()
    document = {"file": str(target), "key_id": signer.key_id, "public_key": public}
    session.output.result(document, public, f"{target}: signed by {signer.key_id}, {public}")


def revoke_agreement(
    ctx: typer.Context,
    name: NameArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; audited.")],
    dry_run: DryRun = False,
) -> None:
    """End an agreement now: nothing starts under it, and what runs under it leaves."""
    session = session_of(ctx)
    response = session.run(
        lambda client: client.revoke_agreement(name, reason=reason, dry_run=dry_run)
    )
    show_changes(
        session.output, response.changes, dry_run=dry_run, revision=response.policy_revision
    )


def list_agreements(ctx: typer.Context) -> None:
    """List agreements, with what is used under each."""
    session = session_of(ctx)
    found = session.run(lambda client: client.agreements())
    columns = [Column(n) for n in ("NAME", "INSTRUMENT", "OPENS", "STANDING", "UNTIL", "GPUS")]
    rows = [
        (
            each.agreement.name,
            each.agreement.instrument,
            ",".join(each.agreement.jurisdictions),
            _standing(each),
            moment(each.agreement.valid_until_ms),
            _gpus(each),
        )
        for each in found
    ]
    names = [each.agreement.name for each in found]
    documents = [message_document(each) for each in found]
    session.output.listing(Listing(columns, rows, documents, names, "no agreements"))


def show_agreement(ctx: typer.Context, name: NameArgument) -> None:
    """Show an agreement: what it opens to whom, who signed it, what is used under it."""
    session = session_of(ctx)
    (found,) = session.run(lambda client: client.agreements(name))
    if not session.output.is_human:
        session.output.result(message_document(found), name, "")
        return
    for title, text in _page(found):
        session.output.print(Text(f"{title:<14}{safe(text)}"))


def agreement_ledger_of(
    ctx: typer.Context,
    name: NameArgument,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Read it there; asks nobody.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Write it there, to be checked.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check it; needs --trust.")] = False,
    trust: Annotated[
        Path | None, typer.Option("--trust", metavar="TRUST", help="Trust file, of `audit trust`.")
    ] = None,
    parties: Annotated[
        Path | None,
        typer.Option("--parties", metavar="DIR", help="Parties' public keys, PARTY.pub."),
    ] = None,
) -> None:
    """Print what was used under an agreement, and check that nothing of it is missing."""
    session = session_of(ctx)
    if verify and trust is None:
        raise InvalidArgumentError("--verify: found no --trust, allowed a trust file")

    async def fetch(client: AsyncClient) -> dict[str, Any]:
        pages = [page async for page in client.agreement_ledger(name)]
        return agreement_ledger.document_of(name, pages)

    document = session.run(fetch) if source is None else _read(source)
    if file is not None:
        write_new(file, json.dumps(document, indent=1).encode())
    if trust is None:
        entries = [json.loads(e["leaf"]) for page in document["pages"] for e in page["entries"]]
        columns = [Column(n) for n in ("NO", "WHEN", "EVENT", "USE", "SITE", "GPUS", "GPU-HOURS")]
        rows = [_entry_row(entry) for entry in entries]
        numbers = [str(entry["number"]) for entry in entries]
        session.output.listing(Listing(columns, rows, entries, numbers, "nothing was used"))
        return
    try:
        found = countersigned.check(document, name, read_trust(trust), _party_keys(parties))
    except NotVerified as error:
        raise VerificationError(f"the ledger of {name} does not hold: {error}") from None
    totals = found.totals
    told = {
        "agreement": name,
        "entries": totals.entries,
        "last_digest": totals.last_digest,
        "settled_gpu_ms": totals.settled_gpu_ms,
        "open_gpu_milli": totals.open_gpu_milli,
        "given_milli": totals.given_milli,
        "lent_gpu_ms": totals.lent_gpu_ms,
        "signed": dict(found.signed),
    }
    note = f"{name}: {totals.entries} entries hold, {_hours(totals.settled_gpu_ms)} GPU-hours"
    said = "".join(f"; {party} signed up to entry {n}" for party, n in found.signed.items())
    session.output.result(told, totals.last_digest, f"{note} settled{said}")


def countersign_ledger(
    ctx: typer.Context,
    name: NameArgument,
    source: Annotated[Path, typer.Option("--from", metavar="FILE", help="A ledger.")],
    file: Annotated[Path, typer.Option("--file", metavar="FILE", help="Write it there, signed.")],
    party: Annotated[str, typer.Option("--as", metavar="PARTY", help="Who signs.")],
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The party's Ed25519 key.")],
    trust: Annotated[Path, typer.Option("--trust", metavar="TRUST", help="Trust file.")],
) -> None:
    """Check a ledger, offline, and sign for it as a party of the agreement."""
    session = session_of(ctx)
    try:
        signer = signing.load(key)
    except pki.PkiInvalid as error:
        raise InvalidArgumentError(f"--key: {error}") from None
    if not PARTY.fullmatch(party):
        raise InvalidArgumentError(f"--as: found {party[:80]!r}, allowed a party's name")
    try:
        signed = countersigned.add(_read(source), name, read_trust(trust), party, signer)
    except NotVerified as error:
        raise VerificationError(f"the ledger of {name} does not hold: {error}") from None
    write_new(file, json.dumps(signed, indent=1).encode())
    document = {"file": str(file), "party": party, "key_id": signer.key_id}
    session.output.result(document, str(file), f"{file}: signed as {party} by {signer.key_id}")


def _party_keys(directory: Path | None) -> dict[str, bytes]:
    """The parties' public keys in the files NAME.pub of a directory."""
    found: dict[str, bytes] = {}
    for path in sorted(directory.glob("*.pub")) if directory is not None else ():
        try:
            found[path.stem] = base64.b64decode(path.read_text().strip(), validate=True)
        except (OSError, ValueError) as error:
            raise InvalidArgumentError(f"{path}: {error}; allowed a key in base64") from None
        if len(found[path.stem]) != signing.PUBLIC_KEY_BYTES:
            allowed = f"allowed {signing.PUBLIC_KEY_BYTES}"
            raise InvalidArgumentError(f"{path}: found {len(found[path.stem])} bytes, {allowed}")
    if directory is not None and not found:
        raise InvalidArgumentError(f"--parties: found no *.pub in {directory}, allowed some")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as opened:
            document: object = json.loads(opened.read(LEDGER_BYTES_MAX))
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"{path}: {error}; allowed a ledger in JSON") from None
    if not isinstance(document, dict):
        raise InvalidArgumentError(f"{path}: found no object, allowed a ledger in JSON")
    return document  # pyright: ignore[reportUnknownVariableType] - any object is tried


def _entry_row(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(entry["number"]),
        moment(int(entry["at_ms"])),
        str(entry["event"]),
        str(entry["use"]),
        str(entry["site"]),
        format_milli(int(entry["gpu_milli"])),
        _hours(int(entry["gpu_ms"])),
    )


def _standing(state: policy_pb2.AgreementState) -> str:
    if state.revoked_at_ms:
        return "revoked"
    return "in force" if state.in_force else "not in force"


def _gpus(state: policy_pb2.AgreementState) -> str:
    used, it = format_milli(state.gpu_milli_used), state.agreement
    return f"{used}/{format_milli(it.gpu_milli_max)}" if it.HasField("gpu_milli_max") else used


def _page(state: policy_pb2.AgreementState) -> Iterator[tuple[str, str]]:
    it, scope = state.agreement, state.agreement.scope
    yield it.name, f"{it.instrument}, {_standing(state)}: {it.text}"
    yield "cites", it.cites
    yield "opens", ", ".join((*it.jurisdictions, *it.sites))
    yield "to", f"{', '.join(scope.kinds)} of {', '.join(scope.tenants) or 'every tenant'}"
    yield "markings", ", ".join(scope.markings) or "none"
    yield "data kinds", ", ".join(scope.data_kinds) or "none"
    yield "in force", f"{moment(it.valid_from_ms)} to {moment(it.valid_until_ms)}"
    yield "GPUs", _gpus(state)
    if it.HasField("budget"):
        spent = state.reserved_gpu_ms + state.settled_gpu_ms
        yield "GPU-hours", f"{_hours(spent)}/{_hours(it.budget.amount_gpu_ms)} of this period"
    for party in state.signatories:
        yield "signed", f"{party.party} ({party.country}), key {party.key_id}"
    yield "document", f"sha256:{state.digest}"
    if state.revoked_at_ms:
        yield "revoked", f"{moment(state.revoked_at_ms)}: {state.revoked_because}"


def _hours(gpu_ms: int) -> str:
    return format_milli(gpu_ms * 1000 // GPU_HOUR_MS)
