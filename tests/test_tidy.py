"""The house rules hold for every tracked file, and each is shown to catch what it forbids."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests import house_rules

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENT_SETS = ("client", "scheduler", "agent", "dev")
GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
# Files over the soft limit, each with the reason why it reads better whole.
LONG_FILES: Mapping[str, str] = {
    "sovctl/verify.py": "it stands alone, so that a stranger can read and run one file",
}


def tracked() -> Sequence[str]:
    """Files that are in git, or will be: everything that is not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = sorted(set(listed.stdout.split("\0")) - {""})
    return [name for name in names if (ROOT / name).is_file() and not name.endswith(GENERATED)]


def text_of(name: str) -> str:
    """A tracked file's text; empty for a binary one."""
    try:
        return (ROOT / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def python_files(*folders: str) -> Sequence[str]:
    return [n for n in tracked() if n.endswith(".py") and n.startswith(folders or ("",))]


def complaints(names: Sequence[str], rule: Callable[[str], Sequence[str]]) -> Sequence[str]:
    assert names, "a rule that looks at nothing proves nothing"
    return [f"{name}: {complaint}" for name in names for complaint in rule(text_of(name))]


# --- Size and shape ---


def test_no_function_is_too_long() -> None:
    assert complaints(python_files(), house_rules.long_functions) == []


def test_a_long_function_is_caught() -> None:
    body = "    pass\n" * house_rules.FUNCTION_LINES_MAX
    assert house_rules.long_functions(f"class A:\n  async def f():\n{body}") == [
        "line 2: f has 71 lines, allowed are 70"
    ]
    assert house_rules.long_functions("def f():\n" + body.removesuffix("    pass\n")) == []


def test_no_file_is_too_long() -> None:
    assert set(LONG_FILES) <= set(python_files())
    assert [
        f"{name}: {complaint}"
        for name in python_files()
        for complaint in house_rules.long_file(text_of(name), excuse=LONG_FILES.get(name))
    ] == []


@pytest.mark.parametrize(
    ("lines", "excuse", "caught"),
    [
        pytest.param(400, None, False, id="a file may reach the soft limit"),
        pytest.param(401, None, True, id="beyond the soft limit it needs a reason"),
        pytest.param(600, "one table", False, id="with a reason it may reach the hard limit"),
        pytest.param(601, "one table", True, id="nothing excuses the hard limit"),
        pytest.param(400, "one table", True, id="a reason no longer needed is removed"),
        pytest.param(401, "", True, id="an empty reason is none"),
    ],
)
def test_a_long_file_is_caught(lines: int, excuse: str | None, *, caught: bool) -> None:
    assert bool(house_rules.long_file("x\n" * lines, excuse=excuse)) is caught


# --- Imports ---


def test_no_first_party_import_hides_in_a_function() -> None:
    assert complaints(python_files(), house_rules.hidden_imports) == []


def test_a_hidden_import_is_caught() -> None:
    sample = "def f():\n    import json\n    if x:\n        from scheduler.core import quota\n"
    want = ["line 4: imports scheduler.core inside a function"]
    assert house_rules.hidden_imports(sample) == want
    assert house_rules.hidden_imports("from scheduler.core import quota\n") == []


def test_model_and_core_need_the_standard_library_only() -> None:
    def rule(source: str) -> Sequence[str]:
        return house_rules.foreign_imports(source, own={"scheduler.model", "scheduler.core"})

    assert complaints(python_files("scheduler/model/", "scheduler/core/"), rule) == []


def test_the_shim_needs_the_standard_library_only() -> None:
    """The shim and its neighbours start in milliseconds, and outlive whatever breaks above."""

    def rule(source: str) -> Sequence[str]:
        return house_rules.foreign_imports(source, own={"agent.node"})

    assert complaints(python_files("agent/node/shim.py"), rule) == []
    foreign = ["grpc", "google", "pydantic", "ray", "sqlalchemy", "sovapi", "sovshared", "yaml"]
    assert loaded_by("agent.node.shim", foreign) == []


def test_a_foreign_import_is_caught() -> None:
    sample = "import json\nimport grpc.aio\nfrom scheduler.modelling import x\nfrom . import y\n"
    assert house_rules.foreign_imports(sample, own={"scheduler.model"}) == [
        "imports .",
        "imports grpc.aio",
        "imports scheduler.modelling",
    ]
    assert house_rules.foreign_imports("import scheduler.model.job", own={"scheduler.model"}) == []


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        pytest.param("sovctl.__main__", ["ray", "sqlalchemy"], id="the client is light"),
        pytest.param("agent.__main__", ["ray", "sqlalchemy"], id="the agents live without ray"),
        pytest.param(
            "agent.node_program",
            ["ray", "sqlalchemy", "pydantic", "yaml", "agent.site"],
            id="a node's agent holds only what it uses",
        ),
        pytest.param("scheduler.__main__", ["ray"], id="the control plane never meets ray"),
    ],
)
def test_importing_a_program_leaves_heavy_packages_alone(module: str, heavy: list[str]) -> None:
    assert loaded_by(module, heavy) == []


def test_a_heavy_import_is_caught() -> None:
    assert loaded_by("sqlalchemy.orm", ["ray", "sqlalchemy"]) == ["sqlalchemy"]


def loaded_by(module: str, names: Sequence[str]) -> Sequence[str]:
    """Which of `names` a fresh interpreter holds after importing `module`."""
    code = f"import sys, {module}; print(*(n for n in {list(names)!r} if n in sys.modules))"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


