"""The worker as a process against the real job service; only faults come from a double (worker_double.py)."""

from __future__ import annotations

import functools
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from contract.job_service import JobService
from contract.worker_double import Double, running_double, wait_until
from qsmr.hostimage import Wanted
from qsmr.hoststate import Desired
from uworker import health

WORKER = Path(__file__).parents[2] / "images" / "worker"
numbers = itertools.count(1)


@functools.cache
def token_of(service: JobService) -> str:
    answer = requests.get(f"{service.root}/token", auth=(service.username, service.password), timeout=30)
    return str(answer.json()["token"])


class Project:
    """A project of the test's own in a job service."""

    def __init__(self, service: JobService) -> None:
        self.service = service
        self.name = f"worker{next(numbers)}"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        url = f"{self.service.root}/v4/{self.name}{path}"
        response = requests.request(method, url, json=body, auth=(token_of(self.service), ""), timeout=30)
        assert response.ok, response.text
        return response.json() if response.content else None

    def add(self, job: str = "j1", source: str = "http://source/log", **fields: str) -> None:
        self.call("POST", "/jobs", {"id": job, "source_url": source, **fields})

    def job(self, job: str = "j1") -> dict[str, Any]:
        return next(entry for entry in self.call("GET", "/jobs")["Jobs"] if entry["Id"] == job)

    def status(self, job: str = "j1") -> str:
        return str(self.call("GET", f"/jobs/{job}/status")["Status"])

    def output(self, job: str = "j1") -> str:
        return str(self.call("GET", f"/jobs/{job}/output")["Output"] or "")

    def ends(self, job: str = "j1", seconds: float = 30.0) -> str:
        wait_until(lambda: self.status(job) in ("FINISHED", "FAILED"), seconds)
        return self.status(job)

    def free(self, job: str = "j1") -> bool:
        entry = self.job(job)
        return (entry["Status"], entry["IsClaimed"], entry["Worker"]) == ("AVAILABLE", False, None)


class Worker:
    def __init__(self, directory: Path, environment: dict[str, str], arguments: tuple[str, ...], patch: str) -> None:
        self.log = directory / "worker.log"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("UWORKER_")}
        self.environment |= environment
        program = f"import sys; sys.path.insert(0, {str(WORKER)!r})"
        program += f"; from uworker import client, executor, loop, main; {patch}"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-IBc", f"{program}; sys.exit(main.main())", *arguments],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def health(self) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-IS", WORKER / "uworker" / "health.py"],
            env=self.environment,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout

    def becomes(self, reason: str) -> None:
        wait_until(lambda: reason in health.verdict(self.environment["UWORKER_STATE_DIR"])[1])

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ends(self, seconds: float = 30.0) -> int:
        return self.process.wait(seconds)


Start = Callable[..., Worker]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobService]:
    """One job service for all; its database makes no difference to a worker."""
    service = JobService(tmp_path_factory.mktemp("job_service"))
    yield service
    service.kill()


@pytest.fixture
def project(service: JobService) -> Project:
    return Project(service)


