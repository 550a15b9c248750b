"""Image archives and layers, on made-up ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import tarfile
from pathlib import Path

import pytest
from image_archives import write_archive
from qsmr.archive import LAYER_TIME, file_sha256, read_image, write_layer
from qsmr.errors import QsmrError

LAYERS = [b"base" * 300, b"code" * 50, b"base" * 300]


@pytest.mark.parametrize("oci", [False, True], ids=["docker layout", "OCI layout"])
def test_reads_id_name_and_layers(tmp_path, oci):
    path = tmp_path / "docker_image"
    expected = write_archive(path, "qsmr_snapshot_demo:1", LAYERS, {"some": "label"}, oci)
    image = read_image(path)
    assert (image.id, image.name, image.architecture) == (expected, "qsmr_snapshot_demo:1", "amd64")
    assert image.labels == {"some": "label"}
    assert [layer.size for layer in image.layers] == [1200, 200, 1200]
    assert [layer.diff_id for layer in image.layers] == [
        f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in LAYERS
    ]
    assert image.size == 2600


def test_names_what_is_wrong_with_an_archive(tmp_path):
    whole = tmp_path / "whole"
    write_archive(whole, "demo:1", [b"x" * 40_000])
    damaged = {
        "cut short": whole.read_bytes()[:20_000],
        "another configuration": whole.read_bytes().replace(b"amd64", b"arm64"),
        "no archive at all": b"hello" * 1000,
        "nothing": b"",
    }
    for what, content in damaged.items():
        path = tmp_path / "docker_image"
        path.write_bytes(content)
        with pytest.raises(QsmrError, match="is not what docker save writes") as raised:
            read_image(path)
        assert str(path) in str(raised.value), what
        assert "\n" not in str(raised.value), what
    with pytest.raises(QsmrError, match="cannot be read: No such file"):
        read_image(tmp_path / "missing")


def test_a_layer_that_the_archive_lacks_is_noticed(tmp_path):
    path = tmp_path / "docker_image"
    write_archive(path, "demo:1", LAYERS)
    with tarfile.open(path) as old, tarfile.open(tmp_path / "thin", "w") as new:
        for member in old:
            if not member.name.startswith("0" * 63 + "1/"):
                new.addfile(member, old.extractfile(member) if member.isreg() else None)
    with pytest.raises(QsmrError, match="is not what docker save writes"):
        read_image(tmp_path / "thin")


def pack(path: Path, files: dict[str, tuple[bytes, int]], seed: int) -> None:
    """A tar.gz of the files in a random order, packed by somebody at some time with some umask."""
    chance = random.Random(seed)  # noqa: S311 not for secrets
    names = list(files)
    chance.shuffle(names)
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            content, mode = files[name]
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mode = len(content), mode & ~chance.choice([0o022, 0o077, 0o002])
            member.mtime, member.uid, member.uname = chance.randrange(2**31), chance.randrange(1000), "ana"
            tar.addfile(member, io.BytesIO(content))


def test_equal_files_make_equal_layers_whoever_packs_them(tmp_path):
    files = {"run.sh": (b"#!/bin/sh\n", 0o777), "lib/a.py": (b"a = 1\n", 0o666), "lib/b.py": (b"b = 2\n", 0o666)}
    digests = set()
    for seed in range(10):
        pack(tmp_path / "qsmr.tar.gz", files, seed)
        write_layer(tmp_path / "qsmr.tar.gz", tmp_path / "qsmr.tar", "qsmr")
        digests.add(file_sha256(tmp_path / "qsmr.tar"))
    assert len(digests) == 1
    with tarfile.open(tmp_path / "qsmr.tar") as tar:
        assert tar.getnames() == ["qsmr", "qsmr/lib", "qsmr/lib/a.py", "qsmr/lib/b.py", "qsmr/run.sh"]
        assert {(member.uid, member.gid, member.mtime) for member in tar} == {(0, 0, LAYER_TIME)}
        assert [member.mode for member in tar] == [0o755, 0o755, 0o644, 0o644, 0o755]

    files["lib/a.py"] = (b"a = 2\n", 0o666)
    pack(tmp_path / "qsmr.tar.gz", files, 0)
    write_layer(tmp_path / "qsmr.tar.gz", tmp_path / "qsmr.tar", "qsmr")
    assert file_sha256(tmp_path / "qsmr.tar") not in digests


def test_links_and_long_names_stay_what_they_are(tmp_path):
    source = tmp_path / "src"
    (source / "deep" / ("d" * 120)).mkdir(parents=True)
    (source / "deep" / ("d" * 120) / "ö.txt").write_text("x")
    (source / "z_target").write_text("data")
    (source / "a_hard_link").hardlink_to(source / "z_target")
    (source / "soft").symlink_to("z_target")
    with tarfile.open(tmp_path / "qsmr.tar.gz", "w:gz") as tar:
        tar.add(source, ".")
    write_layer(tmp_path / "qsmr.tar.gz", tmp_path / "qsmr.tar", "qsmr")
    with tarfile.open(tmp_path / "qsmr.tar") as tar:
        tar.extractall(tmp_path / "out", filter="data")
    out = tmp_path / "out" / "qsmr"
    assert (out / "deep" / ("d" * 120) / "ö.txt").read_text() == "x"
    assert (out / "a_hard_link").read_text() == (out / "soft").read_text() == (out / "z_target").read_text() == "data"
    assert (out / "soft").readlink() == Path("z_target")


@pytest.mark.parametrize("name", ["../etc/passwd", "/etc/passwd", "a/../../b"])
def test_paths_out_of_the_directory_are_refused(tmp_path, name):
    with tarfile.open(tmp_path / "qsmr.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(QsmrError, match="leads out of its directory"):
        write_layer(tmp_path / "qsmr.tar.gz", tmp_path / "qsmr.tar", "qsmr")


def test_devices_and_damaged_archives_are_refused(tmp_path):
    source = tmp_path / "qsmr.tar.gz"
    with tarfile.open(source, "w:gz") as tar:
        device = tarfile.TarInfo("null")
        device.type = tarfile.CHRTYPE
        tar.addfile(device)
    with pytest.raises(QsmrError, match="null is a device or pipe"):
        write_layer(source, tmp_path / "qsmr.tar", "qsmr")
    pack(source, {"a": (os.urandom(9000), 0o644)}, 0)
    whole = source.read_bytes()
    for content in (
        whole[:5000],
        b"not gzip",
        gzip.compress(b"not tar" * 1000),
        whole[:4000] + b"\0" * 200 + whole[4200:],
    ):
        source.write_bytes(content)
        with pytest.raises(QsmrError, match="cannot go into the image"):
            write_layer(source, tmp_path / "qsmr.tar", "qsmr")
