"""What a certificate claims of its owner beside the name: country, clearance, and who vouches.

One extension, not critical: a UTF8String of canonical JSON. The CA writes it from a join token that
an operator made, and copies it on renewal; nobody gets claims by asking. What cannot be read, or
what is not exactly this, claims nothing.
"""

from __future__ import annotations

import json
from typing import Any

from cryptography import x509

from scheduler.model.identity import NO_CLAIMS, Claims, Clearance
from scheduler.store.codec import canonical

CLAIMS_LIFE_MS = 90 * 24 * 3600 * 1000
"""How long claims last from the day they were vouched for, however often a name is renewed."""
CLAIMS_OID = x509.ObjectIdentifier("2.25.163528849153640947390253474139512934531")
"""An arc of our own: ITU-T X.667 gives one to whoever draws a UUID."""
_UTF8_STRING = 0x0C
_LONG_FORM = 0x82
_HEAD_BYTES = 4
TEXT_BYTES_MAX = 4096


def extension_of(claims: Claims) -> x509.UnrecognizedExtension:
    """The claims as they stand in a certificate."""
    text = canonical(
        {
            "clearance": claims.clearance.name,
            "country": claims.country,
            "until_ms": claims.until_ms,
            "vouched_by": claims.vouched_by,
        }
    ).encode()
    assert len(text) <= TEXT_BYTES_MAX, "the parts of claims are bounded"
    head = bytes([_UTF8_STRING, _LONG_FORM]) + len(text).to_bytes(2, "big")
    return x509.UnrecognizedExtension(CLAIMS_OID, head + text)


def claims_of(certificate: x509.Certificate) -> Claims:
    """What a certificate of our CA claims; nothing where it does not."""
    try:
        found = certificate.extensions.get_extension_for_oid(CLAIMS_OID).value
    except x509.ExtensionNotFound:
        return NO_CLAIMS
    assert isinstance(found, x509.UnrecognizedExtension), "no library knows an arc of ours"
    try:
        read: dict[str, Any] = json.loads(found.value[_HEAD_BYTES:])
        claims = Claims(
            read["country"], Clearance[read["clearance"]], read["vouched_by"], read["until_ms"]
        )
        return claims if extension_of(claims).value == found.value else NO_CLAIMS
    except (ValueError, KeyError, TypeError):
        return NO_CLAIMS
