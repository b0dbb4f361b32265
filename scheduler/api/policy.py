"""PolicyService: the rules above the tenants' own requirements."""

from __future__ import annotations

from scheduler.api import calls
from scheduler.api.desk import Desk
from scheduler.api.server import Methods
from scheduler.model.reasons import Code, Reason, Refused
from scheduler.wire.fleet import policy_from_proto, policy_to_proto
from sovapi.v1 import policy_pb2


class PolicyService:
    """Serves operators; everybody may read what is in force."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def methods(self) -> Methods:
        """What this serves."""
        return {"PolicyService/Get": self.get, "PolicyService/Apply": self.apply}

    async def get(self, _request: policy_pb2.GetPolicyRequest) -> policy_pb2.Policy:
        """The policy in force."""
        policy = await self._desk.reader.read(lambda snapshot: snapshot.tenancy.policy())
        return policy_to_proto(policy)

    async def apply(self, request: policy_pb2.ApplyPolicyRequest) -> policy_pb2.ApplyPolicyResponse:
        """Puts a policy in force as the next revision."""
        if request.pack:
            raise Refused(
                Code.UNIMPLEMENTED,
                Reason.FEATURE_NOT_AVAILABLE,
                "pack: signed packs are not available in this version, give the policy itself",
            )
        desk, principal = self._desk, calls.principal()
        policy = policy_from_proto(request.policy)
        now_ms = desk.now_ms()
        changes, revision = await desk.writer.write(
            lambda txn: desk.control.apply_policy(
                txn,
                principal,
                policy,
                reason=request.reason,
                dry_run=request.dry_run,
                now_ms=now_ms,
            )
        )
        return policy_pb2.ApplyPolicyResponse(changes=changes, revision=revision)
