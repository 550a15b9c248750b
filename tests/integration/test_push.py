"""Pushing images to real Docker: what goes over the wire, which archives it takes, and what becomes of damaged ones."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from container_fleet import Fleet, Result, docker
from push_snapshots import files, layer, write_snapshot
from qsmr.archive import read_image
from qsmr.hostimage import LOADED_AT_ONCE, PART_LABEL, THIN_REFUSED
from qsmr.hostlayers import write_archive

ROOT = "/opt/qsmr/demo"
SEND = "Missing layers are sent"
PUSH = "Image of the snapshot is on the host"
BASE = [layer(files(1, size=1_000_000)), layer(files(2, size=500_000))]
CODE = files(3, size=300_000)


def changed(text: bytes) -> bytes:
    """The code's layer with another line in one of its files."""
    return layer({**CODE, "f5": CODE["f5"][:1000] + text + CODE["f5"][1000:]})


class Push:
    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet = fleet
        self.directory = directory
        self.one_layer = write_snapshot(directory, 1, [layer({"one": b"1"})])
        self.first = write_snapshot(directory, 2, [*BASE, layer(CODE)])

    def play(self, snapshot: Path, hosts: str = "workers", **extra) -> Result:
        return self.fleet.play(
            "../tests/integration/push.yml", cmdline=f"--limit {hosts}", snapshot=str(snapshot), **extra
        )

    def ok(self, snapshot: Path, hosts: str = "workers", **extra) -> Result:
        result = self.play(snapshot, hosts, **extra)
        assert result.rc == 0, result.stdout
        assert all(name(snapshot) in self.images(host) for host in self.fleet.hosts if hosts in ("workers", host))
        return result

    def images(self, host: str) -> list[str]:
        return self.fleet.ssh(host, "docker images --format '{{.Repository}}:{{.Tag}}'").split()

    def received(self, host: str) -> int:
        """Bytes that have come to the host over its network so far."""
        return int(self.fleet.ssh(host, "cat /sys/class/net/eth0/statistics/rx_bytes"))

    def clean(self) -> None:
        for host in self.fleet.hosts:
            self.fleet.ssh(host, f"docker images -q qsmr_snapshot_demo | xargs -r docker rmi -f; rm -rf {ROOT}")


@pytest.fixture(scope="module")
def push(fleet, tmp_path_factory) -> Push:
    push = Push(fleet, tmp_path_factory.mktemp("snapshots"))
    yield push
    push.clean()


@pytest.fixture(scope="module")
def pushed(push) -> tuple[Push, Result]:
    """The first snapshot on all hosts, and how it came there."""
    push.ok(push.one_layer, "host1")
    return push, push.ok(push.first)


def name(snapshot: Path) -> str:
    return json.loads((snapshot / "snapshot.json").read_text())["image"]["name"]


def said(result: Result, task: str) -> str:
    [message] = [found["msg"] for found in result.task_results(task).values() if "msg" in found]
    return message


def test_bare_hosts_are_sent_compressed_layers_and_nothing_stays_in_the_way(pushed):
    push, result = pushed
    size = (push.first / "docker_image").stat().st_size
    assert result.changed == dict.fromkeys(push.fleet.hosts, 1)
    [told] = result.task_results(SEND)["host1"]["ansible_stats"]["data"]["qsmr_summary"]
    assert told.startswith("Push of 251101-0000000002 to 3 hosts: ")
    for host in push.fleet.hosts:
        sent = result.task_results(SEND)["host1"]["hosts"][host]
        assert 0.1 * size < sent["sent"] < 0.4 * size
        assert sent["loaded"], "Docker waited until all had been sent"
        assert push.fleet.ssh(host, f"ls -A {ROOT}/incoming") == ""


def test_second_push_changes_nothing_and_sends_nothing(pushed):
    push, _ = pushed
    result = push.ok(push.first)
    assert result.changed == {}
    assert not result.task_results(SEND)


def test_changed_code_costs_a_delta_or_its_layer_whatever_the_base_is_called(pushed):
    """On host1 the base is in an image without a name, on host2 in one with another name and the code is not kept."""
    push, _ = pushed
    push.fleet.ssh("host1", f"docker tag {name(push.one_layer)} {name(push.first)}")
    push.fleet.ssh(
        "host2", f"docker tag {name(push.first)} other:1; docker rmi {name(push.first)}; rm -r {ROOT}/layers"
    )
    before = {host: push.received(host) for host in push.fleet.hosts}
    second = write_snapshot(push.directory, 3, [*BASE, changed(b"another line")])
    result = push.ok(second, qsmr_push_mode="direct")
    received = {host: push.received(host) - before[host] for host in push.fleet.hosts}
    sent = {host: found["sent"] for host, found in result.task_results(SEND)["host1"]["hosts"].items()}
    layer_size = len(changed(b"another line"))
    assert max(sent["host1"], sent["host3"]) < 2000
    assert 0.1 * layer_size < sent["host2"] < 0.4 * layer_size
    # Ansible's own modules, the same for all, come over the same wire.
    assert received["host2"] - max(received["host1"], received["host3"]) > 0.8 * sent["host2"]
    push.fleet.ssh("host2", "docker rmi other:1")