# --- Texts ---


def test_nothing_is_marked_unfinished() -> None:
    assert complaints(tracked(), house_rules.unfinished) == []


def test_an_unfinished_mark_is_caught() -> None:
    mark = "TO" + "DO"
    assert house_rules.unfinished(f"x = 1\n# {mark}: later\nAUTODOC = 2") == [f"line 2: {mark}"]


def test_no_file_names_an_index_or_somebodys_home() -> None:
    assert complaints(tracked(), house_rules.places) == []


@pytest.mark.parametrize(
    "sample",
    [
        "https://pypi." + "org/simple",
        "https://files.python" + "hosted.org/packages/x",
        '"resolved": ' + '"https://registry.npm' + 'js.org/x"',
        "--extra-index-url https:" + "//mirror.example/simple",
        "open('/ho" + "me/ann/key')",
        "cd /ro" + "ot/src",
        "PATH=/Us" + "ers/ann/bin",
    ],
)
def test_a_place_is_caught(sample: str) -> None:
    assert house_rules.places(f"first\n{sample}") != []


def test_an_ordinary_path_is_no_place() -> None:
    assert house_rules.places("see docs/root/index.md and http://127.0.0.1:80/home/x/") == []


# --- Requirements ---


@pytest.mark.parametrize("name", REQUIREMENT_SETS)
def test_requirements_hold_names_versions_and_hashes_only(name: str) -> None:
    compiled = text_of(f"requirements/{name}.txt")
    assert house_rules.required(compiled)
    assert house_rules.requirement_places(compiled) == []
    assert house_rules.unhashed(compiled) == []


@pytest.mark.parametrize(
    "line",
    [
        "ray @ https:" + "//mirror.example/ray.whl",
        "--index-url mirror",
        "-e .",
        "./wheels/ray.whl",
        "/opt/wheels/ray.whl",
        "file:wheels/ray.whl",
    ],
)
def test_a_requirement_with_a_place_is_caught(line: str) -> None:
    assert house_rules.requirement_places(f"a==1 \\\n    --hash=sha256:00\n{line}\n") == [line]


def test_a_requirement_without_version_or_hash_is_caught() -> None:
    sample = "a==1 \\\n    --hash=sha256:00\n    # via b\nb==2\nc>=3 --hash=sha256:00\n"
    assert house_rules.unhashed(sample) == ["b==2", "c>=3 --hash=sha256:00"]


def test_the_client_needs_neither_ray_nor_sqlalchemy() -> None:
    assert not {"ray", "sqlalchemy"} & set(house_rules.required(text_of("requirements/client.txt")))


@pytest.mark.parametrize("name", ["client", "scheduler", "agent"])
def test_every_set_pins_what_development_pins(name: str) -> None:
    tested = house_rules.required(text_of("requirements/dev.txt"))
    for requirement, version in house_rules.required(text_of(f"requirements/{name}.txt")).items():
        assert tested[requirement] == version


@pytest.mark.parametrize("name", ["client", "scheduler", "agent"])
def test_the_project_declares_what_its_sets_pin(name: str) -> None:
    asked = set(house_rules.required(text_of(f"requirements/{name}.in")))
    declared = house_rules.declared(text_of("pyproject.toml"), name)
    assert asked <= declared
    # An extra comes on top of the client's dependencies, which its own set need not repeat.
    assert declared - asked <= house_rules.declared(text_of("pyproject.toml"), "client")


# --- Documents ---


def test_every_design_record_is_in_the_index() -> None:
    names = [path.name for path in (ROOT / "docs/adr").glob("[0-9]*.md")]
    assert names
    assert house_rules.unlisted(names, text_of("docs/adr/README.md")) == []


def test_an_unlisted_design_record_is_caught() -> None:
    index = "| [0001](0001-one.md) | [0003](0003-gone.md) | [style](../style.md) |"
    assert house_rules.unlisted(["0001-one.md", "0002-two.md"], index) == [
        "0002-two.md is not in the index",
        "the index links to 0003-gone.md",
    ]


def test_every_reason_is_documented() -> None:
    values = house_rules.enum_values(text_of("scheduler/model/reasons.py"), "Reason")
    assert house_rules.undocumented(values, text_of("docs/reasons.md")) == []


def test_an_undocumented_reason_is_caught() -> None:
    source = 'class Reason(StrEnum):\n    """Why."""\n    A = "A"\n    B = "B"\n'
    values = house_rules.enum_values(source, "Reason")
    assert house_rules.undocumented(values, "| `A` | why; unlike `B` |\n| `C` | why |") == [
        "B is not documented",
        "C does not exist",
    ]


def test_the_readme_shows_the_help_that_sovctl_prints() -> None:
    plain = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    command = [sys.executable, "-m", "sovctl", "--help"]
    environment = {**os.environ, **plain}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert house_rules.help_differs(text_of("README.md"), done.stdout) == []


def test_a_stale_help_text_is_caught() -> None:
    readme = "<!-- sovctl --help -->\n\n```text\n Usage: sovctl\n\n old\n```\n"
    assert house_rules.help_differs(readme, "\n Usage: sovctl  \n\n old\n") == []
    assert house_rules.help_differs(readme, "Usage: sovctl\n\n new\n") != []
    assert house_rules.help_differs("no block", "Usage: sovctl\n") != []
