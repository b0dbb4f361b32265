"""The command line and the SDK against the real control plane, without any site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sovctl import AsyncClient, Client, Context, JobSpec, RefusedError, Resources, config
from tests.api import control_plane as control_plane_module
from tests.api.control_plane import ControlPlane
from tests.sovctl.conftest import Result, invoke

DEPLOY = Path(__file__).parents[2] / "deploy"
ADA = "/tenant/trust-a/radiology/user/ada"

As = Callable[..., Result]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ControlPlane, Path]]:
    """A control plane with the demo's fleet, tenants and policy, and a configuration: an operator
    who was there first, and a tenant who joined with a token."""
    directory = tmp_path_factory.mktemp("demo")
    path = directory / "config.yaml"
    for plane in control_plane_module.running(directory):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SOVCTL_CONFIG", str(path))
            prepare(plane, path)
        yield plane, path


def prepare(plane: ControlPlane, path: Path) -> None:
    """Applies the demo's files as the operator, and lets a tenant join."""
    operator = Context(endpoint=plane.endpoint, credentials=str(plane.operator_credentials))
    config.save(path, "op", {"op": operator})
    for what, folder in (("fleet", "fleets"), ("tenants", "tenants"), ("policy", "policies")):
        more = ("--override", "the demo has Norway") if what == "policy" else ()
        applied = invoke(what, "apply", str(DEPLOY / folder / "demo.yaml"), *more)
        assert applied.code == 0, applied.err
    token = invoke("token", "create", ADA, "-o", "name").out.strip()
    trust = path.parent / "ca.pem"
    trust.write_bytes(plane.ca.trust_pem)
    joined = invoke(
        *("join", "--endpoint", plane.endpoint, "--join-endpoint", plane.join_endpoint),
        *("--name", ADA, "--token", token, "--ca", str(trust), "--as", "ada"),
    )
    assert joined.code == 0, joined.err


@pytest.fixture
def as_(demo: tuple[ControlPlane, Path], monkeypatch: pytest.MonkeyPatch) -> As:
    """Runs the command line as somebody."""
    monkeypatch.setenv("SOVCTL_CONFIG", str(demo[1]))

    def run(who: str, *argv: str) -> Result:
        return invoke("--context", who, *argv)

    return run


@pytest.fixture
def ada(demo: tuple[ControlPlane, Path]) -> Context:
    return config.load({"SOVCTL_CONFIG": str(demo[1])}).context("ada")


def test_everybody_is_known_by_their_name(as_: As) -> None:
    assert as_("ada", "whoami", "-o", "json").json()["tenant"] == "trust-a/radiology"
    assert as_("op", "whoami", "-o", "json").json()["role"] == "operator"


def test_a_job_is_queued_shown_explained_and_cancelled(as_: As, tmp_path: Path) -> None:
    (tmp_path / "t.py").write_text("print(1)\n")
    submitted = as_(
        *("ada", "submit", "--gpus", "1", "--name", "one", "--working-dir", str(tmp_path)),
        *("-o", "name", "--", "python", "t.py"),
    )
    assert submitted.code == 0, submitted.err
    job = submitted.out.strip()
    shown = as_("ada", "get", "one", "-o", "json").json()
    assert (shown["id"], shown["state"], shown["gpus"]) == (job, "QUEUED", 1)
    assert job in [each["id"] for each in as_("ada", "list", "-o", "json").json()]
    explained = as_("ada", "explain", job)
    assert explained.code == 0
    assert "hall-slough-1" in explained.out
    assert as_("ada", "cancel", job, "-o", "json").json()[0]["state"] == "CANCELLED"
    assert as_("ada", "watch", job).out.startswith(f"{job} CANCELLED")


