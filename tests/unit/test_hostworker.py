"""What a host's state and the wanted one make the worker module do."""

from __future__ import annotations

import json
import math

import pytest
from host_double import HostDouble, image, snapshot, state
from qsmr.errors import QsmrError
from qsmr.hostfit import Limits
from qsmr.hostimage import Wanted
from qsmr.hoststate import Desired, compare
from qsmr.hostworker import Sick, WorkerHost
from qsmr.release import Releases

PASSWORD = "s3cret$pass"
COMPOSE = "services: [UWORKER_JOB_TIMEOUT]\n"


def desired(
    snapshot_id="r1",
    count=1,
    password=PASSWORD,
    compose=COMPOSE,
    hostname="host1",
    drain=60,
    limits=("", ""),
    timeout="",
    timeout_of_snapshot="",
):
    env = f"UWORKER_JOB_API_PASSWORD={password}\nQSMR_CONFIG=\nQSMR_SNAPSHOT_ID={snapshot_id}\n"
    env += f"UWORKER_JOB_TIMEOUT={timeout_of_snapshot}\n"
    manifest = snapshot(snapshot_id)
    files = {"docker-compose.yml": compose, "worker.env": env, "snapshot.json": json.dumps(manifest)}
    image_ = Wanted.from_snapshot(snapshot(snapshot_id))
    return Desired("qsmr-demo", snapshot_id, image_, files, hostname, count, drain, Limits(*limits), timeout)


class Lab:
    """One host and its workers; time passes only while something sleeps."""

    def __init__(self, tmp_path):
        self.double = HostDouble({f"qsmr_snapshot_demo:{name}": image(f"sha256:{name}") for name in ("r1", "r2")})
        self.releases = Releases(tmp_path, "demo")
        self.now = 0.0
        self.host = WorkerHost(
            self.double.docker, self.releases, "qsmr-demo", 60, clock=lambda: self.now, sleep=self.sleep
        )

    def sleep(self, seconds):
        self.now += seconds

    def converge(self, wanted, deadline=30.0, settle=0.0, **how):
        """As the module does; returns the differences that there were."""
        found = self.host.find(wanted)
        differences = compare(wanted, found)
        self.host.converge(wanted, found, deadline, settle, **how)
        return differences


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


def test_bare_host_gets_the_release(lab):
    assert lab.converge(desired(count=2)) == ["release: none -> r1", "workers: 0 -> 2"]
    assert lab.releases.current == "r1"
    assert len(lab.double.containers) == 2
    assert lab.converge(desired(count=2)) == []


@pytest.mark.parametrize(
    ("wanted", "differences"),
    [
        (
            desired("r2"),
            ["release: r1 -> r2", "image: qsmr_snapshot_demo:r1 -> qsmr_snapshot_demo:r2"],
        ),
        (desired(count=2), ["workers: 1 -> 2"]),
        (desired(count=0), ["workers: 1 -> 0"]),
        (desired(hostname="other"), ["worker.env: key UWORKER_HOSTNAME changed"]),
        (desired(drain=600), ["worker.env: key UWORKER_GRACE_PERIOD changed"]),
        (
            desired(password="another"),
            ["worker.env: differs", "worker.env: key UWORKER_JOB_API_PASSWORD changed"],
        ),
        (desired(compose="services: 2\n"), ["docker-compose.yml: differs"]),
        (desired(timeout="90"), ["worker.env: key UWORKER_JOB_TIMEOUT changed"]),
        (desired(limits=("0.5", "")), ["cpus: all -> 0.5"]),
        (desired(limits=("", "1g")), ["memory: all -> 1g"]),
    ],
)
def test_difference_is_named_settled_and_then_gone(lab, wanted, differences):
    lab.converge(desired())
    assert lab.converge(wanted) == differences
    assert lab.converge(wanted) == []
    assert lab.releases.current == wanted.snapshot_id


@pytest.mark.parametrize(
    ("snapshot", "host", "worker"),
    [("", "", ""), ("90", "", "90"), ("90", "7200", "7200"), ("90", "0", ""), ("", "7200", "7200")],
)
def test_job_timeout_is_the_snapshots_unless_the_host_has_its_own(lab, snapshot, host, worker):
    lab.converge(desired(timeout=host, timeout_of_snapshot=snapshot))
    [container] = lab.host.containers()
    assert container.env["UWORKER_JOB_TIMEOUT"] == worker


