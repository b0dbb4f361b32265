"""What operators configure, for both agents: a YAML file, environment variables, flags.

A flag outweighs a variable (SOV_SITE_..., SOV_NODE_...), a variable the file. Only `__main__`
reads them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from sovshared import spiffe, yamlio

FILE_BYTES_MAX = 256 * 1024
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_ENDPOINT = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):(?P<port>\d{1,5})")


class SettingsInvalid(ValueError):
    """The configuration cannot be used; the message names every field at fault."""


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"found {text!r}, allowed lower-case letters, digits, dots and dashes")
    return text


def _endpoint(text: str) -> str:
    found = _ENDPOINT.fullmatch(text)
    if found is None or int(found["port"]) > 65_535:
        raise ValueError(f"found {text!r}, allowed HOST:PORT")
    return text


def _domain(text: str) -> str:
    return spiffe.check_trust_domain(text)


Name = Annotated[str, AfterValidator(_name)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
TrustDomain = Annotated[str, AfterValidator(_domain)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class SiteSettings(BaseModel):
    """A site agent's."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    variables: ClassVar[str] = "SOV_SITE_"

    site: Name = Field(description="this site's id")
    endpoint: Endpoint = Field(description="the control plane's main port")
    join_endpoint: Endpoint | None = Field(
        default=None, description="its port of Join, for nodes that join through this site"
    )
    trust_domain: TrustDomain = spiffe.DEFAULT_TRUST_DOMAIN
    credentials: Path = Field(description="directory with this agent's identity")
    state_dir: Path = Field(description="directory of journal and bundles")
    facts: Path = Field(description="the site's own facts, which its guard judges by")
    listen: Endpoint = Field(description="where node agents dial")
    join_listen: Endpoint | None = Field(
        default=None, description="where nodes without a certificate join"
    )
    ray_address: Endpoint = Field(description="the head of the site's Ray cluster")
    ray_environment: dict[str, str] = Field(
        default_factory=dict[str, str], description="all that the Ray driver gets to see"
    )
    ray_reserve_ms: int = Field(default=20_000, ge=1_000, le=600_000)
    runtime_grace_ms: int = Field(
        default=60_000,
        ge=1_000,
        le=3_600_000,
        description="how long a node's raylet may be dead before its work is fenced",
    )
    metrics_listen: Endpoint | None = Field(
        default=None, description="where monitors scrape /metrics, over mTLS; nowhere unless given"
    )
    metrics_address: Endpoint | None = Field(
        default=None, description="where monitors reach that, if it is another address"
    )
    log_level: LogLevel = "INFO"


