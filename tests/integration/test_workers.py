"""Putting snapshots on the hosts and starting their workers: what is sent, what runs, and what stops a roll-out."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from container_fleet import Fleet, bring_up, docker
from worker_snapshots import CRASHING, HEALTHY_AFTER_8_S, PASSWORD, PROJECT, SICK, copy_snapshot, make_snapshot

ROOT = f"/opt/qsmr/{PROJECT}"
CHECK = "Every host is fit for what it needs"
PUSH = "Image of the snapshot is on the host"
STOPPED = "Rollout was not stopped"
WORKER = "Workers of the snapshot run and are healthy"


class Rollout:
    """Snapshots of the project, and what the hosts have of it."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet = fleet
        self.directory = directory
        self.good = make_snapshot(directory, 1)

    def play(self, snapshot: Path, playbook: str = "workers.yml", **arguments):
        settings = {
            "qsmr_project": PROJECT,
            "qsmr_snapshot_dir": str(self.directory),
            "qsmr_snapshot": str(snapshot),
            "qsmr_healthy_deadline": 20,
            "qsmr_min_healthy_time": 1,
            "qsmr_drain_timeout": 5,
        }
        return self.fleet.play(playbook, **{**settings, **arguments})

    def ok(self, snapshot: Path, **arguments):
        result = self.play(snapshot, **arguments)
        assert result.rc == 0, result.stdout
        return result

    def running(self, host: str) -> list[tuple[str, str, str]]:
        """Id, image tag and condition of each worker's container."""
        lines = self.fleet.ssh(
            host,
            f"docker ps -a --no-trunc --filter label=com.docker.compose.project=qsmr-{PROJECT} "
            "--format '{{.ID}} {{.Image}} {{.Status}}'",
        ).splitlines()
        return sorted(
            (word[0], word[1].partition(":")[2], line.rpartition("(")[2].rstrip(")"))
            for line in lines
            if (word := line.split())
        )

    def releases(self, host: str) -> list[str]:
        return [tag for _, tag, condition in self.running(host) if condition == "healthy"]

    def current(self, host: str) -> str:
        return self.fleet.ssh(host, f"readlink {ROOT}/current || true").strip().rpartition("/")[2]

    def everything(self) -> dict[str, list[str]]:
        """All that a run could change on the hosts: containers, images and files with their times."""
        return {host: self.everything_of(host) for host in self.fleet.hosts}

    def everything_of(self, host: str) -> list[str]:
        look = (
            "docker ps -a --no-trunc --format '{{.ID}} {{.Image}}'; "
            "docker images --no-trunc --format '{{.ID}} {{.Repository}}:{{.Tag}}'; "
            f"find {ROOT} -printf '%p %m %T@ %l\\n' 2>&1 || true"
        )
        return sorted(self.fleet.ssh(host, look).splitlines())

    def audit(self) -> list[dict]:
        lines = (self.fleet.directory / f"state/{PROJECT}/audit.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def clean(self) -> None:
        for host in self.fleet.hosts:
            self.fleet.ssh(
                host,
                f"docker ps -aq --filter label=com.docker.compose.project=qsmr-{PROJECT} | xargs -r docker rm -f; "
                f"docker images -q qsmr_snapshot_{PROJECT} | xargs -r docker rmi -f; rm -rf {ROOT}",
            )


@pytest.fixture(scope="module")
def bare(fleet, tmp_path_factory) -> Rollout:
    rollout = Rollout(fleet, tmp_path_factory.mktemp("snapshots"))
    yield rollout
    rollout.clean()


@pytest.fixture(scope="module")
def first(bare):
    """A check mode run on bare hosts, and what they had before and after it; then the real one."""
    before = bare.everything()
    checked = bare.ok(bare.good, cmdline="--check --diff")
    return before, checked, bare.everything(), bare.ok(bare.good)


@pytest.fixture
def rollout(bare, first) -> Rollout:
    """The hosts with the good snapshot, whatever the test before did to them."""
    if any(bare.releases(host) != [release(bare.good)] for host in bare.fleet.hosts):
        bare.ok(bare.good)
    return bare


def release(snapshot: Path) -> str:
    return json.loads((snapshot / "snapshot.json").read_text())["snapshot_id"]


def environment(rollout: Rollout, host: str) -> list[str]:
    """The environment of a host's only worker, as KEY=VALUE."""
    [(container, *_)] = rollout.running(host)
    return json.loads(rollout.fleet.ssh(host, f"docker inspect --format '{{{{json .Config.Env}}}}' {container}"))


def differences(result, host: str) -> list[str]:
    """What the worker task found to do on a host when it came to it first."""
    data = (event.get("event_data", {}) for event in result.events)
    return next(
        d["res"]["differences"] for d in data if d.get("task") == WORKER and d.get("host") == host and "res" in d
    )


def summary(result) -> str:
    """What is last on the screen."""
    [outcome] = result.task_results("Outcome is known").values()
    return outcome["ansible_stats"]["data"]["qsmr_summary"][0]


def said(result, task: str) -> str:
    """The message of the one host that a task failed on."""
    [message] = [found["msg"] for found in result.task_results(task).values() if "msg" in found]
    return message


def test_check_mode_on_bare_hosts_tells_all_and_changes_nothing(first):
    before, checked, after, _ = first
    assert checked.changed == {"host1": 2, "host2": 2, "host3": 2}
    assert before == after


def test_hosts_with_either_compose_and_any_user_run_healthy_workers(rollout, first):
    id_ = release(rollout.good)
    assert first[3].changed == {"host1": 3, "host2": 3, "host3": 3}  # image, workers, and that they proved themselves
    for host in rollout.fleet.hosts:
        assert rollout.releases(host) == [id_]
        assert rollout.current(host) == id_
        assert rollout.fleet.ssh(host, f"stat -c %a {ROOT}/current/worker.env").strip() == "600"
        assert rollout.fleet.ssh(host, f"ls -A {ROOT}/incoming") == ""


@pytest.mark.parametrize("mode", ["", "--check --diff"])
def test_second_run_changes_nothing(rollout, mode):
    before = rollout.everything()
    assert rollout.ok(rollout.good, cmdline=mode).changed == {}
    assert rollout.everything() == before


def test_values_arrive_as_they_are(rollout):
    for host in rollout.fleet.hosts:
        lines = environment(rollout, host)
        assert f"UWORKER_JOB_API_PASSWORD={PASSWORD}" in lines
        assert "QSMR_CONFIG=" in lines
        assert f"UWORKER_HOSTNAME={host}" in lines


def test_image_under_another_name_is_named_and_not_sent(rollout):
    name = f"qsmr_snapshot_{PROJECT}:{release(rollout.good)}"
    rollout.fleet.ssh("host2", f"docker tag {name} other:1 && docker rmi {name}")
    result = rollout.ok(rollout.good, cmdline="--limit host2")
    [action] = result.task_results(PUSH)["host2"]["actions"]
    assert action.startswith("named sha256:")
    assert result.task_results(WORKER) == {}


@pytest.mark.slow
def test_scaling_keeps_the_workers_that_are_there(rollout):
    hosts = {"cmdline": "--limit host1,host2", "qsmr_rollout_batches": ["100%"]}
    before = {host: rollout.running(host)[0][0] for host in ("host1", "host2")}
    rollout.ok(rollout.good, qsmr_workers_per_host=2, **hosts)
    for host, container in before.items():
        assert len(rollout.releases(host)) == 2
        assert container in [found[0] for found in rollout.running(host)]
    result = rollout.ok(rollout.good, **hosts)
    assert differences(result, "host1") == ["workers: 2 -> 1"]
    assert {host: [found[0] for found in rollout.running(host)] for host in before} == {
        host: [container] for host, container in before.items()
    }


@pytest.mark.slow
def test_new_password_reaches_the_workers_and_no_screen(rollout):
    rotated = copy_snapshot(rollout.good, f"qsmr_snapshot_{PROJECT}_251102")
    secret = "rotated-5ecret"
    (rotated / "worker.env").write_text((rotated / "worker.env").read_text().replace(PASSWORD, secret))
    result = rollout.ok(rotated, cmdline="--diff -vvv --limit host1,host2", qsmr_rollout_batches=["100%"])
    assert secret not in result.stdout + json.dumps(result.events)
    assert PASSWORD not in result.stdout
    for host in ("host1", "host2"):
        assert "worker.env: key UWORKER_JOB_API_PASSWORD changed" in differences(result, host)
        assert f"UWORKER_JOB_API_PASSWORD={secret}" in environment(rollout, host)
    rollout.ok(rollout.good)


@pytest.mark.parametrize(
    ("number", "health", "says"), [pytest.param(2, SICK, "no job service", marks=pytest.mark.slow), (8, CRASHING, "")]
)
def test_bad_snapshot_stops_at_the_first_host_which_goes_back_by_itself(rollout, number, health, says):
    bad = make_snapshot(rollout.directory, number, health=health)
    before = {host: rollout.running(host) for host in ("host2", "host3")}
    result = rollout.play(bad)
    assert result.rc == 2
    assert {host: rollout.running(host) for host in before} == before
    assert rollout.releases("host1") == [release(rollout.good)]
    assert rollout.current("host1") == release(rollout.good)
    last = summary(result).splitlines()
    assert last[-1].startswith("Stopped: no host of stage 1 got healthy; host1 failed (qsmr-rollout_uworker_1 is ")
    assert last[-1].endswith(f"and is back on {release(rollout.good)}; host2, host3 not touched.")
    assert says in last[-1]
    assert f"    worker of {release(bad)} starts" in last
    *_, host, end = rollout.audit()
    assert (host["host"], host["from"], host["to"]) == ("host1", release(rollout.good), release(bad))
    assert (host["ended"], end["ended"]) == ("reverted", "stopped")


@pytest.mark.slow
def test_unreachable_host_stops_the_roll_out_before_any_change_unless_it_may_be_left_out(rollout):
    other = make_snapshot(rollout.directory, 3)
    before = rollout.everything()
    docker("stop", rollout.fleet.container("host3"))
    try:
        result = rollout.play(other, env={"ANSIBLE_SSH_RETRIES": "0"})
        after = {host: rollout.everything_of(host) for host in ("host1", "host2")}
        without = rollout.ok(
            other, env={"ANSIBLE_SSH_RETRIES": "0"}, qsmr_skip_unfit=True, qsmr_rollout_batches=["100%"]
        )
    finally:
        bring_up(rollout.fleet.container("host3"))
    assert result.rc != 0
    assert said(result, CHECK).startswith(
        "Nothing was changed, because not every host is fit:\nhost3  unreachable (ssh:"
    )
    assert after == {host: before[host] for host in after}
    assert [rollout.releases(host) for host in after] == [[release(other)]] * 2
    assert summary(without).endswith("left out: host3.")
    assert rollout.ok(other, cmdline="--limit 'workers:!host3'").changed == {}


@pytest.mark.slow
def test_host_lost_in_its_batch_stops_the_batches_after_it(rollout):
    """Ansible alone goes on: an unreachable host counts for none of its brakes."""
    slow = make_snapshot(rollout.directory, 4, health=HEALTHY_AFTER_8_S)
    before = rollout.running("host3")

    def lose_host2() -> None:
        while rollout.current("host2") != release(slow):
            time.sleep(0.2)
        docker("kill", rollout.fleet.container("host2"))

    losing = threading.Thread(target=lose_host2)
    losing.start()
    arguments = "-o ControlMaster=no -o ServerAliveInterval=1 -o ServerAliveCountMax=3 -o ConnectTimeout=3"
    try:
        result = rollout.play(
            slow,
            qsmr_rollout_batches=[2, 1],
            qsmr_healthy_deadline=60,
            env={"ANSIBLE_SSH_ARGS": arguments, "ANSIBLE_SSH_RETRIES": "0"},
        )
    finally:
        losing.join(timeout=60)
        bring_up(rollout.fleet.container("host2"))
    assert result.rc != 0
    assert "host2 is lost (unreachable" in said(result, STOPPED)
    assert rollout.running("host3") == before
    assert rollout.releases("host1") == [release(rollout.good)]
    assert [event["ended"] for event in rollout.audit()[-4:]] == ["switched", "lost", "taken back", "stopped"]


def test_every_fault_of_every_host_is_named_at_once(rollout):
    other = make_snapshot(rollout.directory, 5)
    plugin = "/usr/libexec/docker/cli-plugins/docker-compose"
    rollout.fleet.ssh("host2", "chmod 600 /var/run/docker.sock")
    rollout.fleet.ssh("host3", f"mv {plugin} /root/")
    before = rollout.everything()
    try:
        result = rollout.play(other)
        assert rollout.everything() == before
    finally:
        rollout.fleet.ssh("host2", "chmod 660 /var/run/docker.sock")
        rollout.fleet.ssh("host3", f"mv /root/docker-compose {plugin}")
    assert result.rc != 0
    _, docker_fault, compose_fault = said(result, CHECK).splitlines()
    assert docker_fault.startswith("host2  this user may not use Docker: add the user to the group docker")
    assert compose_fault.startswith("host3  Docker Compose is missing")


@pytest.mark.slow
def test_full_docker_disk_is_told_in_dockers_words_and_the_archive_need_not_come_again(rollout):
    other = make_snapshot(rollout.directory, 6)
    before = {host: rollout.running(host) for host in rollout.fleet.hosts}
    rollout.fleet.ssh("host2", "mount -t tmpfs -o size=4k tmpfs /var/lib/docker/tmp")
    try:
        result = rollout.play(other)
    finally:
        rollout.fleet.ssh("host2", "umount /var/lib/docker/tmp")
    assert result.rc != 0
    assert "no space left on device" in said(result, PUSH)
    assert "nothing was switched, since host2 failed or were lost before" in said(result, STOPPED)
    assert {host: rollout.running(host) for host in rollout.fleet.hosts} == before
    again = rollout.ok(other)
    [pushed] = again.task_results(PUSH).items()
    assert pushed[0] == "host2"
    assert pushed[1]["actions"] == [f"loaded qsmr_snapshot_{PROJECT}:{release(other)}"]
    told = [event for event in rollout.audit() if event["event"] == "push" and event["to"] == release(other)]
    assert [event["hosts"] for event in told] == [list(rollout.fleet.hosts), ["host2"]]


@pytest.mark.slow
def test_rollback_goes_back_to_the_release_before_and_pushes_nothing(rollout):
    other = make_snapshot(rollout.directory, 9)
    rollout.ok(other, qsmr_rollout_batches="100%")
    back = rollout.ok(other, playbook="rollback.yml")
    assert back.task_results(PUSH) == {}
    assert [rollout.releases(host) for host in rollout.fleet.hosts] == [[release(rollout.good)]] * 3
    result = rollout.play(other, playbook="rollback.yml", qsmr_release="251101-nowhere")
    assert "Release 251101-nowhere is not on this host" in said(result, CHECK)
    assert [event["what"] for event in rollout.audit() if event["event"] == "begin"][-1] == "rollback"


@pytest.mark.slow
def test_lock_of_another_operator_stops_the_rollout_until_it_is_broken(rollout):
    other = make_snapshot(rollout.directory, 10)
    lock = {"id": "x", "who": "bob@lab2", "since": "2026-11-23 10:00 UTC", "what": "rollout", "expires": 4e9}
    place = f"{ROOT}/rollout.lock"
    before = rollout.running("host2")
    rollout.fleet.ssh("host2", f"echo '{json.dumps(lock)}' > {place}; chown $(stat -c %u:%g {ROOT}) {place}")
    result = rollout.play(other)
    assert "somebody else is at work (host2: bob@lab2 holds the lock since" in said(result, STOPPED)
    assert rollout.running("host2") == before
    assert rollout.fleet.ssh("host1", f"ls {ROOT}").split().count("rollout.lock") == 0
    assert "rollout.lock" in rollout.fleet.ssh("host2", f"ls {ROOT}").split()
    rollout.ok(other, cmdline="--limit host2", qsmr_break_lock=True)
    assert rollout.releases("host2") == [release(other)]
    assert "bob@lab2" in str([event["broke_lock_of"] for event in rollout.audit() if event["event"] == "begin"][-1])


def test_absent_leaves_nothing_of_the_project(rollout):
    def remove():
        return rollout.fleet.ok("stop.yml", qsmr_project=PROJECT, qsmr_remove=True, qsmr_drain_timeout=5)

    assert remove().changed == {"host1": 1, "host2": 1, "host3": 1}
    for host in rollout.fleet.hosts:
        assert rollout.running(host) == []
        look = "ls /opt/qsmr; docker network ls; docker image ls --format '{{.Repository}}'"
        assert PROJECT not in rollout.fleet.ssh(host, look)
    assert remove().changed == {}
