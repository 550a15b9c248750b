"""Layers of snapshots as they travel: compressed once, kept by content beside the snapshots, for all of them.

``<directory>/<diff id>.<size>.<sha256>.zst`` is a layer of ``size`` bytes, ``sha256`` that of the file itself;
``<diff id>.<size>.<base's diff id>.<sha256>.zst`` can be read only with the layer ``base`` before it. The snapshot's
docker_image stays the whole truth: everything here can be made again from it. Control node only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .archive import CHUNK, ImageArchive, file_sha256
from .compression import GZIP, ZSTD, Undecodable, compressed, decompressed
from .errors import QsmrError
from .files import make_directory, write_atomically
from .hostpaths import SNAPSHOT_SETTING, why

DIRECTORY = ".qsmr_layers"
PARTIAL = ".part"
# How the first bytes of a layer look where the engine saved it compressed (the containerd image store does).
MAGIC = {b"\x1f\x8b": GZIP, b"\x28\xb5\x2f\xfd": ZSTD}


@dataclass(frozen=True)
class StoredLayer:
    """A layer as it travels. ``size`` is that of the layer itself, ``base`` the diff id of what a delta is against."""

    diff_id: str
    size: int
    base: str
    sha256: str
    codec: str
    path: Path

    @classmethod
    def from_path(cls, path: Path) -> StoredLayer:
        """Raises ValueError for a file of another name."""
        diff_id, size, *base, sha256, codec = path.name.split(".")
        return cls(f"sha256:{diff_id}", int(size), f"sha256:{base[0]}" if base else "", sha256, codec, path)

    @property
    def stored_size(self) -> int:
        return self.path.stat().st_size


class LayerStore:
    """The layers in ``directory``, which is made when the first one comes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # What was verified, by diff id, codec and base: once for all hosts of a push.
        self._verified: dict[tuple[str, str, str], StoredLayer] = {}

    def find(self, diff_id: str, codec: str, base: str = "") -> StoredLayer | None:
        """A layer that is here, and whole: one that is damaged is removed, to be made again."""
        if (diff_id, codec, base) in self._verified:
            return self._verified[diff_id, codec, base]
        for path in sorted(self.directory.glob(f"{_hex(diff_id)}.*.{codec}")):
            with contextlib.suppress(ValueError):
                found = StoredLayer.from_path(path)
                if found.base != base:
                    continue
                if file_sha256(path) == found.sha256:
                    return self._verified.setdefault((diff_id, codec, base), found)
                path.unlink()
        return None

    def add(self, image_file: Path, image: ImageArchive, index: int, codec: str, level: int) -> StoredLayer:
        """Compress a layer of an image archive, and find out on the way whether it is what the image says it is."""
        diff_id = image.layers[index].diff_id
        layer = _Measured(layer_of(image_file, image, index))
        workers = os.cpu_count() or 1
        stored = self._write(layer, diff_id, "", codec, compressed(layer, codec, level, workers=workers))
        if layer.diff_id != diff_id:
            stored.path.unlink()
            raise QsmrError(
                f"{image_file} is damaged: its layer {index + 1} of {len(image.layers)} is not the one that its "
                "image is made of: build the snapshot again"
            )
        return self._verified.setdefault((diff_id, codec, ""), stored)

    def add_delta(self, layer: Iterable[bytes], new: StoredLayer, base: str, old: bytes, level: int) -> StoredLayer:
        """Compress ``layer``, which is here as ``new`` already, against another one: ``old``, with diff id ``base``."""
        measured = _Measured(layer)
        delta = compressed(measured, ZSTD, level, size=new.size, prefix=old)
        stored = self._write(measured, new.diff_id, base, ZSTD, delta)
        return self._verified.setdefault((new.diff_id, ZSTD, base), stored)

    def _write(self, layer: _Measured, diff_id: str, base: str, codec: str, content: Iterable[bytes]) -> StoredLayer:
        digest = hashlib.sha256()
        name = ""
        try:
            make_directory(self.directory)
            with tempfile.NamedTemporaryFile(dir=self.directory, suffix=PARTIAL, delete=False) as target:
                name = target.name
                for piece in content:
                    digest.update(piece)
                    target.write(piece)
            middle = f"{layer.size}.{_hex(base)}" if base else f"{layer.size}"
            path = self.directory / f"{_hex(diff_id)}.{middle}.{digest.hexdigest()}.{codec}"
            Path(name).replace(path)
        except BaseException as error:
            if name:
                Path(name).unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise QsmrError(f"{self.directory} cannot be written to: {why(error, SNAPSHOT_SETTING)}") from None
            raise
        return StoredLayer.from_path(path)

    def put(self, content: bytes) -> Path:
        """Keep a small file under the SHA-256 of its content."""
        path = self.directory / f"{hashlib.sha256(content).hexdigest()}.json"
        try:
            if not path.exists() or path.read_bytes() != content:
                make_directory(self.directory)
                write_atomically(path, content.decode())
        except OSError as error:
            raise QsmrError(f"{self.directory} cannot be written to: {why(error, SNAPSHOT_SETTING)}") from None
        return path

    def prune(self, diff_ids: Set[str], configs: Set[str]) -> None:
        """Remove what belongs to none of these layers and image configurations, and what was never finished."""
        yesterday = time.time() - 24 * 3600
        for path in self.directory.glob("*.*"):
            with contextlib.suppress(OSError, ValueError):
                if path.suffix == ".json":
                    used = f"sha256:{path.stem}" in configs
                elif path.suffix == PARTIAL:
                    used = path.stat().st_mtime > yesterday
                else:
                    layer = StoredLayer.from_path(path)
                    used = {layer.diff_id, layer.base} - {""} <= diff_ids
                if not used:
                    path.unlink()


class _Measured:
    """The pieces of a layer, and what they turn out to be once all of them were read."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.size = 0
        self._pieces = pieces
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.size += len(piece)
            self._digest.update(piece)
            yield piece

    @property
    def diff_id(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"


def layer_of(image_file: Path, image: ImageArchive, index: int) -> Iterator[bytes]:
    """The content (a tar) of a layer in an image archive, in pieces. Raises QsmrError."""
    layer = image.layers[index]
    try:
        with image_file.open("rb") as stream:
            stream.seek(layer.offset)
            magic = stream.read(4)
            codec = MAGIC.get(magic) or MAGIC.get(magic[:2])
            stream.seek(layer.offset)
            pieces = _pieces(stream, layer.size)
            yield from decompressed(pieces, codec) if codec else pieces
    except OSError as error:
        raise QsmrError(f"{image_file} cannot be read: {error.strerror}") from None
    except Undecodable as error:
        raise QsmrError(f"{image_file} is damaged ({error}): build the snapshot again") from None


def _pieces(stream: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (piece := stream.read(min(CHUNK, size))):
        size -= len(piece)
        yield piece


def _hex(digest: str) -> str:
    return digest.rpartition(":")[2]
