"""Statements of certificates as text, and as they are kept.

Of one class of jobs and one site, statements differ in who, when and where alone. What they have in
common is made once (`_Frame`) and filled in; the simple equivalent, which makes a statement whole,
is what frames are made by, and what a statement of anything unusual is made by. As they are alike,
they are kept compressed against a text that has what most of them have.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from json.encoder import encode_basestring as _string
from typing import Protocol

from scheduler.core.certificates import Account, interval_told, predicate, verdict
from scheduler.core.data_told import Egress
from scheduler.core.stays import Interval
from scheduler.model.ids import SiteId
from scheduler.model.residency import Requirement
from scheduler.store.codec import known_canonical

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://sovereign-compute.example/residency/v1"
FRAMES_MAX = 5_000
"""Frames that are remembered; past it they are all dropped and made again."""
SUBJECTS_MAX = 5_000
"""What statements are about, as text: the jobs of an array, and those of a sweep, are of one."""
COMPRESSION = 1
"""The quickest: against its dictionary, a statement shrinks to a tenth all the same."""
WINDOW_BITS = 12
WINDOW_BYTES = 1 << WINDOW_BITS
"""How far back a short statement is compared: it costs time to make a window ready."""
WINDOW_BITS_LONG = 15
"""Of a statement that is longer than a short window."""
MEMORY_LEVEL = 6


class _Packing(Protocol):
    """What `zlib.compressobj` makes, whose type has no name."""

    def copy(self) -> _Packing: ...

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


# It is never changed: what is kept can be read with these very bytes alone. Its name is kept with
# each statement (its Adler-32, as RFC 1950 has it), so that another one may come beside it.
_DICTIONARY = (
    b'"agreements":[],"data_kinds":[],"facts":[],"jurisdictions":["GB"],"markings":[],"min_assuran'
    b'ce":"DECLARED","node_facts":[],"node_sharing":"TENANT","tier":"OFFICIAL","tolerate_foreign_c'
    b'ompulsion":[]},"sinks":{"OUT_OF_BOUNDS","NOT_PLACED","CONTROLLED","NOT_KNOWN","FAILED","CANC'
    b'ELLED","asserted_by":"","assurance":"ATTESTED","digest":"","expires_at_ms":null,"key":"count'
    b'ry","observed_at_ms":0,"values":["GB"]},{"asserted_by":"","assurance":"DECLARED","digest":""'
    b',"expires_at_ms":null,"key":"ultimate-parents","landlord","facility-operator","service-opera'
    b'tor","support-desk","key-custodian","parents":[[{"_type":"https://in-toto.io/Statement/v1","'
    b'predicate":{"attestation":"NONE","data":{"egress":{"allowed":[],"attempts":[{"attempt":1,"co'
    b'ntrol":"NOT_CONTROLLED","denied":0,"destinations":[]}],"control":"NOT_CONTROLLED"},"inputs":'
    b'[],"outputs":[]},"decision":{"denials":[],"denials_total":0,"facts":[{"digest":"sha256:","re'
    b'lied_on":["rules":["base/jurisdiction","base/jurisdiction-allowed","base/law-landlord","base'
    b'/law-facility-operator","base/law-service-operator","base/law-support-desk","base/law-key-cu'
    b'stodian","base/law-sinks","base/law-ultimate-parents","base/tier-control-plane","base/tier-s'
    b'ite"]},"intervals":[{"attempt":1,"country":"GB","facts":["sha256:"],"from":1799996340000,"no'
    b'des":["site-00/"],"policy_revision":1,"site":"site-00","started":null,"to":1800000720000,"ve'
    b'rdict":"IN_BOUNDS"}],"issued_at_ms":1800000720000,"job":"job-","keys":{"held_by":"NONE","rel'
    b'eased":[]},"limits":["The log proves what was recorded, when and unaltered; it does not prov'
    b'e that it was true.","What is known of a site is as good as the assurance of each fact says.'
    b'","Access by a site\'s staff outside the control plane is not recorded.","Network egress of t'
    b'he job was not controlled: copies that it sent itself are not seen.","Where the hardware is '
    b'was not measured all the time, of every node.","Nothing attests the hardware, or the softwar'
    b'e that ran, on every node."],"location":"NOT_MEASURED","node_evidence":[],"node_evidence_tot'
    b'al":0,"operator_access":[],"operator_access_total":0,"outcome":"SUCCEEDED","policy":{"digest'
    b'":"sha256:","name":"","revision":1},"prev":"sha256:","reason":null,"requirement":{"agreement'
    b's":[],"data_kinds":[],"facts":[],"jurisdictions":["GB"],"markings":[],"min_assurance":"DECLA'
    b'RED","node_facts":[],"node_sharing":"TENANT","tier":"OFFICIAL","tolerate_foreign_compulsion"'
    b':[]},"sinks":{},"submitted_at_ms":1799996340000,"tenant":"tenant-0","tenant_seq":1,"verdict"'
    b':"INDETERMINATE"},"predicateType":"https://sovereign-compute.example/residency/v1","subject"'
    b':[{"digest":{"sha256":""},"name":"spec"}]}'
)


def _primed(window_bits: int) -> _Packing:
    """Compression that has seen the dictionary: a copy of it costs less than showing it again."""
    return zlib.compressobj(
        COMPRESSION, wbits=window_bits, memLevel=MEMORY_LEVEL, zdict=_DICTIONARY
    )


_PRIMED, _PRIMED_LONG = _primed(WINDOW_BITS), _primed(WINDOW_BITS_LONG)

Grounds = tuple[Requirement, str, int, Egress, tuple[tuple[SiteId, tuple[str, ...]], ...]]
"""All of a usual account that its frame is made from: the requirement, the policy's digest and
revision, what left the job, and what was known of its sites, interval by interval."""
Frames = dict[Grounds, Sequence[str]]

# In the order of canonical JSON; of a statement, what only one job has.
_OWN = (
    "intervals",
    "issued_at_ms",
    "job",
    "outcome",
    "prev",
    "reason",
    "submitted_at_ms",
    "tenant",
    "tenant_seq",
    "verdict",
)
# A control character: JSON never has one unescaped, so no text of a frame holds it by chance.
_GAP = '"\\u0000"'


def whole_statement(of: Account, tenant_seq: int, prev: str) -> str:
    """The in-toto statement of an account as canonical JSON."""
    subject = _subject(of.spec_digest, of.bundle_digest, of.image)
    return _text(predicate(of, tenant_seq, prev), subject)


def statement(of: Account, tenant_seq: int, prev: str, frames: Frames) -> str:
    """As `whole_statement`, with what `frames` has of others, which may grow by it."""
    if not _is_usual(of):
        return whole_statement(of, tenant_seq, prev)
    known_of = tuple((each.stay.site, each.facts_digests) for each in of.intervals)
    policy = of.policy
    grounds = of.requirement, policy.digest, policy.policy.revision, of.data.egress, known_of
    frame = frames.get(grounds)
    if frame is None:
        if len(frames) >= FRAMES_MAX:
            frames.clear()
        frame = frames[grounds] = _frame(of)
    begin, *between, end = frame
    own = (
        f"[{','.join([_interval(each) for each in of.intervals])}]",
        f"{of.issued_at_ms:d}",
        _string(of.job),
        _string(of.outcome),
        _string(prev),
        "null" if of.reason is None else _string(of.reason),
        f"{of.submitted_at_ms:d}",
        _string(of.tenant),
        f"{tenant_seq:d}",
        _string(verdict(of).value),
        _subject_text(of.spec_digest, of.bundle_digest, of.image),
    )
    filled = [part for pair in zip(own, (*between, end), strict=True) for part in pair]
    return begin + "".join(filled)


def _is_usual(of: Account) -> bool:
    """Whether all that an account has of its own is in `_OWN`, and its subject."""
    unusual = (
        of.agreements,
        of.array,
        of.customer_keys,
        of.data.egress.allowed,
        of.data.inputs,
        of.data.outputs,
        of.denials,
        of.nodes,
        of.operator_uses,
        of.shares,
        of.tasks,
    )
    return not any(unusual)


def _frame(of: Account) -> Sequence[str]:
    """A statement in the pieces that stand between what is a job's own."""
    told = predicate(of, 0, "")
    assert tuple(name for name in sorted(told) if name in _OWN) == _OWN, "each of them is told"
    told.update({name: "\0" for name in _OWN})
    return _text(told, "\0").split(_GAP)


