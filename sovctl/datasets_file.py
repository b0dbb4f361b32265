"""The datasets file: data that lies at sites, with its labels; `sovctl datasets apply` sends it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator

from sovapi.v1 import datasets_pb2
from sovctl.spec_fields import Countries, Names, Tier, Written, matching
from sovctl.spec_values import contradiction, listed

DATASETS_MAX = 1_000
SITES_MAX = 100

_NAME = re.compile(r"[a-z0-9._-]{1,63}(?:/[a-z0-9._-]{1,63}){1,4}")


class Dataset(Written):
    """Data that lies in the stores of one or more sites."""

    name: Annotated[str, matching(_NAME, "a tenant's path, '/' and a name, such as trust-a/scans")]
    sites: Annotated[Names, Field(min_length=1, max_length=SITES_MAX)]
    """Where it lies, in the site's own store. Work that reads it runs nowhere else."""
    jurisdictions: Annotated[Countries, Field(min_length=1)]
    """The zone that it does not leave."""
    tier: Tier
    markings: Names = ()
    data_kinds: Names = ()
    """Such as personal or health."""
    tolerate_foreign_compulsion: Countries = ()
    transfer_basis: Annotated[str, Field(min_length=1, max_length=500)]
    """Why it may be where it is."""
    shared_with: Names = ()
    """Other tenants that may read it."""
    version: Annotated[str, Field(min_length=1, max_length=128)] = "current"

    def to_proto(self) -> datasets_pb2.Dataset:
        """The dataset on the wire."""
        return datasets_pb2.Dataset(
            name=self.name,
            sites=sorted(self.sites),
            label=datasets_pb2.DatasetLabel(
                jurisdictions=self.jurisdictions,
                tier=self.tier,
                markings=sorted(self.markings),
                data_kinds=sorted(self.data_kinds),
                tolerate_foreign_compulsion=self.tolerate_foreign_compulsion,
            ),
            transfer_basis=self.transfer_basis,
            shared_with=sorted(self.shared_with),
            version=self.version,
        )


class Datasets(Written):
    """Datasets to declare. Those of the catalogue that are not named stay as they are."""

    datasets: Annotated[Sequence[Dataset], Field(min_length=1, max_length=DATASETS_MAX)]

    @model_validator(mode="after")
    def _consistent(self) -> Datasets:
        names = [dataset.name for dataset in self.datasets]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise contradiction(f"twice: {listed(twice)}", "each name once")
        return self

    def to_proto(self) -> list[datasets_pb2.Dataset]:
        """The datasets on the wire, by name."""
        return [each.to_proto() for each in sorted(self.datasets, key=lambda each: each.name)]
