"""Container images of a site's store, unpacked on a node for the ranks that run in them.

The store is a directory in OCI image layout that whoever runs the site keeps, in the site's zone.
Nothing is ever fetched from anywhere: what is not in it starts nothing. A digest names a manifest,
which names everything else by digest, and all of it is checked before it is used. What was unpacked
is kept by that digest, whole or not at all; of what no rank uses the oldest goes first.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from agent.node import confine
from agent.node.data_store import COPY_BYTES, PLAINLY
from agent.node.environment import user_environment
from agent.node.image_layers import TREE_BYTES_MAX, LayerInvalid, Room, Tree
from agent.node.image_view import ROOT

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024  # Of a manifest, an index, a configuration.
LAYERS_MAX = 127
ENV_MAX = 1_000
MANIFESTS_MAX = 1_000  # Of an index.
KEPT_MAX = 16
"""Images unpacked on a node; those in use stay, and may be more."""

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYERS = {
    "application/vnd.oci.image.layer.v1.tar": False,
    "application/vnd.oci.image.layer.v1.tar+gzip": True,
}
"""Whether a layer of that type is packed."""
LAYOUT_VERSION = "1.0.0"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
ENV = "env.json"
_PART, _GONE = ".part-", ".gone-"
_DIGITS = frozenset("0123456789abcdef")


class ImageUnavailable(Exception):
    """An image cannot be had from the site's store; the message says why."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is unpacked: its directory, which has the tree in ROOT, and its variables."""

    place: Path
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Blob:
    """Something that is named by its digest."""

    kind: str
    digits: str
    size_bytes: int


