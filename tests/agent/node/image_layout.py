"""OCI image layouts made by a test, of this machine's own programs; nothing is fetched."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.node.images import CONFIG, INDEX, MANIFEST, architecture

TAR = "application/vnd.oci.image.layer.v1.tar"
GZIP = f"{TAR}+gzip"
SHELL_TOOLS = ("sh", "cat", "ls", "env", "id", "sleep")


def file_in(name: str, body: bytes = b"", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member of a layer; `more` are fields of a TarInfo."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(body), 0o644
    for field, value in more.items():
        setattr(member, field, value)
    return member, body


def folder_in(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    """A folder of a layer."""
    return file_in(name, type=tarfile.DIRTYPE, mode=mode)


def link_in(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    """A link of a layer."""
    return file_in(name, type=kind, linkname=to)


def layer_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A layer as a plain tar."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, body in members:
            archive.addfile(member, io.BytesIO(body) if body else None)
    return made.getvalue()


class Layout:
    """An OCI image layout at `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (root / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')

    def blob(self, digest: str) -> Path:
        """Where the blob of a digest lies."""
        return self.root / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def put(self, body: bytes) -> str:
        """Adds a blob; its digest."""
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.blob(digest).write_bytes(body)
        return digest

    def document(self, document: Mapping[str, object]) -> str:
        """Adds a blob of JSON."""
        return self.put(json.dumps(document).encode())

    def image(
        self,
        *layers: bytes,
        kind: str = GZIP,
        env: Sequence[str] = (),
        arch: str = "",
        diff_ids: Sequence[str] | None = None,
    ) -> str:
        """Adds an image of these layers; the digest of its manifest."""
        packed = [gzip.compress(one, mtime=0) if kind == GZIP else one for one in layers]
        whole = [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers]
        config = {
            "os": "linux",
            "architecture": arch or architecture(),
            "config": {"Env": list(env), "Entrypoint": ["/absent"]},
            "rootfs": {"type": "layers", "diff_ids": whole if diff_ids is None else diff_ids},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.named(CONFIG, json.dumps(config).encode()),
            "layers": [self.named(kind, one) for one in packed],
        }
        return self.document(manifest)

    def named(self, kind: str, body: bytes) -> dict[str, object]:
        """Adds a blob; the descriptor of it."""
        return {"mediaType": kind, "digest": self.put(body), "size": len(body)}

    def index(self, platforms: Mapping[str, str]) -> str:
        """Adds an index: a manifest's digest by architecture."""
        rows = [
            {
                "mediaType": MANIFEST,
                "digest": digest,
                "size": self.blob(digest).stat().st_size,
                "platform": {"os": "linux", "architecture": arch},
            }
            for arch, digest in platforms.items()
        ]
        return self.document({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows})


def shell_layer(**files: str) -> bytes:
    """A layer with this machine's shell and a few tools, what they are linked to, and `files`."""
    members = [folder_in("bin"), folder_in("etc"), folder_in("tmp", 0o1777)]
    needed: set[str] = set()
    for tool in SHELL_TOOLS:
        path = shutil.which(tool)
        assert path is not None, tool
        members.append(file_in(f"bin/{tool}", Path(path).read_bytes(), mode=0o755))
        needed |= _libraries(path)
    for path in sorted(needed):
        members.append(file_in(path, Path(path).resolve().read_bytes(), mode=0o755))
    members += [file_in(name.replace("__", "/"), text.encode()) for name, text in files.items()]
    return layer_of(*members)


def _libraries(program: str) -> set[str]:
    """The shared objects of a program, its loader among them, as the loader says."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    words = [word for line in said.splitlines() for word in line.split()]
    return {word for word in words if word.startswith("/")}