class NodeSettings(BaseModel):
    """A node agent's."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    variables: ClassVar[str] = "SOV_NODE_"

    site: Name = Field(description="the site's id")
    slot: Name = Field(description="this node's place in its site")
    endpoint: Endpoint = Field(description="the site agent's port for node agents")
    join_endpoint: Endpoint | None = Field(
        default=None, description="its port of Join, where a certificate that lapsed is renewed"
    )
    trust_domain: TrustDomain = spiffe.DEFAULT_TRUST_DOMAIN
    credentials: Path = Field(description="directory with this agent's identity")
    facts: Path = Field(description="the node's facts, which its executor reads too")
    logical_gpus: int = Field(default=0, ge=0, le=64, description="where there are no real ones")
    logical_mig: str = Field(
        default="", description="how logical GPUs are cut, as in 0:7x1g.10gb,1:2x3g.40gb"
    )
    state_dir: Path | None = Field(
        default=None, description="directory of the fault log; beside the spool unless given"
    )
    poll_interval_ms: int = Field(
        default=10_000, ge=100, le=60_000, description="how often the hardware is read"
    )
    nvml_library: str = Field(
        default="", description="another NVML than the driver's own; its GPUs are taken for real"
    )
    sysfs_root: Path = Field(default=Path("/sys"), description="where to read ports")
    kernel_log: Path = Field(
        default=Path("/dev/kmsg"), description="where the kernel tells of NVSwitches' errors"
    )
    checkpoint_keep_ms: int = Field(
        default=7 * 24 * 3_600_000,
        ge=0,
        le=10 * 366 * 24 * 3_600_000,
        description="how long checkpoints of a job that is over are kept",
    )
    checkpoint_store_bytes_max: int = Field(
        default=64 * 1024**4,
        ge=0,
        le=2**60,
        description="of more in the site's store, those of jobs that are over go sooner",
    )
    checkpoint_node_bytes_max: int = Field(
        default=4 * 1024**4,
        ge=0,
        le=2**60,
        description="of more on the node itself, those of jobs that are over go sooner",
    )
    location_listen: Endpoint | None = Field(
        default=None, description="where landmarks are answered, over UDP; nowhere unless given"
    )
    location_key: Path | None = Field(
        default=None, description="file of the key to answer with; made if absent"
    )
    attest_program: str = Field(
        default="", description="NVIDIA's verifier, nvattest; GPUs are not attested unless given"
    )
    attest_evidence: str = Field(
        default="", description="file of evidence to attest instead of this node's GPUs"
    )
    attest_rim_url: str = Field(
        default="", description="where the verifier finds reference measurements; NVIDIA's if empty"
    )
    attest_ocsp_url: str = Field(
        default="", description="where the verifier asks about revocation; NVIDIA's if empty"
    )
    rdma_exclude: str = Field(
        default="", description="RDMA devices never to be read, with commas between"
    )
    metrics_listen: Endpoint | None = Field(
        default=None, description="where monitors scrape /metrics, over mTLS; nowhere unless given"
    )
    metrics_address: Endpoint | None = Field(
        default=None, description="where monitors reach that, if it is another address"
    )
    log_level: LogLevel = "INFO"


class LandmarkSettings(BaseModel):
    """A landmark's."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    variables: ClassVar[str] = "SOV_LANDMARK_"

    name: Name = Field(description="this landmark's name")
    operator: Name = Field(description="who runs it: no operator's landmarks alone are enough")
    latitude: Decimal = Field(ge=-90, le=90, decimal_places=6, description="degrees north")
    longitude: Decimal = Field(ge=-180, le=180, decimal_places=6, description="degrees east")
    endpoint: Endpoint = Field(description="the control plane's main port")
    trust_domain: TrustDomain = spiffe.DEFAULT_TRUST_DOMAIN
    credentials: Path = Field(description="directory with this landmark's identity")
    key: Path = Field(description="file of the key it signs statements with; made if absent")
    every_ms: int = Field(default=240_000, ge=1_000, le=600_000, description="pause of a round")
    probes: int = Field(default=48, ge=8, le=64, description="challenges for each node")
    log_level: LogLevel = "INFO"


T = TypeVar("T", SiteSettings, NodeSettings, LandmarkSettings)


def scraped_at(config: SiteSettings | NodeSettings) -> str:
    """The address that monitors are told; none when there is nothing, or no such address."""
    told = config.metrics_address or config.metrics_listen or ""
    host, _, port = told.rpartition(":")
    anywhere = host.strip("[]") in ("", "0.0.0.0", "::")  # noqa: S104 (compared, not listened on)
    return "" if config.metrics_listen is None or anywhere or not int(port or 0) else told


def plain(config: NodeSettings) -> Mapping[str, object]:
    """A node agent's settings as JSON has them, `metrics_address` as monitors are told it."""
    return config.model_dump(mode="json") | {"metrics_address": scraped_at(config)}


def load(kind: type[T], file: Path | None, flags: Mapping[str, object]) -> T:
    """Settings of `kind`, or SettingsInvalid with every fault."""
    values: dict[str, Any] = {}
    if file is not None:
        try:
            document = yamlio.load(file, bytes_max=FILE_BYTES_MAX).value
        except yamlio.YamlInvalid as error:
            raise SettingsInvalid(str(error)) from error
        if not isinstance(document, dict):
            raise SettingsInvalid(f"{file}: found no map, allowed a map of settings")
        values = cast("dict[str, Any]", document)

    try:
        return kind.model_validate({**values, **_variables(kind), **flags})
    except ValidationError as error:
        name = f"{file}: " if file is not None else ""
        raise SettingsInvalid("; ".join(name + _fault(dict(f)) for f in error.errors())) from error


def _variables(
    kind: type[SiteSettings] | type[NodeSettings] | type[LandmarkSettings],
) -> dict[str, object]:
    """The settings that environment variables give; a map is JSON in them."""
    found: dict[str, object] = {}
    for name, field in kind.model_fields.items():
        variable = kind.variables + name.upper()
        text = os.environ.get(variable)
        if text is None:
            continue
        found[name] = text
        if field.annotation == dict[str, str]:
            try:
                found[name] = json.loads(text)
            except ValueError as error:
                raise SettingsInvalid(f"{variable}: found no JSON, allowed a map") from error
    return found


def _fault(fault: Mapping[str, Any]) -> str:
    field = ".".join(map(str, fault["loc"])) or "settings"
    if fault["type"] == "missing":
        return f"{field}: found nothing, it is needed"
    if fault["type"] == "extra_forbidden":
        return f"{field}: no such setting"
    return f"{field}: {str(fault['msg']).removeprefix('Value error, ')}"