@pytest.fixture
def double() -> Iterator[Double]:
    with running_double() as double:
        yield double


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a worker of a project (or of a double's) with a job command given as shell script."""
    workers: list[Worker] = []

    def start(
        where: Project | Double, script: str = "", *arguments: str, patch: str = "", **environment: str
    ) -> Worker:
        command = tmp_path / "command"
        if script:
            command.write_text(f"#!/bin/sh\n{script}\n")
            command.chmod(0o755)
        account = ("lab", "secret")
        if isinstance(where, Project):
            account = (where.service.username, where.service.password)
        settings = {
            "UWORKER_JOB_API_ROOT": where.service.root if isinstance(where, Project) else where.root,
            "UWORKER_JOB_API_PROJECT": where.name if isinstance(where, Project) else "p",
            "UWORKER_JOB_API_USERNAME": account[0],
            "UWORKER_JOB_API_PASSWORD": account[1],
            "UWORKER_JOB_CMD": f"{command} /opt/matlab/v90",
            "UWORKER_STATE_DIR": str(tmp_path / "state"),
        }
        workers.append(Worker(tmp_path, settings | environment, arguments, patch or "pass"))
        return workers[-1]

    yield start
    for worker in workers:
        worker.process.kill()
        worker.process.wait()


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def worker_busy(project: Project) -> bool:
    return "Started" in project.call("GET", "")["JobStates"]


# The way of a job


def test_a_job_finishes(project: Project, start: Start) -> None:
    project.add(target_url="http://target/?d=x")
    worker = start(project, 'echo "$#:$*"; echo oops >&2', UWORKER_HOSTNAME="lab1", UWORKER_CONTAINER_NAME="first")
    assert project.ends() == "FINISHED"
    job = project.job()
    assert job["Worker"] == "UWorker_lab1_first"
    assert 0 < job["ProcessingTime"] < 10
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}"
    first, *middle, last = project.output().splitlines()
    assert re.fullmatch(rf"{stamp} - EXECUTOR: Starting execution", first)
    assert re.fullmatch(rf"{stamp} - EXECUTOR: Job process exited with code 0", last)
    lines = sorted(re.sub(stamp, "", line) for line in middle)
    assert lines == [" - STDERR: oops", " - STDOUT: 3:/opt/matlab/v90 http://source/log http://target/?d=x"]
    worker.becomes("idle, last contact")
    assert not (Path(worker.environment["UWORKER_STATE_DIR"]) / "job.json").exists()


@pytest.mark.parametrize(
    ("target", "external", "arguments"),
    [
        ("http://t", ("notused", "notused"), "/opt/matlab/v90 http://source/log http://t notused notused"),
        ("http://t", ("", "word"), "/opt/matlab/v90 http://source/log http://t word"),
        ("", ("notused", "notused"), "/opt/matlab/v90 http://source/log"),
    ],
)
def test_arguments_of_the_command(
    project: Project, start: Start, target: str, external: tuple[str, str], arguments: str
) -> None:
    project.add(**({"target_url": target} if target else {}))
    start(
        project,
        'echo "[$*]"',
        UWORKER_EXTERNAL_API_USERNAME=external[0],
        UWORKER_EXTERNAL_API_PASSWORD=external[1],
    )
    project.ends()
    assert f"STDOUT: [{arguments}]\n" in project.output()


def test_environment_of_the_command(project: Project, start: Start) -> None:
    project.add()
    worker = start(project, "env; cat", QSMR_CONFIG="tight", UWORKER_JOB_TIMEOUT="60")
    assert project.ends() == "FINISHED"  # "cat" ends: there is nothing to read on stdin
    output = project.output()
    assert "QSMR_CONFIG=tight" in output
    assert "UWORKER_JOB_API_PROJECT=" in output
    for text in (output, worker.log.read_text()):
        assert project.service.password not in text
    assert "UWORKER_JOB_API_USERNAME" not in output


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -SEGV $$", -11)])
def test_a_job_fails(project: Project, start: Start, script: str, code: int) -> None:
    project.add()
    start(project, script)
    assert project.ends() == "FAILED"
    assert project.output().endswith(f"Job process exited with code {code}\n")


def test_many_lines_bytes_and_empty_lines_cost_nothing(project: Project, start: Start) -> None:
    project.add()
    start(
        project,
        r"yes '' | head -2000; printf 'temp\351rature\n\360\237\214\215\n'; yes 0123456789 | head -20000; echo end",
    )
    assert project.ends() == "FINISHED"
    assert project.job()["ProcessingTime"] < 10
    output = project.output()
    assert len(output.encode()) <= 65_535
    assert "left out here" in output
    assert output.splitlines()[-2].endswith("STDOUT: end")


def test_output_is_seen_while_the_job_runs(project: Project, start: Start) -> None:
    project.add()
    start(project, "echo early; sleep 2; echo late", patch="loop.FIRST_UPLOAD = 0.2; executor.TICK = 0.1")
    wait_until(lambda: "early" in project.output())
    assert project.status() == "STARTED"
    assert "late" not in project.output()
    project.ends()
    assert "late" in project.output()


