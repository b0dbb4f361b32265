"""YAML within bounds."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sovshared import yamlio
from sovshared.yamlio import YamlInvalid


def test_plain_data_and_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("name: a\nresources:\n  nodes: 2\n  gpu: [H100, H200]\n")
    document = yamlio.load(file)
    assert document.value == {"name": "a", "resources": {"nodes": 2, "gpu": ["H100", "H200"]}}
    assert document.line_of(("resources", "nodes")) == 3
    assert document.line_of(("resources", "gpu", 1)) == 4
    assert document.line_of(("resources", "absent", "x")) == 2


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("NO", "NO", id="Norway is a string"),
        pytest.param("[yes, on, off, no]", ["yes", "on", "off", "no"], id="words are strings"),
        pytest.param("true", True, id="true"),
        pytest.param("0x1F", 31, id="hexadecimal"),
        pytest.param("010", 10, id="a leading zero is decimal"),
        pytest.param("1:30", "1:30", id="no sixties"),
        pytest.param("2026-10-01", "2026-10-01", id="dates are strings"),
        pytest.param("1.5", 1.5, id="a decimal"),
        pytest.param("'3'", "3", id="a quoted number is a string"),
        pytest.param("4h", "4h", id="a duration is a string"),
        pytest.param(".inf", ".inf", id="infinity is not a number"),
        pytest.param("", None, id="an empty file"),
        pytest.param("a:", {"a": None}, id="an absent value"),
        pytest.param("|\n  x\n  y\n", "x\ny\n", id="a block"),
    ],
)
def test_scalars(text: str, want: object) -> None:
    value = yamlio.loads(text, "f").value
    assert value == want
    assert type(value) is type(want)


BOMB = "a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(BOMB, "f:1: found anchor &a", id="anchors"),
        pytest.param("a: *x", "f:1: found alias", id="aliases"),
        pytest.param("*x : 1", "f:1: found alias", id="alias as a key"),
        pytest.param("a: !!python/object:os.system x", "f:1: found tag", id="tags"),
        pytest.param("!x a: 1", "f:1: found tag", id="a tag on a key"),
        pytest.param("a: 1\nb: 2\na: 3", "f:3: found key 'a' a second time", id="duplicate keys"),
        pytest.param("a: 1\n---\nb: 2", "f:2: found a second document", id="two documents"),
        pytest.param("? [1]\n: 2", "f:1: found a list or map as a key", id="a list as a key"),
        pytest.param("[" * 40 + "]" * 40, "f:1: found more than 32 levels", id="too deep"),
        pytest.param("[" * 50_000, "f", id="absurdly deep"),
        pytest.param("a: [1, 2", "f:2: did not find", id="broken"),
        pytest.param("a: \t- x\n\tb", "f:", id="tabs"),
        pytest.param("9" * 5000, "f:1: found a number of 5000 digits", id="a long number"),
        pytest.param("[" + "1," * 200_001 + "]", "f:1: found more than 200000 values", id="many"),
        pytest.param("x" * (5 * 1024 * 1024), "found more than 4194304 bytes", id="large"),
        pytest.param("a: \x07", "f", id="control characters"),
    ],
)
def test_refusals_name_file_and_line(text: str, message: str) -> None:
    with pytest.raises(YamlInvalid) as caught:
        yamlio.loads(text, "f")
    assert message in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"a: \xff\xfe\x00")
    with pytest.raises(YamlInvalid, match="byte 3 is not UTF-8"):
        yamlio.load(file)
    with pytest.raises(YamlInvalid, match="No such file"):
        yamlio.load(tmp_path / "absent.yaml")


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(content: bytes) -> None:
    try:
        yamlio.loads(content, "f")
    except YamlInvalid:
        return


leaves = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=20)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@given(trees)
@example(["0E0", "1e5", "0o7", "NO", "null", "", "1", "1" * 40, "\x85", "a\u2028b", "\ufeff"])
def test_what_is_written_is_read_back(value: object) -> None:
    assert yamlio.loads(yamlio.dumps(value), "f").value == value
