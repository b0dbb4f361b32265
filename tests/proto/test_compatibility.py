"""Nothing that landed in the wire contract may change: each way of breaking it is refused."""

from pathlib import Path

import pytest

import contract_check

LANDED = """
syntax = "proto3";
package sovapi.v1;

message Job {
  reserved 9;
  reserved "owner";
  string id = 1;
  int64 gpu_milli = 2;
  repeated string sites = 3;
  optional string note = 4;
  oneof outcome {
    string failure = 5;
    string success = 6;
  }
  State state = 7;
  message Rank {
    int32 number = 1;
  }
  Rank rank = 8;
}

message Watch {}
message Unused {}

enum State {
  STATE_UNSPECIFIED = 0;
  STATE_QUEUED = 1;
}

service Jobs {
  rpc Get(Watch) returns (Job);
  rpc Follow(Watch) returns (stream Job);
}
"""


def write(root: Path, text: str) -> None:
    folder = root / contract_check.CONTRACT
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobs.proto").write_text(text)


@pytest.fixture
def landed(tmp_path: Path) -> tuple[Path, Path]:
    """A contract and the baseline that records it."""
    baseline = tmp_path / "baseline.binpb"
    write(tmp_path, LANDED)
    assert contract_check.bless(tmp_path, baseline) == []
    return tmp_path, baseline


BREAKING = [
    pytest.param("  string id = 1;\n", "", "Job.id was removed", id="a field removed"),
    pytest.param("id = 1;", "id = 12;", "Job.id was renumbered", id="a field renumbered"),
    pytest.param("id = 1;", "name = 1;", "Job.id was renamed to name", id="a field renamed"),
    pytest.param("int64 gpu", "int32 gpu", "Job.gpu_milli was retyped", id="a field retyped"),
    pytest.param("Rank rank = 8", "Watch rank = 8", "Job.rank was retyped", id="a message retyped"),
    pytest.param(
        "repeated string sites",
        "string sites",
        "Job.sites was changed between single and repeated",
        id="a list made single",
    ),
    pytest.param(
        "optional string note",
        "string note",
        "Job.note was changed in presence",
        id="presence dropped",
    ),
    pytest.param(
        "    string success = 6;\n  }",
        "  }\n  string success = 6;",
        "Job.success was moved between oneofs",
        id="a field moved out of its oneof",
    ),
    pytest.param(
        "id = 1;",
        'id = 1 [json_name = "jobId"];',
        "Job.id was renamed in JSON",
        id="a field renamed in JSON",
    ),
    pytest.param(
        "    int32 number = 1;\n",
        "",
        "Job.Rank.number was removed",
        id="a field of a nested message removed",
    ),
    pytest.param("  reserved 9;\n", "", "lost reserved numbers 9 to 9", id="a number freed"),
    pytest.param('  reserved "owner";\n', "", "lost reserved name owner", id="a name freed"),
    pytest.param(
        "message Unused {}",
        "message Other {}",
        "Unused was removed or renamed",
        id="a message removed",
    ),
    pytest.param(
        "  STATE_QUEUED = 1;\n",
        "",
        "STATE_QUEUED was removed or renamed",
        id="an enum value removed",
    ),
    pytest.param(
        "STATE_QUEUED = 1", "STATE_WAITING = 1", "was removed or renamed", id="a value renamed"
    ),
    pytest.param(
        "STATE_QUEUED = 1", "STATE_QUEUED = 2", "was renumbered", id="an enum value renumbered"
    ),
    pytest.param(
        "  rpc Get(Watch) returns (Job);\n",
        "",
        "Jobs.Get was removed or renamed",
        id="a method removed",
    ),
    pytest.param("Get(Watch)", "Get(Job)", "Jobs.Get takes something else", id="a request retyped"),
    pytest.param(
        "Get(Watch)", "Get(stream Watch)", "takes something else", id="a request made a stream"
    ),
    pytest.param(
        "returns (stream Job)",
        "returns (Job)",
        "Jobs.Follow answers with something else",
        id="a stream made single",
    ),
    pytest.param(
        "service Jobs", "service Works", "Jobs was removed or renamed", id="a service renamed"
    ),
]


@pytest.mark.parametrize(("old", "new", "complaint"), BREAKING)
def test_a_breaking_change_is_refused_and_cannot_be_blessed(
    landed: tuple[Path, Path], old: str, new: str, complaint: str
) -> None:
    root, baseline = landed
    text = LANDED.replace(old, new)
    assert text != LANDED
    write(root, text)
    before = baseline.read_bytes()

    assert [line for line in contract_check.verdict(root, baseline) if complaint in line]
    assert contract_check.bless(root, baseline) != []
    assert baseline.read_bytes() == before


def test_an_unchanged_contract_is_accepted(landed: tuple[Path, Path]) -> None:
    assert contract_check.verdict(*landed) == []


def test_an_addition_must_be_blessed_and_is_protected_from_then_on(
    landed: tuple[Path, Path],
) -> None:
    root, baseline = landed
    write(root, LANDED.replace("Rank rank = 8;", "Rank rank = 8;\n  string reason = 10;"))
    assert contract_check.verdict(root, baseline) == [
        "additions are not in the baseline yet: run make proto-baseline"
    ]
    assert contract_check.bless(root, baseline) == []
    assert contract_check.verdict(root, baseline) == []

    write(root, LANDED)
    assert contract_check.verdict(root, baseline) == ["sovapi.v1.Job.reason was removed"]


def test_value_0_of_an_enum_must_be_unspecified(landed: tuple[Path, Path]) -> None:
    root, baseline = landed
    write(root, LANDED + "enum Tier {\n  TIER_OFFICIAL = 0;\n}\n")
    want = ["sovapi.v1.Tier: value 0 must be named ..._UNSPECIFIED"]
    assert contract_check.verdict(root, baseline) == want
    assert contract_check.bless(root, baseline) == want


def test_a_contract_without_a_baseline_is_refused(tmp_path: Path) -> None:
    write(tmp_path, LANDED)
    verdict = contract_check.verdict(tmp_path, tmp_path / "baseline.binpb")
    assert verdict == ["no baseline yet: run make proto-baseline"]


def test_a_contract_that_does_not_compile_is_refused_with_its_place(tmp_path: Path) -> None:
    write(tmp_path, LANDED.replace("State state", "Nowhere state"))
    with pytest.raises(SystemExit, match=r'jobs\.proto:\d+:\d+: "Nowhere" is not defined'):
        contract_check.describe(tmp_path)


def test_generated_code_that_differs_is_found(tmp_path: Path) -> None:
    write(tmp_path, LANDED)
    contract_check.generate(tmp_path, tmp_path)
    assert contract_check.out_of_step(tmp_path) == []

    folder = tmp_path / contract_check.CONTRACT
    (folder / "jobs_pb2.py").write_text("edited by hand")
    (folder / "jobs_pb2_grpc.pyi").unlink()
    (folder / "gone_pb2.py").write_text("its source was removed")
    assert contract_check.out_of_step(tmp_path) == [
        "jobs_pb2_grpc.pyi is missing",
        "gone_pb2.py has no .proto file",
        "jobs_pb2.py is out of date",
    ]


def test_the_committed_code_and_contract_are_in_step() -> None:
    assert contract_check.out_of_step(contract_check.PROTO_ROOT) == []
    assert contract_check.verdict(contract_check.PROTO_ROOT, contract_check.BASELINE) == []
