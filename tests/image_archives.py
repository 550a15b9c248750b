"""Image archives as docker save writes them, small and made up."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path


def image_config(layers: list[bytes], labels: dict[str, str] | None = None) -> bytes:
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {"architecture": "amd64", "config": {"Labels": labels}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    return json.dumps(config).encode()


def image_id(config: bytes) -> str:
    return f"sha256:{hashlib.sha256(config).hexdigest()}"


def write_archive(
    path: Path, name: str, layers: list[bytes], labels: dict[str, str] | None = None, oci: bool = False
) -> str:
    """Write an archive with one image, in Docker's own layout or in the OCI one; returns the image's id."""
    config = image_config(layers, labels)
    digest = image_id(config).removeprefix("sha256:")
    config_name = f"blobs/sha256/{digest}" if oci else f"{digest}.json"
    files, links, names = {config_name: config}, {}, []
    for number, layer in enumerate(layers):
        if oci:
            names.append(f"blobs/sha256/{hashlib.sha256(layer).hexdigest()}")
            files[names[-1]] = layer
        else:
            names.append(f"{number:064x}/layer.tar")
            if layer in layers[:number]:  # Docker up to 24 links the second one to the first
                links[names[-1]] = f"../{layers.index(layer):064x}/layer.tar"
            else:
                files[names[-1]] = layer
    files["manifest.json"] = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": names}]).encode()
    with tarfile.open(path, "w") as tar:
        for file_name, content in files.items():
            member = tarfile.TarInfo(file_name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for link, target in links.items():
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return image_id(config)
