#!/usr/bin/env python3
"""Rollouts on five hosts with real jobs running all the while, and everything that can go wrong: ``make test-rollout``.

After each case: every job finished, and was counted once; the fleet is on one release known to be good; no host but the
canary ever ran the bad one; and the audit tells what the hosts show. Nothing here is random: ``--only CASE`` runs one
case again. The fleet is one of its own beside the demo's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "plugins/module_utils"), str(REPOSITORY / "tests")]
import container_fleet  # noqa: E402
from container_fleet import docker  # noqa: E402
from qsmr.jobapi import JobApi  # noqa: E402
from qsmr.settings import load_settings  # noqa: E402
from worker_snapshots import write_sums  # noqa: E402

NAME, NET, PROJECT = "qsmr-faults", "10.86.0", "demo"
HOSTS = tuple(f"host{number}" for number in range(1, 6))
DIRECTORY = REPOSITORY / "build/faults"
HOST = "/opt/qsmr/demo"
SCANS = 40  # new jobs for each case
QUICK_LOSS = "-o ControlMaster=no -o ServerAliveInterval=1 -o ServerAliveCountMax=3 -o ConnectTimeout=3"
CRASHES = '    entrypoint: ["sh", "-c", "echo no way; exit 3"]\n'
SICK_LATER = """\
    healthcheck:
      test: ["CMD-SHELL", "test $$(( $$(date +%s) - $$(stat -c %Y /proc/1) )) -lt 12"]
      interval: 1s
      retries: 2
