"""The site's own residency check: its own facts, judged by code of its own.

Shares nothing with the control plane's, so that one mistake or one compromised side cannot start
work where it may not be. The facts come from a file that the site's operator keeps on the site
agent's host. Whatever is missing, expired, too weak, unreadable or not understood denies.

Asked when work is accepted, and again immediately before each launch.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from agent.site.state import Verdict
from sovapi.v1 import common_pb2 as common
from sovapi.v1 import sitelink_pb2 as sitelink
from sovapi.v1.jobs_pb2 import ResidencyRequirement
from sovapi.v1.sitelink_pb2 import Launch
from sovshared import yamlio

FILE_BYTES_MAX = 256 * 1024
VALUES_MAX = 64
DETAIL_CHARS_MAX = 2_000

UNDER_LAW = (
    "landlord",
    "facility_operator",
    "service_operator",
    "support_desk",
    "key_custodian",
    "sinks",
)
"""Facts whose values are countries that must be at home, or tolerated by the work."""
PARENTS = "ultimate_parents"
KNOWN_FACTS = frozenset({"country", "accreditation", "markings", PARENTS, *UNDER_LAW})
MAY_BE_EMPTY = frozenset({"markings", PARENTS})

_COUNTRY = re.compile(r"[A-Z]{2}")
_AT_MOST = "at most "
_PERCENT = re.compile(r"(\d{1,3})(?:\.(\d{1,3}))?%")
_log = logging.getLogger(__name__)


def _country(text: str) -> str:
    if not _COUNTRY.fullmatch(text):
        raise ValueError(f"found {text!r}, allowed an ISO 3166-1 alpha-2 code such as GB")
    return text


def _stake(text: str) -> str:
    milli_percent(text)
    return text


def _held(text: str) -> str:
    """A stake, or the upper bound of one that is not known ("at most 25%"), judged as if held."""
    return _stake(text.removeprefix(_AT_MOST)) and text


def _day(text: str) -> str:
    utc_ms(text)
    return text


Day = Annotated[str, AfterValidator(_day)]
Assurance = Annotated[str, Field(pattern="^(DECLARED|AUDITED|ATTESTED|MEASURED)$")]
IsolationName = Annotated[str, Field(pattern="^(none|pidns|uid|container)$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Party(_Strict):
    """Somebody above the operator."""

    name: str
    country: Annotated[str, AfterValidator(_country)]
    stake: Annotated[str, AfterValidator(_held)]


class Fact(_Strict):
    """One graded statement. It counts until the day it expires begins, in UTC."""

    value: str | None = None
    values: tuple[str, ...] = Field(default=(), max_length=VALUES_MAX)
    parties: tuple[Party, ...] = Field(default=(), max_length=VALUES_MAX)
    assurance: Assurance
    source: str = ""
    observed: Day | None = None
    expires: Day | None = None

    def all_values(self) -> tuple[str, ...]:
        """Everything stated, blanks left out."""
        stated = (*self.values, *([] if self.value is None else [self.value]))
        return tuple(value for value in stated if value)


class SiteFacts(_Strict):
    """The site's own file."""

    site: str
    min_isolation: IsolationName = "none"
    controlling_stake: Annotated[str, AfterValidator(_stake)] = "25%"
    facts: dict[str, Fact]


class FactsInvalid(ValueError):
    """The file of facts cannot be used; the message names file, field, found and allowed."""


@dataclass(frozen=True, slots=True)
class Denial:
    """One reason against a launch."""

    reason: str
    detail: str


def milli_percent(text: str) -> int:
    """A percentage with up to three decimals, in thousandths of a percent."""
    found = _PERCENT.fullmatch(text)
    if found is None or int(found[1]) > 100:
        raise ValueError(f"found {text!r}, allowed a percentage such as 25% or 12.5%")
    return int(found[1]) * 1000 + int((found[2] or "").ljust(3, "0"))


def utc_ms(day: str) -> int:
    """When a day begins, in UTC milliseconds."""
    try:
        begins = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)
    except ValueError as error:
        raise ValueError(f"found {day!r}, allowed a date such as 2027-10-01") from error
    return int(begins.timestamp()) * 1000


