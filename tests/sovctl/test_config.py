"""Contexts: which file is in force, what a fault in it says, and that keys stay private."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from sovctl import ConfigError, config

TWO = """
current: a
contexts:
  a: {endpoint: "127.0.0.1:7443", credentials: ids/a, project: trust-a/radiology}
  b: {endpoint: "[::1]:7443", ca: ca.pem, certificate: c.pem, key: k.pem}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(config.sys, "prefix", str(tmp_path / "venv"))
    return {"HOME": str(tmp_path / "home")}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_named_file_is_the_only_one(home: dict[str, str], tmp_path: Path) -> None:
    write(config.environment_file(), TWO.replace("current: a", "current: b"))
    write(tmp_path / "own.yaml", "current: x\ncontexts: {x: {endpoint: 'h:1', credentials: i}}\n")
    found = config.load({**home, "SOVCTL_CONFIG": str(tmp_path / "own.yaml")})
    assert (found.current, list(found.contexts)) == ("x", ["x"])


def test_the_environments_file_goes_before_the_users_and_both_are_known(
    home: dict[str, str],
) -> None:
    write(config.user_file(home), "current: mine\ncontexts: {mine: {endpoint: 'h:1'}}\n")
    write(config.environment_file(), TWO)
    found = config.load(home)
    assert found.current == "a"
    assert sorted(found.contexts) == ["a", "b", "mine"]
    config.environment_file().unlink()  # As `make down` does.
    assert config.load(home).current == "mine"


def test_paths_are_relative_to_the_file(home: dict[str, str]) -> None:
    write(config.environment_file(), TWO)
    found = config.load(home)
    assert found.context().credentials == str(config.environment_file().parent / "ids" / "a")
    assert found.context("b").key == str(config.environment_file().parent / "k.pem")


def test_using_a_context_is_kept(home: dict[str, str]) -> None:
    write(config.user_file(home), TWO)
    config.use(config.load(home), "b")
    found = config.load(home)
    assert found.current == "b"
    assert found.contexts["a"].project == "trust-a/radiology"
    assert stat.S_IMODE(config.user_file(home).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("contexts: {a: {endpoint: here}}", "HOST:PORT", id="an endpoint"),
        pytest.param("contexts: {a: {endpoint: 'h:99999'}}", "HOST:PORT", id="a port"),
        pytest.param("contexts: {a: {endpont: 'h:1'}}", "did you mean 'endpoint'?", id="unknown"),
        pytest.param("contexts: [a]", "a mapping", id="a list"),
        pytest.param("a: &b c", "anchor", id="an anchor"),
    ],
)
def test_faults_are_told(home: dict[str, str], text: str, told: str) -> None:
    write(config.user_file(home), text)
    with pytest.raises(ConfigError) as caught:
        config.load(home)
    assert told in caught.value.message + "".join(d.detail for d in caught.value.details)


def test_without_a_context_it_says_how_to_get_one(home: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="sovctl join"):
        config.load(home).context()
    write(config.user_file(home), TWO)
    with pytest.raises(ConfigError, match="found 'c', allowed a, b"):
        config.load(home).context("c")


def test_an_identity_that_is_not_there_is_named(home: dict[str, str]) -> None:
    write(config.user_file(home), TWO)
    with pytest.raises(ConfigError, match="No such file"):
        config.identity(config.load(home).context("a"))
    with pytest.raises(ConfigError, match="found no ca, certificate, key"):
        config.identity(config.Context(endpoint="h:1"))
