from sovapi.v1 import audit_pb2 as _audit_pb2
from sovapi.v1 import common_pb2 as _common_pb2
from sovapi.v1 import tenants_pb2 as _tenants_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Policy(_message.Message):
    __slots__ = ("revision", "name", "digest", "allowed_jurisdictions", "control_plane_tier", "controlling_stake_milli_percent", "min_assurance", "fact_max_age_ms", "min_isolation", "facts", "rules", "invariants", "signed_by", "node_facts", "instruments")
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
    INSTRUMENTS_FIELD_NUMBER: _ClassVar[int]
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
    instruments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, revision: _Optional[int] = ..., name: _Optional[str] = ..., digest: _Optional[str] = ..., allowed_jurisdictions: _Optional[_Iterable[str]] = ..., control_plane_tier: _Optional[_Union[_common_pb2.Tier, str]] = ..., controlling_stake_milli_percent: _Optional[int] = ..., min_assurance: _Optional[_Union[_common_pb2.Assurance, str]] = ..., fact_max_age_ms: _Optional[int] = ..., min_isolation: _Optional[_Union[_common_pb2.Isolation, str]] = ..., facts: _Optional[_Iterable[_Union[PolicyFactRule, _Mapping]]] = ..., rules: _Optional[_Iterable[_Union[PolicyRule, _Mapping]]] = ..., invariants: _Optional[_Iterable[_Union[PolicyInvariant, _Mapping]]] = ..., signed_by: _Optional[str] = ..., node_facts: _Optional[_Iterable[_Union[_common_pb2.NodeFactRule, _Mapping]]] = ..., instruments: _Optional[_Iterable[str]] = ...) -> None: ...

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

class Agreement(_message.Message):
    __slots__ = ("name", "instrument", "text", "cites", "parties", "jurisdictions", "sites", "scope", "gpu_milli_max", "budget", "valid_from_ms", "valid_until_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CITES_FIELD_NUMBER: _ClassVar[int]
    PARTIES_FIELD_NUMBER: _ClassVar[int]
    JURISDICTIONS_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLI_MAX_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    VALID_FROM_MS_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    instrument: str
    text: str
    cites: str
    parties: _containers.RepeatedCompositeFieldContainer[AgreementParty]
    jurisdictions: _containers.RepeatedScalarFieldContainer[str]
    sites: _containers.RepeatedScalarFieldContainer[str]
    scope: AgreementScope
    gpu_milli_max: int
    budget: _tenants_pb2.Budget
    valid_from_ms: int
    valid_until_ms: int
    def __init__(self, name: _Optional[str] = ..., instrument: _Optional[str] = ..., text: _Optional[str] = ..., cites: _Optional[str] = ..., parties: _Optional[_Iterable[_Union[AgreementParty, _Mapping]]] = ..., jurisdictions: _Optional[_Iterable[str]] = ..., sites: _Optional[_Iterable[str]] = ..., scope: _Optional[_Union[AgreementScope, _Mapping]] = ..., gpu_milli_max: _Optional[int] = ..., budget: _Optional[_Union[_tenants_pb2.Budget, _Mapping]] = ..., valid_from_ms: _Optional[int] = ..., valid_until_ms: _Optional[int] = ...) -> None: ...

class AgreementParty(_message.Message):
    __slots__ = ("name", "country")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    name: str
    country: str
    def __init__(self, name: _Optional[str] = ..., country: _Optional[str] = ...) -> None: ...

class AgreementScope(_message.Message):
    __slots__ = ("tier_max", "kinds", "tenants", "markings", "data_kinds")
    TIER_MAX_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    MARKINGS_FIELD_NUMBER: _ClassVar[int]
    DATA_KINDS_FIELD_NUMBER: _ClassVar[int]
    tier_max: _common_pb2.Tier
    kinds: _containers.RepeatedScalarFieldContainer[str]
    tenants: _containers.RepeatedScalarFieldContainer[str]
    markings: _containers.RepeatedScalarFieldContainer[str]
    data_kinds: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, tier_max: _Optional[_Union[_common_pb2.Tier, str]] = ..., kinds: _Optional[_Iterable[str]] = ..., tenants: _Optional[_Iterable[str]] = ..., markings: _Optional[_Iterable[str]] = ..., data_kinds: _Optional[_Iterable[str]] = ...) -> None: ...

class AgreementSignature(_message.Message):
    __slots__ = ("signature",)
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    signature: bytes
    def __init__(self, signature: _Optional[bytes] = ...) -> None: ...