def test_nothing_of_a_job_is_left_behind(project: Project, start: Start, tmp_path: Path) -> None:
    project.add()
    start(project, f"sleep 60 & echo $! >{tmp_path}/child; setsid sleep 20 & echo done")
    assert project.ends() == "FINISHED"
    assert project.job()["ProcessingTime"] < 5
    assert not alive((tmp_path / "child").read_text())


def test_all_jobs_are_done_once_by_workers_that_race(project: Project, start: Start, tmp_path: Path) -> None:
    for number in range(12):
        project.add(f"j{number}", f"s{number}")
    script = f'echo "$2" >>{tmp_path}/done'
    workers = [
        start(project, script, UWORKER_STATE_DIR=str(tmp_path / str(number)), UWORKER_HOSTNAME=f"host{number}")
        for number in range(2)
    ]
    for number in range(12):
        assert project.ends(f"j{number}") == "FINISHED"
    assert sorted((tmp_path / "done").read_text().split()) == sorted(f"s{number}" for number in range(12))
    for worker in workers:
        worker.terminate()
        assert worker.ends() == 0


def test_an_idle_worker_notices_a_new_job_within_seconds(project: Project, start: Start) -> None:
    worker = start(project, "true")
    worker.becomes("idle, last contact")
    project.add()
    added = time.monotonic()
    wait_until(lambda: project.status() == "FINISHED")
    assert time.monotonic() - added < 3.5


# Time-outs


def once(start: Start, project: Project, script: str, **environment: str) -> tuple[int, str, float]:
    begin = time.monotonic()
    worker = start(project, script, "http://source/log", **environment)
    code = worker.ends()
    return code, worker.log.read_text(), time.monotonic() - begin


def test_a_timeout_kills_the_whole_process_group(project: Project, start: Start, tmp_path: Path) -> None:
    project.add()
    start(project, f"(sleep 60 & echo $! >{tmp_path}/grandchild; wait) & wait", UWORKER_JOB_TIMEOUT="1")
    assert project.ends() == "FAILED"
    killed, ended = project.output().splitlines()[-2:]
    assert killed.endswith("EXECUTOR: Killed Job process after timeout of 1 seconds")
    assert ended.endswith("EXECUTOR: Job process exited with code 124")
    assert not alive((tmp_path / "grandchild").read_text())


def test_code_that_hangs_is_ended_as_the_host_says_and_the_next_job_taken(project: Project, start: Start) -> None:
    """With the environment that a host makes of the snapshot's worker.env and its own qsmr_job_timeout."""
    files = {"worker.env": "UWORKER_JOB_TIMEOUT=3600\n", "docker-compose.yml": "- UWORKER_JOB_TIMEOUT\n"}
    release = Desired("qsmr-demo", "r1", Wanted("", "", (), ""), files, "host1", 1, 60, job_timeout="1")
    project.add("hangs", "http://source/hangs")
    project.add("next", "http://source/next")
    start(project, "case $2 in *hangs) sleep 600 ;; esac", UWORKER_JOB_TIMEOUT=release.env["UWORKER_JOB_TIMEOUT"])
    assert project.ends("hangs") == "FAILED"
    assert "Killed Job process after timeout of 1 seconds" in project.output("hangs")
    assert project.ends("next") == "FINISHED"


def test_a_job_that_finishes_after_term_has_still_failed(project: Project, start: Start) -> None:
    code, output, _ = once(start, project, "trap 'exit 0' TERM; sleep 60 & wait", UWORKER_JOB_TIMEOUT="1")
    assert code == 124
    assert "Killed Job process" in output


def test_a_job_that_ignores_term_is_killed(project: Project, start: Start, tmp_path: Path) -> None:
    script = f"trap '' TERM; echo $$ >{tmp_path}/pid; while :; do sleep 0.1; done"
    code, output, seconds = once(start, project, script, UWORKER_JOB_TIMEOUT="1")
    assert code == 137
    assert "exited with code 137" in output
    assert 6 <= seconds < 30
    assert not alive((tmp_path / "pid").read_text())


# Once mode and the command line


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)])
def test_once_mode_prints_the_output_and_returns_the_exit_status(
    project: Project, start: Start, script: str, code: int
) -> None:
    status, output, _ = once(start, project, f'echo "[$*]"; {script}')
    assert status == code
    assert "STDOUT: [/opt/matlab/v90 http://source/log]\n" in output


