"""Agreements on the wire, and the document that their parties sign."""

from __future__ import annotations

from hashlib import sha256

from google.protobuf.message import DecodeError

from scheduler.model.agreements import Agreement, Instrument, Scope, Signatory
from scheduler.model.ids import TenantPath
from scheduler.model.reasons import Denial, Reason, invalid
from scheduler.model.residency import Tier
from scheduler.wire.enums import known, number
from scheduler.wire.tenants import budget_from_proto, budget_to_proto
from sovapi.v1 import common_pb2, policy_pb2

SIGNED_AS = b"sovereign agreement v1\n"
"""Comes before a document in what is signed: no signature of another statement is one of it."""
DOCUMENT_BYTES_MAX = 1 << 20


def document_from_wire(document: bytes) -> policy_pb2.Agreement:
    """What a document says; refuses what is none, or is spelt in a way that we do not write."""
    if len(document) > DOCUMENT_BYTES_MAX:
        raise _invalid(f"{len(document)} bytes", f"at most {DOCUMENT_BYTES_MAX}")
    try:
        message = policy_pb2.Agreement.FromString(document)
    except DecodeError:
        raise _invalid(f"{len(document)} bytes that are none", "an encoded Agreement") from None
    if message.SerializeToString(deterministic=True) != document:
        raise _invalid("another spelling than ours", "the canonical encoding")
    return message


def agreement_from_proto(
    message: policy_pb2.Agreement, document: bytes, signatories: tuple[Signatory, ...]
) -> Agreement:
    """What is agreed, by those who signed the document."""
    if message.instrument not in tuple(Instrument):
        found = repr(message.instrument[:64])
        raise _invalid(found, ", ".join(sorted(Instrument)), "instrument")
    scope = message.scope
    return Agreement(
        name=message.name,
        instrument=Instrument(message.instrument),
        text=message.text,
        cites=message.cites,
        jurisdictions=tuple(message.jurisdictions),
        scope=Scope(
            tier_max=int(known(Tier, scope.tier_max)),
            kinds=tuple(scope.kinds),
            tenants=tuple(map(TenantPath, scope.tenants)),
            markings=tuple(scope.markings),
            data_kinds=tuple(scope.data_kinds),
        ),
        valid_from_ms=message.valid_from_ms,
        valid_until_ms=message.valid_until_ms,
        sites=tuple(message.sites),
        gpu_milli_max=message.gpu_milli_max if message.HasField("gpu_milli_max") else None,
        budget=budget_from_proto(message.budget) if message.HasField("budget") else None,
        signatories=signatories,
        digest=sha256(document).hexdigest(),
    )


def agreement_to_proto(agreement: Agreement) -> policy_pb2.Agreement:
    """What its document says."""
    it, scope = agreement, agreement.scope
    return policy_pb2.Agreement(
        name=it.name,
        instrument=it.instrument,
        text=it.text,
        cites=it.cites,
        parties=[
            policy_pb2.AgreementParty(name=each.party, country=each.country)
            for each in it.signatories
        ],
        jurisdictions=it.jurisdictions,
        sites=it.sites,
        scope=policy_pb2.AgreementScope(
            tier_max=number(common_pb2.Tier, Tier(scope.tier_max)),
            kinds=scope.kinds,
            tenants=scope.tenants,
            markings=scope.markings,
            data_kinds=scope.data_kinds,
        ),
        gpu_milli_max=it.gpu_milli_max,
        budget=None if it.budget is None else budget_to_proto(it.budget),
        valid_from_ms=it.valid_from_ms,
        valid_until_ms=it.valid_until_ms,
    )


def signatories_to_proto(agreement: Agreement) -> list[policy_pb2.AgreementSignatory]:
    """Who signed, and with which keys."""
    return [
        policy_pb2.AgreementSignatory(party=each.party, country=each.country, key_id=each.key_id)
        for each in agreement.signatories
    ]


def _invalid(found: str, allowed: str, field: str = "") -> Exception:
    subject = f"agreement.{field}" if field else "agreement"
    return invalid(Denial(Reason.INVALID_ARGUMENT, f"found {found}, allowed {allowed}", subject))