def test_quota_budgets_and_usage_are_shown_and_a_bad_tree_is_refused(
    as_: As, tmp_path: Path
) -> None:
    [line, *_] = as_("ada", "quota", "trust-a/radiology", "-o", "json").json()
    assert (line["tenant"], line["lend_limit_milli"]) == ("trust-a/radiology", None)
    assert "LENT" in as_("ada", "quota").out
    assert "no budget" in as_("ada", "quota", "budgets").err
    assert as_("ada", "usage", "--since", "7d", "-o", "json").json() == []
    assert as_("ada", "usage", "--since", "soon").code == 2
    tree = tmp_path / "tenants.yaml"
    tree.write_text(
        "tenants:\n"
        "  - {path: trust-a, quotas: {H100: {guarantee: 2}, XPU: {guarantee: 1}}}\n"
        "  - {path: trust-a/radiology, quotas: {H100: {guarantee: 3}}}\n"
    )
    refused = as_("op", "tenants", "apply", str(tree))
    assert refused.code == 2
    assert "children are guaranteed 3 GPUs of H100" in refused.err
    assert "'XPU'" in refused.err
    tree.write_text(
        "unknown_gpu_classes: warn\n"
        "tenants:\n"
        "  - path: trust-a\n"
        "    quotas: {XPU: {guarantee: 1}}\n"
        "    budgets: [{gpu_hours: 100, period: month}]\n"
        "  - {path: trust-a/radiology}\n"
    )
    applied = as_("op", "tenants", "apply", str(tree))
    assert applied.code == 0, applied.err
    assert "'XPU'" in applied.err
    [budget] = as_("op", "quota", "budgets", "-o", "json").json()
    assert (budget["tenant"], budget["budget"]["period"]) == ("trust-a", "MONTH")
    assert budget["left_gpu_ms"] == 100 * 3_600_000
    asked = as_("op", "quota", "what-if", str(DEPLOY / "tenants" / "demo.yaml"), "-o", "json")
    assert asked.code == 0, asked.err
    assert asked.json()["then"]["jobs_starting"] == 0
    assert any(change.startswith("~ trust-a quotas") for change in asked.json()["changes"])
    told = as_("op", "quota", "what-if", str(tree)).out
    assert "0 job(s) would start; as things are 0" in told
    assert as_("ada", "quota", "what-if", str(tree)).code == 5
    back = as_("op", "tenants", "apply", str(DEPLOY / "tenants" / "demo.yaml"))
    assert back.code == 0, back.err


def refused(as_: As, who: str, *argv: str) -> str:
    """What is said of a file or a wish that is refused: as a whole, and with no traceback."""
    said = as_(who, *argv)
    assert said.code in (2, 3), (said.code, said.out, said.err)
    assert "Traceback" not in said.out + said.err
    return " ".join(said.err.split())


def test_a_contradictory_tree_is_refused_whole_with_every_fault(as_: As, tmp_path: Path) -> None:
    before = as_("op", "quota", "-o", "json").json()
    tree = tmp_path / "tenants.yaml"
    tree.write_text(
        "tenants:\n"
        "  - {path: trust-a, quotas: {H100: {guarantee: 4, limit: 2}}}\n"
        "  - {path: trust-a/radiology, quotas: {H100: {guarantee: 9, borrow: -1}}}\n"
    )
    said = refused(as_, "op", "tenants", "apply", str(tree))
    assert [fault for fault in ("above the limit", "H100.borrow") if fault not in said] == [], said
    tree.write_text(
        "tenants:\n"
        "  - {path: trust-a, quotas: {H100: {guarantee: 4}, XPU: {guarantee: 1}}}\n"
        "  - {path: trust-a/radiology, quotas: {H100: {guarantee: 9}}}\n"
    )
    said = refused(as_, "op", "tenants", "apply", str(tree))
    told = ("children are guaranteed 9", "'XPU'")
    assert [fault for fault in told if fault not in said] == [], said
    tree.write_text("tenants:\n  - {path: nowhere/child}\n  - {path: other/child}\n")
    said = refused(as_, "op", "tenants", "apply", str(tree))
    assert [fault for fault in ("nowhere/child", "other/child") if fault not in said] == [], said
    assert as_("op", "quota", "-o", "json").json() == before