def test_docker_mode_is_refused(project: Project, start: Start) -> None:
    worker = start(project, "true", "--no-command")
    assert worker.ends() == 1
    assert worker.log.read_text().count("\n") == 1
    assert "docker mode" in worker.log.read_text()


def test_faults_of_the_environment_end_the_worker_with_one_line(project: Project, start: Start) -> None:
    worker = start(project, "true", UWORKER_JOB_API_PASSWORD="", UWORKER_JOB_CMD="", UWORKER_JOB_API_PROJECT="a-b")
    assert worker.ends() == 1
    log = worker.log.read_text()
    assert log.count("\n") == 1
    for name in ("UWORKER_JOB_API_PASSWORD", "UWORKER_JOB_CMD", "UWORKER_JOB_API_PROJECT=a-b"):
        assert name in log


# Stopping


def test_an_idle_worker_stops_at_once(project: Project, start: Start) -> None:
    worker = start(project, "true")
    worker.becomes("idle, last contact")
    worker.terminate()
    assert worker.ends(5) == 0


def test_a_worker_that_waits_for_an_answer_stops_at_once(double: Double, start: Start) -> None:
    double.faults.append(("GET", "/fetch", 30.0))
    worker = start(double, "true")
    wait_until(lambda: double.called("GET", "fetch"))
    worker.terminate()
    assert worker.ends(5) == 0


def test_the_job_at_hand_may_finish(project: Project, start: Start) -> None:
    project.add()
    project.add("j2")
    worker = start(project, "sleep 1; echo whole")
    wait_until(lambda: worker_busy(project))
    worker.terminate()
    assert worker.ends() == 0
    assert sorted((project.status("j1"), project.status("j2"))) == ["AVAILABLE", "FINISHED"]


def test_a_job_that_takes_longer_than_the_grace_period_is_given_back(
    project: Project, start: Start, tmp_path: Path
) -> None:
    project.add()
    worker = start(project, f"echo $$ >{tmp_path}/pid; trap '' TERM; sleep 60", UWORKER_GRACE_PERIOD="1")
    wait_until((tmp_path / "pid").exists)
    worker.terminate()
    begin = time.monotonic()
    assert worker.ends() == 0
    assert 1 <= time.monotonic() - begin < 10
    assert project.free()
    assert not alive((tmp_path / "pid").read_text())


def test_a_second_signal_gives_the_job_back_at_once(project: Project, start: Start) -> None:
    project.add()
    worker = start(project, "sleep 60")
    wait_until(lambda: worker_busy(project))
    worker.terminate()
    time.sleep(0.2)
    worker.process.send_signal(signal.SIGINT)
    assert worker.ends(10) == 0
    assert project.free()


# Trouble with the service


def test_a_service_that_dies_in_mid_run_and_forgets_all_tokens_loses_no_job(
    job_service: JobService, start: Start, tmp_path: Path
) -> None:
    project = Project(job_service)
    project.add()
    soon = "client.Backoff.next = lambda self: 0.1"
    worker = start(project, f"touch {tmp_path}/begun; sleep 0.5; touch {tmp_path}/ended", patch=soon)
    wait_until((tmp_path / "begun").exists)
    job_service.kill()
    wait_until((tmp_path / "ended").exists)
    worker.becomes("the job service at")
    token_of.cache_clear()
    job_service.secret_key = "another key, so that every older token is refused"
    job_service.start()
    assert project.ends() == "FINISHED"
    assert "exited with code 0" in project.output()
    worker.becomes("idle, last contact")


def test_a_final_report_waits_for_a_long_outage(double: Double, start: Start) -> None:
    job = double.add("j1")
    outage = threading.Event()
    double.faults.append(("PUT", "/output", lambda body: 503 if outage.is_set() else None))
    outage.set()
    start(double, "echo result", patch="client.TRIES = 2; client.Backoff.next = lambda self: 0.01")
    wait_until(lambda: double.called("PUT", "/output") > 10)
    assert job["status"] == ["AVAILABLE", "CLAIMED", "STARTED"]
    outage.clear()
    wait_until(lambda: job["status"][-1] == "FINISHED")
    assert "result" in job["output"][-1]