def _text(told: dict[str, object], subject: object) -> str:
    return known_canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": subject,
            "predicateType": PREDICATE_TYPE,
            "predicate": told,
        }
    )


def _interval(interval: Interval) -> str:
    """What `interval_told` says, as canonical JSON."""
    stay = interval.stay
    if stay.agreement or interval.denials:
        return known_canonical(interval_told(interval))
    return (
        f'{{"attempt":{stay.attempt:d},"country":{_string(interval.country)}'
        f',"facts":{_listed(interval.facts_digests)},"from":{interval.from_ms:d}'
        f',"nodes":{_listed(stay.nodes)},"policy_revision":{interval.policy_revision:d}'
        f',"site":{_string(stay.site)},"started":{stay.started_at_ms or "null"}'
        f',"to":{interval.to_ms:d},"verdict":"{interval.bounds}"}}'
    )


def _listed(words: Sequence[str]) -> str:
    return f"[{','.join([_string(word) for word in words])}]"


@lru_cache(maxsize=SUBJECTS_MAX)
def _subject_text(spec_digest: str, bundle_digest: str, image: str) -> str:
    return known_canonical(_subject(spec_digest, bundle_digest, image))


def _subject(spec_digest: str, bundle_digest: str, image: str) -> list[dict[str, object]]:
    """What the statement is about, by digest."""
    named = (("spec", spec_digest), ("bundle", bundle_digest), ("image", image.rpartition("@")[2]))
    return [
        {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}
        for name, digest in named
        if digest
    ]


def packed(text: bytes) -> bytes:
    """A statement as it is kept."""
    packing = (_PRIMED if len(text) <= WINDOW_BYTES else _PRIMED_LONG).copy()
    return packing.compress(text) + packing.flush()


def unpacked(kept: bytes) -> bytes:
    """The statement that was kept; earlier versions kept theirs without a dictionary."""
    return zlib.decompressobj(zdict=_DICTIONARY).decompress(kept)