@pytest.mark.slow
def test_image_of_many_layers(push):
    push.ok(write_snapshot(push.directory, 4, [layer({f"f{n}": b"%d" % n}) for n in range(120)]), "host1")


def test_archive_that_lacks_what_docker_lacks_is_refused_in_words_that_are_known(push, tmp_path):
    content = layer({"y": b"1"})
    other = write_snapshot(push.directory, 5, [layer({"x": b"1"}), content])
    image = read_image(other / "docker_image")
    diff_ids = [found.diff_id for found in image.layers]
    with (tmp_path / "thin").open("wb") as stream:
        write_archive(stream, image.name, image.config, diff_ids, [(diff_ids[1], len(content), iter([content]))])
    for host in ("host1", "host2"):
        docker("cp", str(tmp_path / "thin"), f"{push.fleet.container(host)}:/root/thin")
        words = push.fleet.ssh(host, "docker load -i /root/thin 2>&1 && exit 1; rm /root/thin")
        assert any(part in words for part in THIN_REFUSED), words


def test_full_docker_disk_is_told_in_dockers_words_and_what_was_sent_is_taken_up_again(push):
    """Even if a byte of it flipped meanwhile: that is found, and the one blob sent again, in the same run."""
    other = write_snapshot(push.directory, 6, [BASE[1], layer({"x": b"6"})])
    push.fleet.ssh("host2", "mount -t tmpfs -o size=1m tmpfs /var/lib/docker/tmp")
    try:
        result = push.play(other, "host2")
    finally:
        push.fleet.ssh("host2", "umount /var/lib/docker/tmp")
    assert "no space left on device" in said(result, PUSH)
    assert push.fleet.ssh("host2", f"ls -A {ROOT}/incoming").count("\n") == 3
    push.fleet.ssh("host2", f"cd {ROOT}/incoming && printf XX | dd of=$(ls -S | head -n1) seek=5000 bs=1 conv=notrunc")
    again = push.ok(other, "host2")
    [sent] = again.task_results(SEND)["host2"]["hosts"].values()
    assert sent["sent"] > 0.1 * len(BASE[1])
    assert push.fleet.ssh("host2", f"ls -A {ROOT}/incoming") == ""


def test_disk_without_room_is_named_before_anything_is_sent(push):
    other = write_snapshot(push.directory, 7, [layer({"x": random.Random(7).randbytes(2_000_000)})])
    push.fleet.ssh("host2", f"mkdir -p {ROOT}/incoming; mount -t tmpfs -o size=1m tmpfs {ROOT}/incoming")
    before = push.received("host2")
    try:
        result = push.play(other, "host2")
        assert push.received("host2") - before < 1_000_000
    finally:
        push.fleet.ssh("host2", f"umount {ROOT}/incoming")
    assert f"No room for the image {name(other)}: it needs" in said(result, PUSH)
    assert f"below {ROOT}/incoming, 1.0 MB are free, 943.7 kB of them may be used" in said(result, PUSH)


def test_damaged_archive_is_named_and_reaches_no_host(push):
    other = write_snapshot(push.directory, 8, [layer({"x": b"8" * 10_000})])
    with (other / "docker_image").open("r+b") as archive:
        archive.seek(5_000)
        archive.write(b"7")
    result = push.play(other, "host2")
    assert f"{other}/docker_image is damaged: its layer 1 of 1" in said(result, SEND)
    assert name(other) not in push.images("host2")


@pytest.mark.slow
def test_containerd_store_gets_the_image_whole_but_is_sent_only_what_changed(push):
    def restart(command: str) -> None:
        wait = "timeout 60 sh -c 'until docker info; do sleep 0.2; done'"
        push.fleet.ssh("host3", f"{command}; pkill -x dockerd; sleep 1; {wait}")

    setting = json.dumps({"features": {"containerd-snapshotter": True}})
    restart(f"mkdir -p /etc/docker; echo '{setting}' > /etc/docker/daemon.json")
    try:
        push.ok(push.first, "host3")
        second = write_snapshot(push.directory, 9, [*BASE, changed(b"a ninth line")])
        [sent] = push.ok(second, "host3").task_results(SEND)["host3"]["hosts"].values()
        assert sent["sent"] < 2000
        # What a broken import leaves is listed, too, but has no layers.
        saved = push.fleet.ssh("host3", f"docker save {name(second)} | wc -c")
        assert int(saved) > sum(map(len, BASE))
    finally:
        push.fleet.ssh("host3", "docker images -q qsmr_snapshot_demo | xargs -r docker rmi -f")
        restart("rm /etc/docker/daemon.json")


@pytest.mark.slow
def test_large_layers_are_loaded_one_by_one_and_leave_no_image_of_some_of_them(pushed):
    push, _ = pushed
    large = [layer({f"zeros{n}": bytes([n]) * (LOADED_AT_ONCE + 1)}) for n in (1, 2)]
    result = push.ok(write_snapshot(push.directory, 10, [*large, layer(CODE)]))
    for host, sent in result.task_results(SEND)["host1"]["hosts"].items():
        assert sent["order"]["loads"] == [1, 2, 3]
        assert sent["loaded"]
        assert push.fleet.ssh(host, f"docker images -qa --filter label={PART_LABEL}") == ""