def test_an_output_that_is_refused_does_not_lose_the_status(double: Double, start: Start) -> None:
    job = double.add("j1")
    double.faults.append(("PUT", "/output", lambda body: 500))
    start(double, "true", patch="client.Backoff.next = lambda self: 0.01")
    wait_until(lambda: job["status"][-1] == "FINISHED")


def test_a_report_that_cannot_be_made_before_the_stop_is_made_by_the_next_worker(double: Double, start: Start) -> None:
    job = double.add("j1")
    double.faults.append(("PUT", "/status", lambda body: 503 if body["Status"] == "FINISHED" else None))
    worker = start(double, "echo result", UWORKER_GRACE_PERIOD="1")
    wait_until(lambda: job["output"])
    worker.terminate()
    assert worker.ends() == 0
    double.faults.clear()
    start(double)
    wait_until(lambda: job["status"][-1] == "FINISHED")
    assert "result" in job["output"][-1]


def test_a_slow_upload_does_not_hold_up_the_command(double: Double, start: Start, tmp_path: Path) -> None:
    double.add("j1")
    double.faults.append(("PUT", "/output", 20.0))
    start(double, f"yes | head -100000; touch {tmp_path}/done", patch="loop.FIRST_UPLOAD = 0; executor.TICK = 0.1")
    wait_until((tmp_path / "done").exists, 15)


def test_an_error_in_the_worker_fails_the_job_with_the_reason(double: Double, start: Start) -> None:
    job = double.add("j1", source="http://source/\0")
    start(double, "true")
    wait_until(lambda: job["status"][-1] == "FAILED")
    assert "EXECUTOR: Error in the worker: ValueError('embedded null byte')" in job["output"][-1]


def test_a_job_without_source_fails(double: Double, start: Start) -> None:
    job = double.add("j1", source=None)
    start(double, "true")
    wait_until(lambda: job["status"][-1] == "FAILED")
    assert "no source URL" in job["output"][-1]


def test_a_service_that_always_offers_a_claimed_job_is_not_stormed(double: Double, start: Start) -> None:
    double.add("j1")
    double.faults.append(("PUT", "/claim", lambda body: 409))
    start(double, "true")
    wait_until(lambda: double.called("PUT", "/claim"))
    time.sleep(2)
    assert 2 <= double.called("PUT", "/claim") <= 25


def test_the_job_of_a_killed_worker_is_failed_by_its_successor(project: Project, start: Start) -> None:
    project.add()
    worker = start(project, "echo begun; sleep 5", patch="loop.FIRST_UPLOAD = 0; executor.TICK = 0.1")
    wait_until(lambda: "begun" in project.output())
    worker.process.kill()
    worker.ends()
    start(project)
    assert project.ends() == "FAILED"
    output = project.output()
    assert "STDOUT: begun" in output
    assert "The worker was killed while the job ran" in output


def test_the_job_of_a_killed_worker_that_was_freed_meanwhile_is_left_alone(project: Project, start: Start) -> None:
    project.add()
    worker = start(project, "sleep 5")
    wait_until(lambda: worker_busy(project))
    worker.process.kill()
    worker.ends()
    project.call("DELETE", "/jobs/j1/claim")
    project.call("PUT", "/jobs/j1/status", {"Status": "AVAILABLE"})
    start(project, "true")
    assert project.ends() == "FINISHED"


def test_a_report_owed_to_another_job_service_is_not_sent(project: Project, double: Double, start: Start) -> None:
    double.add("j1")
    worker = start(double, "sleep 5")
    wait_until(lambda: double.called("PUT", "/status"))
    worker.process.kill()
    worker.ends()
    calls = len(double.calls)
    project.add()
    start(project, "true")
    assert project.ends() == "FINISHED"
    assert len(double.calls) == calls


# Health