"""
FAILS_JOBS = "      - UWORKER_JOB_CMD=/bin/false\n"


class Lab:
    """The fleet, its snapshots, and what runs where."""

    def __init__(self) -> None:
        container_fleet.NAME, container_fleet.NET = NAME, NET
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        more = {
            f"host{number}": {
                "ansible_host": f"{NET}.{20 + number}",
                "ansible_user": "qsmr" if number == 5 else "root",
                "container_fleet_image": f"qsmr-fleet/host-debian{8 + number}",
            }
            for number in (4, 5)
        }
        inventory = {"workers": {"hosts": more}}
        (DIRECTORY / "more.json").write_text(json.dumps(inventory))
        self.numbers = 0
        self.jobs = 0
        self.seen: dict[str, set[str]] = {}

    def command(self, playbook: str, *words: str, **settings: Any) -> list[str]:
        usual = {
            "demo_name": NAME, "demo_net": NET, "demo_dir": str(DIRECTORY), "qsmr_project": PROJECT,
            "qsmr_healthy_deadline": 40, "qsmr_min_healthy_time": 6, "qsmr_drain_timeout": 20,
            "qsmr_rollout_batches": "1,1,100%",
        }  # fmt: skip
        inventories = ("-i", str(REPOSITORY / "inventory/demo"), "-i", str(DIRECTORY / "more.json"))
        return [
            str(Path(sys.executable).with_name("ansible-playbook")), *inventories,
            f"playbooks/{playbook}", *words, "-e", json.dumps({**usual, **settings}),
        ]  # fmt: skip

    def start(self, playbook: str, *words: str, env: dict[str, str] | None = None, **settings: Any) -> Any:
        return subprocess.Popen(
            self.command(playbook, *words, **settings),
            cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "ANSIBLE_SSH_RETRIES": "0", "ANSIBLE_SSH_ARGS": QUICK_LOSS, **(env or {})},
        )  # fmt: skip

    def play(self, playbook: str, *words: str, **settings: Any) -> tuple[int, str]:
        run = self.start(playbook, *words, **settings)
        screen = run.communicate()[0]
        return run.returncode, screen

    def ok(self, playbook: str, *words: str, **settings: Any) -> str:
        code, screen = self.play(playbook, *words, **settings)
        assert code == 0, screen[-6000:]
        return screen

    def on(self, host: str, command: str) -> str:
        return docker("exec", f"{NAME}-{host}", "sh", "-c", command)

    def current(self, host: str) -> str:
        return self.on(host, f"readlink {HOST}/current || true").strip().rpartition("/")[2]

    def running(self, host: str) -> list[str]:
        """Release and condition of each worker's container."""
        names = self.on(host, "docker ps -aq --filter label=com.docker.compose.project=qsmr-demo").split()
        template = "{{range .Config.Env}}{{println .}}{{end}}STATE={{.State.Status}} {{.State.Health.Status}}"
        found = []
        for name in names:
            lines = self.on(host, f"docker inspect --format '{template}' {name}").splitlines()
            env = dict(line.split("=", 1) for line in lines if "=" in line)
            found.append(f"{env['QSMR_SNAPSHOT_ID']} {env['STATE']}")
        return sorted(found)

    def variant(self, snapshot: Path, change: str = "") -> Path:
        """A snapshot of the same image under another id, whose Compose file has a few lines more."""
        self.numbers += 1
        new = snapshot.parent / f"qsmr_snapshot_{PROJECT}_991231_{self.numbers + 1}"
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(snapshot, new)
        manifest = json.loads((new / "snapshot.json").read_text())
        old, manifest["snapshot_id"] = manifest["snapshot_id"], f"991231-{self.numbers:010d}"
        (new / "snapshot.json").write_text(json.dumps(manifest))
        env = (new / "worker.env").read_text()
        (new / "worker.env").write_text(env.replace(f"QSMR_SNAPSHOT_ID={old}", f"QSMR_SNAPSHOT_ID={id_of(new)}"))
        compose = (new / "docker-compose.yml").read_text()
        place = "    environment:\n" if not change.startswith("      -") else "      - UWORKER_HOSTNAME\n"
        assert place in compose
        (new / "docker-compose.yml").write_text(compose.replace(place, change + place))
        write_sums(new)
        return new

    def add_jobs(self) -> None:
        """New jobs for the workers, so that they have something to do all the while."""
        path = DIRECTORY / "more-scans.txt"
        first = 7300000001 + 317 * self.jobs
        path.write_text("".join(f"{first + 317 * number}\n" for number in range(SCANS)))
        self.ok("jobs.yml", qsmr_jobs_file=str(path))
        self.jobs += SCANS

    def api(self) -> JobApi:
        settings = load_settings(DIRECTORY / "demo.conf")
        return JobApi(settings.job_api_root, settings.job_api_username, settings.job_api_password)

    def finish_jobs(self, failed: bool = False) -> None:
        """All jobs end, and each is counted once; where some ``failed`` or lost their host, retry.yml helps."""
        if failed:
            self.ok("retry.yml", qsmr_max_attempts=100)
        end = time.monotonic() + 300
        record: dict[str, Any] = {}
        while time.monotonic() < end:
            record = self.api().project(PROJECT) or {}
            if record.get("JobStates") == {"Finished": self.jobs}:
                assert failed or record["NrJobsFinished"] <= self.jobs, record
                held = [job["Id"] for job in self.api().jobs(PROJECT) if not job["Finished"]]
                assert not held, held
                return
            time.sleep(1)
        raise AssertionError(f"not all of {self.jobs} jobs finished: {record}")

    def audit(self) -> list[dict[str, Any]]:
        lines = (DIRECTORY / f"state/{PROJECT}/audit.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Notes which releases ever ran on which host."""
        self.seen = {host: set() for host in HOSTS}
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.5):
                for host in HOSTS:
                    try:
                        self.seen[host] |= {line.split()[0] for line in self.running(host)}
                    except (subprocess.CalledProcessError, KeyError, ValueError, IndexError):
                        continue

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join()

    def bring_up(self, host: str) -> None:
        docker("start", f"{NAME}-{host}")
        for _ in range(90):
            try:
                self.on(host, "docker info && pgrep -x sshd")
                return
            except subprocess.CalledProcessError:
                time.sleep(1)
        raise AssertionError(f"{host} did not come back")

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if condition():
                    return
            except (subprocess.CalledProcessError, OSError, IndexError):
                pass
            time.sleep(0.2)
        raise AssertionError(f"it never came to this: {what}")


def id_of(snapshot: Path) -> str:
    return str(json.loads((snapshot / "snapshot.json").read_text())["snapshot_id"])


