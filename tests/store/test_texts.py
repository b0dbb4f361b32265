"""What is filled into text is what the simple way makes of it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.model.ids import AttemptKey, GpuClass, JobId, NodeId, SiteId, TenantPath
from scheduler.model.job import (
    EgressUse,
    JobState,
    RankCause,
    RankEgress,
    RankPhase,
    RankStatus,
    WrittenOutput,
)
from scheduler.model.reasons import Reason
from scheduler.model.tenancy import SettledUse
from scheduler.store.attempt_rows import rank_text
from scheduler.store.certificates import leaf_text
from scheduler.store.codec import canonical, encode
from scheduler.store.leaves import moved_text
from scheduler.store.records import AttemptRow, JobRow

WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
TIMES = st.integers(0, 1 << 50)
REASONS = st.none() | st.sampled_from(Reason)
STATES = st.sampled_from(JobState)
EGRESS = st.builds(
    RankEgress, TIMES, st.lists(st.builds(EgressUse, TIMES, TIMES, TIMES), max_size=2).map(tuple)
)
RANKS = st.builds(
    RankStatus,
    rank=TIMES,
    node=WORDS.map(NodeId),
    phase=st.sampled_from(RankPhase),
    exit_code=st.none() | st.integers(-300, 300),
    signal=st.integers(0, 64),
    cause=st.sampled_from(RankCause),
    started_at_ms=TIMES,
    ended_at_ms=TIMES,
    log_bytes=TIMES,
    detail=WORDS,
    checkpoint_at_ms=TIMES,
    egress=st.none() | EGRESS,
    outputs=st.lists(st.builds(WrittenOutput, WORDS, WORDS, TIMES), max_size=2).map(tuple),
)
JOB = JobRow(JobId(7), 1, TenantPath("t"), "o", "n", JobState.QUEUED, 0, 2, "sha256:s", 1)
JOBS = st.builds(
    JOB._replace,
    tenant=WORDS.map(TenantPath),
    state=STATES,
    reason=REASONS,
    message=WORDS,
    exit_code=st.none() | st.integers(-300, 300),
    cancel_requested=st.booleans(),
    not_before_ms=TIMES,
    ended_at_ms=TIMES,
)
ATTEMPTS = st.builds(
    AttemptRow,
    key=st.builds(AttemptKey, st.just(JobId(7)), st.integers(1, 9)),
    site=st.just(SiteId("a")),
    state=STATES,
    live=st.booleans(),
    leased=st.booleans(),
    gpu_class=st.just(GpuClass("h100")),
    gpu_milli=st.just(1),
    country=st.just("GB"),
    placed_at_ms=TIMES,
    started_at_ms=TIMES,
    ended_at_ms=TIMES,
    reason=REASONS,
    message=WORDS,
)
USES = st.builds(
    SettledUse,
    tenant=st.just(TenantPath("t")),
    gpu_class=WORDS.map(GpuClass),
    day=TIMES,
    charged_gpu_ms=TIMES,
    refunded_gpu_ms=TIMES,
)


@given(RANKS)
@settings(max_examples=100)
def test_the_text_of_a_rank_is_its_encoding(rank: RankStatus) -> None:
    assert rank_text(rank) == encode(rank)


@given(TIMES, WORDS, st.integers(1, 1 << 40))
@settings(max_examples=30)
def test_the_text_of_a_certificates_leaf_is_canonical(at_ms: int, tenant: str, seq: int) -> None:
    assert leaf_text(at_ms, "sha256:d", "job-a", TenantPath(tenant), seq) == canonical(
        {
            "kind": "certificate_issued",
            "at_ms": at_ms,
            "tenant": tenant,
            "job": "job-a",
            "digest": "sha256:d",
            "tenant_seq": seq,
        }
    )


@given(JOBS, JOBS, st.none() | ATTEMPTS, WORDS, WORDS, TIMES, st.none() | USES)
@settings(max_examples=100)
def test_the_text_of_a_move_is_canonical(
    before: JobRow,
    after: JobRow,
    attempt: AttemptRow | None,
    cause: str,
    actor: str,
    now_ms: int,
    settled: SettledUse | None,
) -> None:
    text = moved_text(
        before,
        after,
        attempt,
        "job-a",
        cause=cause,
        now_ms=now_ms,
        actor=actor,
        settled=settled if attempt is not None else None,
    )
    told: dict[str, object] = {
        "kind": "job_moved",
        "at_ms": now_ms,
        "tenant": after.tenant,
        "job": "job-a",
        "from": before.state.name,
        "to": after.state.name,
        "cause": cause,
        "actor": actor,
        "reason": None if after.reason is None else after.reason.value,
        "message": after.message,
        "exit_code": after.exit_code,
        "cancel_requested": after.cancel_requested,
        "not_before_ms": after.not_before_ms,
        "ended_at_ms": after.ended_at_ms,
    }
    if attempt is not None:
        of_attempt: dict[str, object] = {
            "number": attempt.key.attempt,
            "state": attempt.state.name,
            "live": attempt.live,
            "reason": None if attempt.reason is None else attempt.reason.value,
            "message": attempt.message,
            "started_at_ms": attempt.started_at_ms,
            "ended_at_ms": attempt.ended_at_ms,
        }
        if settled is not None:
            of_attempt["settled"] = {
                "gpu_class": settled.gpu_class,
                "day": settled.day,
                "charged_gpu_ms": settled.charged_gpu_ms,
                "refunded_gpu_ms": settled.refunded_gpu_ms,
            }
        told["attempt"] = of_attempt
    assert text == canonical(told)
