"""Keeps the wire contract honest: generated code is up to date, and nothing that landed changes.

`python -m contract_check generate` writes the generated code, `generated` compares it with what
is committed, `compatible` compares the contract with `baseline.binpb`, and `bless` records
additions there. A field, value or method that landed is never removed, renumbered, renamed or
retyped: one version back must still connect.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

from google.protobuf import descriptor_pb2

PROTO_ROOT = Path(__file__).resolve().parent
CONTRACT = "sovapi/v1"
BASELINE = PROTO_ROOT / "baseline.binpb"
GENERATED_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")

T = TypeVar("T")

FileSet: TypeAlias = descriptor_pb2.FileDescriptorSet
Message: TypeAlias = descriptor_pb2.DescriptorProto
Field: TypeAlias = descriptor_pb2.FieldDescriptorProto
Enum: TypeAlias = descriptor_pb2.EnumDescriptorProto
Service: TypeAlias = descriptor_pb2.ServiceDescriptorProto


def sources(root: Path) -> Sequence[str]:
    """The contract's files below `root`, as protoc wants them named."""
    return sorted(str(path.relative_to(root)) for path in (root / CONTRACT).glob("*.proto"))


def protoc(root: Path, *outputs: str) -> None:
    """Run the pinned protoc over the contract below `root`."""
    named = sources(root)
    if not named:
        raise SystemExit(f"no .proto file in {root / CONTRACT}")
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(root), *outputs, *named]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"protoc refused the contract:\n{done.stderr.strip()}")


def generate(root: Path, out: Path) -> None:
    """Write the Python code of the contract below `root` to `out`.

    protoc writes messages and their types; gRPC's own generator leaves the stubs untyped, so
    their types come from mypy-protobuf.
    """
    plugin = Path(sys.executable).with_name("protoc-gen-mypy_grpc")
    protoc(
        root,
        f"--plugin=protoc-gen-mypy_grpc={plugin}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_grpc_out={out}",
    )


def generated_files(root: Path) -> Mapping[str, bytes]:
    """Name and content of every generated file below `root`."""
    folder = root / CONTRACT
    found = (path for path in folder.iterdir() if path.name.endswith(GENERATED_SUFFIXES))
    return {path.name: path.read_bytes() for path in sorted(found)}


def out_of_step(root: Path) -> Sequence[str]:
    """What differs between the generated code below `root` and what protoc makes of it now."""
    with tempfile.TemporaryDirectory() as folder:
        generate(root, Path(folder))
        wanted = generated_files(Path(folder))
    present = generated_files(root)
    missing = [f"{name} is missing" for name in sorted(wanted.keys() - present.keys())]
    left = [f"{name} has no .proto file" for name in sorted(present.keys() - wanted.keys())]
    both = sorted(wanted.keys() & present.keys())
    stale = [f"{name} is out of date" for name in both if wanted[name] != present[name]]
    return [*missing, *left, *stale]


