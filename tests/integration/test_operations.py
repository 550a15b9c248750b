"""Two projects on two hosts at once, from day to day: scale, limit, read logs, prune, restart a host, stop.

The hosts have an old and a new Compose, host2 is reached through host1, and /tmp of both is tiny and noexec.
"""

from __future__ import annotations

import json

import pytest
from container_fleet import NET, Fleet, Result, bring_up, docker
from worker_snapshots import make_snapshot

HOSTS = ("host1", "host2")
FIRST, SECOND = "opsone", "OpsTwo"  # one with a Docker name of its own
NAMES = {FIRST: "opsone", SECOND: "opstwo-8800d3"}

pytestmark = pytest.mark.slow


class Operations:
    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        options = f"-o UserKnownHostsFile={fleet.directory}/ssh/known_hosts"
        key = f"-i {fleet.directory}/ssh/id_ed25519"
        # No host but the first has to be in reach of the control node.
        self.jump = f'{options} -o ProxyCommand="ssh {key} {options} -W %h:%p root@{NET}.21"'

    def play(self, playbook: str, project: str, **settings):
        arguments = {"qsmr_project": project, "qsmr_rollout_batches": ["100%"], "qsmr_drain_timeout": 5}
        arguments |= {"cmdline": f"--limit {','.join(HOSTS)}", "ansible_ssh_common_args": self.jump}
        return self.fleet.play(playbook, **{**arguments, **settings})

    def ok(self, playbook: str, project: str, **settings):
        result = self.play(playbook, project, **settings)
        assert result.rc == 0, result.stdout
        return result

    def containers(self, host: str, project: str) -> dict[str, dict]:
        """The project's containers by id, as Docker shows them."""
        look = (
            f"docker ps -aq --filter label=com.docker.compose.project=qsmr-{NAMES[project]} | xargs -r docker inspect"
        )
        return {found["Id"]: found for found in json.loads(self.fleet.ssh(host, look) or "[]")}

    def running(self, project: str) -> dict[str, set[str]]:
        return {
            host: {i for i, found in self.containers(host, project).items() if found["State"]["Running"]}
            for host in HOSTS
        }


def summary(result: Result) -> str:
    """The text that ends the run."""
    [found] = [res["ansible_stats"] for event in result.events if "ansible_stats" in (res := event_result(event))]
    return found["data"]["qsmr_summary"][0]


def event_result(event: dict) -> dict:
    return event.get("event_data", {}).get("res") or {}


@pytest.fixture(scope="module")
def operations(fleet, tmp_path_factory):
    operations = Operations(fleet)
    for host in HOSTS:
        fleet.ssh(host, "mount -t tmpfs -o size=1m,noexec,mode=1777 tmpfs /tmp")
    try:
        for project in (FIRST, SECOND):
            snapshot = make_snapshot(tmp_path_factory.mktemp(project), 1, project=project)
            operations.ok("workers.yml", project, qsmr_snapshot=str(snapshot), qsmr_snapshot_dir=str(snapshot.parent))
        yield operations
    finally:
        for project in (FIRST, SECOND):
            operations.ok("stop.yml", project, qsmr_remove=True)
        for host in HOSTS:
            fleet.ssh(host, "umount /tmp || true")


def test_scaling_one_project_touches_no_other_worker(operations):
    before = {project: operations.running(project) for project in (FIRST, SECOND)}
    result = operations.ok("scale.yml", FIRST, qsmr_workers_per_host="3")
    assert "host1: workers: 1 -> 3" in summary(result)
    more = operations.running(FIRST)
    for host in HOSTS:
        assert len(more[host]) == 3
        assert before[FIRST][host] < more[host]
    operations.ok("scale.yml", FIRST, qsmr_workers_per_host="1")
    for host, left in operations.running(FIRST).items():
        assert len(left) == 1
        assert left < more[host]
    assert operations.running(SECOND) == before[SECOND]
    assert operations.ok("scale.yml", FIRST, qsmr_workers_per_host="1").changed == {}


def test_a_host_that_somebody_else_works_on_is_left_alone_and_told(operations):
    lock = {"id": "x", "who": "ana@lab1", "since": "noon", "what": "rollout of project opsone", "expires": 9e9}
    operations.fleet.ssh("host1", f"echo '{json.dumps(lock)}' > /opt/qsmr/{FIRST}/rollout.lock")
    before = operations.running(FIRST)["host1"]
    result = operations.play("stop.yml", FIRST, cmdline="--limit host1")
    assert result.rc != 0
    assert summary(result).startswith("host1: not done: ana@lab1 holds the lock since noon for a rollout")
    assert operations.running(FIRST)["host1"] == before
    audit = (operations.fleet.directory / "state" / FIRST / "audit.jsonl").read_text().splitlines()
    host, end = (json.loads(line) for line in audit[-2:])
    assert (host["host"], host["ended"], end["ended"]) == ("host1", "failed", "done in part")
    operations.fleet.ssh("host1", f"rm /opt/qsmr/{FIRST}/rollout.lock")


