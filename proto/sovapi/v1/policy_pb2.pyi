from sovapi.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Policy(_message.Message):
    __slots__ = ("revision", "name", "digest", "allowed_jurisdictions", "control_plane_tier", "controlling_stake_milli_percent", "min_assurance", "fact_max_age_ms", "min_isolation", "facts", "rules", "invariants", "signed_by", "node_facts")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_JURISDICTIONS_FIELD_NUMBER: _ClassVar[int]
    CONTROL_PLANE_TIER_FIELD_NUMBER: _ClassVar[int]
    CONTROLLING_STAKE_MILLI_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MIN_ASSURANCE_FIELD_NUMBER: _ClassVar[int]
    FACT_MAX_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    MIN_ISOLATION_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    INVARIANTS_FIELD_NUMBER: _ClassVar[int]
    SIGNED_BY_FIELD_NUMBER: _ClassVar[int]
    NODE_FACTS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    name: str
    digest: str
    allowed_jurisdictions: _containers.RepeatedScalarFieldContainer[str]
    control_plane_tier: _common_pb2.Tier
    controlling_stake_milli_percent: int
    min_assurance: _common_pb2.Assurance
    fact_max_age_ms: int
    min_isolation: _common_pb2.Isolation
    facts: _containers.RepeatedCompositeFieldContainer[PolicyFactRule]
    rules: _containers.RepeatedCompositeFieldContainer[PolicyRule]
    invariants: _containers.RepeatedCompositeFieldContainer[PolicyInvariant]
    signed_by: str
    node_facts: _containers.RepeatedCompositeFieldContainer[_common_pb2.NodeFactRule]
    def __init__(self, revision: _Optional[int] = ..., name: _Optional[str] = ..., digest: _Optional[str] = ..., allowed_jurisdictions: _Optional[_Iterable[str]] = ..., control_plane_tier: _Optional[_Union[_common_pb2.Tier, str]] = ..., controlling_stake_milli_percent: _Optional[int] = ..., min_assurance: _Optional[_Union[_common_pb2.Assurance, str]] = ..., fact_max_age_ms: _Optional[int] = ..., min_isolation: _Optional[_Union[_common_pb2.Isolation, str]] = ..., facts: _Optional[_Iterable[_Union[PolicyFactRule, _Mapping]]] = ..., rules: _Optional[_Iterable[_Union[PolicyRule, _Mapping]]] = ..., invariants: _Optional[_Iterable[_Union[PolicyInvariant, _Mapping]]] = ..., signed_by: _Optional[str] = ..., node_facts: _Optional[_Iterable[_Union[_common_pb2.NodeFactRule, _Mapping]]] = ...) -> None: ...

class PolicyCondition(_message.Message):
    __slots__ = ("op", "fact", "values", "sets", "number", "age_ms", "parts")
    OP_FIELD_NUMBER: _ClassVar[int]
    FACT_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    SETS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    op: str
    fact: str
    values: _containers.RepeatedScalarFieldContainer[str]
    sets: _containers.RepeatedScalarFieldContainer[str]
    number: int
    age_ms: int
    parts: _containers.RepeatedCompositeFieldContainer[PolicyCondition]
    def __init__(self, op: _Optional[str] = ..., fact: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ..., sets: _Optional[_Iterable[str]] = ..., number: _Optional[int] = ..., age_ms: _Optional[int] = ..., parts: _Optional[_Iterable[_Union[PolicyCondition, _Mapping]]] = ...) -> None: ...

class PolicyFactRule(_message.Message):
    __slots__ = ("fact", "min_assurance", "max_age_ms")
    FACT_FIELD_NUMBER: _ClassVar[int]
    MIN_ASSURANCE_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    fact: str
    min_assurance: _common_pb2.Assurance
    max_age_ms: int
    def __init__(self, fact: _Optional[str] = ..., min_assurance: _Optional[_Union[_common_pb2.Assurance, str]] = ..., max_age_ms: _Optional[int] = ...) -> None: ...

class PolicyRule(_message.Message):
    __slots__ = ("id", "text", "cites", "require", "when")
    ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CITES_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_FIELD_NUMBER: _ClassVar[int]
    WHEN_FIELD_NUMBER: _ClassVar[int]
    id: str
    text: str
    cites: str
    require: PolicyCondition
    when: PolicyCondition
    def __init__(self, id: _Optional[str] = ..., text: _Optional[str] = ..., cites: _Optional[str] = ..., require: _Optional[_Union[PolicyCondition, _Mapping]] = ..., when: _Optional[_Union[PolicyCondition, _Mapping]] = ...) -> None: ...