def load(path: Path) -> SiteFacts:
    """The facts in the file at `path`, or FactsInvalid with every fault in it."""
    try:
        document = yamlio.load(path, bytes_max=FILE_BYTES_MAX)
        facts = SiteFacts.model_validate(document.value)
    except yamlio.YamlInvalid as error:
        raise FactsInvalid(str(error)) from error
    except ValidationError as error:
        faults = [
            f"{path}: {'.'.join(map(str, fault['loc'])) or 'document'}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise FactsInvalid("; ".join(faults)) from error
    if unknown := sorted(facts.facts.keys() - KNOWN_FACTS):
        allowed = ", ".join(sorted(KNOWN_FACTS))
        raise FactsInvalid(f"{path}: facts: found {unknown[0]!r}, allowed {allowed}")
    for key, fact in sorted(facts.facts.items()):
        # What stands where nobody looks would not be judged, and so permit.
        if (fact.value is not None or fact.values) if key == PARENTS else fact.parties:
            allowed = f"parties in {PARENTS} and value or values elsewhere"
            raise FactsInvalid(f"{path}: facts.{key}: found others, allowed {allowed}")
    return facts


def judge(
    facts: SiteFacts, launch: Launch, isolation: Mapping[str, int] | None, now_utc_ms: int
) -> tuple[Denial, ...]:
    """Every reason against starting `launch` here; empty permits it.

    `isolation` is what each of its nodes reached; None when that is not yet known.
    """
    need = launch.residency
    denials = [*_requirement_denials(need)]
    if need.HasField("data_sites") and facts.site not in need.data_sites.sites:
        denials.append(Denial("DATA_ELSEWHERE", "what the work reads does not lie here"))
    usable: dict[str, Fact] = {}
    needed = ["country", *UNDER_LAW, PARENTS, "accreditation"]
    needed += ["markings"] if need.markings else []
    needed += sorted({rule.fact for rule in need.facts} - {*needed})
    for key in needed:
        faults = _fact_denials(key, facts.facts.get(key), need, now_utc_ms)
        denials += faults
        if not faults:
            usable[key] = facts.facts[key]
    home = frozenset(need.jurisdictions)
    if "country" in usable:
        for country in usable["country"].all_values():
            if country not in home:
                denials.append(Denial("JURISDICTION", f"this site is in {country}"))
    denials += _law_denials(facts, launch, usable, home)
    denials += _tier_denials(need, usable)
    denials += _isolation_denials(facts, launch, isolation or {})
    return tuple(denials)


def _requirement_denials(need: ResidencyRequirement) -> list[Denial]:
    denials: list[Denial] = []
    if not need.jurisdictions:
        denials.append(Denial("REQUIREMENT_EMPTY", "the work names no jurisdiction"))
    if need.tier == common.TIER_UNSPECIFIED:
        denials.append(Denial("REQUIREMENT_EMPTY", "the work names no tier"))
    return denials


def _fact_denials(
    key: str, fact: Fact | None, need: ResidencyRequirement, now_utc_ms: int
) -> list[Denial]:
    """What keeps a fact from being relied on."""
    if fact is None:
        return [Denial("FACT_MISSING", f"{key} is not stated")]
    denials: list[Denial] = []
    if key not in MAY_BE_EMPTY and not fact.all_values():
        denials.append(Denial("FACT_MISSING", f"{key} has no value"))
    if fact.expires is not None and now_utc_ms >= utc_ms(fact.expires):
        denials.append(Denial("FACT_EXPIRED", f"{key} expired on {fact.expires}"))
    own = [rule for rule in need.facts if rule.fact == key]
    least = max(
        need.min_assurance, common.ASSURANCE_DECLARED, *(rule.min_assurance for rule in own)
    )
    if common.Assurance.Value(f"ASSURANCE_{fact.assurance}") < least:
        wanted = _assurance_name(least)
        denials.append(Denial("FACT_TOO_WEAK", f"{key} is {fact.assurance}, needed {wanted}"))
    for rule in own:
        if rule.HasField("max_age_ms") and _age_ms(fact, now_utc_ms) > rule.max_age_ms:
            observed = fact.observed or "at no stated time"
            detail = f"{key} was observed {observed}, allowed {rule.max_age_ms} ms ago"
            denials.append(Denial("FACT_TOO_OLD", detail))
    return denials


def _age_ms(fact: Fact, now_utc_ms: int) -> float:
    """Since the day of its observation began; a fact without one, or of a day that is yet to come,
    is older than anything."""
    age_ms = -1 if fact.observed is None else now_utc_ms - utc_ms(fact.observed)
    return math.inf if age_ms < 0 else age_ms


def _law_denials(
    facts: SiteFacts, launch: Launch, usable: Mapping[str, Fact], home: frozenset[str]
) -> list[Denial]:
    """Whose law reaches the work: everyone named, and every parent in control."""
    borne = home | frozenset(launch.residency.tolerate_foreign_compulsion)
    denials: list[Denial] = []
    for key in UNDER_LAW:
        for country in usable[key].all_values() if key in usable else ():
            if country not in borne:
                denials.append(Denial("FOREIGN_COMPULSION", f"{key} is under the law of {country}"))
    asked = launch.controlling_stake_milli_percent
    own = milli_percent(facts.controlling_stake)
    limit = min(own, asked) if asked > 0 else own
    for party in usable[PARENTS].parties if PARENTS in usable else ():
        if milli_percent(party.stake.removeprefix(_AT_MOST)) > limit and party.country not in borne:
            detail = f"{party.name} ({party.country}) holds {party.stake}"
            denials.append(Denial("FOREIGN_COMPULSION", detail))
    return denials


def _tier_denials(need: ResidencyRequirement, usable: Mapping[str, Fact]) -> list[Denial]:
    denials: list[Denial] = []
    if "accreditation" in usable:
        names = usable["accreditation"].all_values()
        known = [n for n in names if f"TIER_{n}" in common.Tier.keys()]  # noqa: SIM118
        if len(names) != 1 or not known or common.Tier.Value(f"TIER_{known[0]}") < need.tier:
            wanted = _tier_name(need.tier)
            detail = f"this site is accredited for {', '.join(names)}, needed {wanted}"
            denials.append(Denial("TIER_ABOVE_SITE", detail))
    cleared = usable["markings"].all_values() if "markings" in usable else ()
    for marking in sorted(set(need.markings) - set(cleared)):
        denials.append(Denial("MARKING", f"this site may not handle {marking}"))
    return denials


def _isolation_denials(
    facts: SiteFacts, launch: Launch, isolation: Mapping[str, int]
) -> list[Denial]:
    own = common.Isolation.Value(f"ISOLATION_{facts.min_isolation.upper()}")
    least = max(own, launch.min_isolation, common.ISOLATION_NONE)
    return [
        Denial("ISOLATION", f"{slot} isolates at level {level}, needed {least}")
        for slot, level in sorted(isolation.items())
        if level < least
    ]


def _assurance_name(assurance: int) -> str:
    """Its name, or the number of one that a newer control plane knows; asked for, it denies."""
    names: dict[Any, str] = {number: name for name, number in common.Assurance.items()}
    return names.get(assurance, str(assurance)).removeprefix("ASSURANCE_")


def _tier_name(tier: int) -> str:
    """Its name; a number that this version does not know is shown, and denied by comparison."""
    names: dict[Any, str] = {number: name for name, number in common.Tier.items()}
    return names.get(tier, str(tier)).removeprefix("TIER_")


class Guard:
    """Judges by the file at `path` as it is now. A file that cannot be used denies everything."""

    def __init__(self, path: Path, site: str, utc_now_ms: Callable[[], int]) -> None:
        self._path = path
        self._site = site
        self._utc_now_ms = utc_now_ms
        self._stamp: tuple[int, ...] | None = None
        self._facts: SiteFacts | None = None
        self._fault = "the site's facts have not been read"

    def __call__(self, launch: Launch, isolation: Mapping[str, int] | None) -> Verdict | None:
        """Why `launch` is refused, if it is."""
        facts = self._current()
        if facts is None:
            denials: tuple[Denial, ...] = (Denial("FACT_MISSING", self._fault),)
        else:
            denials = judge(facts, launch, isolation, self._utc_now_ms())
        if not denials:
            return None
        detail = "; ".join(f"{denial.reason}: {denial.detail}" for denial in denials)
        return Verdict(sitelink.ATTEMPT_PHASE_REFUSED, "GUARD_REFUSED", detail[:DETAIL_CHARS_MAX])

    def _current(self) -> SiteFacts | None:
        try:
            stat = self._path.stat()
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if stamp != self._stamp:
                self._stamp, self._facts = stamp, None
                self._facts = self._own(load(self._path))
        except OSError as error:
            self._stamp, self._facts = None, None
            self._fault = f"{self._path}: {error.strerror}"
        except FactsInvalid as error:
            self._fault = str(error)
            _log.error("work is refused until this is mended: %s", error)
        return self._facts

    def _own(self, facts: SiteFacts) -> SiteFacts:
        if facts.site != self._site:
            raise FactsInvalid(f"{self._path}: site: found {facts.site!r}, allowed {self._site!r}")
        return facts
