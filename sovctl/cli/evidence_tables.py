"""Tables of certificates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sovapi.v1 import audit_pb2
from sovctl.cli.documents import message_document
from sovctl.cli.output import Column, Listing
from sovctl.verify import Verified


def certificates_verified(found: Sequence[tuple[Path, Verified]]) -> Listing:
    """Certificates that hold, and what they say."""
    return Listing(
        columns=[
            Column("FILE", whole=False),
            Column("JOB"),
            Column("OUTCOME"),
            Column("VERDICT"),
            Column("COUNTRIES"),
            Column("SEQ"),
            Column("WITNESSES"),
            Column("DIGEST", wide=True),
        ],
        rows=[
            [
                str(path),
                str(each.predicate["job"]),
                str(each.predicate.get("outcome", "-")),
                str(each.predicate.get("verdict", "-")),
                ",".join(_countries(each)) or "-",
                str(each.predicate["tenant_seq"]),
                ",".join(each.head.witnesses) or "-",
                each.digest,
            ]
            for path, each in found
        ],
        documents=[
            {
                "file": str(path),
                "verified": True,
                "digest": each.digest,
                "leaf_index": each.index,
                "origin": each.head.origin,
                "tree_size": each.head.size,
                "witnesses": list(each.head.witnesses),
                "statement": each.statement,
            }
            for path, each in found
        ],
        names=[str(each.predicate["job"]) for _, each in found],
        empty="nothing to verify",
    )


def certificate_lines(lines: Sequence[audit_pb2.CertificateLine], when: Sequence[str]) -> Listing:
    """Certificates in the order of their tenants' sequences."""
    return Listing(
        columns=[
            Column("TENANT"),
            Column("SEQ"),
            Column("JOB"),
            Column("AT"),
            Column("OUTCOME"),
            Column("VERDICT"),
            Column("DIGEST", wide=True),
        ],
        rows=[
            [
                line.tenant,
                str(line.tenant_seq),
                line.job_id,
                at,
                line.outcome,
                line.verdict,
                line.digest,
            ]
            for line, at in zip(lines, when, strict=True)
        ],
        documents=[message_document(line) for line in lines],
        names=[line.job_id for line in lines],
        empty="no certificates",
    )


def _countries(found: Verified) -> list[str]:
    intervals = found.predicate.get("intervals")
    if not isinstance(intervals, list):
        return []
    return sorted({str(each.get("country") or "?") for each in intervals})  # pyright: ignore