class PolicyInvariant(_message.Message):
    __slots__ = ("id", "text", "cites", "require", "when")
    ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CITES_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_FIELD_NUMBER: _ClassVar[int]
    WHEN_FIELD_NUMBER: _ClassVar[int]
    id: str
    text: str
    cites: str
    require: PolicyCondition
    when: PolicyCondition
    def __init__(self, id: _Optional[str] = ..., text: _Optional[str] = ..., cites: _Optional[str] = ..., require: _Optional[_Union[PolicyCondition, _Mapping]] = ..., when: _Optional[_Union[PolicyCondition, _Mapping]] = ...) -> None: ...

class PolicyFinding(_message.Message):
    __slots__ = ("claim", "text", "standing", "counterexample")
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    COUNTEREXAMPLE_FIELD_NUMBER: _ClassVar[int]
    claim: str
    text: str
    standing: str
    counterexample: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, claim: _Optional[str] = ..., text: _Optional[str] = ..., standing: _Optional[str] = ..., counterexample: _Optional[_Iterable[str]] = ...) -> None: ...

class GetPolicyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ApplyPolicyRequest(_message.Message):
    __slots__ = ("policy", "dry_run", "reason", "pack", "signature", "override")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PACK_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    OVERRIDE_FIELD_NUMBER: _ClassVar[int]
    policy: Policy
    dry_run: bool
    reason: str
    pack: bytes
    signature: bytes
    override: str
    def __init__(self, policy: _Optional[_Union[Policy, _Mapping]] = ..., dry_run: _Optional[bool] = ..., reason: _Optional[str] = ..., pack: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., override: _Optional[str] = ...) -> None: ...

class ApplyPolicyResponse(_message.Message):
    __slots__ = ("changes", "revision", "findings")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedScalarFieldContainer[str]
    revision: int
    findings: _containers.RepeatedCompositeFieldContainer[PolicyFinding]
    def __init__(self, changes: _Optional[_Iterable[str]] = ..., revision: _Optional[int] = ..., findings: _Optional[_Iterable[_Union[PolicyFinding, _Mapping]]] = ...) -> None: ...

class DiffPolicyRequest(_message.Message):
    __slots__ = ("policy", "since_ms", "pack")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    PACK_FIELD_NUMBER: _ClassVar[int]
    policy: Policy
    since_ms: int
    pack: bytes
    def __init__(self, policy: _Optional[_Union[Policy, _Mapping]] = ..., since_ms: _Optional[int] = ..., pack: _Optional[bytes] = ...) -> None: ...

class DecisionChange(_message.Message):
    __slots__ = ("job_id", "site", "permitted_before", "permitted_after", "denials")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    PERMITTED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    PERMITTED_AFTER_FIELD_NUMBER: _ClassVar[int]
    DENIALS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    site: str
    permitted_before: bool
    permitted_after: bool
    denials: _containers.RepeatedCompositeFieldContainer[_common_pb2.Denial]
    def __init__(self, job_id: _Optional[str] = ..., site: _Optional[str] = ..., permitted_before: _Optional[bool] = ..., permitted_after: _Optional[bool] = ..., denials: _Optional[_Iterable[_Union[_common_pb2.Denial, _Mapping]]] = ...) -> None: ...

class DiffPolicyResponse(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[DecisionChange]
    def __init__(self, changes: _Optional[_Iterable[_Union[DecisionChange, _Mapping]]] = ...) -> None: ...

class ProvePolicyRequest(_message.Message):
    __slots__ = ("policy", "pack")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    PACK_FIELD_NUMBER: _ClassVar[int]
    policy: Policy
    pack: bytes
    def __init__(self, policy: _Optional[_Union[Policy, _Mapping]] = ..., pack: _Optional[bytes] = ...) -> None: ...

class ProvePolicyResponse(_message.Message):
    __slots__ = ("no_looser", "counterexample", "findings")
    NO_LOOSER_FIELD_NUMBER: _ClassVar[int]
    COUNTEREXAMPLE_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    no_looser: bool
    counterexample: str
    findings: _containers.RepeatedCompositeFieldContainer[PolicyFinding]
    def __init__(self, no_looser: _Optional[bool] = ..., counterexample: _Optional[str] = ..., findings: _Optional[_Iterable[_Union[PolicyFinding, _Mapping]]] = ...) -> None: ...

class ApplyAgreementRequest(_message.Message):
    __slots__ = ("agreement", "dry_run")
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    agreement: bytes
    dry_run: bool
    def __init__(self, agreement: _Optional[bytes] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class ApplyAgreementResponse(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class RevokeAgreementRequest(_message.Message):
    __slots__ = ("id", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    reason: str
    def __init__(self, id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RevokeAgreementResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
