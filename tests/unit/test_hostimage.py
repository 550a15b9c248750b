"""A snapshot's image on a host: found, and made room for."""

from __future__ import annotations

from pathlib import Path

import pytest
from host_double import HostDouble, image, snapshot
from qsmr import hostimage
from qsmr.hostcheck import engine_faults
from qsmr.hostfit import Limits
from qsmr.hostimage import HostImage, Wanted, loads, room_fault, room_to_load
from qsmr.release import Releases

NAME = "qsmr_snapshot_demo:r1"


@pytest.fixture
def host():
    return HostDouble(loads={NAME: image("sha256:r1")})


@pytest.fixture
def store(host, tmp_path):
    return HostImage(host.docker, snapshot("r1"), Releases(tmp_path, "demo"))


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
    ("layers", "known"),
    [
        ([], 0),
        (["sha256:base"], 1),
        (["sha256:code"], 0),
        (["sha256:x", "sha256:code"], 0),
        (["sha256:base", "sha256:code"], 2),
    ],
)
def test_layer_counts_with_all_below_it(layers, known):
    assert Wanted.from_snapshot(snapshot("r1")).known_layers([image("sha256:any", layers)]) == known


@pytest.mark.parametrize(
    ("images", "staged", "share", "one_disk", "free", "fits"),
    [
        # Docker unpacks the missing layers (20 bytes) before it takes them over.
        ({}, 5, 1.0, True, 44, False),
        ({}, 5, 1.0, True, 45, True),
        ({"old:1": image("sha256:old", ["sha256:base"])}, 5, 1.0, True, 25, True),
        ({}, 5, 1.0, False, 39, False),
        ({}, 5, 1.0, False, 40, True),
        ({}, 41, 1.0, False, 40, False),
        ({}, 0, 0.5, False, 79, False),
        ({}, 0, 0.5, False, 80, True),
    ],
)
def test_room_is_reckoned(monkeypatch, images, staged, share, one_disk, free, fits):
    monkeypatch.setattr(hostimage, "on_one_disk", lambda first, second: one_disk)
    monkeypatch.setattr(hostimage, "disk_free", lambda path: free)
    loading = room_to_load([10, 10], [Wanted.from_snapshot(snapshot("r1")).known_layers(images.values()), 2])
    found = hostimage.room(Path("/opt/qsmr/demo/incoming"), Path("/var/lib/docker"))
    fault = room_fault(NAME, found, staged, loading, share)
    assert (fault == "") is fits
    assert fits or f"No room for the image {NAME}" in fault


@pytest.mark.parametrize(
    ("sizes", "absent", "counts"),
    [
        ([10, 10, 10], 0, [3]),
        ([200, 200, 10], 0, [1, 2, 3]),
        ([200, 200, 10], 1, [2, 3]),
        ([200, 10], 2, [2]),
        ([70, 70, 10, 200], 0, [2, 4]),
        ([10] * 120, 0, [13, 26, 39, 52, 65, 78, 91, 104, 117, 120]),
    ],
)
def test_docker_takes_over_large_layers_as_they_come_and_small_ones_together(monkeypatch, sizes, absent, counts):
    monkeypatch.setattr(hostimage, "LOADED_AT_ONCE", 130)
    assert loads(sizes, absent) == counts


def test_room_is_that_of_all_layers_and_the_largest_step_twice():
    assert room_to_load([200, 300, 10], [0, 1, 2, 3]) == 510 + 300
    assert room_to_load([200, 300, 10], [1, 3]) == 310 + 310


def test_probe_asks_docker_once_where_the_image_is(host, tmp_path):
    host.images = {NAME: image("sha256:r1")}
    assert HostImage(host.docker, snapshot("r1"), Releases(tmp_path, "demo")).probe() == {"image": NAME, "staged": {}}
    assert host.commands == [f"docker image inspect {NAME}"]


@pytest.mark.parametrize("store", ["overlay2", "containerd"])
def test_probe_tells_what_the_image_can_be_made_from(host, tmp_path, store):
    host.store = store
    host.images = {"<none>:<none>": image("sha256:dangling", ["sha256:base", "sha256:x"])}
    place = Releases(tmp_path, "demo")
    place.incoming.mkdir(parents=True)
    (place.incoming / ("a" * 64)).write_bytes(b"12")
    (place.incoming / ("b" * 64 + ".part")).write_bytes(b"1")
    (place.incoming / "lock").write_bytes(b"")
    found = HostImage(host.docker, snapshot("r1"), place).probe()
    assert found["image"] == ""
    assert found["staged"] == {"a" * 64: 2, "b" * 64 + ".part": 1}
    assert (found["layers"], found["store"], found["docker"]) == (1, store, "26.1.5")
    assert found["host_dir"] == str(tmp_path)
    assert found["room"]["staging"]["path"] == str(place.incoming)
    assert found["memory"] > 0
    assert host.changes == []


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
    found, _compose = engine_faults(host.docker, Releases(tmp_path, "demo"), snapshot("r1"), False, Limits())
    assert len(found) == len(says)
    assert all(fault.startswith(start) for fault, start in zip(found, says, strict=True))
    assert host.changes == []


def test_place_and_room_are_faults_too(tmp_path, monkeypatch):
    (tmp_path / "opt").write_text("a file")
    monkeypatch.setattr(hostimage, "disk_free", lambda path: 1)
    found, _compose = engine_faults(
        HostDouble().docker, Releases(tmp_path / "opt", "demo"), snapshot("r1"), False, Limits()
    )
    assert [fault.split(":")[0] for fault in found] == [
        f"{tmp_path / 'opt'} is no directory",
        f"No room for the image {NAME.split(':')[0]}",
    ]
    assert "0.0 kB are free" in found[1]