def test_release_that_cannot_take_up_a_job_timeout_says_so_and_runs_all_the_same(lab):
    old = desired(timeout="90", compose="services: 1\n")
    assert "made before qsmr_job_timeout could be set: build the snapshot again" in old.unheard
    lab.converge(old)
    assert lab.converge(old) == []
    assert desired(timeout="90").unheard == desired(compose="services: 1\n").unheard == ""


def test_no_password_is_in_any_difference_or_view(lab):
    lab.converge(desired(password="old-password"))
    found = lab.host.find(desired())
    shown = f"{compare(desired(), found)} {found.view()} {desired().view()}"
    assert PASSWORD not in shown
    assert "old-password" not in shown


def test_scaling_leaves_the_others_alone(lab):
    lab.converge(desired(count=1))
    first = lab.double.containers[0]["Id"]
    lab.converge(desired(count=3))
    assert first in [container["Id"] for container in lab.double.containers]
    assert "restart" not in lab.double.changes
    ups = [line for line in lab.double.commands if " up " in line]
    assert ["--no-recreate" in line for line in ups] == [False, True]


def test_stopped_workers_stay_stopped_with_their_release_until_they_are_started_again(lab):
    lab.converge(desired(count=2))
    lab.double.containers[0]["State"] = state("exited")
    lab.host.stop()
    assert [line for line in lab.double.commands if " stop " in line] == ["docker stop -t 75 id2"]
    assert lab.releases.current == "r1"
    lab.double.containers[1]["State"] = state("exited")
    lab.host.stop()
    assert lab.double.changes == ["up", "stop"]


def test_nothing_to_do_takes_no_command_that_changes_something(lab):
    lab.converge(desired())
    lab.double.commands.clear()
    lab.converge(desired())
    assert lab.double.changes == []
    assert not [line for line in lab.double.commands if line.startswith("docker-compose")]


def test_run_after_one_that_was_killed_before_compose_starts_the_release(lab):
    """What was written is not what runs: the file is the wanted one, the container is not of it."""
    lab.converge(desired())
    lab.releases.write("r1", {"docker-compose.yml": "services: 2\n"})
    assert lab.converge(desired(compose="services: 2\n")) == ["release: none -> r1"]
    assert lab.double.changes == ["up", "up"]


def test_run_after_one_that_was_killed_after_compose_switches(lab):
    lab.converge(desired())
    lab.converge(desired("r2"))
    lab.releases.switch("r1")
    assert lab.converge(desired("r2")) == ["release: r1 -> r2"]
    assert lab.releases.current == "r2"


@pytest.mark.parametrize("condition", ["unhealthy", "restarting", "paused"])
def test_stuck_worker_is_restarted(lab, condition):
    lab.converge(desired(count=2))
    lab.double.containers[1]["State"] = state(condition)
    assert lab.converge(desired(count=2)) == [f"container worker-2: {condition}"]
    assert [line for line in lab.double.commands if " restart " in line] == ["docker restart -t 75 id2"]


def test_worker_that_is_starting_is_waited_for_and_no_difference(lab):
    lab.converge(desired())
    lab.double.containers[0]["State"] = state("starting")
    with pytest.raises(QsmrError, match="0 of 1 workers were healthy within 30 s"):
        lab.converge(desired())
    assert lab.double.changes == ["up"]


def test_sick_release_is_told_with_its_check_its_lines_and_what_ran_before(lab):
    lab.converge(desired())
    lab.double.condition = "unhealthy"
    with pytest.raises(QsmrError) as caught:
        lab.converge(desired("r2"))
    assert str(caught.value).splitlines() == [
        "Release r2 is not healthy: 0 of 1 workers were healthy within 30 s.",
        "worker-2 is unhealthy, its check says: the check's words",
        "  log line",
    ]
    assert 30 <= lab.now < 31
    assert lab.releases.current == "r2"
    assert lab.releases.ids() == ["r1", "r2"]


def test_worker_without_a_health_check_never_counts_as_healthy(lab):
    lab.double.condition = "running"
    with pytest.raises(QsmrError, match="worker-1 is without a health check"):
        lab.converge(desired())


