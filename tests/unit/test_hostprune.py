"""Which releases and images prune.yml removes from a host, and which it must not."""

from __future__ import annotations

import fcntl
import json
import os
import time

import pytest
from host_double import HostDouble, image, snapshot, state
from qsmr.errors import QsmrError
from qsmr.hostprune import Pruning
from qsmr.release import Releases

REPOSITORY = "qsmr_snapshot_demo"


class Lab:
    """A host with releases r1, r2, ... of one day, made in this order; each has a layer of its own."""

    def __init__(self, tmp_path, number=5):
        self.releases = Releases(tmp_path, "demo")
        self.double = HostDouble()
        for count in range(1, number + 1):
            self.add(f"251101-r{count}", f"2025-11-01T00:00:0{count}Z")
        self.releases.switch(f"251101-r{number}")
        self.pruning = Pruning(self.double.docker, self.releases, "qsmr-demo", REPOSITORY)

    def add(self, name, created, release=True):
        layers = ["sha256:base", f"sha256:{name}"]
        self.double.images[f"{REPOSITORY}:{name}"] = {**image(f"sha256:i-{name}", layers), "Created": created}
        if release:
            manifest = {**snapshot(name, layers, 1000), "created": created}
            self.releases.write(name, {"snapshot.json": json.dumps(manifest)})

    def contain(self, image_id, release=""):
        number = f"id{len(self.double.containers)}"
        env = [f"QSMR_SNAPSHOT_ID={release}"] if release else []
        config = {"Image": "x", "Hostname": "h", "Env": env}
        container = {"Id": number, "Name": f"/{number}", "Image": image_id, "State": state("exited"), "Config": config}
        self.double.containers.append(container)

    def prune(self, keep):
        plan = self.pruning.plan(keep)
        self.pruning.carry_out(plan)
        return plan

    @property
    def tags(self):
        return [name.partition(":")[2] for name in self.double.images]


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


def test_the_newest_releases_stay_with_their_images(lab):
    plan = lab.prune(3)
    assert plan.removed == ["251101-r2", "251101-r1"]
    assert lab.releases.ids() == lab.tags == ["251101-r3", "251101-r4", "251101-r5"]
    assert lab.prune(3).removed == []


def test_bytes_of_a_layer_that_another_image_has_are_not_freed(lab):
    files = sum(path.stat().st_size for path in (lab.releases.root / "releases/251101-r1").iterdir())
    assert lab.pruning.plan(4).freed == 1000 + files


def test_what_runs_or_may_be_gone_back_to_stays(lab):
    lab.releases.confirm("251101-r1")
    lab.releases.confirm("251101-r2")
    lab.releases.switch("251101-r3")
    assert lab.prune(1).kept == ["251101-r5", "251101-r3", "251101-r2", "251101-r1"]


def test_release_of_a_worker_that_was_stopped_stays(lab):
    lab.contain("sha256:i-251101-r1", "251101-r1")
    assert lab.prune(1).kept == ["251101-r5", "251101-r1"]


def test_image_of_somebody_elses_container_stays_and_is_named(lab):
    lab.contain("sha256:i-251101-r1")
    plan = lab.prune(4)
    assert plan.used == [f"{REPOSITORY}:251101-r1"]
    assert "251101-r1" in lab.tags
    assert "251101-r1" not in lab.releases.ids()


def test_image_with_a_name_of_another_project_frees_nothing(lab):
    lab.double.images[f"{REPOSITORY}:251101-r1"]["RepoTags"] = [f"{REPOSITORY}:251101-r1", "other:1"]
    assert lab.pruning.plan(4).freed < 1000


def test_image_that_was_pushed_and_not_started_is_the_newest(lab):
    lab.add("251102-r0", "2025-01-01T00:00:00Z", release=False)
    assert lab.prune(1).kept == ["251102-r0", "251101-r5"]


def test_run_after_one_that_was_killed_goes_on(lab):
    lab.double.images.pop(f"{REPOSITORY}:251101-r1")
    assert lab.prune(4).removed == ["251101-r1"]
    assert len(lab.releases.ids()) == 4


def test_damaged_release_is_old_and_goes(lab):
    (lab.releases.directory("251101-r1") / "snapshot.json").write_text("[")
    assert lab.prune(4).removed == ["251101-r1"]


def test_image_that_docker_does_not_remove_is_told_and_its_release_stays(lab):
    lab.double.fails = {"image rm": "Error: conflict"}
    with pytest.raises(QsmrError, match="Removing the image qsmr_snapshot_demo:251101-r1 failed: Error: conflict"):
        lab.prune(4)
    assert "251101-r1" in lab.releases.ids()


def test_bare_host_has_nothing_to_prune(tmp_path):
    pruning = Pruning(HostDouble().docker, Releases(tmp_path, "demo"), "qsmr-demo", REPOSITORY)
    assert pruning.plan(3).kept == []


def test_what_a_cut_push_left_goes_when_another_release_was_started_since(lab):
    lab.releases.incoming.mkdir()
    before, since, other = (lab.releases.incoming / name for name in ("a" * 64, f"{'b' * 64}.part", "notes"))
    switched = lab.releases.link.lstat().st_mtime
    for path, moment in ((before, switched - 1), (since, switched + 1), (other, switched - 1)):
        path.write_bytes(bytes(5000))
        os.utime(path, (moment, moment))
    plan = lab.prune(5)
    assert (plan.removed, plan.abandoned, plan.freed) == ([], ["a" * 64], 5000)
    assert sorted(path.name for path in lab.releases.incoming.iterdir()) == [since.name, "notes"]
    assert lab.prune(5).abandoned == []


def test_what_a_push_is_at_stays_whatever_its_age(lab):
    lab.releases.incoming.mkdir()
    blob = lab.releases.incoming / ("a" * 64)
    blob.write_bytes(b"x")
    os.utime(blob, (0, 0))
    plan = lab.pruning.plan(5)
    assert plan.abandoned == [blob.name]
    push = os.open(lab.releases.incoming, os.O_RDONLY)
    fcntl.flock(push, fcntl.LOCK_SH)
    assert lab.pruning.plan(5).abandoned == []
    with pytest.raises(QsmrError, match="has begun: run this again when it has ended"):
        lab.pruning.carry_out(plan)
    os.close(push)
    assert blob.exists()
    assert lab.prune(5).abandoned == [blob.name]
    assert not blob.exists()


def test_what_a_cut_push_left_on_a_host_without_a_release_stays_three_days(tmp_path):
    releases = Releases(tmp_path, "demo")
    releases.incoming.mkdir(parents=True)
    for name, days in (("a", 2), ("b", 4)):
        path = releases.incoming / (name * 64)
        path.write_bytes(b"x")
        os.utime(path, (time.time() - days * 86400,) * 2)
    pruning = Pruning(HostDouble().docker, releases, "qsmr-demo", REPOSITORY)
    assert pruning.plan(3).abandoned == ["b" * 64]