@pytest.mark.parametrize("mode", [0o644, None], ids=["not executable", "missing"])
def test_without_its_command_a_worker_takes_nothing_and_is_unhealthy(
    project: Project, start: Start, tmp_path: Path, mode: int | None
) -> None:
    project.add()
    if mode:
        (tmp_path / "command").write_text("#!/bin/sh\n")
        (tmp_path / "command").chmod(mode)
    worker = start(project)
    worker.becomes("the job command")
    assert worker.health()[0] == 1
    assert ("not executable" if mode else "does not exist") in worker.health()[1]
    assert project.free()


def test_a_command_that_cannot_be_started_gives_the_job_back(project: Project, start: Start, tmp_path: Path) -> None:
    project.add()
    (tmp_path / "command").write_text("#!/no/such/interpreter\n")
    (tmp_path / "command").chmod(0o755)
    worker = start(project, patch="client.Backoff.next = lambda self: 60.0")
    worker.becomes("the job command")
    assert "can't be started: No such file or directory" in worker.health()[1]
    assert project.free()


def test_a_project_for_docker_mode_is_left_alone(project: Project, start: Start) -> None:
    project.call("PUT", "", {"processing_image_url": "registry/image"})
    project.add()
    worker = start(project, "true")
    worker.becomes("workers in docker mode")
    assert project.free()


def test_a_wrong_password_is_unhealthy(project: Project, start: Start) -> None:
    worker = start(project, "true", UWORKER_JOB_API_PASSWORD="wrong-horse")
    worker.becomes("the job service refuses the account (401)")
    assert "wrong-horse" not in worker.log.read_text()


def test_an_unreachable_service_is_unhealthy(project: Project, start: Start) -> None:
    worker = start(project, "true", UWORKER_JOB_API_ROOT="http://127.0.0.1:9/rest_api")
    worker.becomes("can't be reached: Connection refused")


def test_a_worker_is_healthy_during_a_job(project: Project, start: Start) -> None:
    project.add()
    worker = start(project, "sleep 3")
    wait_until(lambda: worker_busy(project))
    assert worker.health()[0] == 0


def test_the_sign_of_life_goes_on_during_a_long_job(project: Project, start: Start, tmp_path: Path) -> None:
    project.add()
    start(project, "sleep 60", patch="from uworker import state; state.BEAT_INTERVAL = 0.1; executor.TICK = 0.1")
    wait_until(lambda: worker_busy(project))
    state = tmp_path / "state" / "state"
    beats = {state.read_text() for _ in range(10) if time.sleep(0.1) is None}
    assert len(beats) > 3


def test_a_hanging_or_dead_worker_is_unhealthy(project: Project, start: Start, tmp_path: Path) -> None:
    worker = start(project, "true")
    worker.becomes("idle, last contact")
    worker.process.kill()
    worker.ends()
    state = tmp_path / "state" / "state"
    state.write_text(re.sub("(?<=beat=).*", lambda beat: str(float(beat[0]) - 61), state.read_text()))
    assert worker.health()[0] == 1
    assert "no sign of life for 6" in worker.health()[1]
    state.write_text("beat")
    assert "not readable" in worker.health()[1]
    state.unlink()
    assert "no worker runs here" in worker.health()[1]
    assert "Traceback" not in worker.health()[1]


def test_without_its_state_directory_a_worker_takes_nothing(project: Project, start: Start, tmp_path: Path) -> None:
    worker = start(project, "true", patch="client.Backoff.next = lambda self: 0.1")
    worker.becomes("idle, last contact")
    shutil.rmtree(tmp_path / "state")
    project.add()
    wait_until(lambda: "state can't be written" in worker.log.read_text())
    assert project.free()
    (tmp_path / "state").mkdir()
    assert project.ends() == "FINISHED"


# As first process of a container


def test_orphans_are_reaped(project: Project, start: Start) -> None:
    project.add()
    become_first = "import ctypes; ctypes.CDLL(None).prctl(36, 1)"  # PR_SET_CHILD_SUBREAPER
    worker = start(project, "(setsid sleep 0.2 &) ; (setsid true &) ; sleep 0.5", patch=become_first)
    project.ends()
    worker.becomes("idle, last contact")
    children = Path(f"/proc/{worker.process.pid}/task/{worker.process.pid}/children")
    wait_until(lambda: children.read_text().split() == [])
