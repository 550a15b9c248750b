"""Image archives as ``docker save`` writes them, and layers whose digest depends on nothing but their content.

Source of the format: Docker image specification v1.2 ("combined image JSON and filesystem changeset"); archives in the
OCI layout have the same ``manifest.json``. Standard library only: lab hosts read archives, too.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import posixpath
import shutil
import tarfile
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import QsmrError

# The time of every file in a layer (1980-01-01T00:00:00Z, the first that all archive formats know): seconds since 1970.
LAYER_TIME = 315532800
CHUNK = 1 << 20


@dataclass(frozen=True)
class Layer:
    """One layer: digest of its content, its size in the archive in bytes, and where it begins there."""

    diff_id: str
    size: int
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True)
class ImageArchive:
    """What one image archive holds. ``id`` is the digest of ``config``, the image's configuration (JSON)."""

    name: str
    id: str
    architecture: str
    labels: dict[str, str]
    layers: tuple[Layer, ...]
    config: bytes = field(default=b"", repr=False)

    @property
    def size(self) -> int:
        """Size of all layers in bytes."""
        return sum(layer.size for layer in self.layers)


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read_image(path: Path) -> ImageArchive:
    """The one image in an archive, read from its headers: layers are skipped, however large they are.

    Raises QsmrError where it is no such archive, is cut short, or its configuration is not what its name says.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            return _read_image(tar)
    except OSError as error:
        raise QsmrError(f"Image archive {path} cannot be read: {error.strerror or error}") from None
    except (tarfile.TarError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise QsmrError(f"Image archive {path} is not what docker save writes ({error}): make it anew") from None


def _read_image(tar: tarfile.TarFile) -> ImageArchive:
    members = {posixpath.normpath(member.name): member for member in tar.getmembers()}

    def resolved(name: str) -> tarfile.TarInfo:
        # Docker up to 24 stores a layer that occurs twice once, and a link to it.
        member = members[posixpath.normpath(name)]
        if member.issym():
            member = members[posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))]
        elif member.islnk():
            member = members[posixpath.normpath(member.linkname)]
        if not member.isreg():
            raise ValueError(f"{name} is no file")
        return member

    def content(name: str) -> bytes:
        stream = tar.extractfile(resolved(name))
        return stream.read() if stream else b""

    images = json.loads(content("manifest.json"))
    if len(images) != 1:
        raise ValueError(f"it holds {len(images)} images")
    config_name, names, layers = images[0]["Config"], images[0]["RepoTags"] or [""], images[0]["Layers"]
    raw = content(config_name)
    digest = hashlib.sha256(raw).hexdigest()
    if digest != posixpath.basename(config_name).removesuffix(".json"):
        raise ValueError("its image configuration does not have the digest it is named by")
    config: dict[str, Any] = json.loads(raw)
    diff_ids = config["rootfs"]["diff_ids"]
    if len(diff_ids) != len(layers):
        raise ValueError(f"{len(layers)} layers for {len(diff_ids)} diff ids")
    return ImageArchive(
        name=names[0],
        id=f"sha256:{digest}",
        architecture=config["architecture"],
        labels=config.get("config", {}).get("Labels") or {},
        layers=tuple(
            Layer(diff_id, file.size, file.offset_data)
            for diff_id, file in zip(diff_ids, map(resolved, layers))  # noqa: B905 checked
        ),
        config=raw,
    )


def write_layer(source: Path, target: Path, prefix: str) -> None:
    """Write the files of ``source`` (tar.gz) below ``prefix`` to ``target`` (tar): equal files make equal bytes.

    Order, times, owners (root) and permissions (755 for directories and executables, else 644) do not depend on who
    packed the archive, and when. Raises QsmrError for what cannot or should not be in an image: damaged archives,
    devices, paths that lead out of ``prefix``.
    """
    with tempfile.TemporaryFile(dir=target.parent) as plain:
        try:
            with gzip.open(source) as stream:
                shutil.copyfileobj(stream, plain, CHUNK)
            plain.seek(0)
            with tarfile.open(fileobj=plain, mode="r:") as old, tarfile.open(target, "w") as new:
                for name, member in _layer_members(old, prefix):
                    copy = _normal_member(member, name, prefix)
                    new.addfile(copy, old.extractfile(member) if copy.isreg() and member else None)
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, KeyError) as error:
            raise QsmrError(f"{source} cannot go into the image: {error}") from None


def _layer_members(tar: tarfile.TarFile, prefix: str) -> list[tuple[str, tarfile.TarInfo | None]]:
    """Path in the layer and member (None for a directory that only a path implies); hard links after their targets."""
    members: dict[str, tarfile.TarInfo | None] = {prefix: None}
    for member in tar:
        name = _inside(prefix, member.name)
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise ValueError(f"{member.name} is a device or pipe")
        parent = posixpath.dirname(name)
        while parent and parent not in members:
            members[parent] = None
            parent = posixpath.dirname(parent)
        if name != prefix:
            members[name] = member
    for name in members:
        above = members.get(posixpath.dirname(name))
        if above and not above.isdir():
            raise ValueError(f"{name} lies below a link or a file")
    return sorted(members.items(), key=lambda item: (bool(item[1] and item[1].islnk()), item[0]))


def _normal_member(member: tarfile.TarInfo | None, name: str, prefix: str) -> tarfile.TarInfo:
    normal = tarfile.TarInfo(name)
    normal.mtime = LAYER_TIME
    normal.type = tarfile.DIRTYPE if member is None or member.isdir() else member.type
    normal.mode = 0o755 if normal.isdir() or (member and member.mode & 0o100) else 0o644
    if member and normal.isreg():
        normal.type, normal.size = tarfile.REGTYPE, member.size
    elif member and normal.issym():
        normal.mode, normal.linkname = 0o777, member.linkname
    elif member and normal.islnk():
        normal.linkname = _inside(prefix, member.linkname)
    return normal


def _inside(prefix: str, name: str) -> str:
    path = posixpath.normpath(posixpath.join(prefix, name))
    if path != prefix and not path.startswith(f"{prefix}/"):
        raise ValueError(f"{name} leads out of its directory")
    return path