class ImageStore:
    """The site's store of images, as this node has it mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def manifest(self, digits: str) -> Mapping[str, Any]:
        """The manifest of that digest, or of this machine's kind in the index of that digest."""
        self._check_layout()
        found = self._document(digits)
        if found.get("mediaType", MANIFEST) == INDEX or "manifests" in found:
            found = self._document(self._of_this_machine(found).digits)
        if found.get("schemaVersion") != 2 or found.get("mediaType", MANIFEST) != MANIFEST:
            raise ImageUnavailable(f"sha256:{digits}: found no OCI manifest of version 2")
        return found

    def config(self, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        """The configuration that a manifest names, if it is for this machine."""
        blob = _blob(manifest.get("config"), "config")
        if blob.kind != CONFIG:
            raise ImageUnavailable(f"config.mediaType: found {blob.kind[:80]!r}, allowed {CONFIG}")
        config = self._document(blob.digits)
        found = (config.get("os"), config.get("architecture"))
        if found != ("linux", architecture()):
            shown = "/".join(str(word)[:40] for word in found)
            raise ImageUnavailable(f"it is for {shown}, and this node is linux/{architecture()}")
        return config

    def unpack(self, manifest: Mapping[str, Any], config: Mapping[str, Any], into: Path) -> None:
        """Lays all layers into the empty folder `into`."""
        layers = [_blob(one, "layers") for one in _list(manifest, "layers", LAYERS_MAX)]
        rootfs = _map(config, "rootfs")
        contents = [_digits(one) for one in _list(rootfs, "diff_ids", LAYERS_MAX)]
        if not layers or len(layers) != len(contents):
            found = f"{len(layers)} layers, {len(contents)} diff_ids"
            raise ImageUnavailable(f"layers: found {found}, allowed as many, one at least")
        root = os.open(into, os.O_RDONLY | os.O_DIRECTORY)
        try:
            room = Room(root)
            for number, (layer, content) in enumerate(zip(layers, contents, strict=True)):
                try:
                    with self._opened(layer, content, into.parent, room) as archive:
                        Tree(root, room).lay(archive)
                except LayerInvalid as error:
                    raise ImageUnavailable(f"layers[{number}]: {error}") from error
        finally:
            os.close(root)

    def _check_layout(self) -> None:
        try:
            layout = json.loads((self._root / "oci-layout").read_bytes()[:DOCUMENT_BYTES_MAX])
            version = layout["imageLayoutVersion"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ImageUnavailable("this site's store is not an OCI image layout") from error
        if version != LAYOUT_VERSION:
            found = f"found {str(version)[:40]!r}, allowed {LAYOUT_VERSION}"
            raise ImageUnavailable(f"oci-layout.imageLayoutVersion: {found}")

    def _of_this_machine(self, index: Mapping[str, Any]) -> _Blob:
        for one in _list(index, "manifests", MANIFESTS_MAX):
            platform = _map_or_none(one, "platform")
            if (platform.get("os"), platform.get("architecture")) == ("linux", architecture()):
                return _blob(one, "manifests")
        raise ImageUnavailable(f"the index names no image for linux/{architecture()}")

    def _document(self, digits: str) -> Mapping[str, Any]:
        with self._file(digits) as file:
            body = file.read(DOCUMENT_BYTES_MAX + 1)
        if len(body) > DOCUMENT_BYTES_MAX:
            raise ImageUnavailable(f"sha256:{digits}: more than {DOCUMENT_BYTES_MAX} bytes")
        _check_digest(hashlib.sha256(body).hexdigest(), digits)
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ImageUnavailable(f"sha256:{digits}: found no JSON") from error
        if not isinstance(document, dict):
            raise ImageUnavailable(f"sha256:{digits}: found no object")
        return cast("Mapping[str, Any]", document)

    def _file(self, digits: str) -> IO[bytes]:
        path = self._root / "blobs" / "sha256" / digits
        try:
            opened = os.open(path, PLAINLY)
        except OSError as error:
            detail = f"sha256:{digits} is not in this site's store of images"
            raise ImageUnavailable(f"{detail}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            os.close(opened)
            raise ImageUnavailable(f"sha256:{digits} is no plain file in this site's store")
        return open(opened, "rb")

    @contextlib.contextmanager
    def _opened(self, layer: _Blob, content: str, folder: Path, room: Room) -> Generator[IO[bytes]]:
        """A layer as a tar without a name in `folder`: what was checked is what is unpacked."""
        if layer.kind not in LAYERS:
            found = f"found {layer.kind[:100]!r}, allowed {', '.join(sorted(LAYERS))}"
            raise LayerInvalid(f"mediaType: {found}")
        with self._file(layer.digits) as file, tempfile.TemporaryFile(dir=folder) as plain:
            found = os.fstat(file.fileno()).st_size
            if found != layer.size_bytes or found > TREE_BYTES_MAX:
                raise LayerInvalid(f"found {found} bytes, allowed {layer.size_bytes} as is said")
            hashed, whole = _Hashed(file), hashlib.sha256()
            packed = LAYERS[layer.kind]
            source = gzip.GzipFile(fileobj=hashed) if packed else hashed
            bounded = Room(room.folder, size_bytes=room.size_bytes)
            try:
                while chunk := source.read(COPY_BYTES):
                    bounded.take(len(chunk))
                    whole.update(chunk)
                    plain.write(chunk)
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise LayerInvalid(f"not gzip that can be read: {error}") from error
            while hashed.read(COPY_BYTES):
                pass
            _check_digest(hashed.digest.hexdigest(), layer.digits)
            _check_digest(whole.hexdigest(), content)
            yield plain


class ImageCache:
    """The images unpacked on a node, in `root`. Any number of processes may use it at once."""

    def __init__(self, root: Path, store: str) -> None:
        """`store`: where the site's store is mounted; empty: there is none."""
        self._root = root
        self._store = store
        root.mkdir(mode=0o700, exist_ok=True)

    def have(self, reference: str) -> Image:
        """The image of a reference, unpacked by this call if it was not before.

        It must be in the store even then: what whoever runs the site took out starts no more.
        """
        if not self._store:
            raise ImageUnavailable("this node has no store of images")
        digits = _digits(reference.rpartition("@")[2])
        store = ImageStore(Path(self._store))
        place = self._root / digits
        manifest = store.manifest(digits)
        if not place.is_dir():
            with open(self._root / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not place.is_dir():  # Nobody else did it meanwhile.
                    self._make_room()
                    self._unpack(store, manifest, place)
        os.utime(place)
        return Image(place, json.loads((place / ENV).read_bytes()))

    def _unpack(self, store: ImageStore, manifest: Mapping[str, Any], place: Path) -> None:
        config = store.config(manifest)
        part = self._root / f"{_PART}{place.name}"
        (part / ROOT).mkdir(mode=0o755, parents=True)
        try:
            (part / ROOT).chmod(0o755)
            store.unpack(manifest, config, part / ROOT)
            (part / ENV).write_text(json.dumps(_env(config)))
            _sync(part)
            part.rename(place)
            _sync(self._root)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _make_room(self) -> None:
        """Removes what is left of earlier tries, and the oldest images that nobody uses, so that
        there is room for one."""
        for pattern in (f"{_PART}*", f"{_GONE}*"):
            for left in sorted(self._root.glob(pattern)):
                shutil.rmtree(left)
        images = [path for path in self._root.iterdir() if path.is_dir()]
        images.sort(key=lambda path: -path.stat().st_mtime_ns)
        for oldest in images[KEPT_MAX - 1 :]:
            _drop(oldest, self._root / f"{_GONE}{oldest.name}")


class _Hashed(io.RawIOBase):
    """A file, and the digest of what was read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """As of any file."""
        body = self._file.read(size)
        self.digest.update(body)
        return body


def architecture() -> str:
    """This machine's, as images call it."""
    machine = os.uname().machine
    return ARCHITECTURES.get(machine, machine)


def _drop(place: Path, gone: Path) -> None:
    """Removes an unpacked image unless a rank uses it: its shim holds it (`image_view.hold`)."""
    held = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        place.rename(gone)
        shutil.rmtree(gone)
    except BlockingIOError:
        pass
    finally:
        os.close(held)


def _env(config: Mapping[str, Any]) -> dict[str, str]:
    """The variables that the image sets, those that users may set."""
    inner = _map_or_none(config, "config")
    words = _list(inner, "Env", ENV_MAX) if inner.get("Env") is not None else []
    if not all(isinstance(word, str) and "\0" not in word for word in words):
        raise ImageUnavailable("config.Env: found what is no text, allowed NAME=VALUE")
    pairs = [cast("str", word).partition("=") for word in words]
    return user_environment({name: value for name, _, value in pairs if name})


def _blob(found: object, field: str) -> _Blob:
    if not isinstance(found, dict):
        raise ImageUnavailable(f"{field}: found no descriptor")
    descriptor = cast("Mapping[str, Any]", found)
    kind, size = descriptor.get("mediaType"), descriptor.get("size")
    if not isinstance(kind, str) or not isinstance(size, int):
        raise ImageUnavailable(f"{field}: found no mediaType or no size")
    return _Blob(kind, _digits(descriptor.get("digest")), size)


def _digits(found: object) -> str:
    text = str(found)
    digits = text.removeprefix("sha256:")
    if not text.startswith("sha256:") or len(digits) != 64 or not set(digits) <= _DIGITS:
        raise ImageUnavailable(f"digest: found {text[:80]!r}, allowed sha256: and 64 digits")
    return digits


def _check_digest(found: str, allowed: str) -> None:
    if found != allowed:
        raise ImageUnavailable(f"sha256:{allowed}: what the store has is sha256:{found}")


def _map(document: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    found = document.get(field)
    if not isinstance(found, dict):
        raise ImageUnavailable(f"{field}: found no object")
    return cast("Mapping[str, Any]", found)


def _map_or_none(document: object, field: str) -> Mapping[str, Any]:
    found = _object(document).get(field)
    return {} if found is None else _object(found)


def _object(found: object) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise ImageUnavailable(f"found {str(found)[:80]!r}, allowed an object")
    return cast("Mapping[str, Any]", found)


def _list(document: Mapping[str, Any], field: str, most: int) -> list[Any]:
    found = document.get(field)
    if not isinstance(found, list) or len(cast("list[Any]", found)) > most:
        raise ImageUnavailable(f"{field}: found no list of at most {most}")
    return cast("list[Any]", found)


def _sync(folder: Path) -> None:
    """Everything in the file system of `folder` is on its disk."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        confine.check(confine.LIBC.syncfs(opened), f"syncfs {folder}")
    finally:
        os.close(opened)
