"""What is outside the home zone, on the wire."""

from __future__ import annotations

from scheduler.model.outside import Dependency
from scheduler.wire.enums import number
from sovapi.v1 import fleet_pb2


def dependency_to_proto(found: Dependency) -> fleet_pb2.ExternalDependency:
    """Something outside the home zone."""
    return fleet_pb2.ExternalDependency(
        name=found.name,
        hosts=found.hosts,
        program=found.program,
        when=found.when,
        needed=found.needed,
        state=number(fleet_pb2.ContactState, found.state),
        detail=found.detail,
        settings=[
            fleet_pb2.BlockingSetting(name=each.name, value=each.value, file=each.file)
            for each in found.settings
        ],
        site=found.site,
        countries=found.countries,
    )