class AgreementState(_message.Message):
    __slots__ = ("agreement", "digest", "signatories", "applied_at_ms", "revoked_at_ms", "revoked_because", "in_force", "gpu_milli_used", "reserved_gpu_ms", "settled_gpu_ms")
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATORIES_FIELD_NUMBER: _ClassVar[int]
    APPLIED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    REVOKED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    REVOKED_BECAUSE_FIELD_NUMBER: _ClassVar[int]
    IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLI_USED_FIELD_NUMBER: _ClassVar[int]
    RESERVED_GPU_MS_FIELD_NUMBER: _ClassVar[int]
    SETTLED_GPU_MS_FIELD_NUMBER: _ClassVar[int]
    agreement: Agreement
    digest: str
    signatories: _containers.RepeatedCompositeFieldContainer[AgreementSignatory]
    applied_at_ms: int
    revoked_at_ms: int
    revoked_because: str
    in_force: bool
    gpu_milli_used: int
    reserved_gpu_ms: int
    settled_gpu_ms: int
    def __init__(self, agreement: _Optional[_Union[Agreement, _Mapping]] = ..., digest: _Optional[str] = ..., signatories: _Optional[_Iterable[_Union[AgreementSignatory, _Mapping]]] = ..., applied_at_ms: _Optional[int] = ..., revoked_at_ms: _Optional[int] = ..., revoked_because: _Optional[str] = ..., in_force: _Optional[bool] = ..., gpu_milli_used: _Optional[int] = ..., reserved_gpu_ms: _Optional[int] = ..., settled_gpu_ms: _Optional[int] = ...) -> None: ...

class AgreementSignatory(_message.Message):
    __slots__ = ("party", "country", "key_id")
    PARTY_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    party: str
    country: str
    key_id: str
    def __init__(self, party: _Optional[str] = ..., country: _Optional[str] = ..., key_id: _Optional[str] = ...) -> None: ...

class ApplyAgreementRequest(_message.Message):
    __slots__ = ("agreement", "dry_run", "signatures", "reason")
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    agreement: bytes
    dry_run: bool
    signatures: _containers.RepeatedCompositeFieldContainer[AgreementSignature]
    reason: str
    def __init__(self, agreement: _Optional[bytes] = ..., dry_run: _Optional[bool] = ..., signatures: _Optional[_Iterable[_Union[AgreementSignature, _Mapping]]] = ..., reason: _Optional[str] = ...) -> None: ...

class ApplyAgreementResponse(_message.Message):
    __slots__ = ("id", "changes", "policy_revision")
    ID_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    id: str
    changes: _containers.RepeatedScalarFieldContainer[str]
    policy_revision: int
    def __init__(self, id: _Optional[str] = ..., changes: _Optional[_Iterable[str]] = ..., policy_revision: _Optional[int] = ...) -> None: ...

class RevokeAgreementRequest(_message.Message):
    __slots__ = ("id", "reason", "dry_run")
    ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    id: str
    reason: str
    dry_run: bool
    def __init__(self, id: _Optional[str] = ..., reason: _Optional[str] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class RevokeAgreementResponse(_message.Message):
    __slots__ = ("changes", "policy_revision")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedScalarFieldContainer[str]
    policy_revision: int
    def __init__(self, changes: _Optional[_Iterable[str]] = ..., policy_revision: _Optional[int] = ...) -> None: ...

class ListAgreementsRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ListAgreementsResponse(_message.Message):
    __slots__ = ("agreements",)
    AGREEMENTS_FIELD_NUMBER: _ClassVar[int]
    agreements: _containers.RepeatedCompositeFieldContainer[AgreementState]
    def __init__(self, agreements: _Optional[_Iterable[_Union[AgreementState, _Mapping]]] = ...) -> None: ...

class AgreementLedgerRequest(_message.Message):
    __slots__ = ("id", "after", "limit")
    ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    id: str
    after: int
    limit: int
    def __init__(self, id: _Optional[str] = ..., after: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class AgreementEntry(_message.Message):
    __slots__ = ("number", "leaf", "path")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    number: int
    leaf: _audit_pb2.AuditLeaf
    path: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, number: _Optional[int] = ..., leaf: _Optional[_Union[_audit_pb2.AuditLeaf, _Mapping]] = ..., path: _Optional[_Iterable[bytes]] = ...) -> None: ...

class AgreementLedgerResponse(_message.Message):
    __slots__ = ("entries", "checkpoint", "last_number")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    LAST_NUMBER_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[AgreementEntry]
    checkpoint: str
    last_number: int
    def __init__(self, entries: _Optional[_Iterable[_Union[AgreementEntry, _Mapping]]] = ..., checkpoint: _Optional[str] = ..., last_number: _Optional[int] = ...) -> None: ...
