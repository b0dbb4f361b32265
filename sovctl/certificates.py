"""Certificates as tenants keep them: a file each, and a sequence in which none may be missing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sovapi.v1 import audit_pb2
from sovctl import verify


def join(response: audit_pb2.GetCertificateResponse) -> bytes:
    """The file of a certificate: its DSSE envelope, with the proof as one more member."""
    envelope: dict[str, Any] = json.loads(response.dsse_envelope_json)
    whole = {**envelope, "tlogProof": response.tlog_proof.decode()}
    return f"{verify.canonical(whole)}\n".encode()


@dataclass(frozen=True, slots=True)
class Gap:
    """Where a tenant's sequence is broken: a certificate is withheld, or was exchanged."""

    tenant: str
    tenant_seq: int
    detail: str


def gaps(lines: Iterable[audit_pb2.CertificateLine]) -> list[Gap]:
    """Breaks in the sequences of `lines`, which come by tenant and number, from the first on.

    The newest certificates of a tenant can be withheld unseen until a later one is shown.
    """
    found: list[Gap] = []
    tenant, seq, digest = "", 0, ""
    for line in lines:
        if line.tenant != tenant:
            tenant, seq, digest = line.tenant, 0, ""
        missing = range(seq + 1, line.tenant_seq)
        if len(missing) == 1:
            found.append(Gap(tenant, missing[0], f"certificate {missing[0]} is missing"))
        elif missing:
            said = f"certificates {missing[0]} to {missing[-1]} are missing"
            found.append(Gap(tenant, missing[0], said))
        elif line.tenant_seq <= seq:
            found.append(Gap(tenant, line.tenant_seq, f"number {line.tenant_seq} comes twice"))
        elif line.prev != digest:
            said = f"certificate {line.tenant_seq} follows {line.prev or 'none'}, not {digest}"
            found.append(Gap(tenant, line.tenant_seq, said))
        seq, digest = line.tenant_seq, line.digest
    return found