def test_limits_reach_each_worker_by_either_compose(operations):
    before = operations.running(SECOND)
    limits = {"qsmr_worker_cpus": 0.5, "qsmr_worker_memory": "64m"}
    operations.ok("scale.yml", FIRST, **limits)
    for host in HOSTS:
        [found] = operations.containers(host, FIRST).values()
        assert (found["HostConfig"]["NanoCpus"], found["HostConfig"]["Memory"]) == (500_000_000, 64 * 2**20)
    assert operations.ok("scale.yml", FIRST, cmdline="--check --limit host1,host2", **limits).changed == {}
    assert operations.running(SECOND) == before


def test_workers_have_names_of_their_own_and_logs_that_end(operations):
    for host in HOSTS:
        [found] = operations.containers(host, SECOND).values()
        assert f"UWORKER_HOSTNAME={host}" in found["Config"]["Env"]
        assert found["HostConfig"]["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}


def test_last_lines_of_all_workers_end_the_run_by_host(operations):
    result = operations.ok("logs.yml", SECOND, cmdline="")
    lines = summary(result).splitlines()
    for host in HOSTS:
        head = next(number for number, line in enumerate(lines) if line.startswith(f"{host} UWorker_{host}_"))
        assert "healthy, release 251101-0000000001" in lines[head]
        assert lines[head + 1].strip() == "worker of 251101-0000000001 starts"
    assert "host3: no workers of project OpsTwo" in lines


def test_pruning_removes_old_releases_and_nothing_that_is_used(operations):
    """On the hosts: two old releases with images, the older one's in use by a container of somebody's."""
    first, second = (f"qsmr_snapshot_{NAMES[project]}" for project in (FIRST, SECOND))
    for host in HOSTS:
        for old in ("250101-000000000a", "250102-000000000b"):
            script = f"FROM {first}:251101-0000000001\\nLABEL old={old}"
            operations.fleet.ssh(host, f"printf '{script}' | DOCKER_BUILDKIT=0 docker build -qt {first}:{old} -")
            operations.fleet.ssh(
                host, f"cp -a $(readlink -f /opt/qsmr/{FIRST}/current) /opt/qsmr/{FIRST}/releases/{old}"
            )
        operations.fleet.ssh(
            host,
            f"docker create --name mine {first}:250101-000000000a && docker tag {first}:250102-000000000b {second}:1",
        )
    settings = {"qsmr_keep_releases": 1}
    checked = operations.ok("prune.yml", FIRST, cmdline="--check --limit host1", **settings)
    assert summary(checked).startswith("host1: to do: old releases: 250102-000000000b, 250101-000000000a -> none, ")
    result = operations.ok("prune.yml", FIRST, **settings)
    assert "host2: old releases: 250102-000000000b, 250101-000000000a -> none, 0.0 MB (keeps 251101-" in summary(result)
    assert f"{first}:250101-000000000a stays, a container is made from it" in summary(result)
    for host in HOSTS:
        images = operations.fleet.ssh(host, "docker image ls --format '{{.Repository}}:{{.Tag}}'").split()
        assert {f"{first}:251101-0000000001", f"{first}:250101-000000000a", f"{second}:1"} <= set(images)
        assert f"{first}:250102-000000000b" not in images
        assert operations.fleet.ssh(host, f"ls /opt/qsmr/{FIRST}/releases").split() == ["251101-0000000001"]
        operations.fleet.ssh(host, f"docker rm mine && docker rmi {first}:250101-000000000a {second}:1")
    assert operations.ok("prune.yml", FIRST, **settings).changed == {}


def test_workers_of_a_host_that_restarts_go_on_and_stopped_ones_do_not(operations):
    operations.ok("stop.yml", FIRST, cmdline="--limit host1")
    before = operations.running(SECOND)
    docker("restart", operations.fleet.container("host1"))
    bring_up(operations.fleet.container("host1"))
    operations.fleet.ssh("host1", "mount -t tmpfs -o size=1m,noexec,mode=1777 tmpfs /tmp")
    assert operations.running(SECOND) == before
    assert operations.running(FIRST)["host1"] == set()
    assert "host1" in operations.ok("scale.yml", FIRST).changed
    assert len(operations.running(FIRST)["host1"]) == 1


def test_removing_a_project_leaves_the_other_one(operations):
    before = operations.running(SECOND)
    operations.ok("stop.yml", FIRST, qsmr_remove=True)
    for host in HOSTS:
        assert operations.containers(host, FIRST) == {}
        images = operations.fleet.ssh(host, "docker image ls --format '{{.Repository}}'; ls /opt/qsmr")
        assert NAMES[FIRST] not in images
    assert operations.running(SECOND) == before
    assert operations.ok("stop.yml", FIRST, qsmr_remove=True).changed == {}
