"""A snapshot's image on a host: found, made room for, verified, loaded."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import pytest
from host_double import HostDouble, image, snapshot
from qsmr import hostimage
from qsmr.errors import QsmrError
from qsmr.hostcheck import faults
from qsmr.hostimage import Damaged, ImageStore, Wanted
from qsmr.release import Releases

NAME = "qsmr_snapshot_demo:r1"
ARCHIVE = b"archive"


@pytest.fixture
def host():
    return HostDouble(loads={NAME: image("sha256:r1")})


@pytest.fixture
def store(host, tmp_path):
    archive = {"size": len(ARCHIVE), "sha256": hashlib.sha256(ARCHIVE).hexdigest()}
    return ImageStore(host.docker, Wanted.from_snapshot(snapshot("r1")), tmp_path / "demo/incoming", archive)


@pytest.mark.parametrize(
    ("images", "found"),
    [
        ({}, ""),
        ({NAME: image("sha256:r1")}, NAME),
        ({NAME: image("sha256:other-store", inputs="sha256:inputs-r1")}, NAME),
        ({NAME: image("sha256:other-store", inputs="sha256:inputs-r2")}, ""),
        ({NAME: image("sha256:other-store", ["sha256:base"], "sha256:inputs-r1")}, ""),
        ({"other:1": image("sha256:r1")}, "sha256:r1"),
        ({NAME: image("sha256:stale"), "other:1": image("sha256:r1")}, "sha256:r1"),
    ],
)
def test_image_is_known_by_what_it_is_and_not_by_its_name(host, store, images, found):
    host.images = images
    assert store.find() == found


@pytest.mark.parametrize(
    ("layers", "missing"),
    [
        ([], 20),
        (["sha256:base"], 10),
        (["sha256:code"], 20),
        (["sha256:x", "sha256:code"], 20),
        (["sha256:base", "sha256:code"], 0),
    ],
)
def test_layer_counts_with_all_below_it(layers, missing):
    assert Wanted.from_snapshot(snapshot("r1")).missing_bytes([image("sha256:any", layers)]) == missing


@pytest.mark.parametrize(
    ("received", "images", "one_disk", "free", "fits"),
    [
        # The archive, the archive again as Docker unpacks it, and the missing layers: 7 + 7 + 20 bytes.
        (False, {}, True, 33, False),
        (False, {}, True, 34, True),
        (True, {}, True, 27, True),
        (False, {"old:1": image("sha256:old", ["sha256:base"])}, True, 24, True),
        (False, {}, False, 26, False),
        (False, {}, False, 27, True),
    ],
)
def test_room_is_reckoned_before_anything_is_sent(host, store, monkeypatch, received, images, one_disk, free, fits):
    host.images = images
    if received:
        store.make_incoming()
        store.verified.write_bytes(ARCHIVE)
    monkeypatch.setattr(hostimage, "on_one_disk", lambda first, second: one_disk)
    monkeypatch.setattr(hostimage, "disk_free", lambda path: free)
    fault = store.room_fault(Path("/"))
    assert (fault == "") is fits
    assert fits or f"No room for the image {NAME}" in fault


def test_received_image_is_loaded_and_its_archive_gone(host, store):
    store.make_incoming()
    store.part.write_bytes(ARCHIVE)
    store.take_up()
    assert store.find() == NAME
    assert store.leftovers() == []


@pytest.mark.parametrize(
    ("arrived", "what"), [(b"Archive", "has sha256"), (b"arch", "is 4 of 7 bytes long"), (b"archive+", "is 8 of 7")]
)
def test_docker_never_sees_a_damaged_archive(host, store, arrived, what):
    store.make_incoming()
    store.part.write_bytes(arrived)
    with pytest.raises(Damaged, match=what):
        store.receive()
    assert store.leftovers() == []
    assert host.changes == []


def test_archive_that_docker_refused_is_kept_and_need_not_come_again(host, store):
    host.fails = {"docker load": "write /var/lib/docker/tmp/x: no space left on device"}
    store.make_incoming()
    store.part.write_bytes(ARCHIVE)
    with pytest.raises(QsmrError, match=f"did not load {NAME}: write .*: no space left on device"):
        store.take_up()
    assert store.is_received
    host.fails = {}
    store.take_up()
    assert store.find() == NAME


def test_archive_that_lay_about_is_verified_again(host, store):
    """A power cut can leave the final name with other bytes."""
    store.make_incoming()
    store.verified.write_bytes(b"arch\0\0\0")
    with pytest.raises(Damaged):
        store.take_up()
    assert store.leftovers() == []
    assert host.changes == []


def test_archive_of_another_image_is_refused_whatever_it_is_called(host, store):
    host.loads = {NAME: image("sha256:other", ["sha256:x"])}
    store.make_incoming()
    store.verified.write_bytes(ARCHIVE)
    with pytest.raises(QsmrError, match="loaded another image than the snapshot's"):
        store.load()
    assert not store.is_received


def test_archive_with_another_tag_gets_the_snapshots_name(host, store):
    host.loads = {"other:1": image("sha256:r1")}
    store.load()
    assert store.find() == NAME


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, []),
        ({"architecture": "aarch64"}, ["The snapshot's image is for amd64, this host is aarch64"]),
        ({"fails": {"docker-compose": "?"}}, ["Docker Compose is missing"]),
        ({"fails": {"docker info": "Cannot connect to the Docker daemon"}}, ["the Docker engine does not run"]),
        (
            {"architecture": "aarch64", "fails": {"docker-compose": "?"}},
            ["Docker Compose is missing", "The snapshot's image is for amd64"],
        ),
    ],
)
def test_every_fault_of_a_host_is_named_at_once(tmp_path, change, says):
    host = HostDouble(images={NAME: image("sha256:r1")}, **change)
    found = faults(host.docker, Releases(tmp_path, "demo"), snapshot("r1"))
    assert len(found) == len(says)
    assert all(fault.startswith(start) for fault, start in zip(found, says, strict=True))
    assert host.changes == []


def test_place_and_room_are_faults_too(tmp_path, monkeypatch):
    (tmp_path / "opt").write_text("a file")
    monkeypatch.setattr(hostimage, "disk_free", lambda path: 1)
    found = faults(HostDouble().docker, Releases(tmp_path / "opt", "demo"), snapshot("r1"))
    assert [fault.split(":")[0] for fault in found] == [
        f"{tmp_path / 'opt'} is no directory",
        f"No room for the image {NAME.split(':')[0]}",
    ]
    assert "0 MB are free" in found[1]


def test_answers_of_the_hosts_become_one_line_for_each_fault():
    path = Path(__file__).parents[2] / "plugins/filter/host_faults.py"
    spec = importlib.util.spec_from_file_location("host_faults", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    answers = {
        "host1": {"faults": []},
        "host2": {"faults": ["no Docker", "no room"]},
        "host3": {"unreachable": True, "msg": "Task failed: over ssh: ssh: connect to host h: No route\nto host"},
        "host4": {"failed": True, "module_stderr": "sudo: a password is required\n", "msg": "MODULE FAILURE"},
        "host5": {},
    }
    assert module.host_faults(answers) == [
        "host2: no Docker",
        "host2: no room",
        "host3: unreachable (ssh: connect to host h: No route to host): repair it, or leave it out with --limit",
        "host4: it could not be checked: sudo: a password is required",
        "host5: it could not be checked: no answer",
    ]
