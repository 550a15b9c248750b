"""What each host has to be sent so that it has a snapshot's image: compressed layers, or deltas to what it has.

Control node only. The action plugin qsmr_push gets ``snapshot`` (the directory), ``staging`` (a directory on the hosts,
made by the transport) and ``probes`` (by host name), sends each plan's ``blobs``, and returns
``hosts: {<name>: {"order": plan.order, "sent": <bytes>, "fault": <one line, or empty>}}``. Each host's module
(qsmr_image with ``state: present``) then makes the image as ``order`` says.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from .archive import read_image
from .compression import GZIP, ZSTD, decompressed, has_zstd
from .errors import QsmrError
from .hostimage import CONTAINERD, loads, memory_free, room_fault, room_to_load
from .layerstore import DIRECTORY, LayerStore, StoredLayer, layer_of
from .snapshot import Snapshot, find_snapshots, read_snapshot

# The higher level makes layers a fifth smaller, and takes two cores 8 ns a byte longer: it pays on a link of up to so
# many Mbit/s. It makes nothing of deltas.
FAST_LEVEL, SMALL_LEVEL, SLOW_LINK = 3, 9, 70.0
# A delta costs the host memory and time; below this, or if it saves less than that, the layer goes whole. In bytes.
DELTA_FROM = 64 << 10
DELTA_SHARE = 0.8
# Both layers of a delta are in memory together on the host, and here as much once more. In bytes.
DELTA_LIMIT = 1 << 30


@dataclass(frozen=True)
class Blob:
    """A file on the control node that is named by the SHA-256 of its bytes (hexadecimal); ``size`` in bytes.

    On a host it is ``<staging>/<sha256>``, and ``<staging>/<sha256>.part`` as long as it is not there to the byte.
    """

    sha256: str
    size: int
    path: Path


@dataclass(frozen=True)
class HostPlan:
    """What one host lacks.

    ``blobs`` in the order in which it needs them, those left out that it has staged; ``order`` (JSON) says what to make
    of them; ``fault`` why nothing can be sent (one line without the host's name; empty if all is well): then there are
    no blobs. A host that has the image already has an empty plan.
    """

    blobs: list[Blob] = field(default_factory=list)
    order: dict[str, Any] = field(default_factory=dict)
    fault: str = ""

    @property
    def size(self) -> int:
        """Bytes to be sent."""
        return sum(blob.size for blob in self.blobs)


def plan(snapshot_dir: Path, probe: Mapping[str, Any], disk_share: float = 0.9, bandwidth: float = 0) -> HostPlan:
    """What to send to the host that answered ``probe`` (key ``probe`` in the answer of qsmr_image, ``state: probe``).

    Compresses what no push before needed; equal probes give equal plans, and the blobs are verified on the control node
    before they are handed out. ``disk_share`` is the share of a host's free disk that may be used, ``bandwidth`` what
    the link takes in Mbit/s, if that is known. Raises QsmrError where the snapshot is damaged: then there is nothing to
    send to any host.
    """
    if probe["image"]:
        return HostPlan()
    directory = snapshot_dir.resolve()
    snapshot = read_snapshot(directory)
    level = SMALL_LEVEL if 0 < bandwidth <= SLOW_LINK else FAST_LEVEL
    return _planner(directory, snapshot.image_file.stat().st_mtime_ns, level).plan(probe, disk_share)


def pack(snapshot: Snapshot) -> None:
    """Compress the layers of a snapshot that was just made, those best which further snapshots will share.

    A push would do it otherwise, while hosts wait. Raises QsmrError.
    """
    planner = _Planner(snapshot, FAST_LEVEL)
    for index in range(len(planner.diff_ids)) if has_zstd() else ():
        planner.full(index, ZSTD, SMALL_LEVEL if index < planner.shared else FAST_LEVEL)


@lru_cache(maxsize=2)
def _planner(directory: Path, _image_time: int, level: int) -> _Planner:
    return _Planner(read_snapshot(directory), level)


class _Planner:
    """Plans of one push: what was compressed and verified for a host is so for the next one."""

    def __init__(self, snapshot: Snapshot, level: int) -> None:
        self.snapshot = snapshot
        self.level = level
        self.image = read_image(snapshot.image_file)
        named = snapshot.manifest["image"]
        self.sizes = [layer.size for layer in self.image.layers]
        self.diff_ids = [layer.diff_id for layer in self.image.layers]
        if [self.image.id, *self.diff_ids] != [named["id"], *(layer["diff_id"] for layer in named["layers"])]:
            raise QsmrError(f"{snapshot.image_file} is not the image of its snapshot.json: build the snapshot again")
        # What the image shares with others; without the figure, all but the topmost layer.
        self.shared = int(named.get("base_layers", len(self.diff_ids) - 1))
        self.store = LayerStore(_store_of(snapshot.directory.parent))
        self.others = [other for other in find_snapshots(snapshot.directory.parent)[0] if other.id != snapshot.id]
        self.store.prune(*self._used())
        self.lock = threading.Lock()

    def _used(self) -> tuple[set[str], set[str]]:
        images = [found.manifest["image"] for found in (self.snapshot, *self.others)]
        return {layer["diff_id"] for image in images for layer in image["layers"]}, {image["id"] for image in images}

    def plan(self, probe: Mapping[str, Any], disk_share: float) -> HostPlan:
        with self.lock:
            absent = int(probe["layers"])
            # A host's Docker that takes images only whole gets from itself what it has.
            whole = absent > 0 and probe["store"] == CONTAINERD
            layers = [self._choose(index, probe) for index in range(absent, len(self.diff_ids))]
        config = self.store.put(self.image.config)
        blobs = {config.stem: Blob(config.stem, len(self.image.config), config)}
        for layer in layers:
            if layer.diff_id not in probe["kept"]:
                blobs.setdefault(layer.sha256, Blob(layer.sha256, layer.stored_size, layer.path))
        missing = [blob for blob in blobs.values() if blob.sha256 not in probe["staged"]]
        below = 0 if whole else absent
        # That store wants layers and their image together.
        counts = [len(self.diff_ids)] if probe["store"] == CONTAINERD else loads(self.sizes, absent)
        fault = self._room_fault(probe, [below, *counts], missing, disk_share)
        if fault:
            return HostPlan(fault=fault)
        steps = [_step(layer, layer.diff_id in probe["kept"]) for layer in layers]
        order = {"absent": absent, "whole": whole, "loads": counts, "keep_from": self.shared}
        order |= {"config": config.stem, "layers": steps}
        return HostPlan(missing, order)

    def _choose(self, index: int, probe: Mapping[str, Any]) -> StoredLayer:
        """How a layer travels, if it does."""
        full = self.full(index, ZSTD if probe["zstd"] and has_zstd() else GZIP, self.level)
        there = full.diff_id in probe["kept"] or full.sha256 in probe["staged"]
        if there or full.codec != ZSTD or full.stored_size < DELTA_FROM:
            return full
        for base, source, place in self._bases(index):
            if base in probe["kept"]:
                delta = self._delta(index, full, base, source, place, int(probe["memory"]))
                return delta if delta and delta.stored_size <= DELTA_SHARE * full.stored_size else full
        return full

    def full(self, index: int, codec: str, level: int) -> StoredLayer:
        """A layer, compressed."""
        found = self.store.find(self.diff_ids[index], codec)
        return found or self.store.add(self.snapshot.image_file, self.image, index, codec, level)

    def _bases(self, index: int) -> Iterator[tuple[str, Snapshot, int]]:
        """The layers that were in this one's place in other snapshots, newest first: reckoned from the top."""
        place = index - len(self.diff_ids)
        for other in self.others:
            layers = other.manifest["image"]["layers"]
            if -place <= len(layers):
                yield layers[place]["diff_id"], other, place

    def _delta(
        self, index: int, full: StoredLayer, base: str, source: Snapshot, place: int, memory: int
    ) -> StoredLayer | None:
        old_size = int(source.manifest["image"]["layers"][place]["size"])
        if old_size + full.size > min(DELTA_LIMIT, memory // 2, memory_free() // 4 or DELTA_LIMIT):
            return None
        found = self.store.find(full.diff_id, ZSTD, base)
        if found:
            return found
        old = b"".join(self._layer(base, source, place))
        new = layer_of(self.snapshot.image_file, self.image, index)
        return self.store.add_delta(new, full, base, old, FAST_LEVEL)

    def _layer(self, diff_id: str, source: Snapshot, place: int) -> Iterator[bytes]:
        stored = self.store.find(diff_id, ZSTD)
        if stored:
            return decompressed(iter([stored.path.read_bytes()]), ZSTD)
        image = read_image(source.image_file)
        return layer_of(source.image_file, image, len(image.layers) + place)

    def _room_fault(self, probe: Mapping[str, Any], counts: list[int], missing: list[Blob], disk_share: float) -> str:
        """Why the host has no room, with the figures."""
        staged = sum(blob.size - int(probe["staged"].get(f"{blob.sha256}.part", 0)) for blob in missing)
        return room_fault(self.image.name, probe["room"], staged, room_to_load(self.sizes, counts), disk_share)


def _store_of(snapshots: Path) -> Path:
    """Where the layers of these snapshots are kept: beside them, or with this user if they are somebody else's."""
    beside = snapshots / DIRECTORY
    mine = os.access(beside if beside.exists() else snapshots, os.W_OK)
    return beside if mine else Path.home() / ".cache" / DIRECTORY.lstrip(".")


def _step(layer: StoredLayer, kept: bool) -> dict[str, Any]:
    step = {"diff_id": layer.diff_id, "size": layer.size}
    if not kept:
        step |= {"blob": layer.sha256, "codec": layer.codec}
    return {**step, "base": layer.base} if layer.base else step