class Cases:
    """One method for each thing that happens. ``good`` runs on all hosts when a case begins."""

    def __init__(self, lab: Lab, good: Path) -> None:
        self.lab, self.good = lab, good

    def all_run(self, snapshot: Path) -> None:
        for host in HOSTS:
            assert self.lab.current(host) == id_of(snapshot), (host, self.lab.current(host))
            states = self.lab.running(host)
            assert [line.split()[0] for line in states] == [id_of(snapshot)], (host, states)
        assert self.lab.audit()[-1]["event"] == "end"

    def only_canary_ran(self, bad: Path) -> None:
        ran = [host for host, releases in self.lab.seen.items() if id_of(bad) in releases]
        assert ran in ([], ["host1"]), ran

    def settle(self, snapshot: Path | None = None) -> None:
        """Run again after the fault is gone: the fleet is on one release, and the audit ends with that."""
        self.lab.ok("workers.yml", qsmr_snapshot=str(snapshot or self.good))
        self.all_run(snapshot or self.good)
        # Once more, there is nothing to do.
        assert "nothing to do" in self.lab.ok("workers.yml", qsmr_snapshot=str(snapshot or self.good))

    def good_rollout(self) -> None:
        new = self.lab.variant(self.good)
        self.lab.ok("workers.yml", qsmr_snapshot=str(new))
        self.all_run(new)
        self.lab.finish_jobs()
        self.good = new
        switched = [event["host"] for event in self.lab.audit() if event.get("to") == id_of(new) and "host" in event]
        assert sorted(switched) == list(HOSTS)

    def good_rollout_with_canary_jobs(self) -> None:
        new = self.lab.variant(self.good)
        self.lab.ok("workers.yml", qsmr_snapshot=str(new), qsmr_canary_jobs=3, qsmr_canary_deadline=120)
        self.all_run(new)
        self.good = new

    def bad(self, change: str, failed: bool = False, **settings: Any) -> str:
        bad = self.lab.variant(self.good, change)
        code, screen = self.lab.play("workers.yml", qsmr_snapshot=str(bad), **settings)
        assert code == 2, screen[-4000:]
        assert screen.rstrip().splitlines()[-1].startswith("Stopped: "), screen[-2000:]
        self.only_canary_ran(bad)
        self.all_run(self.good)
        self.lab.finish_jobs(failed)
        told = [event for event in self.lab.audit() if event.get("to") == id_of(bad) and event["event"] == "host"]
        assert [(event["host"], event["from"], event["ended"]) for event in told][-1] == (
            "host1", id_of(self.good), "reverted",
        ), told  # fmt: skip
        return screen

    def crash_at_start(self) -> None:
        assert "no way" in self.bad(CRASHES)

    def sick_later(self) -> None:
        self.bad(SICK_LATER, qsmr_min_healthy_time=20)

    def failing_jobs(self) -> None:
        screen = self.bad(FAILS_JOBS, failed=True, qsmr_canary_jobs=3, qsmr_canary_deadline=120)
        assert "of its" in screen and "jobs failed" in screen

    def host_down_before(self) -> None:
        new = self.lab.variant(self.good)
        docker("stop", f"{NAME}-host3")
        code, screen = self.lab.play("workers.yml", qsmr_snapshot=str(new))
        assert code != 0 and "Nothing was changed" in screen and "host3  unreachable" in screen, screen[-3000:]
        self.lab.bring_up("host3")
        self.settle()
        self.lab.finish_jobs(failed=True)

    def lose(self, host: str, when: Callable[[], bool], how: Callable[[], Any], back: Callable[[], Any]) -> None:
        new = self.lab.variant(self.good)
        run = self.lab.start("workers.yml", qsmr_snapshot=str(new))
        self.lab.until(when, f"{host} is at its moment")
        how()
        screen = run.communicate()[0]
        back()
        assert run.returncode == 2, screen[-4000:]
        assert f"{host} " in screen.rstrip().splitlines()[-1], screen[-2000:]
        for other in HOSTS:
            if other != host:
                assert self.lab.current(other) == id_of(self.good), (other, screen[-3000:])
        self.settle()
        self.lab.finish_jobs(failed=True)

    def newest(self) -> str:
        return f"991231-{self.lab.numbers:010d}"

    def host_down_during(self) -> None:
        self.lose(
            "host2",
            lambda: self.lab.current("host2") == self.newest(),
            lambda: docker("kill", f"{NAME}-host2"),
            lambda: self.lab.bring_up("host2"),
        )

    def host_down_after(self) -> None:
        self.lose(
            "host1",
            lambda: self.lab.current("host2") == self.newest(),
            lambda: docker("kill", f"{NAME}-host1"),
            lambda: self.lab.bring_up("host1"),
        )

    def network_cut_to_control_node(self) -> None:
        self.lose(
            "host2",
            lambda: self.lab.current("host2") == self.newest(),
            lambda: docker("network", "disconnect", NAME, f"{NAME}-host2"),
            lambda: docker("network", "connect", "--ip", f"{NET}.22", NAME, f"{NAME}-host2"),
        )

    def network_cut_to_services(self) -> None:
        """Seen before anything is changed."""
        new = self.lab.variant(self.good)
        self.lab.on("host3", f"ip route add blackhole {NET}.10/32")
        try:
            code, screen = self.lab.play("workers.yml", qsmr_snapshot=str(new))
        finally:
            self.lab.on("host3", f"ip route del blackhole {NET}.10/32")
        assert code != 0 and "host3  The job service" in screen, screen[-3000:]
        self.all_run(self.good)
        self.lab.finish_jobs()

    def dockerd_restarted(self) -> None:
        """The workers of the host come back; whatever the rollout makes of it, running again ends it."""
        new = self.lab.variant(self.good)
        run = self.lab.start("workers.yml", qsmr_snapshot=str(new))
        self.lab.until(lambda: self.lab.current("host2") == self.newest(), "host2 is switched")
        docker("restart", f"{NAME}-host3")
        run.communicate()
        self.lab.bring_up("host3")
        self.settle()
        self.lab.finish_jobs(failed=True)

    def disk_full(self) -> None:
        new = self.lab.variant(self.good)
        full = f"{HOST}/releases/{id_of(new)}"
        self.lab.on("host2", f"mkdir -p {full}; mount -t tmpfs -o size=4k tmpfs {full}; chmod 777 {full}")
        self.lab.on("host2", f"head -c 4096 /dev/zero > {full}/x")
        try:
            code, screen = self.lab.play("workers.yml", qsmr_snapshot=str(new))
        finally:
            self.lab.on("host2", f"umount {full}; rm -rf {full}")
        assert code == 2 and "No space left on device" in screen, screen[-3000:]
        self.all_run(self.good)
        self.lab.finish_jobs()

    def killed(self, when: Callable[[], bool], change: str = "") -> None:
        """The control node dies; the same again, with a release that is good or not, ends as if nothing had been."""
        new = self.lab.variant(self.good, change)
        run = self.lab.start("workers.yml", qsmr_snapshot=str(new))
        self.lab.until(when, "the moment for the kill")
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        time.sleep(3)
        code, screen = self.lab.play("workers.yml", qsmr_snapshot=str(new))
        if change:
            assert code == 2, screen[-3000:]
            self.only_canary_ran(new)
            self.all_run(self.good)
        else:
            assert code == 0, screen[-3000:]
            self.all_run(new)
            self.good = new
        self.lab.finish_jobs()

    def killed_in_preflight(self) -> None:
        began = time.monotonic()
        self.killed(lambda: time.monotonic() - began > 2)

    def killed_at_canary(self) -> None:
        self.killed(lambda: self.lab.current("host1") == self.newest())

    def killed_at_bad_canary(self) -> None:
        self.killed(lambda: id_of(self.good) not in str(self.lab.running("host1")), CRASHES)

    def killed_in_last_stage(self) -> None:
        self.killed(lambda: self.lab.current("host4") == self.newest())

    def two_at_once(self, new: Path, **settings: Any) -> Any:
        return self.lab.start("workers.yml", qsmr_snapshot=str(new), qsmr_rollout_batches="2,100%", **settings)

    def budget_of_one(self) -> None:
        """One of two hosts of a stage is lost, and one may be: the others go on, and the exit code tells."""
        new = self.lab.variant(self.good)
        run = self.two_at_once(new, qsmr_max_failed_hosts=1)
        self.lab.until(lambda: self.lab.current("host2") == self.newest(), "host2 is switched")
        docker("kill", f"{NAME}-host2")
        screen = run.communicate()[0]
        self.lab.bring_up("host2")
        assert run.returncode == 2, screen[-3000:]
        assert [self.lab.current(host) for host in ("host1", "host3", "host4", "host5")] == [id_of(new)] * 4
        assert "Not everywhere: " in screen.rstrip().splitlines()[-1]
        self.settle(new)
        self.good = new
        self.lab.finish_jobs(failed=True)

    def whole_stage_lost(self) -> None:
        new = self.lab.variant(self.good)
        run = self.two_at_once(new, qsmr_max_failed_hosts=2)
        self.lab.until(lambda: self.lab.current("host2") == self.newest(), "host2 is switched")
        docker("kill", f"{NAME}-host1", f"{NAME}-host2")
        screen = run.communicate()[0]
        for host in ("host1", "host2"):
            self.lab.bring_up(host)
        assert run.returncode == 2, screen[-3000:]
        assert [self.lab.current(host) for host in HOSTS[2:]] == [id_of(self.good)] * 3
        self.settle()
        self.lab.finish_jobs(failed=True)

    def two_operators(self) -> None:
        """The second one is told who is at work, and nothing of his happens."""
        mine, his = self.lab.variant(self.good), self.lab.variant(self.good)
        run = self.lab.start("workers.yml", qsmr_snapshot=str(mine))
        self.lab.until(lambda: self.lab.current("host1") == id_of(mine), "host1 is switched")
        state = DIRECTORY / "state-of-another"
        shutil.rmtree(state, ignore_errors=True)
        code, screen = self.lab.play("workers.yml", qsmr_snapshot=str(his), qsmr_state_dir=str(state))
        assert code == 2 and "somebody else is at work" in screen, screen[-3000:]
        screen = run.communicate()[0]
        assert run.returncode == 0, screen[-3000:]
        assert not [host for host, seen in self.lab.seen.items() if id_of(his) in seen]
        self.all_run(mine)
        self.good = mine
        self.lab.finish_jobs()

    def rollback(self) -> None:
        new = self.lab.variant(self.good)
        self.lab.ok("workers.yml", qsmr_snapshot=str(new), qsmr_rollout_batches="100%")
        self.lab.ok("rollback.yml", qsmr_rollout_batches="100%")
        self.all_run(self.good)
        self.lab.finish_jobs()


