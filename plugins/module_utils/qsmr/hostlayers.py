"""Layers of images on a host: what was sent of them, what is kept of them, and the archive that Docker loads.

``<host_dir>/<project>/incoming/<sha256>`` is what the transport put there,
``<host_dir>/<project>/layers/<diff id>.zst`` a layer that later ones may be sent as a delta against. Runs on lab hosts:
Python 3.9 and the standard library.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import tarfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

from .archive import CHUNK
from .compression import GZIP, ZSTD, Undecodable, compressed, decompressed
from .errors import QsmrError
from .files import make_directory
from .hostpaths import why
from .release import DIRECTORY_MODE, FILE_MODE, Releases

STAGED = re.compile(r"[0-9a-f]{64}(\.part)?")
KEPT = re.compile(rf"(?P<diff_id>[0-9a-f]{{64}})\.({ZSTD}|{GZIP})")
# What an image archive says of its images, in one layout or another.
MANIFESTS = ("manifest.json", "index.json", "oci-layout", "repositories")
# What a push that was never finished left stays so long at most, to be taken up again. In seconds.
STAGED_FOR = 3 * 24 * 3600.0
KEPT_AT_MOST = 8
# The fastest: it is done while Docker takes the layer over.
LEVEL_OF_KEPT = 1
REMEDY = ": remove .qsmr_layers beside the snapshot on the control node, and run again"


class Lacking(QsmrError):
    """The host lacks layers that it was thought to have, or blobs that it was sent; they have to come once more.

    ``layers`` are their diff ids. ``refused``: what Docker itself has is of no use for this image.
    """

    def __init__(self, reason: str, layers: Sequence[str], refused: bool = False) -> None:
        super().__init__(reason)
        self.layers = list(layers)
        self.refused = refused


class HostLayers:
    """What one project has of layers on this host, outside of Docker."""

    def __init__(self, place: Releases) -> None:
        self.place = place
        self.incoming = place.incoming
        self.kept_dir = place.root / "layers"
        self._prepared: dict[str, bytearray] = {}
        self._keepers: list[threading.Thread] = []

    def staged(self) -> dict[str, int]:
        """Size of what has arrived and was not used yet, in whole or in part, by name."""
        return {path.name: _size(status) for path, status in self._arrivals()}

    def abandoned(self) -> dict[str, int]:
        """What no push will take up again, in bytes by name: workers were started since, or it is too old.

        Nothing, while a push is going on.
        """
        since = time.time() - STAGED_FOR
        with suppress(OSError):
            since = max(since, self.place.link.lstat().st_mtime)
        with self._unused() as unused:
            found = self._arrivals() if unused else []
            return {path.name: _size(status) for path, status in found if status.st_mtime < since}

    def forget(self, names: Iterable[str]) -> None:
        """Remove some of what has arrived. Raises QsmrError if that cannot be, or a push has begun."""
        with self.without_push():
            for name in names:
                path = self.incoming / name
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise QsmrError(f"{path} cannot be removed: {why(error)}") from None

    def _arrivals(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for path in _files(self.incoming):
            with suppress(FileNotFoundError):
                if STAGED.fullmatch(path.name):
                    found.append((path, path.stat()))
        return found

    @contextmanager
    def without_push(self) -> Iterator[None]:
        """No push is going on while the block runs. Raises QsmrError if one has begun."""
        with self._unused() as unused:
            if not unused:
                raise QsmrError(f"A push to {self.incoming} has begun: run this again when it has ended")
            yield

    @contextmanager
    def _unused(self) -> Iterator[bool]:
        """Whether no push is going on, which keeps the directory locked; and none begins meanwhile."""
        try:
            directory = os.open(self.incoming, os.O_RDONLY)
        except OSError:
            yield True
            return
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unused = True
        except BlockingIOError:
            unused = False
        except OSError as error:
            os.close(directory)
            raise QsmrError(f"{self.incoming} cannot be locked: {why(error)}") from None
        try:
            yield unused
        finally:
            os.close(directory)

    def kept(self) -> dict[str, Path]:
        """The files of the layers that were kept, by diff id, the latest first."""
        found = [(match["diff_id"], path) for path in _files(self.kept_dir) if (match := KEPT.fullmatch(path.name))]
        found.sort(key=lambda item: -item[1].stat().st_mtime)
        return {f"sha256:{diff_id}": path for diff_id, path in found}

    def config(self, sha256: str) -> bytes:
        """The image configuration that has arrived. Raises Lacking unless it is to the byte what it should be."""
        return b"".join(self._blob(sha256, []))

    def content(self, layer: Mapping[str, Any], keep: bool) -> Iterator[bytes]:
        """A layer's content, piece by piece. Whether it is the layer shows at its end: Lacking or QsmrError if not.

        With ``keep`` a layer that came as a delta is kept whole: later ones will be deltas against it.
        """
        diff_id = layer["diff_id"]
        if "blob" not in layer:
            return self._unpacked(self.kept().get(diff_id, self.kept_dir / diff_id), diff_id, [diff_id])
        if "base" not in layer:
            return self._arrived(layer, None)
        whole = self._arrived(layer, self._memory(layer["base"], diff_id))
        return self._keeping(whole, diff_id) if keep else whole

    def _arrived(self, layer: Mapping[str, Any], base: bytearray | None) -> Iterator[bytes]:
        diff_id = layer["diff_id"]
        digest = hashlib.sha256()
        blob = self._blob(layer["blob"], [diff_id])
        try:
            for piece in decompressed(blob, layer["codec"], base):
                digest.update(piece)
                yield piece
        except Undecodable as error:
            for _rest in blob:
                pass  # if it is damaged, its end tells
            raise QsmrError(f"Layer {_short(diff_id)} cannot be unpacked: {error}{REMEDY}") from None
        if f"sha256:{digest.hexdigest()}" != diff_id:
            raise QsmrError(f"Layer {_short(diff_id)} arrived as {_short(digest.hexdigest())}{REMEDY}")

    def _blob(self, sha256: str, layers: Sequence[str]) -> Iterator[bytes]:
        path = self.incoming / sha256
        digest = hashlib.sha256()
        try:
            for piece in _pieces(path):
                digest.update(piece)
                yield piece
        except OSError as error:
            raise Lacking(f"{path} cannot be read: {why(error)}", layers) from None
        if digest.hexdigest() != sha256:
            path.unlink()
            raise Lacking(f"{path} was damaged on this host, its sha256 is {digest.hexdigest()}", layers)

    def _unpacked(self, path: Path, diff_id: str, layers: Sequence[str]) -> Iterator[bytes]:
        """The content of a kept layer, which ``layers`` are to be made from."""
        digest = hashlib.sha256()
        fault = "it is another layer"
        try:
            for piece in decompressed(_pieces(path), path.suffix[1:]):
                digest.update(piece)
                yield piece
        except OSError as error:
            fault = why(error)
        except Undecodable as error:
            fault = str(error)
        if f"sha256:{digest.hexdigest()}" != diff_id:
            with suppress(OSError):
                path.unlink()
            raise Lacking(f"{path}, kept on this host, is of no use: {fault}", layers)

    def prepare(self, layer: Mapping[str, Any]) -> None:
        """Have in memory what a layer, still to arrive, is a delta against; of several only the first, for its size."""
        if "base" in layer and not self._prepared:
            self._prepared = {layer["base"]: self._memory(layer["base"], layer["diff_id"])}

    def _memory(self, base: str, diff_id: str) -> bytearray:
        if base in self._prepared:
            return self._prepared.pop(base)
        memory = bytearray()
        for piece in self._unpacked(self.kept().get(base, self.kept_dir / base), base, [diff_id]):
            memory += piece
        return memory

    def _keeping(self, pieces: Iterator[bytes], diff_id: str) -> Iterator[bytes]:
        """Pass ``pieces`` on, and keep them when all have passed: Docker has more to do with them than this has."""
        seen: list[bytes] = []
        for piece in pieces:
            seen.append(piece)
            yield piece
        keeper = threading.Thread(target=self._keep, args=(seen, diff_id))
        self._keepers.append(keeper)
        keeper.start()

    def _keep(self, pieces: Sequence[bytes], diff_id: str) -> None:
        """A disk that cannot take them costs the next push, and not this one."""
        path = self.kept_dir / f"{_hex(diff_id)}.{ZSTD}"
        part = path.with_suffix(".part")
        with suppress(OSError):
            make_directory(self.kept_dir, DIRECTORY_MODE)
            with part.open("wb") as target:
                part.chmod(FILE_MODE)
                target.writelines(compressed(pieces, ZSTD, LEVEL_OF_KEPT, sum(map(len, pieces))))
            part.replace(path)

    def settle(self, order: Mapping[str, Any], diff_ids: Sequence[str]) -> None:
        """After the image ``diff_ids`` was loaded: keep its own layers, remove the rest of what was sent or kept."""
        for keeper in self._keepers:
            keeper.join()
        try:
            for number, layer in enumerate(order["layers"], order["absent"]):
                path = self.incoming / layer.get("blob", "")
                if number >= order["keep_from"] and "base" not in layer and path.is_file():
                    make_directory(self.kept_dir, DIRECTORY_MODE)
                    path.replace(self.kept_dir / f"{_hex(layer['diff_id'])}.{layer['codec']}")
            used = {order["config"], *(layer.get("blob", "") for layer in order["layers"])}
            for path, status in self._arrivals():
                if path.name in used or status.st_mtime < time.time() - STAGED_FOR:
                    path.unlink()
        except OSError as error:
            raise QsmrError(f"{error.filename} cannot be moved or removed: {why(error)}") from None
        self.prune(diff_ids)

    def prune(self, current: Sequence[str] = ()) -> None:
        """Let go of layers that are of no release on this host nor among ``current``, and of the oldest of many."""
        named = set(current)
        for path in (self.place.root / "releases").glob("*/snapshot.json"):
            with suppress(OSError, ValueError, LookupError, TypeError):
                named |= {layer["diff_id"] for layer in json.loads(path.read_text("utf-8"))["image"]["layers"]}
        kept = self.kept()
        staying = sorted(named & set(kept), key=lambda diff_id: (diff_id not in current, list(kept).index(diff_id)))
        files = {kept[diff_id] for diff_id in staying[:KEPT_AT_MOST]}
        for path in _files(self.kept_dir):
            try:
                if path not in files:
                    path.unlink()
            except OSError as error:
                raise QsmrError(f"{path} cannot be removed: {why(error)}") from None


def write_archive(
    stream: IO[bytes],
    name: str,
    config: bytes,
    diff_ids: Sequence[str],
    layers: Iterable[tuple[str, int, Iterator[bytes]]],
    names: Sequence[str] = (),
) -> None:
    """Write what ``docker load`` reads: the image's configuration, ``layers`` (diff id, size, content), a manifest.

    ``name`` may be empty. The lowest layers of ``diff_ids`` may be missing if Docker has them, or if they are in
    ``stream`` already, by these ``names``. The manifest comes last: Docker takes nothing over before it has that, so
    that a layer which turns out to be wrong, and so ends the archive, leaves nothing behind. Source of the format:
    Docker image specification v1.2.
    """
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    _write_member(stream, config_name, len(config), iter([config]))
    for diff_id, size, content in layers:
        _write_member(stream, _layer_name(diff_id), size, content)
    all_names = [*names, *map(_layer_name, diff_ids[len(names) :])]
    manifest = [{"Config": config_name, "RepoTags": [name] if name else None, "Layers": all_names}]
    raw = json.dumps(manifest).encode()
    _write_member(stream, "manifest.json", len(raw), iter([raw]))
    stream.write(bytes(2 * tarfile.BLOCKSIZE))


def copy_layers(stream: IO[bytes], saved: IO[bytes]) -> list[str]:
    """Write what another archive holds, as it is, except for its manifests; returns its layers' names, lowest first."""
    names: list[str] = []
    try:
        with tarfile.open(fileobj=saved, mode="r|") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content and member.name == "manifest.json":
                    names = json.load(content)[0]["Layers"]
                elif content and member.name not in MANIFESTS:
                    _write_member(stream, member.name, member.size, iter(partial(content.read, CHUNK), b""))
    except (tarfile.TarError, EOFError, ValueError, LookupError, TypeError) as error:
        raise QsmrError(f"what Docker saved cannot be read: {error}") from None
    return names


def _write_member(stream: IO[bytes], name: str, size: int, content: Iterator[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    stream.write(member.tobuf(tarfile.GNU_FORMAT))
    written = 0
    for piece in content:
        written += len(piece)
        stream.write(piece)
    if written != size:
        raise QsmrError(f"{name} has {written} bytes instead of {size}{REMEDY}")
    stream.write(bytes(-size % tarfile.BLOCKSIZE))


def _layer_name(diff_id: str) -> str:
    return f"{_hex(diff_id)}.tar"


def _size(status: os.stat_result) -> int:
    """Bytes that have arrived: what is not whole yet is a sparse file, whose length tells nothing."""
    return min(status.st_size, 512 * status.st_blocks)


def _files(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.is_file())
    except OSError:
        return []


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(CHUNK):
            yield piece


def _hex(digest: str) -> str:
    return digest.rpartition(":")[2]


def _short(digest: str) -> str:
    return _hex(digest)[:12]
