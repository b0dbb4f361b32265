"""What operators write is checked, and every fault is named."""

from pathlib import Path

import pytest

from agent.__main__ import main
from agent.settings import NodeSettings, SettingsInvalid, SiteSettings, load, scraped_at

FILE = """
site: exch-a
slot: n01
endpoint: 127.0.0.1:7443
credentials: /var/lib/sov/identity
facts: /var/lib/sov/facts.json
"""


def test_a_flag_outweighs_a_variable_and_a_variable_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(FILE)
    monkeypatch.setenv("SOV_NODE_SLOT", "n02")
    monkeypatch.setenv("SOV_NODE_SITE", "exch-b")
    config = load(NodeSettings, file, {"slot": "n03"})
    assert (config.site, config.slot, config.endpoint) == ("exch-b", "n03", "127.0.0.1:7443")


def test_a_map_in_a_variable_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {
        "site": "exch-a",
        "endpoint": "127.0.0.1:7443",
        "credentials": "/c",
        "state_dir": "/s",
        "facts": "/f",
        "listen": "127.0.0.1:1",
        "ray_address": "127.0.0.1:2",
    }
    monkeypatch.setenv("SOV_SITE_RAY_ENVIRONMENT", '{"PATH": "/bin"}')
    assert load(SiteSettings, None, flags).ray_environment == {"PATH": "/bin"}
    monkeypatch.setenv("SOV_SITE_RAY_ENVIRONMENT", "PATH=/bin")
    with pytest.raises(SettingsInvalid, match="SOV_SITE_RAY_ENVIRONMENT: found no JSON"):
        load(SiteSettings, None, flags)


@pytest.mark.parametrize(
    ("listen", "address", "told"),
    [
        pytest.param("10.0.0.7:9445", None, "10.0.0.7:9445", id="where it listens"),
        pytest.param("0.0.0.0:9445", "n01.example:9445", "n01.example:9445", id="as it is told"),
        pytest.param("0.0.0.0:9445", None, "", id="everywhere is no address"),
        pytest.param("10.0.0.7:0", None, "", id="a port that the system chooses"),
        pytest.param(None, "n01.example:9445", "", id="it does not listen"),
        pytest.param(None, None, "", id="nothing said"),
    ],
)
def test_monitors_are_told_where_the_agent_is_reached(
    tmp_path: Path, listen: str | None, address: str | None, told: str
) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(FILE)
    flags = {"metrics_listen": listen, "metrics_address": address}
    assert scraped_at(load(NodeSettings, file, flags)) == told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(FILE + "colour: red", "colour: no such setting", id="unknown"),
        pytest.param(FILE.replace("site: exch-a", ""), "site: found nothing", id="missing"),
        pytest.param(FILE.replace("exch-a", "Exch A"), "site: found 'Exch A', allowed", id="name"),
        pytest.param(FILE.replace(":7443", ""), "endpoint: found '127.0.0.1'", id="no port"),
        pytest.param(FILE.replace(":7443", ":99999"), "allowed HOST:PORT", id="no such port"),
        pytest.param("- a", "allowed a map", id="not a map"),
        pytest.param("a: *b", "allowed the value itself", id="an alias"),
    ],
)
def test_a_fault_names_file_and_field(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(content)
    with pytest.raises(SettingsInvalid) as caught:
        load(NodeSettings, file, {})
    assert message in str(caught.value)
    assert str(file) in str(caught.value)


def test_the_command_line_answers_with_faults_and_no_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["node", "--site", "A B"]) == 2
    said = capsys.readouterr().err
    assert "site: found 'A B'" in said
    assert "slot: found nothing" in said
    assert "Traceback" not in said


def test_a_name_that_nobody_may_have_is_refused_before_dialling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("")
    words = ["join", "--endpoint", "127.0.0.1:1", "--name", "/moon/base"]
    assert main([*words, "--credentials", str(tmp_path), "--ca", str(ca)]) == 2
    assert "/site/<site>/agent" in capsys.readouterr().err