HELPERS = ("all_run", "only_canary_ran", "settle", "bad", "lose", "newest", "killed", "two_at_once")
CASES = [name for name in vars(Cases) if not name.startswith("_") and name not in HELPERS]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=CASES, default=CASES, help="run these cases")
    parser.add_argument("--keep", action="store_true", help="keep the fleet for another run")
    options = parser.parse_args()
    lab = Lab()
    failed = []
    try:
        for playbook in ("demo_fleet.yml", "services.yml", "snapshot.yml"):
            lab.ok(playbook)
        first = max(DIRECTORY.glob("qsmr_snapshot_demo_[0-8]*"), key=lambda path: path.stat().st_mtime)
        lab.jobs = sum((lab.api().project(PROJECT) or {}).get("JobStates", {}).values())
        cases = Cases(lab, first)
        cases.settle()
        for name in options.only:
            began = time.monotonic()
            lab.add_jobs()
            try:
                with lab.watched():
                    getattr(cases, name)()
                outcome = "ok"
            except Exception:
                failed.append(name)
                outcome = f"FAILED\n{traceback.format_exc()}"
                for host in HOSTS:
                    lab.bring_up(host)
                lab.play("workers.yml", qsmr_snapshot=str(cases.good), qsmr_break_lock=True)
                lab.finish_jobs(failed=True)
            print(f"{name:<32} {time.monotonic() - began:6.0f} s  {outcome}", flush=True)
    finally:
        if not options.keep:
            lab.play("demo_clean.yml", "--limit", "workers")
            shutil.rmtree(DIRECTORY, ignore_errors=True)
    print(f"{len(options.only) - len(failed)} of {len(options.only)} cases are as they should be")
    return len(failed) > 0


if __name__ == "__main__":
    sys.exit(main())
