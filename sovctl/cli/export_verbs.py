"""What operators hand to others: a self-assessment of what the control plane shows now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.text import Text

from sovapi.v1 import audit_pb2
from sovctl import clock
from sovctl.assessment import LABEL, LEVELS, Assessment, Sources, assess
from sovctl.async_client import AsyncClient
from sovctl.certificates import gaps
from sovctl.cli.output import safe
from sovctl.cli.session import session_of
from sovctl.errors import PermissionDeniedError

LEAVES_MAX = 200_000
"""Audit leaves that are counted, from the oldest on."""

Found = TypeVar("Found")


def export_self_assessment(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Write the text there as well.")
    ] = None,
) -> None:
    """Assess this system against the NCSC's cloud principles, from live evidence.

    With a vector of sovereignty: the weakest level for each objective, beside the least that
    the policy asks. Nobody but the system itself has said any of it.
    """
    session = session_of(ctx)
    found = assess(session.run(_sources))
    if file is not None:
        file.write_text("\n".join(lines(found)) + "\n")
    if not session.output.is_human:
        session.output.result(document(found), str(found.policy_revision), "")
        return
    for line in lines(found):
        session.output.print(Text(safe(line)))


def document(found: Assessment) -> dict[str, object]:
    """The assessment as JSON has it."""
    told: dict[str, object] = {"label": LABEL, "kind": "self-assessment", **asdict(found)}
    told["objectives"] = [
        {**asdict(each), "met": each.met, "level_name": LEVELS[each.level]}
        for each in found.objectives
    ]
    return told


def lines(found: Assessment) -> Iterator[str]:
    """The assessment as a page."""
    yield "SELF-ASSESSMENT"
    yield LABEL
    yield f"At {found.at_ms} ms (UTC), under policy revision {found.policy_revision}."
    if found.refused:
        yield f"Not looked at, because this caller may not: {', '.join(found.refused)}."
    yield ""
    yield "Sovereignty, objective by objective: found at the weakest, and asked by the policy"
    for each in found.objectives:
        met = "met" if each.met else "BELOW"
        yield f"  {each.name}: {LEVELS[each.level]}, asked {LEVELS[each.least]}: {met}"
        yield f"    weakest: {each.weakest}"
    for principle in found.principles:
        yield ""
        yield f"{principle.number}. {principle.name}"
        for statement in principle.statements:
            yield f"  {statement.text}"
            for reference in statement.evidence:
                yield f"    - {reference}"
            if statement.evidence_total > len(statement.evidence):
                yield f"    - and {statement.evidence_total - len(statement.evidence)} more"


async def _sources(client: AsyncClient) -> Sources:
    """Everything that the assessment is made of; what may not be looked at is said so."""
    refused: list[str] = []
    certificates: list[audit_pb2.CertificateLine] = []
    leaves: dict[str, tuple[int, int]] = {}
    checkpoint = None
    try:
        certificates = [line async for line in client.certificates()]
        leaves = await _leaves(client)
        checkpoint = await client.checkpoint()
    except PermissionDeniedError:
        refused.append("the audit log and certificates")
    return Sources(
        at_ms=clock.now_ms(),
        policy=await client.policy(),
        sites=[site async for site in client.sites()],
        nodes=[node async for node in client.nodes()],
        leaves=leaves,
        checkpoint=checkpoint,
        certificates=certificates,
        gaps=len(gaps(certificates)),
        dependencies=await client.external_dependencies(),
        refused=tuple(refused),
    )


async def _leaves(client: AsyncClient) -> dict[str, tuple[int, int]]:
    """How many leaves of each kind there are, and the newest of each."""
    found: dict[str, tuple[int, int]] = {}
    seen = 0
    async for leaf in client.audit_leaves():
        found[leaf.kind] = (found.get(leaf.kind, (0, 0))[0] + 1, leaf.index)
        seen += 1
        if seen >= LEAVES_MAX:
            break
    return found