def describe(root: Path) -> FileSet:
    """The descriptors of the contract below `root`, in file order and without comments."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "contract.binpb"
        protoc(root, f"--descriptor_set_out={out}")
        found = FileSet.FromString(out.read_bytes())
    return FileSet(file=sorted(found.file, key=lambda file: file.name))


def _messages(prefix: str, messages: Sequence[Message]) -> Iterator[tuple[str, Message]]:
    for message in messages:
        name = f"{prefix}.{message.name}"
        yield name, message
        yield from _messages(name, message.nested_type)


def messages_of(files: FileSet) -> Mapping[str, Message]:
    """Every message by full name, nested ones too."""
    return {
        name: message
        for file in files.file
        for name, message in _messages(file.package, file.message_type)
    }


def enums_of(files: FileSet) -> Mapping[str, Enum]:
    """Every enum by full name, nested ones too."""
    top = {f"{file.package}.{enum.name}": enum for file in files.file for enum in file.enum_type}
    nested = {
        f"{name}.{enum.name}": enum
        for name, message in messages_of(files).items()
        for enum in message.enum_type
    }
    return {**top, **nested}


def services_of(files: FileSet) -> Mapping[str, Service]:
    """Every service by full name."""
    return {f"{file.package}.{svc.name}": svc for file in files.file for svc in file.service}


def _oneof(message: Message, field: Field) -> str:
    return message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""


def _changed_field(name: str, old: tuple[Message, Field], new: tuple[Message, Field]) -> list[str]:
    (before_in, before), (after_in, after) = old, new
    pairs = [
        ("renumbered", before.number, after.number),
        ("retyped", (before.type, before.type_name), (after.type, after.type_name)),
        ("changed between single and repeated", before.label, after.label),
        ("moved between oneofs", _oneof(before_in, before), _oneof(after_in, after)),
        ("changed in presence", before.proto3_optional, after.proto3_optional),
        ("renamed in JSON", before.json_name, after.json_name),
    ]
    return [f"{name} was {change}" for change, was, is_now in pairs if was != is_now]


def _message_breaks(name: str, old: Message, new: Message) -> Iterator[str]:
    after = {field.name: field for field in new.field}
    for field in old.field:
        full = f"{name}.{field.name}"
        if field.name in after:
            yield from _changed_field(full, (old, field), (new, after[field.name]))
            continue
        heir = next((other.name for other in new.field if other.number == field.number), None)
        yield f"{full} was removed" if heir is None else f"{full} was renamed to {heir}"
    for gone in sorted(set(old.reserved_name) - set(new.reserved_name)):
        yield f"{name} lost reserved name {gone}"
    still = {number for span in new.reserved_range for number in range(span.start, span.end)}
    for span in old.reserved_range:
        if not still.issuperset(range(span.start, span.end)):
            yield f"{name} lost reserved numbers {span.start} to {span.end - 1}"


def _enum_breaks(name: str, old: Enum, new: Enum) -> Iterator[str]:
    after = {value.name: value.number for value in new.value}
    for value in old.value:
        if value.name not in after:
            yield f"{name}.{value.name} was removed or renamed"
        elif after[value.name] != value.number:
            yield f"{name}.{value.name} was renumbered"


def _service_breaks(name: str, old: Service, new: Service) -> Iterator[str]:
    after = {method.name: method for method in new.method}
    for method in old.method:
        full = f"{name}.{method.name}"
        if method.name not in after:
            yield f"{full} was removed or renamed"
            continue
        now = after[method.name]
        if (method.input_type, method.client_streaming) != (now.input_type, now.client_streaming):
            yield f"{full} takes something else"
        if (method.output_type, method.server_streaming) != (now.output_type, now.server_streaming):
            yield f"{full} answers with something else"


def _compare(
    old: Mapping[str, T], new: Mapping[str, T], change: Callable[[str, T, T], Iterator[str]]
) -> Iterator[str]:
    for name in sorted(old):
        if name in new:
            yield from change(name, old[name], new[name])
        else:
            yield f"{name} was removed or renamed"


def breaks(old: FileSet, new: FileSet) -> Sequence[str]:
    """Every way in which `new` would leave a program built from `old` outside."""
    return [
        *_compare(messages_of(old), messages_of(new), _message_breaks),
        *_compare(enums_of(old), enums_of(new), _enum_breaks),
        *_compare(services_of(old), services_of(new), _service_breaks),
    ]


def unsafe_enums(files: FileSet) -> Sequence[str]:
    """Enums whose value 0 does not say that nothing was said: 0 is what an old peer sends."""
    return [
        f"{name}: value 0 must be named ..._UNSPECIFIED"
        for name, enum in sorted(enums_of(files).items())
        if not any(v.number == 0 and v.name.endswith("_UNSPECIFIED") for v in enum.value)
    ]


def verdict(root: Path, baseline: Path) -> Sequence[str]:
    """Why the contract below `root` may not land as it is; empty when it may."""
    now = describe(root)
    if not baseline.exists():
        return [*unsafe_enums(now), "no baseline yet: run make proto-baseline"]
    landed = FileSet.FromString(baseline.read_bytes())
    problems = [*unsafe_enums(now), *breaks(landed, now)]
    if not problems and landed != now:
        return ["additions are not in the baseline yet: run make proto-baseline"]
    return problems


def bless(root: Path, baseline: Path) -> Sequence[str]:
    """Record the contract below `root` as landed, unless it breaks what landed before."""
    now = describe(root)
    landed = FileSet.FromString(baseline.read_bytes()) if baseline.exists() else FileSet()
    problems = [*unsafe_enums(now), *breaks(landed, now)]
    if not problems:
        baseline.write_bytes(now.SerializeToString(deterministic=True))
    return problems


def _generate_in_place() -> Sequence[str]:
    generate(PROTO_ROOT, PROTO_ROOT)
    return []


COMMANDS: Mapping[str, Callable[[], Sequence[str]]] = {
    "generate": _generate_in_place,
    "generated": lambda: out_of_step(PROTO_ROOT),
    "compatible": lambda: verdict(PROTO_ROOT, BASELINE),
    "bless": lambda: bless(PROTO_ROOT, BASELINE),
}


def main(arguments: Sequence[str]) -> int:
    """Run one command; 0 when there is nothing to complain about."""
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        print(f"usage: contract_check {'|'.join(COMMANDS)}", file=sys.stderr)
        return 2
    problems = COMMANDS[arguments[0]]()
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
