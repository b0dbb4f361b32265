"""What people see on terminals of 80 and 160 columns, kept as pictures in `pictures/`.

A line that is longer than the terminal is a fault whatever the picture says.
"""

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sovapi.v1 import common_pb2, fleet_pb2
from sovctl import clock
from sovctl.cli import fleet_tables, tables
from sovctl.cli.output import Output
from sovctl.cli.top_view import TopView
from sovctl.results import AttemptInfo, JobInfo

PICTURES = Path(__file__).parent / "pictures"
STYLES = re.compile(r"\x1b\[[0-9;]*m")
NOW_MS = 1_800_000_000_000


class Terminal(io.StringIO):
    """A stream that says that somebody looks at it."""

    def isatty(self) -> bool:
        return True


def job(name: str, state: str, reason: str, site: str, nodes: int, age_s: int) -> JobInfo:
    slots = tuple(f"{site}/n{n:02}" for n in range(1, nodes + 1))
    attempt = AttemptInfo(
        number=1,
        site=site,
        country="GB",
        nodes=slots,
        state=state,
        reason=None,
        message="",
        placed_at_ms=NOW_MS,
        started_at_ms=NOW_MS,
        ended_at_ms=None,
        ranks=(),
    )
    return JobInfo(
        id="job-rqspe4kn5j4mo",
        name=name,
        tenant="trust-a/radiology",
        owner="/tenant/trust-a/user/ada",
        state=state,
        reason=reason or None,
        message="8 nodes are needed in one leaf, and 3 are free" if reason else "",
        exit_code=None,
        submitted_at_ms=NOW_MS - age_s * 1000,
        ended_at_ms=None,
        nodes=max(nodes, 1),
        gpus=8 * max(nodes, 1),
        attempts=(attempt,) if nodes else (),
    )


def jobs(output: Output) -> None:
    listed = [
        job("finetune-notes", "RUNNING", "", "exch-london-1", 2, 7_260),
        job("a-name-as-long-as-names-may-be-and-no-longer-than-that", "QUEUED", "", "", 0, 59),
        job("scans", "QUEUED", "INTERCONNECT_UNAVAILABLE", "", 0, 190_000),
        job("rehearsal", "SUCCEEDED", "", "exch-wolverhampton-1", 1, 3_600),
    ]
    output.listing(tables.jobs(listed, NOW_MS))


def site(name: str, *, parents: list[fleet_pb2.Party], **more: object) -> fleet_pb2.Site:
    made = fleet_pb2.Site(
        id=name,
        status=fleet_pb2.SITE_STATUS_ACTIVE,
        country="GB",
        connected=True,
        last_contact_age_ms=2_000,
        nodes_total=375,
        nodes_ready=370,
        gpus_total=3_000,
        gpus_used_milli=2_750_000,
        agent_version="0.1.0",
        generation=41_220,
        acked_generation=41_220,
        operator="Exchange Compute Operations",
        power_cap_w=5_000_000,
        gpu_power_w=1_925_000,
        gpu_power_nodes=370,
        ultimate_parents=parents,
    )
    for name_, value in more.items():
        setattr(made, name_, value)
    return made


HOLDINGS = fleet_pb2.Party(
    name="Exchange Compute Holdings plc", country="GB", stake_milli_percent=60_000
)
FUND = fleet_pb2.Party(
    name="Pension fund of the provinces", country="CA", stake_milli_percent=40_000, at_most=True
)
SITES = [
    site("exch-london-1", parents=[HOLDINGS, FUND]),
    site("exch-wolverhampton-1", parents=[HOLDINGS], cordoned=True, gpu_power_nodes=375),
    site("hall-slough-1", parents=[], connected=False, power_cap_w=30_000_000),
]
SITES[2].ClearField("gpu_power_w")
SITES[2].ClearField("gpu_power_nodes")


def sites(output: Output) -> None:
    output.listing(tables.sites(SITES))


def node(name: str, health: common_pb2.Health, detail: str, **more: object) -> fleet_pb2.Node:
    made = fleet_pb2.Node(
        id=name,
        gpu_class="RTX-PRO-6000",
        gpus=8,
        gpus_reported=8,
        gpus_used_milli=8_000,
        health=health,
        health_detail=detail,
        isolation=common_pb2.ISOLATION_UID,
        telemetry="nvml",
        last_report_age_ms=61_000,
    )
    for name_, value in more.items():
        setattr(made, name_, value)
    return made


NODES = [
    node("exch-london-1/n01", common_pb2.HEALTH_OK, ""),
    node(
        "exch-wolverhampton-1/rack-12-n07",
        common_pb2.HEALTH_FAILED,
        "XID_79 GPU-8f2c41aa: the GPU has fallen off the bus; a reboot is needed",
        cordoned=True,
    ),
    node("hall-slough-1/n01", common_pb2.HEALTH_UNKNOWN, "its agent is away", gpus_reported=0),
]


def nodes(output: Output) -> None:
    output.listing(tables.nodes(NODES))


def overview() -> fleet_pb2.OverviewResponse:
    found = fleet_pb2.OverviewResponse(
        jobs_queued=12, gpus_queued_milli=96_000, unfit=NODES[1:], unfit_total=14
    )
    for each in SITES:
        use = fleet_pb2.GpuUse(
            gpu_class="RTX-PRO-6000",
            nodes=375,
            nodes_ready=370,
            gpus=3_000,
            gpus_ready=2_960,
            used_milli=2_750_000,
        )
        found.sites.add(site=each, gpus=[use], attempts_running=1_204, attempts_moving=9)
    return found


def fleet(output: Output) -> None:
    for line in fleet_tables.head(overview()):
        output.stdout.write(f"{line}\n")
    output.listing(fleet_tables.summary(overview()))


def top(output: Output) -> None:
    TopView(output).print(overview())


SHOWN: dict[str, Callable[[Output], None]] = {
    "list": jobs,
    "sites": sites,
    "nodes": nodes,
    "fleet": fleet,
    "top": top,
}


@pytest.mark.parametrize("columns", [80, 160])
@pytest.mark.parametrize("verb", sorted(SHOWN))
def test_what_is_shown_fits_and_is_as_it_was(
    verb: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(clock, "now_ms", lambda: NOW_MS)
    terminal = Terminal()
    SHOWN[verb](Output(color=False, stdout=terminal))
    plain = STYLES.sub("", terminal.getvalue())
    seen = "".join(f"{line.rstrip()}\n" for line in plain.splitlines())
    assert [line for line in seen.splitlines() if len(line) > columns] == []
    kept = PICTURES / f"{verb}-{columns}.txt"
    assert seen == kept.read_text(), f"if this is meant, it belongs into {kept.name}"