def test_failing_compose_leaves_current_at_what_runs(lab):
    lab.converge(desired())
    lab.double.fails = {" up ": f"ERROR: no such thing, {PASSWORD}"}
    with pytest.raises(QsmrError) as caught:
        lab.converge(desired("r2"))
    assert str(caught.value) == (
        "Compose did not start release r2: ERROR: no such thing, ******** (the host's workers run r1)"
    )
    assert lab.releases.current == "r1"


def test_setting_that_compose_does_not_pass_on_is_an_error_and_no_endless_change(lab):
    lab.double.compose = lambda line, env: HostDouble.compose(lab.double, line, {**env, "UWORKER_HOSTNAME": "x"})
    with pytest.raises(QsmrError, match="worker.env: key UWORKER_HOSTNAME changed: is it in docker-compose.yml"):
        lab.converge(desired())


def test_release_is_not_started_without_its_image(lab):
    with pytest.raises(QsmrError, match="has no image qsmr_snapshot_demo:r3"):
        lab.converge(desired("r3"))
    assert lab.releases.ids() == []


def test_tag_that_moved_to_another_image_is_not_the_image(lab):
    lab.double.images["qsmr_snapshot_demo:r1"] = image("sha256:other", ["sha256:x"])
    with pytest.raises(QsmrError, match="has no image"):
        lab.converge(desired())


def test_absent_leaves_nothing(lab):
    lab.converge(desired(count=2))
    lab.host.remove()
    assert lab.double.containers == []
    assert not lab.releases.root.exists()
    assert [line for line in lab.double.commands if " stop " in line] == ["docker stop -t 75 id1 id2"]


def test_network_of_a_former_release_goes_with_the_switch_to_one_that_needs_none(lab):
    lab.converge(desired())
    lab.double.networks = ["qsmr-demo_default"]  # as Compose makes it for a file without network_mode
    lab.converge(desired(count=2))
    assert lab.double.networks == ["qsmr-demo_default"]
    lab.converge(desired("r2", compose="services: {uworker: {network_mode: bridge}}\n"))
    assert lab.double.networks == []


def test_network_that_somebody_else_uses_is_no_reason_against_a_release(lab):
    lab.double.networks = ["qsmr-demo_default"]
    lab.double.fails = {"network rm": "network is being used"}
    lab.converge(desired(compose="services: {uworker: {network_mode: bridge}}\n"))
    assert lab.releases.stable == "r1"


def test_worker_must_stay_healthy_and_a_restart_begins_anew(lab):
    lab.double.condition = "starting"
    moments = {5.0: ("healthy", "a"), 8.0: ("starting", "b"), 12.0: ("healthy", "b")}

    def sleep(seconds):
        lab.sleep(seconds)
        for moment, (condition, started) in moments.items():
            if lab.now >= moment:
                lab.double.containers[0]["State"] = {**state(condition), "StartedAt": started}

    lab.host.sleep = sleep
    lab.converge(desired(), deadline=30.0, settle=10.0)
    assert 22 <= lab.now < 26


def test_worker_that_gets_healthy_at_the_last_moment_still_has_its_time(lab):
    lab.double.condition = "starting"

    def sleep(seconds):
        lab.sleep(seconds)
        if lab.now >= 29:
            lab.double.containers[0]["State"] = state("healthy")

    lab.host.sleep = sleep
    lab.converge(desired(), deadline=30.0, settle=10.0)
    assert lab.now >= 39


def engine_down_until(lab, monkeypatch, moment):
    """Whatever asks the engine before that moment gets no answer."""
    for owner, name in ((lab.host, "containers"), (lab.host.docker, "info")):
        works = getattr(owner, name)

        def ask(works=works):
            if lab.now < moment:
                raise QsmrError("the Docker engine does not run")
            return works()

        monkeypatch.setattr(owner, name, ask)


def test_engine_that_restarts_has_its_workers_back(lab, monkeypatch):
    """Asked at the wrong moment, a release that is good would be taken for a bad one."""
    lab.converge(desired())
    engine_down_until(lab, monkeypatch, lab.now + 10)
    assert len(lab.host.wait_healthy(desired(), 30)) == desired().count


