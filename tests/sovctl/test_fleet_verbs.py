"""What operators look at, and draining, against the real control plane and sites of few words."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.fleets import verdicts
from sovapi.v1 import common_pb2, fleet_pb2, jobs_pb2, sitelink_pb2
from sovctl import Context, config
from sovctl.cli import tables
from sovctl.cli.output import Output
from sovctl.cli.session import read_file
from sovctl.cli.top_view import TopView
from sovctl.fleet_file import Fleet
from tests.api import control_plane as control_plane_module
from tests.api import world
from tests.api.control_plane import ControlPlane
from tests.sovctl.conftest import Result, invoke

DEPLOY = Path(__file__).parents[2] / "deploy"
REQUIREMENTS = [str(DEPLOY / "requirements" / f"{name}.yaml") for name in verdicts.REQUIREMENTS]
WAIT_S = 60
LONDON_N01, LONDON_N02 = f"{world.LONDON}/n01", f"{world.LONDON}/n02"


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    yield from control_plane_module.running(tmp_path_factory.mktemp("control-plane"))


@pytest.fixture(autouse=True)
def operator(
    control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Context:
    """The command line acts as the operator."""
    path = tmp_path / "config.yaml"
    credentials = str(control_plane.operator_credentials)
    context = Context(endpoint=control_plane.endpoint, credentials=credentials)
    config.save(path, "op", {"op": context})
    monkeypatch.setenv("SOVCTL_CONFIG", str(path))
    return context


async def run(*argv: str) -> Result:
    """The command line, while this loop goes on being a site."""
    return await asyncio.to_thread(invoke, *argv)


@asynccontextmanager
async def at_work(control_plane: ControlPlane) -> AsyncGenerator[tuple[world.FakeSite, str]]:
    """Two sites declared, London connected with two nodes, and a job of four GPUs running there."""
    olga = control_plane.channel_as(world.OLGA)
    ada = control_plane.channel_as(world.ADA)
    site = world.FakeSite(control_plane)
    try:
        await world.declare(olga)
        await site.connect()
        site.report(nodes=2)
        job = await world.submit(ada, world.spec(gpus_per_node=4))
        row = await site.desires(job.id, sitelink_pb2.DESIRED_ACTION_RUN)
        site.report(world.started(row), nodes=2)
        await world.until(ada, job.id, jobs_pb2.JOB_STATE_RUNNING)
        yield site, job.id
        # Nothing is left behind for the next test: its tenant stops the job, and the site says so.
        cancel = jobs_pb2.CancelJobRequest(id=job.id, now=True)
        await world.stub(ada).Cancel(cancel, timeout=WAIT_S)
        row = await site.desires(job.id, sitelink_pb2.DESIRED_ACTION_STOP)
        site.report(stopped(row), nodes=2)
        await world.until(ada, job.id, jobs_pb2.JOB_STATE_CANCELLED)
    finally:
        await site.close()
        await ada.close()
        await olga.close()


def place_of(row: sitelink_pb2.DesiredAttempt) -> list[str]:
    return [f"{world.LONDON}/{node.slot}" for node in row.launch.nodes]


def stopped(row: sitelink_pb2.DesiredAttempt) -> sitelink_pb2.AttemptReport:
    """Every rank of an attempt was stopped."""
    report = world.ended(row)
    for rank in report.ranks:
        rank.ClearField("exit_code")
        rank.signal = 15
        rank.cause = jobs_pb2.RANK_CAUSE_STOP
    return report


async def test_a_drain_with_a_deadline_moves_work_to_another_node(
    control_plane: ControlPlane,
) -> None:
    async with at_work(control_plane) as (site, job):
        [key] = [key for key in site.desired if key[0] == job]
        first = site.desired[key]
        [node] = place_of(first)
        drained = await run("drain", node, "--reason", "new fans", "--deadline", "1s")
        assert drained.out == f"{node} is draining: 1 attempt(s) run there\n", drained.err
        row = await site.desires(job, sitelink_pb2.DESIRED_ACTION_STOP)
        site.report(stopped(row), nodes=2)
        again = await site.desires(job, sitelink_pb2.DESIRED_ACTION_RUN)
        assert (again.attempt, place_of(again)) == (
            2,
            [LONDON_N02 if node == LONDON_N01 else LONDON_N01],
        )
        shown = {each["id"]: each for each in (await run("nodes", "-o", "json")).json()}
        assert shown[node]["cordoned"]
        top = await run("top")
        assert [line for line in top.out.splitlines() if line.startswith(node)], top.out
        assert "OK cordoned" in top.out
        assert (await run("uncordon", node, "--reason", "done")).code == 0


async def test_a_drain_without_a_deadline_stops_nothing(control_plane: ControlPlane) -> None:
    async with at_work(control_plane) as (site, job):
        [held] = [row for (name, _), row in site.desired.items() if name == job]
        drained = await run("drain", world.LONDON, "--reason", "new roof", "-o", "json")
        assert drained.json() == {"target": world.LONDON, "attempts_affected": 1}
        assert (await run("get", job, "-o", "json")).json()["state"] == "RUNNING"
        # A later drain of one node, with a deadline, is obeyed: so orders do reach the site.
        await run("drain", place_of(held)[0], "--reason", "roof", "--deadline", "1s")
        await site.desires(job, sitelink_pb2.DESIRED_ACTION_STOP)
        for target in (world.LONDON, *place_of(held)):
            assert (await run("uncordon", target, "--reason", "done")).code == 0


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["drain", "nowhere", "--reason", "x", "--deadline", "1h"], 4, "nowhere"),
        (["drain", "nowhere", "--reason", "x", "--deadline", "soon"], 2, "--deadline"),
        (["drain", "nowhere", "--reason", "x", "--deadline", "400d"], 2, "deadline_ms"),
        (["top", "--every", "1ms"], 2, "at least 500ms"),
        (["fleet", "verdicts", REQUIREMENTS[0], "--marking", "X"], 2, "either"),
        (["fleet", "verdicts", "no-such-file.yaml"], 2, "no-such-file.yaml"),
        (["fleet", "dependencies", "--home", "Britain"], 2, "'Britain'"),
    ],
)
def test_what_is_wrong_is_said(argv: list[str], code: int, told: str) -> None:
    result = invoke(*argv)
    assert (result.code, told in result.err) == (code, True), result.err


async def test_what_is_outside_the_home_zone_is_listed(control_plane: ControlPlane) -> None:
    olga = control_plane.channel_as(world.OLGA)
    await world.declare(olga)
    await olga.close()
    found = {
        each["name"]: each for each in (await run("fleet", "dependencies", "-o", "json")).json()
    }
    ray = found["ray-usage-statistics"]
    assert (ray["state"], ray["needed"]) == ("BLOCKED", False)
    assert {"RAY_USAGE_STATS_ENABLED"} < {setting["name"] for setting in ray["settings"]}
    declared = {name: each for name, each in found.items() if each["site"]}
    assert {each["site"] for each in declared.values()} == {world.NARVIK}
    assert declared[f"sinks-of-{world.NARVIK}"]["countries"] == ["NO"]
    assert declared[f"site-of-{world.NARVIK}"]["state"] == "DECLARED"
    both = await run("fleet", "dependencies", "--home", "GB", "--home", "NO", "-o", "name")
    assert both.out.split() == [name for name in found if name not in declared]
    wide = await run("fleet", "dependencies", "-o", "wide")
    assert "RAY_USAGE_STATS_ENABLED=0" in wide.out
    assert f"declared by {world.NARVIK}" in wide.out


async def test_the_fleet_is_shown_in_sum(control_plane: ControlPlane) -> None:
    async with at_work(control_plane):
        summed = (await run("fleet", "-o", "json")).json()
        assert {
            "sites": 2,
            "sites_active": 2,
            "sites_connected": 1,
            "nodes": 4,
            "nodes_ready": 2,
            "gpus": 24,
            "gpus_ready": 8,
            "gpus_used_milli": 4000,
            "attempts_running": 1,
            "jobs_queued": 0,
        }.items() <= summed.items()
        shown = (await run("fleet")).out
        rows = [line.split() for line in shown.splitlines()]
        assert ["GB", "H100", "1", "2/2", "8", "8", "4", "50%"] in rows
        assert ["NO", "H100", "1", "0/2", "16", "0", "0", "-"] in rows
        top = await run("top", "--once")
        rows = [line.split() for line in top.out.splitlines()]
        assert [world.LONDON, "GB", "up", "2/2", "4/8", "50%"] in [row[:6] for row in rows]
        assert [world.NARVIK, "NO", "down", "0/2", "0/0", "-"] in [row[:6] for row in rows]
        [document] = [
            s
            for s in (await run("top", "-o", "json")).json()["sites"]
            if s["gpus"][0]["used_milli"]
        ]
        assert document["attempts_running"] == 1


@pytest.mark.timeout(600)  # 57,000 nodes are declared: half a minute, more on a busy machine.
def test_the_announced_fleets_verdicts_are_those_of_the_page(control_plane: ControlPlane) -> None:
    """The page in docs is made without a server; the server says the same, reason for reason."""
    for what, file in (("policy", "policies/gb-and-no"), ("fleet", "fleets/uk-announced")):
        more = ("--override", "the page is about Norway too") if what == "policy" else ()
        applied = invoke(what, "apply", str(DEPLOY / f"{file}.yaml"), "-q", *more)
        assert applied.code == 0, applied.err
    world_of_page = verdicts.load()
    expected = {
        (site.id, name): [
            (d.reason.value, d.detail) for d in verdicts.denials(world_of_page, site, name)
        ]
        for site, _ in world_of_page.sites
        for name in verdicts.REQUIREMENTS
    }
    found = invoke("fleet", "verdicts", *REQUIREMENTS, "-o", "json").json()
    assert expected == {
        (each["site"], each["requirement_name"]): [
            (denial["reason"], denial["detail"]) for denial in each["denials"]
        ]
        for each in found
    }
    table = invoke("fleet", "verdicts", *REQUIREMENTS)
    rows = [line.split() for line in table.out.splitlines()]
    assert rows[0] == ["SITE", *verdicts.REQUIREMENTS]
    assert ["bt-exchange-1", "yes", "yes", "yes", "yes"] in rows
    assert ["loughton-1", "no", "no", "yes", "yes"] in rows
    assert "-o wide" in table.err
    reasons = invoke("fleet", "verdicts", *REQUIREMENTS, "-o", "wide").out
    assert reasons.count("FACT_MISSING") == sum(
        reason == "FACT_MISSING" for each in expected.values() for reason, _ in each
    )
    one = invoke("fleet", "verdicts", REQUIREMENTS[0], "-o", "name").out
    assert one.splitlines() == [f"bt-exchange-{n} gb" for n in (1, 2, 3)]
    [site] = [s for s in invoke("sites", "-o", "json").json() if s["id"] == "loughton-1"]
    assert (site["power_cap_w"], site["operator"]) == (50_000_000, "Microsoft (Azure)")
    assert site["profile"]["offtaker"] == "Microsoft"


class Terminal(io.StringIO):
    """A stream that says that somebody looks at it."""

    def isatty(self) -> bool:
        return True


def announced() -> fleet_pb2.OverviewResponse:
    """The announced fleet, as if all of it ran, at more than anybody will see."""
    found = fleet_pb2.OverviewResponse(jobs_queued=1_000_000, gpus_queued_milli=9_000_000_000)
    for declared in read_file(Fleet, verdicts.FLEET_FILE).to_proto():
        gpus = sum(node.gpus for node in declared.nodes)
        nodes = len(declared.nodes)
        site = fleet_pb2.Site(
            id=declared.id,
            status=fleet_pb2.SITE_STATUS_ACTIVE,
            country="GB",
            connected=True,
            nodes_total=nodes,
            nodes_ready=nodes,
            gpus_total=gpus,
            gpus_used_milli=gpus * 1000,
            power_cap_w=declared.power_cap_w,
            operator=declared.profile.service_operator,
        )
        use = fleet_pb2.GpuUse(
            gpu_class="RTX-PRO-6000",
            nodes=nodes,
            nodes_ready=nodes,
            gpus=gpus,
            gpus_ready=gpus,
            used_milli=gpus * 1000,
        )
        found.sites.add(site=site, gpus=[use], attempts_running=gpus, attempts_moving=9)
    found.unfit.add(
        id="coreweave-scotland/t15000",
        health=common_pb2.HEALTH_DEGRADED,
        cordoned=True,
        health_detail="GPU 3: 14 correctable ECC errors in the last hour, NVLink 4 retrains",
        last_report_age_ms=61_000,
    )
    found.unfit_total = 1
    return found


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (160, 50)])
def test_a_picture_fits_its_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int, lines: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(lines))
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    view = TopView(Output(color=False, stdout=terminal))
    assert view.can_live
    with view:
        view.show(announced())
        picture = terminal.getvalue().rpartition("\x1b[H")[2]
        view.trouble("control plane is away" + " for a long time" * 20)
        trouble = terminal.getvalue().rpartition("\x1b[H")[2]
    rows = [line.rstrip() for line in picture.splitlines()]
    assert len(rows) <= lines
    # A whole row of the largest site fits into one line; so does the last column.
    [largest] = [row for row in rows if row.startswith("coreweave-scotland  ")]
    assert largest.endswith("CoreWeave" if columns == 160 else " 9")
    assert ("more sites" in picture) is (lines == 24)
    assert "DEGRADED cordoned" in picture
    # Trouble is told in a line that was there before, and the picture stays below it.
    assert "control plane is away" in trouble.splitlines()[0]
    assert [row.rstrip() for row in trouble.splitlines()][1:] == rows[1:]


@pytest.mark.parametrize(
    ("watts", "said"),
    [(0, "0 W"), (999, "999 W"), (4_666_666, "4.6 MW"), (50_000_000, "50 MW"), (10**9, "1 GW")],
)
def test_power_is_said_in_its_unit(watts: int, said: str) -> None:
    assert tables.power(watts) == said
