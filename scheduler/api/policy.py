"""PolicyService: the rules above the tenants' own requirements."""

from __future__ import annotations

from scheduler.api import calls
from scheduler.api.desk import Desk
from scheduler.api.pack_keys import PackKeys
from scheduler.api.server import Methods
from scheduler.control import policies
from scheduler.control.policies import Change, Proved
from scheduler.control.replay import replay
from scheduler.model.proofs import Standing
from scheduler.model.residency import Policy
from scheduler.runtime.prover import Prover
from scheduler.wire.jobs import denial_to_proto
from scheduler.wire.policy import (
    finding_to_proto,
    pack_from_wire,
    policy_from_proto,
    policy_to_proto,
)
from sovapi.v1 import policy_pb2


class PolicyService:
    """Serves operators; everybody may read what is in force."""

    def __init__(self, desk: Desk, prover: Prover, keys: PackKeys) -> None:
        self._desk = desk
        self._prover = prover
        self._keys = keys

    def methods(self) -> Methods:
        """What this serves."""
        return {
            "PolicyService/Get": self.get,
            "PolicyService/Apply": self.apply,
            "PolicyService/Prove": self.prove,
            "PolicyService/Diff": self.diff,
        }

    async def get(self, _request: policy_pb2.GetPolicyRequest) -> policy_pb2.Policy:
        """The policy in force."""
        return policy_to_proto(await self._in_force())

    async def apply(self, request: policy_pb2.ApplyPolicyRequest) -> policy_pb2.ApplyPolicyResponse:
        """Puts a policy in force as the next revision, once it is proved or overridden."""
        desk, principal = self._desk, calls.principal()
        policy = self._proposed(request.policy, request.pack, request.signature)
        policies.check(policy)
        proved = await self._proved(policy)
        change = Change(policy, request.reason, proved, request.override)
        now_ms = desk.now_ms()
        changes, revision = await desk.writer.write(
            lambda txn: desk.control.apply_policy(
                txn, principal, change, dry_run=request.dry_run, now_ms=now_ms
            )
        )
        findings = [finding_to_proto(each) for each in proved.proof.findings]
        return policy_pb2.ApplyPolicyResponse(changes=changes, revision=revision, findings=findings)

    async def prove(self, request: policy_pb2.ProvePolicyRequest) -> policy_pb2.ProvePolicyResponse:
        """What can be proved of a policy against the one in force."""
        policy = self._read(request.policy, request.pack)
        policies.check(policy)
        proof = (await self._proved(policy)).proof
        broken = [each for each in proof.findings if each.standing is not Standing.PROVED]
        return policy_pb2.ProvePolicyResponse(
            no_looser=proof.holds(),
            counterexample="\n".join(broken[0].counterexample) if broken else "",
            findings=[finding_to_proto(each) for each in proof.findings],
        )

    async def diff(self, request: policy_pb2.DiffPolicyRequest) -> policy_pb2.DiffPolicyResponse:
        """Placements on record that another policy would judge differently."""
        desk = self._desk
        policy = self._read(request.policy, request.pack)
        policies.check(policy)
        now_ms = desk.now_ms()
        found = await desk.reader.read(
            lambda snapshot: replay(snapshot, policy, request.since_ms, now_ms)
        )
        return policy_pb2.DiffPolicyResponse(
            changes=[
                policy_pb2.DecisionChange(
                    job_id=desk.codec.encode(change.key.job),
                    site=change.site,
                    permitted_before=change.permitted_before,
                    permitted_after=not change.permitted_before,
                    denials=[denial_to_proto(denial) for denial in change.denials],
                )
                for change in found
            ]
        )

    def _proposed(self, policy: policy_pb2.Policy, pack: bytes, signature: bytes) -> Policy:
        """The policy that shall come into force, with who signed it."""
        encoded = pack or policy.SerializeToString(deterministic=True)
        signed_by = self._keys.signer_of(encoded, signature)
        message = pack_from_wire(encoded)
        message.signed_by = signed_by
        return policy_from_proto(message)

    def _read(self, policy: policy_pb2.Policy, pack: bytes) -> Policy:
        encoded = pack or policy.SerializeToString(deterministic=True)
        return policy_from_proto(pack_from_wire(encoded))

    async def _in_force(self) -> Policy:
        return await self._desk.reader.read(lambda snapshot: snapshot.tenancy.policy())

    async def _proved(self, policy: Policy) -> Proved:
        before = await self._in_force()
        return Proved(before, await self._prover.prove(before, policy))
