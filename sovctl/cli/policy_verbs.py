"""Operators' verbs on the policy: what is in force, what could be, and why not."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from sovapi.v1 import policy_pb2
from sovctl.cli.documents import message_document
from sovctl.cli.operate_verbs import ApplyReason, DryRun, FileArgument, show_changes
from sovctl.cli.output import Column, Listing, Output, safe
from sovctl.cli.session import exit_with, read_file, session_of
from sovctl.cli.since import since_ms
from sovctl.errors import InvalidArgumentError
from sovctl.policy_file import SIGNED_AS, Policy
from sovshared import pki, signing

SIGNATURE_BYTES_MAX = 1_024
REFUSED = 3


def show_policy(ctx: typer.Context) -> None:
    """Show the policy in force, with every rule and where it comes from."""
    session = session_of(ctx)
    found = session.run(lambda client: client.policy())
    if not session.output.is_human:
        session.output.result(message_document(found), str(found.revision), "")
        return
    for line in _page(found):
        session.output.print(Text(safe(line)))


def apply_policy(
    ctx: typer.Context,
    file: FileArgument,
    dry_run: DryRun = False,
    reason: ApplyReason = "",
    override: Annotated[
        str,
        typer.Option(
            "--override",
            metavar="TEXT",
            help="Why it may be looser than the policy in force; audited.",
        ),
    ] = "",
) -> None:
    """Make the policy what FILE says, once it is proved no looser than the one in force.

    What cannot be proved is refused, with a site and work that would be let through. A
    signature in FILE.sig is sent with it.
    """
    session = session_of(ctx)
    policy = read_file(Policy, file).to_proto()
    signed = _beside(file)
    signature = read_signature(signed) if signed.exists() else b""
    response = session.run(
        lambda client: client.apply_policy(
            policy,
            dry_run=dry_run,
            reason=reason or file.name,
            override=override,
            signature=signature,
        )
    )
    show_findings(session.output, response.findings)
    show_changes(session.output, response.changes, dry_run=dry_run, revision=response.revision)


def prove_policy(ctx: typer.Context, file: FileArgument) -> None:
    """Prove FILE no looser than the policy in force, or show what it would let through.

    Nothing is applied. Exit status 3 where something is not proved.
    """
    session = session_of(ctx)
    policy = read_file(Policy, file).to_proto()
    response = session.run(lambda client: client.prove_policy(policy))
    if session.output.is_human:
        show_findings(session.output, response.findings)
    else:
        session.output.result(message_document(response), "", "")
    exit_with(0 if response.no_looser else REFUSED)


def diff_policy(
    ctx: typer.Context,
    file: FileArgument,
    since: Annotated[
        str, typer.Option("--since", metavar="WHEN", help="How far back; default: everything.")
    ] = "",
) -> None:
    """List placements on record that FILE would judge otherwise than the policy in force.

    They are judged by the facts as they are now. Nothing is applied.
    """
    session = session_of(ctx)
    policy = read_file(Policy, file).to_proto()
    decided_ms = since_ms(since)
    found = session.run(lambda client: client.diff_policy(policy, since_ms=decided_ms))
    rows = [_change_row(change) for change in found]
    documents = [message_document(change) for change in found]
    columns = [Column(name) for name in ("JOB", "SITE", "NOW", "THEN", "WHY")]
    names = [change.job_id for change in found]
    session.output.listing(Listing(columns, rows, documents, names, "nothing would change"))


def _change_row(change: policy_pb2.DecisionChange) -> tuple[str, ...]:
    said = {True: "permitted", False: "denied"}
    first = change.denials[0] if change.denials else None
    why = f"{first.reason}: {first.detail}" if first else ""
    now, then = said[change.permitted_before], said[change.permitted_after]
    return (change.job_id, change.site, now, then, why)


def sign_policy(
    ctx: typer.Context,
    file: FileArgument,
    key: Annotated[
        Path, typer.Option("--key", metavar="FILE", help="An Ed25519 key; made if not there.")
    ],
) -> None:
    """Sign FILE into FILE.sig, and print the public key.

    The control plane accepts signatures of the public keys in its `policy-signers`.
    """
    session = session_of(ctx)
    pack = read_file(Policy, file).to_pack()
    try:
        signer = signing.kept_in(key)
    except pki.PkiInvalid as error:
        raise InvalidArgumentError(f"--key: {error}") from None
    target = _beside(file)
    target.write_bytes(base64.b64encode(signer.sign(SIGNED_AS + pack)) + b"\n")
    public = base64.b64encode(signer.public_key).decode()
    document = {"file": str(target), "key_id": signer.key_id, "public_key": public}
    session.output.result(document, public, f"{target}: signed by {signer.key_id}, {public}")


def show_findings(output: Output, findings: Sequence[policy_pb2.PolicyFinding]) -> None:
    """What was proved, for people."""
    if not output.is_human:
        return
    for found in findings:
        output.note(f"{found.standing}: {safe(found.claim)}: {safe(found.text)}")
        for line in found.counterexample:
            output.note(f"    {safe(line)}")


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.sig")


def read_signature(path: Path) -> bytes:
    """A signature in base64, as a verb that signs writes it; raises `InvalidArgumentError`."""
    try:
        with path.open("rb") as opened:
            return base64.b64decode(opened.read(SIGNATURE_BYTES_MAX).strip(), validate=True)
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"{path}: {error}; allowed a signature in base64") from None


def _page(policy: policy_pb2.Policy) -> Iterable[str]:
    yield f"{policy.name}, revision {policy.revision}"
    if policy.digest:
        signed = f", signed by {policy.signed_by}" if policy.signed_by else ", not signed"
        yield f"pack sha256:{policy.digest}{signed}"
    yield f"may be in: {', '.join(policy.allowed_jurisdictions)}"
    for kind, many in (("rule", policy.rules), ("invariant", policy.invariants)):
        for each in many:
            yield f"{kind} {each.id}: {each.text}"
            yield f"    {each.cites}"
