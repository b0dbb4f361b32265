"""The agreement file: what two or more parties agree, as they sign it.

Nothing has a loose default: what is left out of the scope is outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from sovapi.v1 import policy_pb2
from sovctl.fleet_file import Moment
from sovctl.policy_file import Id, Instrument, Text
from sovctl.spec_fields import Countries, Country, Names, Tier, Written
from sovctl.spec_values import contradiction
from sovctl.tenants_file import Budget, Gpus

LIST_MAX = 300
SIGNED_AS = b"sovereign agreement v1\n"
"""Comes before a document in what is signed: no signature of another statement is one of it."""

Kind: TypeAlias = Literal["batch", "service", "ray"]


class Party(Written):
    """Who agrees. The control plane keeps its public key in `agreement-parties/NAME.pub`."""

    name: Id
    country: Country


class Scope(Written):
    """The work that it is about."""

    tier: Tier
    """The highest."""
    kinds: Annotated[Sequence[Kind], Field(min_length=1, max_length=3)] = ("batch",)
    tenants: Annotated[Sequence[str], Field(max_length=LIST_MAX)] = ()
    """These and everything below them; none: every tenant."""
    markings: Names = ()
    """Work may bear these and no others."""
    data_kinds: Names = ()
    """Work may touch data of these kinds and of no others."""


class Caps(Written):
    """The most that may be used under it."""

    gpus: Gpus | None = None
    """At once."""
    budget: Budget | None = None
    """In each period, on GPUs of all models."""

    @model_validator(mode="after")
    def _of_all_models(self) -> Self:
        if self.budget is not None and self.budget.gpu != "*":
            raise contradiction(self.budget.gpu, "a budget of GPUs of all models, *")
        return self


class Valid(Written):
    """When it is in force: up to, and without, `until`."""

    start: Annotated[Moment, Field(alias="from")]
    until: Moment


class Agreement(Written):
    """What is agreed."""

    name: Id
    instrument: Instrument
    text: Text
    """What it is, in a sentence."""
    cites: Text
    """Where it can be read."""
    parties: Annotated[Sequence[Party], Field(min_length=2, max_length=10)]
    jurisdictions: Annotated[Countries, Field(min_length=1)]
    """The countries that it opens."""
    sites: Annotated[Sequence[Id], Field(max_length=LIST_MAX)] = ()
    """Only these sites of those countries; none: all of them."""
    scope: Scope
    caps: Caps = Caps()
    valid: Valid

    def to_proto(self) -> policy_pb2.Agreement:
        """The agreement on the wire."""
        scope, caps = self.scope, self.caps
        return policy_pb2.Agreement(
            name=self.name,
            instrument=self.instrument,
            text=self.text,
            cites=self.cites,
            parties=[
                policy_pb2.AgreementParty(name=party.name, country=party.country)
                for party in self.parties
            ],
            jurisdictions=sorted(self.jurisdictions),
            sites=sorted(self.sites),
            scope=policy_pb2.AgreementScope(
                tier_max=f"TIER_{scope.tier}",
                kinds=sorted(scope.kinds),
                tenants=sorted(scope.tenants),
                markings=sorted(scope.markings),
                data_kinds=sorted(scope.data_kinds),
            ),
            gpu_milli_max=None if caps.gpus is None else int(caps.gpus),
            budget=None if caps.budget is None else caps.budget.to_proto(),
            valid_from_ms=int(self.valid.start),
            valid_until_ms=int(self.valid.until),
        )

    def to_document(self) -> bytes:
        """What its parties sign."""
        return self.to_proto().SerializeToString(deterministic=True)
