"""What a push sends, and what a host makes of it: the layers it lacks, deltas, and what becomes of damaged ones."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_double import HostDouble
from push_snapshots import Target, files, layer, write_snapshot
from qsmr import hostimage
from qsmr.compression import has_zstd
from qsmr.errors import QsmrError
from qsmr.hostimage import CONTAINERD
from qsmr.hostlayers import STAGED_FOR, Lacking
from qsmr.pushplan import plan

BASE = [layer(files(1)), layer(files(2))]
CODE = files(3, number=12)
CHANGED = {**CODE, "f5": CODE["f5"][:1000] + b"another line" + CODE["f5"][1000:]}


@pytest.fixture
def first(tmp_path) -> Path:
    return write_snapshot(tmp_path / "snapshots", 1, [*BASE, layer(CODE)])


@pytest.fixture
def second(tmp_path, first) -> Path:
    """The first one with a line of the code changed."""
    return write_snapshot(tmp_path / "snapshots", 2, [*BASE, layer(CHANGED)])


@pytest.fixture
def host() -> HostDouble:
    return HostDouble()


@pytest.fixture
def target(host, tmp_path) -> Target:
    return Target(host.docker, tmp_path / "host")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


def layer_files(host: HostDouble) -> int:
    """How many layers the last archive had."""
    return sum(name.endswith(".tar") for name in host.loaded)


def diff_ids(snapshot: Path) -> list[str]:
    image = json.loads((snapshot / "snapshot.json").read_text())["image"]
    return [found["diff_id"] for found in image["layers"]]


def has(target: Target, snapshot: Path) -> bool:
    return bool(target.image(snapshot).find())


def flip(path: Path, place: int = 2000) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_bare_host_gets_everything_compressed_and_keeps_only_the_code(target, host, first):
    target.push(first)
    assert has(target, first)
    assert target.sent[0] < 0.6 * (first / "docker_image").stat().st_size
    assert layer_files(host) == 3
    assert names(target.place.incoming) == []
    assert names(target.place.root / "layers") == [f"{diff_ids(first)[2][7:]}.zst"]
    assert plan(first, target.image(first).probe()).blobs == []


def test_changed_code_travels_as_a_delta_of_its_layer(target, host, first, second):
    target.push(first)
    made = target.send(second)
    assert [step["base"] for step in made.order["layers"]] == [diff_ids(first)[2]]
    assert target.sent[1] < 2000
    target.image(second).make(made.order)
    assert has(target, second)
    assert layer_files(host) == 1


def test_delta_of_a_delta(target, tmp_path, first, second):
    """What arrived as a delta is kept whole, as the layer that later ones are deltas against."""
    third = write_snapshot(tmp_path / "snapshots", 3, [*BASE, layer({**CHANGED, "f6": b"short"})])
    for snapshot in (first, second, third):
        target.push(snapshot)
    assert has(target, third)
    assert target.sent[2] < 2000


def test_disk_without_room_to_keep_a_layer_costs_the_next_push_and_not_this_one(
    target, tmp_path, first, second, monkeypatch
):
    def full(*_arguments: object) -> Iterator[bytes]:
        yield b"a beginning"
        raise OSError(errno.ENOSPC, "No space left on device")

    target.push(first)
    with monkeypatch.context() as patch:
        patch.setattr("qsmr.hostlayers.compressed", full)
        target.push(second)
    assert has(target, second)
    assert names(target.place.root / "layers") == []
    third = write_snapshot(tmp_path / "snapshots", 3, [*BASE, layer({**CHANGED, "f6": b"short"})])
    target.push(third)
    assert has(target, third)


def test_host_without_a_kept_layer_gets_the_changed_layer_whole(target, host, first, second):
    target.push(first)
    [kept] = (target.place.root / "layers").iterdir()
    kept.unlink()
    target.push(second)
    assert has(target, second)
    assert layer_files(host) == 1
    assert 100_000 < target.sent[1] < 0.5 * target.sent[0]


@pytest.mark.parametrize("changes", [{"memory": 100_000}, {"zstd": False}], ids=["memory", "no zstd"])
def test_no_delta_where_the_host_cannot_unpack_it(target, first, second, changes):
    target.push(first)
    made = target.send(second, **changes)
    assert "base" not in made.order["layers"][0]


def test_no_delta_that_saves_next_to_nothing(target, tmp_path, first):
    other = write_snapshot(tmp_path / "snapshots", 2, [*BASE, layer(files(99, number=12))])
    target.push(first)
    assert "base" not in target.send(other).order["layers"][0]


def test_unchanged_code_on_a_new_base_does_not_travel(target, tmp_path, first):
    """Docker wants it again, as it lies on other layers; the host has kept it."""
    other = write_snapshot(tmp_path / "snapshots", 2, [BASE[0], layer(files(7)), layer(CODE)])
    target.push(first)
    made = target.send(other)
    assert ["blob" in step for step in made.order["layers"]] == [True, False]
    target.image(other).make(made.order)
    assert has(target, other)


def test_host_without_zstd_gets_gzip(target, first):
    target.push(first, zstd=False)
    assert has(target, first)
    assert names(target.place.root / "layers") == [f"{diff_ids(first)[2][7:]}.gz"]


def test_control_node_without_zstd_sends_gzip(target, first, monkeypatch):
    monkeypatch.setattr("qsmr.pushplan.has_zstd", lambda: False)
    assert {step["codec"] for step in target.send(first).order["layers"]} == {"gz"}
    assert has_zstd()


def test_slow_link_is_worth_more_compression(target, tmp_path):
    code = layer({path.name: path.read_bytes() for path in Path(__file__).parent.glob("*.py")})
    sizes = []
    for bandwidth in (0, 20, 1000):
        snapshot = write_snapshot(tmp_path / f"{bandwidth}", 1, [code])
        sizes.append(plan(snapshot, target.image(snapshot).probe(), bandwidth=bandwidth).size)
    assert sizes[1] < 0.98 * sizes[0]
    assert sizes[2] == sizes[0]


@pytest.mark.parametrize("number", [1, 120])
def test_any_number_of_layers(target, host, tmp_path, number):
    layers = [layer({f"f{n}": b"%d" % n}) for n in range(number)]
    snapshot = write_snapshot(tmp_path / "snapshots", 1, layers)
    target.push(snapshot)
    assert has(target, snapshot)
    assert layer_files(host) == number


def test_layer_that_occurs_twice_is_sent_once(target, host, tmp_path):
    snapshot = write_snapshot(tmp_path / "snapshots", 1, [BASE[0], BASE[1], BASE[0]])
    made = target.send(snapshot)
    assert len(made.blobs) == 3  # the configuration is one
    target.image(snapshot).make(made.order)
    assert has(target, snapshot)


@pytest.mark.parametrize("layout", ["blobs/sha256/{}", "{}.tar", "{}/layer.tar"])
def test_store_that_takes_images_only_whole_gets_from_itself_what_it_has(target, host, first, second, layout):
    host.store, host.layout = "containerd", layout
    target.push(first)
    target.push(second)
    assert has(target, second)
    assert target.sent[1] < 2000
    assert f"docker save {target.image(first).wanted.id}" in host.commands


def test_store_that_does_not_give_out_what_it_has_is_sent_all(target, host, first, second):
    host.store = "containerd"
    target.push(first)
    host.loaded = {}
    target.push(second)
    assert has(target, second)
    assert target.sent[2] > 2000
    assert layer_files(host) == 3


def test_store_that_cannot_save_is_sent_all(target, host, first, second):
    host.store = "containerd"
    target.push(first)
    host.fails = {"docker save": "unable to save"}
    target.push(second)
    assert has(target, second)


def test_layers_lost_between_probe_and_load_are_sent_in_the_same_run(target, host, first, second):
    target.push(first)
    made = target.send(second)
    host.images.clear()
    with pytest.raises(Lacking) as found:
        target.image(second).make(made.order)
    assert found.value.layers == diff_ids(first)[:2]
    assert host.changes.count("load") == 1
    target.push(second)
    assert has(target, second)


def test_thin_archive_that_docker_refuses_is_followed_by_the_whole_one(target, host, first, second):
    target.push(first)
    made = target.send(second)
    host.fails = {"docker load": "open /var/lib/docker/tmp/docker-import-2/x.tar: no such file or directory"}
    with pytest.raises(Lacking, match="no such file or directory") as found:
        target.image(second).make(made.order)
    assert found.value.refused
    host.fails = {}
    target.image(second).make(target.send(second, layers=0, store=CONTAINERD).order)
    assert layer_files(host) == 3


def test_large_layers_are_taken_over_as_they_arrive(target, host, first, monkeypatch):
    monkeypatch.setattr(hostimage, "LOADED_AT_ONCE", 200_000)
    made = target.send(first)
    assert made.order["loads"] == [1, 2, 3]
    arrived = [made.order["config"], *(step["blob"] for step in made.order["layers"])]
    asked = []

    def wait(sha256: str) -> None:
        asked.append(sha256)
        assert len(host.images) == max(0, len(asked) - 2), "a layer waited for a later one"

    target.image(first).make(made.order, wait)
    assert asked == arrived
    assert len(host.images) == 1, "an image of some of the layers was left"
    assert has(target, first)


def test_load_that_was_cut_off_goes_on_from_the_layers_that_docker_took_over(target, host, first, second, monkeypatch):
    monkeypatch.setattr(hostimage, "LOADED_AT_ONCE", 200_000)
    made = target.send(first)

    def cut(sha256: str) -> None:
        if sha256 == made.order["layers"][2]["blob"]:
            raise QsmrError("cut off")

    with pytest.raises(QsmrError, match="cut off"):
        target.image(first).make(made.order, cut)
    assert not has(target, first)
    loads = host.commands.count("docker load --quiet")
    assert target.image(first).probe()["layers"] == 2
    target.image(first).make(made.order)
    assert host.commands.count("docker load --quiet") == loads + 1
    assert has(target, first)
    assert len(host.images) == 1


def test_what_docker_says_reaches_the_user_and_nothing_is_sent_again(target, host, first):
    made = target.send(first)
    host.fails = {"docker load": "write /var/lib/docker/tmp/x: no space left on device"}
    with pytest.raises(QsmrError, match="did not load .*: no space left on device"):
        target.image(first).make(made.order)
    host.fails = {}
    again = target.send(first)
    assert again.blobs == []
    target.image(first).make(again.order)
    assert has(target, first)


@pytest.mark.parametrize("number", range(4))
def test_byte_flipped_on_the_host_is_found_and_sent_again(target, host, first, number):
    """The configuration and each of the layers."""
    made = target.send(first)
    blob = made.blobs[number]
    flip(target.place.incoming / blob.sha256, blob.size // 2)
    with pytest.raises(Lacking, match=f"{blob.sha256} was damaged on this host"):
        target.image(first).make(made.order)
    assert not host.images
    again = target.send(first)
    assert [found.sha256 for found in again.blobs] == [blob.sha256]
    target.image(first).make(again.order)
    assert has(target, first)


def test_kept_layer_that_was_damaged_is_sent_whole(target, first, second):
    target.push(first)
    made = target.send(second)
    [kept] = (target.place.root / "layers").iterdir()
    flip(kept)
    with pytest.raises(Lacking, match=f"{kept}, kept on this host, is of no use"):
        target.image(second).make(made.order)
    assert not kept.exists()
    target.push(second)
    assert has(target, second)


def test_layer_with_another_diff_id_never_becomes_an_image(target, host, first):
    made = target.send(first)
    other = target.send(write_snapshot(first.parent, 5, [BASE[0]]))
    made.order["layers"][1] |= {"blob": other.order["layers"][0]["blob"]}
    with pytest.raises(QsmrError, match="arrived as"):
        target.image(first).make(made.order)
    assert not host.images


def test_byte_flipped_in_the_archive_on_the_control_node_stops_the_push(target, first):
    flip(first / "docker_image", 100_000)
    with pytest.raises(QsmrError, match="docker_image is damaged: its layer 1 of 3 .* build the snapshot again"):
        target.send(first)
    assert names(first.parent / ".qsmr_layers") == []


def test_archive_of_another_image_stops_the_push(target, first, second):
    (first / "docker_image").write_bytes((second / "docker_image").read_bytes())
    with pytest.raises(QsmrError, match="is not the image of its"):
        target.send(first)


def test_byte_flipped_in_a_stored_layer_heals_by_itself(target, first):
    sizes = [blob.size for blob in target.send(first).blobs]
    stored = sorted((first.parent / ".qsmr_layers").glob("*.zst"))
    flip(stored[0])
    os.utime(first / "docker_image")  # another push: what this one verified does not count
    (target.place.incoming).rename(target.place.root / "gone")
    assert [blob.size for blob in target.send(first).blobs] == sizes
    target.image(first).make(target.send(first).order)
    assert has(target, first)


def test_layers_are_stored_once_for_all_snapshots_and_go_with_the_last(target, tmp_path, first, second):
    target.push(first)
    target.push(second)
    store = first.parent / ".qsmr_layers"
    assert len(list(store.glob("*.zst"))) == 5  # two of the base, two of the code, one delta
    for path in first.iterdir():
        path.unlink()
    first.rmdir()
    (store / "x.part").write_bytes(b"")
    os.utime(store / "x.part", (0, 0))
    third = write_snapshot(tmp_path / "snapshots", 3, [*BASE, layer(CHANGED), layer({"x": b""})])
    target.push(third)
    assert {name[:64] for name in names(store) if name.endswith(".zst")} == {name[7:] for name in diff_ids(third)}
    assert not (store / "x.part").exists()


def test_layers_of_somebody_elses_snapshots_are_kept_at_home(target, first, monkeypatch, tmp_path):
    real = os.access
    monkeypatch.setattr("qsmr.pushplan.os.access", lambda path, mode: path != first.parent and real(path, mode))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    target.push(first)
    assert has(target, first)
    assert len(list((tmp_path / "home/.cache/qsmr_layers").glob("*.zst"))) == 3
    assert not (first.parent / ".qsmr_layers").exists()


def test_no_delta_that_the_control_node_has_no_memory_for(target, first, second, monkeypatch):
    target.push(first)
    monkeypatch.setattr("qsmr.pushplan.memory_free", lambda: 1_000_000)
    assert "base" not in target.send(second).order["layers"][0]


def test_room_is_reckoned_with_what_is_there_already(target, first):
    made = target.send(first)
    room = {"staging": {"path": "/in", "free": 1}, "docker": {"path": "/d", "free": 10**9}, "one_disk": False}
    probe = {**target.image(first).probe(), "room": room}
    assert plan(first, probe).fault == ""
    fault = plan(first, {**probe, "staged": {f"{made.blobs[1].sha256}.part": made.blobs[1].size - 10}}).fault
    assert "No room for the image qsmr_snapshot_demo:251101-0000000001: it needs" in fault
    assert "below /in, 0.0 kB are free, 0.0 kB of them may be used (qsmr_push_disk_share)" in fault


@pytest.mark.parametrize(("layers", "store"), [(0, "overlay2"), (2, "overlay2"), (2, "containerd")])
def test_docker_needs_room_for_what_it_loads_twice(target, first, layers, store):
    sizes = [found["size"] for found in json.loads((first / "snapshot.json").read_text())["image"]["layers"]]
    loaded = sum(sizes if store == "containerd" else sizes[layers:])
    room = {"staging": {"path": "/in", "free": 10**9}, "docker": {"path": "/d", "free": 2 * loaded}, "one_disk": False}
    probe = {**target.image(first).probe(), "layers": layers, "store": store, "room": room}
    assert plan(first, probe, 1.0).fault == ""
    room["docker"]["free"] -= 1
    assert "below /d, " in plan(first, probe, 1.0).fault


def test_partial_files_count_as_room_that_is_taken(target, first):
    made = target.send(first)
    need = made.size
    room = {"staging": {"path": "/in", "free": need}, "docker": {"path": "/d", "free": 10**9}, "one_disk": False}
    probe = {**target.image(first).probe(), "staged": {}, "room": room}
    assert plan(first, probe, 1.0).fault == ""
    assert plan(first, probe, 0.99).fault
    assert plan(first, {**probe, "staged": {f"{made.blobs[1].sha256}.part": made.blobs[1].size}}, 0.9).fault == ""


def test_leftovers_go_when_they_are_old_and_kept_layers_with_their_release(target, first, second):
    target.push(first)
    old, new, foreign = ("a" * 64, "b" * 64 + ".part", "lock")
    for name in (old, new, foreign):
        (target.place.incoming / name).write_bytes(b"x")
    os.utime(target.place.incoming / old, (0, time.time() - STAGED_FOR - 10))
    target.push(second)
    assert names(target.place.incoming) == [new, foreign]
    assert names(target.place.root / "layers") == [f"{diff_ids(second)[2][7:]}.zst"]


def test_layers_of_releases_on_the_host_are_kept(target, first, second):
    release = target.place.directory("251101-0000000001")
    release.mkdir(parents=True)
    (release / "snapshot.json").write_text((first / "snapshot.json").read_text())
    target.push(first)
    target.push(second)
    assert len(names(target.place.root / "layers")) == 2
    target.image(second).layers.prune()
    assert names(target.place.root / "layers") == [f"{diff_ids(first)[2][7:]}.zst"]
