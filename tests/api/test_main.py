"""The command line: what is wrong is named by field, every fault at once."""

from pathlib import Path

import pytest

from scheduler.__main__ import UsageError, main, settings_from


def test_flags_go_before_variables_and_variables_before_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOV_LISTEN", "10.0.0.1:1")
    monkeypatch.setenv("SOV_JOIN_LISTEN", "10.0.0.1:2")
    monkeypatch.setenv("SOV_DNS_NAMES", "a.example, b.example")
    settings = settings_from({"state_dir": "/s", "listen": "[::1]:3"})
    assert (settings.listen, settings.join_listen) == ("[::1]:3", "10.0.0.1:2")
    assert settings.dns_names == ("a.example", "b.example")
    assert settings.telemetry_listen == "127.0.0.1:9443"


def test_every_fault_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOV_STOP_GRACE_MS", "soon")
    with pytest.raises(UsageError) as caught:
        settings_from(
            {"listen": "nowhere", "trust_domain": "NO SUCH", "store_url": "mysql://me:secret@host"}
        )
    for field in ("state_dir: ", "listen: found 'nowhere'", "trust_domain: ", "stop_grace_ms: "):
        assert field in str(caught.value)
    assert "store_url: found 'mysql', allowed a URL of postgresql+psycopg://" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["serve"], "state_dir: found no control plane", id="nothing founded"),
        pytest.param(
            ["init", "--operator", "O L", "--credentials", "c"], "operator: ", id="a bad name"
        ),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--state-dir", str(tmp_path / "s")])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sov-scheduler: {message}")
    assert not (tmp_path / "s").exists()


def test_a_control_plane_is_founded_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["init", "--operator", "olga", "--state-dir", str(tmp_path / "s")]
    main([*arguments, "--credentials", str(tmp_path / "olga")])
    assert "spiffe://sov.example/operator/olga" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*arguments, "--credentials", str(tmp_path / "otto")])
    assert "already" in capsys.readouterr().err
