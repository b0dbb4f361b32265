"""What runs on every node of a cell: makes room for ranks, unpacks their bundles, starts their
shims.

A plain class; the site's Ray driver makes a resident actor of it. The spool is its only state, so
it may die and be replaced at any moment, and every call may be repeated. It starts ranks and
nothing else: what becomes of them is the node agent's business, through the same spool.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import gc
import os
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from agent.node import gpu_shares, instances, networks, ray_cluster
from agent.node.asked import Hello, Prepared, RankSpec
from agent.node.bundles import Bundles
from agent.node.checkpoint_store import CheckpointShelf, CheckpointUnreadable, give
from agent.node.clock import boot_ms, wall_ms
from agent.node.data_store import StoreError, data_of
from agent.node.environment import start_environment, user_environment
from agent.node.facts import FACTS_VARIABLE, NodeFacts, read_facts
from agent.node.granted import RankAsked, check
from agent.node.images import Image, ImageCache, ImageUnavailable
from agent.node.keys import Opener, Rank, StaysShut
from agent.node.launcher import LEVELS, GateFailed, Nursery
from agent.node.overlay_port import OverlayPort
from agent.node.owners import Owners
from agent.node.ports import free_port
from agent.node.refusals import (
    DataMissing,
    ExecutorError,
    ImageMissing,
    KeyRefused,
    NotGranted,
)
from agent.node.secret_file import keep_secrets
from agent.node.spool import Phase, RankStatus, Rendezvous, Spool
from agent.node.unpacking import BundleInvalid, unpack
from sovshared.checkpoint_keys import CheckpointOpener
from sovshared.grants import GrantInvalid, GrantTrust

RESOLVERS = ("/run/systemd/resolve", "/run/nscd", "/run/dbus", "/run/avahi-daemon")
"""Sockets that lie in folders are in no network, and these would ask others for a rank."""


class Executor:
    """One node's executor. Methods return plain values: they cross Ray and JSON."""

    def __init__(self, node: NodeFacts) -> None:
        self.node = node
        self.spool = Spool(Path(node.spool))
        self.spool.settle()  # Before anything is started in this boot.
        self.nursery = Nursery(node.level, self.spool)
        self.overlay_port = OverlayPort(self.spool.root, node.address)
        self.trust = GrantTrust(Path(node.trust))
        self.bundles = Bundles(Path(node.spool) / "bundle")
        self.images = ImageCache(Path(node.spool) / "image", node.image_store)
        self.checkpoints = Path(node.checkpoint_root).resolve()
        self.checkpoints.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._owners = Owners(self.checkpoints, range(node.uid_first, node.uid_last + 1))

    def ping(self) -> dict[str, object]:
        """That it answers, as which process, and for which node."""
        return {"pid": os.getpid(), "node": asdict(self.node)}

    def hello(self) -> Hello:
        """Where this node is found by the others of a gang, for as long as it is."""
        port = None if self.node.level == "none" else self.overlay_port.number()
        return {"address": self.node.address, "overlay_port": port}

    def prepare(self, key: str, bundle_digest: str | None = None) -> Prepared:
        """Make room for a rank; the barrier of a gang. Repeating it gives the same rendezvous."""
        port = free_port(self.node.address, key, self.spool.ports())
        made = self.spool.prepare(key, Rendezvous(self.node.address, port))
        has_bundle = bundle_digest is None or self.bundles.keep(bundle_digest)
        return {
            "address": made.address,
            "port": made.port,
            "has_bundle": has_bundle,
            "boot_ms": boot_ms(),
        }

    def put_bundle(self, digest: str, offset: int, content: bytes) -> None:
        """Take in a part of a bundle. Parts may come twice, and from two callers at once."""
        self.bundles.put(digest, offset, content)

    def seal_bundle(self, digest: str) -> None:
        """Accept a bundle whose parts are all here, if it is what its digest says."""
        self.bundles.seal(digest)

    def start(self, key: str, spec: RankSpec) -> dict[str, object]:
        """Start a rank that was prepared, or that needs nothing told first; its status. What was
        started, or given up, stays so.
        """
        status = self.spool.status(key)
        if spec["master_address"] is None and status.phase in (Phase.ABSENT, Phase.PREPARED):
            spec = self._make_room(key, spec)
            status = RankStatus(key, Phase.PREPARED)
        if status.phase is Phase.ABSENT:
            raise ExecutorError(f"rank {key} was not prepared here")
        if status.phase is Phase.PREPARED:
            with self.spool.starting(key):
                if self.spool.gate(key):  # Another start, or a stop, was before this one.
                    status = self.spool.status(key)
                else:
                    self._check_grant(key, spec)
                    try:
                        shim_spec = self._shim_spec(key, spec)
                    except GateFailed as error:
                        why = f"the network of {key} cannot be made: {error}"
                        raise ExecutorError(why) from error
                    self.spool.write_spec(key, shim_spec)
                    started = self.spool.open_gate(key)
                    status = RankStatus(key, Phase.STARTING) if started else self.spool.status(key)
        if status.phase is Phase.STARTING:
            status = self.nursery.run_shim(key)
        return _plain(status)

    def _make_room(self, key: str, spec: RankSpec) -> RankSpec:
        """Room for a rank that was not prepared, and a place to meet where it needs one."""
        if networks.rendezvous(spec) is not None:
            self.spool.make_room(key)
            return spec
        made = self.prepare(key)
        return {**spec, "master_address": made["address"], "master_port": made["port"]}

    def _check_grant(self, key: str, spec: RankSpec) -> None:
        """Raises NotGranted unless this very rank may begin here, now, as this work."""
        asked = RankAsked(
            key=key,
            gpus=(*spec["gpus"], *spec["visible_gpus"]),
            command=spec["argv"],
            env=spec["env"],
            bundle_digest=spec["bundle_digest"] or "",
            image=spec["image"],
            egress=spec["egress"],
            inputs=spec["inputs"],
            outputs=spec["outputs"],
            secrets=spec["keys"]["secrets"],
        )
        try:
            token = base64.b64decode(spec["grant"], validate=True)
            place = {"site": self.node.site, "slot": self.node.slot}
            check(self.trust, token, asked, **place, now_ms=wall_ms())
        except (GrantInvalid, binascii.Error) as refused:
            raise NotGranted(f"rank {key}: {refused}") from refused

    def known(self) -> list[dict[str, object]]:
        """The status of every rank in the spool."""
        return [_plain(status) for status in self.spool.known()]

    def _shim_spec(self, key: str, spec: RankSpec) -> dict[str, object]:
        """All the shim needs, with the work directory filled and handed to the job's user."""
        if spec["isolation"] not in LEVELS or LEVELS.index(spec["isolation"]) > LEVELS.index(
            self.node.level
        ):
            raise ExecutorError(
                f"isolation {spec['isolation']!r}: this node reaches {self.node.level}"
            )
        self._check_place(spec)
        image = self._image(spec)  # First: it may take its time.
        if (until := spec["lease_until_ms"]) is not None and until <= boot_ms():
            raise ExecutorError(f"rank {key}: its lease lapsed before it was started")
        try:
            data = data_of(self.node.data_store, spec)
        except StoreError as error:
            raise DataMissing(str(error)) from error
        work = self.spool.home(key) / "work"
        checkpoints = self.checkpoints / spec["job_id"]
        checkpoints.mkdir(mode=0o700, exist_ok=True)
        opened, opener = self._fill(key, spec, work)
        own: dict[str, object] = {"uid": None, "gid": None}
        uid: int | None = None
        if spec["isolation"] == "uid":
            uid = self._uid(spec["job_id"], checkpoints)
            give(work, uid)
            os.chown(checkpoints, uid, uid)
            own = {"uid": uid, "gid": uid}
        kept = self._restore(key, spec, checkpoints, uid, opener)
        warn = spec["signal_before_end"]
        return {
            **own,
            "argv": self._argv(spec),
            "env": self._environment(key, spec, work, checkpoints, image),
            "image": image and str(image.place.resolve()),
            "secrets_file": opened,
            "cwd": str(work),
            **data,
            "keep": [str(checkpoints)],
            "checkpoints": kept,
            "hide": [*self.node.hidden(), *RESOLVERS],
            "gpus": sorted(spec["gpus"]),
            # An instance is one job's alone, however small a part of its GPU.
            "gpu_milli": gpu_shares.WHOLE_MILLI if spec["mig_profile"] else spec["gpu_milli"],
            "isolation": spec["isolation"],
            **networks.network_of(self.spool, key, spec, self.nursery),
            "grace_ms": spec["grace_ms"],
            "lease_until_ms": spec["lease_until_ms"],
            "time_limit_ms": spec["time_limit_ms"],
            "signal_before_end": warn and {"signal": warn[0], "before_ms": warn[1]},
        }

    def _check_place(self, spec: RankSpec) -> None:
        """Raises ExecutorError if the rank's others were told another place of this node than it
        has: it was told to the driver before the port had to be another.
        """
        if not spec["nodes"]:
            return
        hello, (address, port) = self.hello(), spec["nodes"][spec["node_rank"]]
        if (address, port) != (hello["address"], hello["overlay_port"]):
            own = f"{hello['address']} {hello['overlay_port']}"
            raise ExecutorError(f"overlay at {address} {port}: this node is at {own}")

    def _argv(self, spec: RankSpec) -> list[str]:
        """What a rank runs: what was granted, in a Ray cluster of its own where it asks for one."""
        if not spec["ray"]:
            return spec["argv"]
        address = networks.own_address(spec, self.node.address)
        return ray_cluster.command(spec["argv"], address, len(spec["visible_gpus"]))

    def _image(self, spec: RankSpec) -> Image | None:
        """The image that a rank runs in, unpacked; it runs in nothing else if it has one."""
        if not spec["image"]:
            return None
        if spec["isolation"] != "uid":
            raise ImageMissing(f"an image needs isolation uid, found {spec['isolation']}")
        try:
            return self.images.have(spec["image"])
        except (ImageUnavailable, OSError) as error:
            raise ImageMissing(f"image {spec['image']}: {error}") from error

    def _restore(
        self,
        key: str,
        spec: RankSpec,
        checkpoints: Path,
        uid: int | None,
        opener: CheckpointOpener | None,
    ) -> dict[str, object] | None:
        """Puts back what the site's store has of the job's checkpoints; what its node agent is told
        who keeps them there. One rank of a node does it for all."""
        if not self.node.checkpoint_store:
            return None
        root, number = Path(self.node.checkpoint_store), spec["node_rank"]
        shelf = CheckpointShelf(root, spec["job_id"], number)
        try:
            shelf.restore(checkpoints, uid, opener)
        except (CheckpointUnreadable, OSError) as error:
            raise ExecutorError(f"rank {key}: {error}") from error
        if spec["local_rank"] != 0:
            return None
        public = "" if opener is None else opener.public.hex()
        return {"store": str(root), "node_rank": number, "public": public}

    def _fill(
        self, key: str, spec: RankSpec, work: Path
    ) -> tuple[str | None, CheckpointOpener | None]:
        """Opens and unpacks the bundle. Answered are the file with the opened secrets, if any, and
        what opens the job's checkpoints, if its tenant has a key."""
        home, digest = self.spool.home(key), spec["bundle_digest"]
        rank = Rank(
            grant=base64.b64decode(spec["grant"]),
            slot=self.node.slot,
            command=spec["argv"],
            env=spec["env"],
            bundle_digest=digest or "",
            image=spec["image"],
            egress=spec["egress"],
            inputs=spec["inputs"],
            outputs=spec["outputs"],
            keys=spec["keys"],
        )
        with contextlib.ExitStack() as files:
            packed = None if digest is None else self.bundles.path(digest).open("rb")
            files.enter_context(packed or contextlib.nullcontext())
            try:
                opener = Opener(self.node.key_services, rank, packed, wall_ms())
                secrets, bundle = opener.secrets(), opener.bundle(home)
                stored = bool(self.node.checkpoint_store)
                checkpoints = opener.checkpoints(spec["job_id"]) if stored else None
            except StaysShut as error:
                raise KeyRefused(f"rank {key}: {error}") from error
            if bundle is not None:
                files.callback(bundle.close)
                shutil.rmtree(work, ignore_errors=True)  # A start that was cut off left half of it.
                work.mkdir(mode=0o700)
                try:
                    unpack(bundle, work)
                except BundleInvalid as error:
                    raise ExecutorError(str(error)) from error
        kept = keep_secrets(str(home), user_environment(secrets)) if secrets else None
        return kept, checkpoints

    def _uid(self, job: str, checkpoints: Path) -> int:
        """The job's uid: the owner of its checkpoints, else derived from its id, so that nodes
        agree.

        Never one that owns another job's checkpoints: those stay when their job's uid is free
        again.
        """
        first, last = self.node.uid_first, self.node.uid_last
        owner = checkpoints.stat().st_uid
        if not first <= owner <= last:
            owner = first + zlib.crc32(job.encode()) % (last - first + 1)
        others = self._owners.others(job)
        return self.spool.uid_for(job, owner, avoid=others, first=first, last=last)

    def _environment(
        self, key: str, spec: RankSpec, work: Path, checkpoints: Path, image: Image | None
    ) -> dict[str, str]:
        """A rank's environment, from nothing: what users may change, then their image's, then
        theirs, then what is ours.
        """
        meeting = networks.rendezvous(spec)
        assert meeting is not None, "room was made"
        start = start_environment(self.node.runtime_dir, str(work), image and image.env)
        visible = self._visible(key, spec)
        node: Mapping[str, str] = {} if spec["mig_profile"] else os.environ
        ours = {
            "RANK": spec["rank"],
            "LOCAL_RANK": spec["local_rank"],
            "WORLD_SIZE": spec["world_size"],
            "LOCAL_WORLD_SIZE": spec["local_world_size"],
            "GROUP_RANK": spec["node_rank"],
            "MASTER_ADDR": meeting.address,
            "MASTER_PORT": meeting.port,
            "CUDA_VISIBLE_DEVICES": visible,  # Empty hides all; absent would show all.
            "NVIDIA_VISIBLE_DEVICES": visible or "void",  # The same to what makes containers.
            "SOV_JOB_ID": spec["job_id"],
            "SOV_ATTEMPT": spec["attempt"],
            "SOV_NODE_RANK": spec["node_rank"],
            "SOV_NUM_NODES": spec["num_nodes"],
            "SOV_GPUS_PER_NODE": spec["gpus_per_node"],
            **gpu_shares.limits(spec["gpu_milli"], node),
            "SOV_CHECKPOINT_DIR": checkpoints,
            "SOV_RANK_KEY": key,
            "SOV_RANK_DIR": self.spool.home(key),
        }
        return (
            start | user_environment(spec["env"]) | {name: str(ours[name]) for name in sorted(ours)}
        )

    def _visible(self, key: str, spec: RankSpec) -> str:
        """What of the node's GPUs CUDA is to show a rank: indices, or an instance's name."""
        units, profile = sorted(spec["visible_gpus"]), spec["mig_profile"]
        if not profile:
            return ",".join(map(str, units))
        try:
            return ",".join(instances.name_of(self.spool.root, unit, profile) for unit in units)
        except LookupError as error:
            raise ExecutorError(f"rank {key}: {error}") from error


class ResidentExecutor(Executor):
    """The executor as Ray starts it: it finds its node's facts where the raylet's environment
    says.
    """

    def __init__(self) -> None:
        super().__init__(read_facts(Path(os.environ[FACTS_VARIABLE])))
        self.nursery.warm_up()
        self.hello()
        gc.freeze()  # What is here stays: no collection need look at it in the midst of a start.


def _plain(status: RankStatus) -> dict[str, object]:
    plain = asdict(status)
    return {
        name: str(value) if name in ("phase", "cause") and value else value
        for name, value in plain.items()
    }