def test_a_fleet_of_wrong_cuts_spares_and_prices_is_refused_with_every_fault(
    as_: As, tmp_path: Path
) -> None:
    text = (DEPLOY / "fleets" / "demo.yaml").read_text()
    bad = text.replace("        gpus: 4\n", "        gpus: 4\n        nvlink_domain: rack\n"
        "        spare_per_nvlink_domain: 2\n"
        "        mig: [{gpus: [0], instances: {1g.10gb: 7, 3g.40gb: 1}}]\n", 1)  # fmt: skip
    energy = "{carbon_g_per_kwh: 1, price_pence_per_mwh: 1, source: grid, observed: 1970-01-01}"
    capped = "    power_cap_w: 12000\n"
    bad = bad.replace(capped, f"{capped}    energy: {energy}\n", 1)
    file = tmp_path / "fleet.yaml"
    file.write_text(bad)
    said = refused(as_, "op", "fleet", "apply", str(file))
    assert "fit on one GPU" in said, said
    assert "2 of 2 nodes" in said, said
    assert "observed_at_ms" in said, said
    nodes = as_("op", "nodes", "-o", "json").json()
    assert not any(node["mig"] for node in nodes)


def test_dependencies_on_what_is_not_there_and_on_oneself_are_refused(
    as_: As, tmp_path: Path
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text('name: again\ncommand: ["true"]\ndepends_on: [{job: again}, {job: absent}]\n')
    said = refused(as_, "ada", "submit", str(file))
    assert "depends_on[0]" in said, said
    assert "depends_on[1]" in said, said


def test_models_and_profiles_that_nobody_has_are_refused(as_: As, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text('name: x\ncommand: ["true"]\nresources: {gpu: [XPU]}\n')
    assert "needed XPU" in refused(as_, "ada", "submit", str(file))
    file.write_text('name: x\ncommand: ["true"]\nresources: {mig: 9g.1gb}\n')
    assert "1g.10gb" in refused(as_, "ada", "submit", str(file))
    file.write_text('name: x\ncommand: ["true"]\nresources: {mig: 1g.10gb}\n')
    assert "MIG 1g.10gb" in refused(as_, "ada", "submit", str(file))


def test_another_fleet_is_asked_about_and_nothing_is_changed(as_: As) -> None:
    """The whole fleet of a file, or the one in force without some of its sites."""
    file = DEPLOY / "fleets" / "demo.yaml"
    same = as_("op", "fleet", "what-if", str(file), "-o", "json")
    assert same.code == 0, same.err
    assert same.json()["changes"] == []
    [site, *_] = as_("op", "sites", "-o", "json").json()
    told = as_("op", "fleet", "what-if", "--without", site["id"])
    assert "as things are 0" in told.out
    assert "nothing that runs would lose its place" in told.out + told.err
    lost = as_("op", "fleet", "what-if", "--without", site["id"], "-o", "json").json()
    assert f"- {site['id']}" in lost["changes"]
    assert site["id"] in [each["id"] for each in as_("op", "sites", "-o", "json").json()]
    for wrong in ([], [str(file), "--without", site["id"]], ["--without", "nowhere"]):
        refused = as_("op", "fleet", "what-if", *wrong)
        assert refused.code != 0
        assert "allowed FILE or --without SITE" in refused.err or "'nowhere'" in refused.err
    assert as_("ada", "fleet", "what-if", str(file)).code == 5


def test_an_array_is_one_line_and_its_tasks_have_names(as_: As) -> None:
    made = as_("ada", "submit", "--array", "0-4%2", "--name", "sweep", "-o", "name", "--", "x")
    assert made.code == 0, made.err
    array = made.out.strip()
    after = as_("ada", "submit", "--depends-on", "sweep", "--name", "after", "--", "x")
    assert after.code == 0, after.err
    listed = {each["name"]: each for each in as_("ada", "list", "-o", "json").json()}
    assert listed["sweep"]["tasks"]["total"] == 5
    assert listed["after"]["reason"] == "DEPENDENCY"
    assert listed["after"]["waits_for"] == [{"job": array, "state": "SUCCEEDED"}]
    assert f"Waits for {array} to be SUCCEEDED." in as_("ada", "explain", "after").out
    inside = as_("ada", "list", "--array", "sweep", "-o", "json").json()
    assert [(each["array_id"], each["task"]) for each in inside] == [(array, 1), (array, 0)]
    assert as_("ada", "get", f"{array}[1]", "-o", "json").json()["id"] == inside[0]["id"]
    assert f"Task of:    {array}[1]" in as_("ada", "get", "sweep[1]").out
    assert "5 tasks: 5 queued" in as_("ada", "explain", array).out
    assert as_("ada", "logs", array).code == 2
    assert as_("ada", "get", f"{array}[5]").code == 4
    assert as_("ada", "cancel", array, "-o", "json").json()[0]["state"] == "CANCELLED"
    doomed = as_("ada", "list", "--state", "failed", "-o", "json").json()
    assert [(each["name"], each["reason"]) for each in doomed] == [("after", "DEPENDENCY_FAILED")]


def test_of_many_submitted_together_later_ones_may_wait_for_earlier_ones(ada: Context) -> None:
    def job(name: str, *after: str) -> dict[str, object]:
        return {"name": name, "command": ["x"], "depends_on": [{"job": each} for each in after]}

    with Client(ada) as client:
        specs = [job("a"), job("b", "a"), job("c", "b", "d"), job("d")]
        made = client.submit_many(specs)
        assert [bool(outcome.job_id) for outcome in made] == [True, True, False, True]
        assert [denial.subject for denial in made[2].denials] == ["depends_on[1].job"]
        waits = client.get("b").info.waits_for
        assert [(each.job, each.state) for each in waits] == [(made[0].job_id, "SUCCEEDED")]
        client.cancel("a")
        doomed = {each.name: each.reason for each in client.list(states=["failed"])}
        assert doomed["b"] == "DEPENDENCY_FAILED"
        client.cancel("d")


def test_maintenance_and_reservations_are_added_listed_and_called_off(as_: As) -> None:
    long = ("--from", "+1h", "--for", "2h", "--reason", "new fans")
    made = as_("op", "maintenance", "add", "hall-slough-1", *long, "--name", "fans", "-o", "json")
    assert made.code == 0, made.err
    assert (made.json()["id"], made.json()["kind"]) == ("fans", "MAINTENANCE")
    own = ("--tenant", "trust-a", "--nodes", "1")
    clash = as_("op", "reservation", "add", "hall-slough-1", *own, *long)
    assert (clash.code, "NODES_TOO_FEW" in clash.err) == (3, True)
    later = ("--from", "2100-01-01T09:00Z", "--to", "2100-01-01T10:00Z", "--reason", "exams")
    assert "to_ms" in as_("op", "reservation", "add", "hall-slough-1", *own, *later).err
    soon = ("--from", "+9h", "--to", "+10h", "--reason", "exams")
    kept = as_("op", "reservation", "add", "hall-slough-1", *own, *soon, "-o", "json")
    assert (kept.json()["tenant"], len(kept.json()["nodes"])) == ("trust-a", 1)
    assert as_("op", "maintenance", "list", "-o", "name").out.split() == ["fans"]
    assert as_("op", "reservation", "list", "-o", "name").out.split() == [kept.json()["id"]]
    assert as_("ada", "maintenance", "add", "hall-slough-1", *soon).code == 5
    for name in ("fans", kept.json()["id"]):
        assert as_("op", "maintenance", "remove", name).code == 0
    assert as_("op", "maintenance", "remove", "fans").code == 4


def test_a_gb_only_job_that_only_norway_could_hold_is_refused_with_every_reason(as_: As) -> None:
    result = as_("ada", "submit", "--nodes", "2", "--gpus", "8", "--", "python", "t.py")
    assert result.code == 3
    rows = {tuple(line.split()[:2]) for line in result.err.splitlines()}
    assert {
        ("exch-london-1", "NODE_SHAPE"),
        ("hall-slough-1", "FOREIGN_COMPULSION"),
        ("narvik-1", "JURISDICTION"),
    } <= rows
    dry = as_("ada", "submit", "--dry-run", "--nodes", "2", "--gpus", "8", "--", "python", "t.py")
    assert dry.code == 3


def test_a_dry_run_shares_admission_and_queues_nothing(as_: As) -> None:
    before = as_("ada", "list", "-o", "json").json()
    result = as_("ada", "submit", "--dry-run", "--", "x")
    assert result.code == 0, result.err
    assert as_("ada", "list", "-o", "json").json() == before


@pytest.mark.parametrize(
    ("who", "argv", "code"),
    [
        ("ada", ["sites"], 5),
        ("ada", ["policy", "apply", str(DEPLOY / "policies" / "demo.yaml")], 5),
        ("ada", ["get", "job-aaaaaaaaaaaaa"], 4),
        ("ada", ["submit", "--project", "met-lab/forecast", "--", "x"], 2),
        ("op", ["cordon", "nowhere", "--reason", "test"], 4),
        ("op", ["cordon", "narvik-1"], 2),
    ],
)
def test_refusals_end_with_their_status(as_: As, who: str, argv: list[str], code: int) -> None:
    result = as_(who, *argv)
    assert result.code == code, result.err
    assert "Traceback" not in result.err


def test_operators_see_and_change_the_fleet(as_: As) -> None:
    assert as_("op", "cordon", "narvik-1/n01", "--reason", "test").code == 0
    nodes = {node["id"]: node for node in as_("op", "nodes", "-o", "json").json()}
    assert nodes["narvik-1/n01"]["cordoned"] is True
    assert as_("op", "uncordon", "narvik-1/n01", "--reason", "test").code == 0
    assert [site["id"] for site in as_("op", "sites", "-o", "json").json()] == [
        *("exch-london-1", "hall-slough-1", "narvik-1")
    ]
    assert as_("op", "fleet", "verdicts", "-o", "name").out == "exch-london-1\n"
    again = as_("op", "fleet", "apply", str(DEPLOY / "fleets" / "demo.yaml"), "-o", "json")
    assert again.json() == {"changes": [], "applied": True}


def test_both_faces_of_the_sdk_say_the_same(ada: Context) -> None:
    spec = JobSpec(name="sdk", command="true", resources=Resources(gpus_per_node=2))
    with Client(ada) as client:
        job = client.submit(spec, idempotency_key="sdk-1")
        assert client.submit(spec, idempotency_key="sdk-1").id == job.id
        with pytest.raises(RefusedError) as caught:
            client.submit(spec.model_copy(update={"name": "other"}), idempotency_key="sdk-1")
        assert caught.value.reason == "IDEMPOTENCY_CONFLICT"
        assert job.cancel().state == "CANCELLED"
        assert job.wait(timeout_s=60).state == "CANCELLED"


async def test_many_are_submitted_at_once(ada: Context) -> None:
    good = JobSpec(name="many", command="true")
    bad = JobSpec(name="bad", command="true", resources=Resources(nodes=2, gpus_per_node=8))
    async with AsyncClient(ada) as client:
        outcomes = await client.submit_many([good, bad, good])
        assert [outcome.job_id is None for outcome in outcomes] == [False, True, False]
        assert {d.subject for d in outcomes[1].denials} >= {"exch-london-1", "narvik-1"}
        ids = [outcome.job_id for outcome in outcomes if outcome.job_id]
        assert {job.id async for job in client.list(page_size=1)} >= set(ids)
        for job_id in ids:
            await client.cancel(job_id)


async def test_a_certificate_is_renewed_at_half_its_life(ada: Context) -> None:
    before = config.identity(ada).facts()
    async with AsyncClient(ada) as client:
        assert not await client.renew_if_due(before.not_before_ms)
        assert await client.renew_if_due((before.not_before_ms + before.not_after_ms) // 2 + 1)
        assert (await client.whoami()).tenant == "trust-a/radiology"
    after = config.identity(ada).facts()
    assert after.spiffe_id == before.spiffe_id
    assert after.serial != before.serial
