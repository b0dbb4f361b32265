"""The policy file: what is allowed at most, whatever work asks for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sovapi.v1 import policy_pb2
from sovctl.fleet_file import Percent
from sovctl.spec import Assurance, Countries, Duration, Tier, Written
from sovctl.spec_values import duration_ms


class Policy(Written):
    """The rules above the tenants' own requirements. Nothing has a loose default."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    allowed_jurisdictions: Annotated[Countries, Field(min_length=1)]
    control_plane_tier: Tier
    controlling_stake: Percent = 25_000
    min_assurance: Assurance
    fact_max_age: Duration | None = None
    min_isolation: Literal["none", "pidns", "uid", "container"] = "uid"

    def to_proto(self) -> policy_pb2.Policy:
        """The policy on the wire; revision and digest are the control plane's to give."""
        return policy_pb2.Policy(
            name=self.name,
            allowed_jurisdictions=sorted(self.allowed_jurisdictions),
            control_plane_tier=f"TIER_{self.control_plane_tier}",
            controlling_stake_milli_percent=int(self.controlling_stake),
            min_assurance=f"ASSURANCE_{self.min_assurance}",
            fact_max_age_ms=None if self.fact_max_age is None else duration_ms(self.fact_max_age),
            min_isolation=f"ISOLATION_{self.min_isolation.upper()}",
        )