def test_engine_that_does_not_come_back_is_named(lab, monkeypatch):
    lab.converge(desired())
    engine_down_until(lab, monkeypatch, math.inf)
    with pytest.raises(QsmrError, match="the Docker engine does not run"):
        lab.host.wait_healthy(desired(), 30)


def test_host_is_taken_back_when_its_engine_is_back(lab, monkeypatch):
    lab.converge(desired())
    found = lab.host.find(desired("r2"))
    fallback = lab.host.fallback(desired("r2"), found)
    lab.host.start(desired("r2"), found)
    engine_down_until(lab, monkeypatch, lab.now + 10)
    assert lab.host.take_back(found, fallback, 30) == ("The host is back on r1, which is healthy.", True)


def test_release_that_does_not_get_healthy_is_taken_back(lab):
    lab.converge(desired())
    found = lab.host.find(desired("r2"))
    fallback = lab.host.fallback(desired("r2"), found)
    lab.double.condition = "unhealthy"
    with pytest.raises(Sick) as caught:
        lab.converge(desired("r2"))
    assert caught.value.check == "worker-2 is unhealthy, its check says: the check's words"
    assert caught.value.log == ["log line"]
    lab.double.condition = "healthy"
    assert lab.host.take_back(found, fallback, 30) == ("The host is back on r1, which is healthy.", True)
    assert [c["Config"]["Image"] for c in lab.double.containers] == ["qsmr_snapshot_demo:r1"]
    assert (lab.releases.current, lab.releases.stable) == ("r1", "r1")


def test_files_that_changed_within_a_release_are_taken_back(lab):
    lab.converge(desired())
    changed = desired(password="wrong")
    found = lab.host.find(changed)
    fallback = lab.host.fallback(changed, found)
    lab.host.start(changed, found)
    assert lab.host.take_back(found, fallback, 30)[1]
    assert lab.converge(desired()) == []


def test_first_release_of_a_host_is_stopped_when_it_does_not_get_healthy(lab):
    found = lab.host.find(desired())
    lab.host.start(desired(), found)
    assert lab.host.take_back(found, lab.host.fallback(desired(), found), 30)[1]
    assert lab.double.containers == []
    assert lab.releases.current == ""


def test_run_after_one_that_was_killed_while_a_release_had_to_prove_itself_takes_back_to_the_one_before(lab):
    lab.converge(desired())
    lab.converge(desired("r2"), mark="none")
    found = lab.host.find(desired("r2"))
    assert compare(desired("r2"), found) == ["stable release: r1 -> r2"]
    assert lab.host.fallback(desired("r2"), found).snapshot_id == "r1"


def test_release_that_turns_sick_after_it_proved_itself_is_taken_back_and_not_offered_again(lab):
    lab.converge(desired())
    lab.converge(desired("r2"))
    lab.double.containers[0]["State"] = state("unhealthy")
    found = lab.host.find(desired("r2"))
    with pytest.raises(Sick, match="did not stay as it was: container worker-2: unhealthy"):
        lab.converge(desired("r2"), hold=True)
    assert lab.host.take_back(found, lab.host.fallback(desired("r2"), found, hold=True), 30)[1]
    with pytest.raises(QsmrError, match="There is no such release here"):
        lab.releases.named("before")


def test_rollback_is_to_the_stable_release_before_and_goes_on_after_it_was_broken_off(lab):
    lab.converge(desired())
    lab.converge(desired("r2"))
    assert lab.releases.named("before") == "r1"
    lab.releases.switch("r1")
    assert lab.releases.named("before") == "r1"
    lab.releases.confirm("r1")
    assert lab.releases.named("before") == "r2"


def test_rollback_gives_up_a_switch_that_was_broken_off(lab):
    for name in ("r1", "r2"):
        lab.converge(desired(name))
    lab.releases.write("r3", {"snapshot.json": "{}"})
    lab.releases.switch("r3")
    assert lab.releases.named("before") == "r2"


def test_release_on_the_host_is_found_by_its_name_and_its_absence_is_told(lab):
    lab.converge(desired())
    assert lab.host.installed(desired("r2"), "r1").image.name == "qsmr_snapshot_demo:r1"
    with pytest.raises(QsmrError, match="Release r9 is not on this host, which has r1"):
        lab.host.installed(desired("r2"), "r9")
