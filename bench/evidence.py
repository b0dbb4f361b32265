"""What evidence costs: an append to the log's tree, a certificate's check, the share of `place`.

Yardsticks, in the same run: one bare SHA-256 of each leaf; one bare Ed25519 verification. Times are
CPU-seconds of this process, so that a busy machine counts for both alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from bench.record import Result, median
from bench.stored import CODEC, fill, opened, sqlite_database
from bench.worlds import NOW_MS
from scheduler.api.certificates import envelope_of, proof_of
from scheduler.api.proofs import LogKeys
from scheduler.core.certificates import Account
from scheduler.core.planner import plan
from scheduler.core.stays import PolicyThen
from scheduler.model.ids import JobId
from scheduler.model.plan import PlanBudget
from scheduler.model.residency import Policy, Requirement
from scheduler.runtime import checkpoints
from scheduler.runtime.planner_child import Follower
from scheduler.store.apply import apply_plan
from scheduler.store.merkle import SALT_BYTES, Peaks, leaf_hash
from scheduler.store.store import ReadStore, Store
from sovapi.v1 import audit_pb2
from sovctl import certificates, verify
from sovshared import notes, signing

RUNS = 5
LEAVES = 100_000
VERIFICATIONS = 200
PLACED_JOBS, BATCHES, BATCH = 10_000, 8, 1_000
LATER_MS = NOW_MS + 1_000
JOB = JobId(10_000_000)
"""A job that the made queue does not have."""

Entry = tuple[bytes, str]
"""Salt and canonical JSON of a leaf."""


def run(data: Path | None) -> Result:
    """The bench. `data`: a directory with a topology of the reference fleet's form."""
    with sqlite_database() as url, TemporaryDirectory() as directory:
        store = opened(url)
        fill(store, data, PLACED_JOBS)
        place_s, placed = _place(store)
        entries = _entries(store)
        certificate, trust = _certificate(store, Path(directory))
        store.close()
    hash_s = median(lambda: _cpu_s(lambda: _hash(entries)), RUNS)
    append_s = median(lambda: _cpu_s(lambda: _append(entries)), RUNS)
    tree_of_place_s = append_s / len(entries) * placed
    verify_s = median(lambda: _cpu_s(lambda: _verify(certificate, trust)), RUNS) / VERIFICATIONS
    bare_s = median(lambda: _cpu_s(_bare_verifications()), RUNS) / VERIFICATIONS
    return Result(
        bench="evidence",
        figures={
            "appends_per_s": round(len(entries) / append_s),
            "verify_ms": round(verify_s * 1e3, 3),
            "certificate_bytes": len(certificate),
            "tree_percent_of_place": round(100 * tree_of_place_s / place_s, 1),
        },
        yardstick={
            "sha256_per_s": round(len(entries) / hash_s),
            "ed25519_verify_ms": round(bare_s * 1e3, 3),
        },
        ratios={
            "append_to_sha256": round(hash_s / append_s, 3),
            "bare_to_verify": round(bare_s / verify_s, 3),
            "place_to_tree": round(place_s / tree_of_place_s, 1),
        },
        runs=RUNS,
    )


def _place(store: Store) -> tuple[float, int]:
    """CPU-seconds of planning, committing and following; how many were placed."""
    follower = Follower(ReadStore(store.url))
    follower.catch_up()
    placed = 0
    began = time.process_time()
    for _ in range(BATCHES):
        made = plan(follower.state, LATER_MS, PlanBudget(placements_max=BATCH))
        with store.transaction() as txn:
            placed += len(apply_plan(txn, made, LATER_MS).kept)
        follower.catch_up()
    return time.process_time() - began, placed


def _entries(store: Store) -> list[Entry]:
    """As many leaves as are appended: those of the placements, over and over."""
    with store.read() as view:
        last = view.audit.peaks().size
        leaves = view.audit.page(first=max(0, last - BATCH), limit=BATCH)
    bodies = [leaf.body for leaf in leaves if leaf.kind == "attempt_placed"]
    salts = [sha256(n.to_bytes(4, "big")).digest()[:SALT_BYTES] for n in range(LEAVES)]
    return [(salt, bodies[n % len(bodies)]) for n, salt in enumerate(salts)]


def _certificate(store: Store, directory: Path) -> tuple[bytes, verify.Trust]:
    """A certificate of a small job in the log that there is, and the trust file."""
    log = checkpoints.log_key("bench.example", signing.kept_in(directory / "log.pem"))
    certifier = signing.kept_in(directory / "certificates.pem")
    name = notes.vkey("bench.example/certificates", notes.ED25519, certifier.public_key)
    keys = LogKeys(log, name, certifier, directory / "witnesses")
    account = Account(
        job=CODEC.encode(JOB),
        tenant="bench",
        outcome="CANCELLED",
        reason=None,
        spec_digest=f"sha256:{sha256(b'').hexdigest()}",
        bundle_digest="",
        image="",
        submitted_at_ms=NOW_MS,
        issued_at_ms=LATER_MS,
        requirement=Requirement(("GB",)),
        policy=PolicyThen(0, "", Policy()),
        intervals=(),
        facts={},
    )
    with store.transaction() as txn:
        txn.certificates.issue(JOB, account)
    with store.transaction() as txn:
        head = checkpoints.newest(txn, log, LATER_MS)
    with store.read() as view:
        certificate = view.certificates.of_job(JOB)
        assert certificate is not None, "it was just issued"
        index = certificate.line.leaf_index
        leaf = view.audit.leaf(index)
        assert leaf is not None, "a certificate has a leaf"
        path = view.audit.tree().inclusion(index, head.size)
    proof = proof_of(leaf.salt, index, path, head.whole())
    told = audit_pb2.GetCertificateResponse(
        dsse_envelope_json=envelope_of(certificate.statement, keys), tlog_proof=proof.encode()
    )
    return certificates.join(told), verify.parse_trust(keys.trust().encode())


def _hash(entries: Sequence[Entry]) -> None:
    for salt, body in entries:
        sha256(salt + body.encode()).digest()


def _append(entries: Sequence[Entry]) -> None:
    peaks = Peaks(0, [])
    for salt, body in entries:
        peaks.append(leaf_hash(salt, body))


def _verify(certificate: bytes, trust: verify.Trust) -> None:
    for _ in range(VERIFICATIONS):
        verify.verify(certificate, trust)


def _bare_verifications() -> Callable[[], None]:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    message = bytes(3_000)
    signature, public = key.sign(message), key.public_key().public_bytes_raw()

    def verifications() -> None:
        for _ in range(VERIFICATIONS):
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)

    return verifications


def _cpu_s(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
