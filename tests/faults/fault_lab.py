"""Five lab hosts as containers, the playbooks that are run on them, and what the fault suites look at there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "plugins/module_utils"), str(REPOSITORY / "tests")]
from container_fleet import bring_up, docker  # noqa: E402
from qsmr.jobapi import JobApi  # noqa: E402
from qsmr.settings import load_settings  # noqa: E402
from worker_snapshots import write_sums  # noqa: E402

PROJECT = "demo"
HOSTS = tuple(f"host{number}" for number in range(1, 6))
HOST = f"/opt/qsmr/{PROJECT}"
SCANS = 60  # new jobs for each case: enough for the time that a rollout takes
QUICK_LOSS = "-o ControlMaster=no -o ServerAliveInterval=1 -o ServerAliveCountMax=3 -o ConnectTimeout=3"


class Lab:
    """The fleet, its snapshots, and what runs where."""

    def __init__(self, name: str, net: str, directory: Path) -> None:
        self.name, self.net, self.directory = name, net, directory
        directory.mkdir(parents=True, exist_ok=True)
        more = {
            f"host{number}": {
                "ansible_host": f"{self.net}.{20 + number}",
                "ansible_user": "qsmr" if number == 5 else "root",
                "container_fleet_image": f"qsmr-fleet/host-debian{8 + number}",
            }
            for number in (4, 5)
        }
        inventory = {"workers": {"hosts": more}}
        (self.directory / "more.json").write_text(json.dumps(inventory))
        # Where the fleet was kept there are releases of earlier runs.
        self.numbers = len(list(self.directory.glob(f"qsmr_snapshot_{PROJECT}_991231_*")))
        self.jobs = 0
        self.seen: dict[str, set[str]] = {}

    def command(self, playbook: str, *words: str, **settings: Any) -> list[str]:
        usual = {
            "demo_name": self.name, "demo_net": self.net, "demo_dir": str(self.directory), "qsmr_project": PROJECT,
            "qsmr_healthy_deadline": 60, "qsmr_min_healthy_time": 6, "qsmr_drain_timeout": 20,
            "qsmr_rollout_batches": "1,1,100%",
        }  # fmt: skip
        inventories = ("-i", str(REPOSITORY / "inventory/demo"), "-i", str(self.directory / "more.json"))
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
        return docker("exec", f"{self.name}-{host}", "sh", "-c", command)

    def current(self, host: str) -> str:
        return self.on(host, f"readlink {HOST}/current || true").strip().rpartition("/")[2]

    def running(self, host: str) -> list[str]:
        """Release and condition of each worker's container."""
        template = (
            '{{range .Config.Env}}{{if eq (printf "%.16s" .) "QSMR_SNAPSHOT_ID"}}{{slice . 17}}{{end}}{{end}}'
            " {{.State.Status}} {{.State.Health.Status}}"
        )
        names = "docker ps -aq --filter label=com.docker.compose.project=qsmr-demo"
        return sorted(self.on(host, f"{names} | xargs -r docker inspect --format '{template}'").splitlines())

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

    def scan_list(self, scans: int = SCANS) -> Path:
        """A list of scans that were in none before."""
        path = self.directory / f"scans-{self.jobs}.txt"
        path.write_text("".join(f"{7300000001 + 317 * number}\n" for number in range(self.jobs, self.jobs + scans)))
        self.jobs += scans
        return path

    def add_jobs(self) -> None:
        """New jobs for the workers, so that they have something to do all the while."""
        self.ok("jobs.yml", qsmr_jobs_file=str(self.scan_list()))

    def api(self) -> JobApi:
        settings = load_settings(self.directory / "demo.conf")
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
                assert (record["NrJobsFinished"], record["NrJobsFailed"]) == (self.jobs, 0), record
                return
            time.sleep(1)
        raise AssertionError(f"not all of {self.jobs} jobs finished: {record}")

    def audit(self) -> list[dict[str, Any]]:
        lines = (self.directory / f"state/{PROJECT}/audit.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Notes which releases ever ran on which host."""
        self.seen = {host: set() for host in HOSTS}
        over = threading.Event()

        def watch() -> None:
            while not over.wait(2):
                for host in HOSTS:
                    try:
                        self.seen[host] |= {line.split()[0] for line in self.running(host)}
                    except (subprocess.CalledProcessError, IndexError):
                        continue

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join()

    @contextmanager
    def full_disk(self, host: str, *directories: str) -> Iterator[None]:
        """There is no room in these directories of a host; what is in them is out of sight meanwhile."""
        full = " ".join(directories)
        self.on(
            host,
            f"for d in {full}; do mkdir -p $d; chown --reference=$(dirname $d) $d; mode=$(stat -c %a,uid=%u,gid=%g $d);"
            " mount -t tmpfs -o size=4k,mode=$mode tmpfs $d; head -c 4096 /dev/zero > $d/x; done",
        )
        try:
            yield
        finally:
            self.on(host, f"for d in {full}; do umount --lazy $d; rmdir --ignore-fail-on-non-empty $d; done")

    def bring_up(self, host: str) -> None:
        bring_up(f"{self.name}-{host}")

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 240) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if condition():
                    return
            except (subprocess.CalledProcessError, OSError, IndexError):
                pass
            time.sleep(0.5)
        raise AssertionError(f"it never came to this: {what}")


def id_of(snapshot: Path) -> str:
    return str(json.loads((snapshot / "snapshot.json").read_text())["snapshot_id"])


def audit_flaws(events: Sequence[Mapping[str, Any]], current: Callable[[str], str]) -> list[str]:
    """Where the audit is wrong: every run ends once, or is told of by the next; the last tells what the hosts run."""
    begun = [event["run"] for event in events if event["event"] == "begin"]
    over = [event["run"] for event in events if event["event"] in ("end", "broken off")]
    if begun != over or not events or events[-1]["event"] != "end":
        return [f"runs {begun} were begun, {over} are over"]
    # Nothing is claimed of a host that could not be reached.
    told = {host: release for host, release in events[-1].get("runs", {}).items() if release}
    found = {host: current(host) for host in told}
    return [] if told == found else [f"{told} is to run, {found} does"]


def kill_all_below(process: int) -> None:
    """kill -9 of a process and of its children, and of theirs."""
    with suppress(ProcessLookupError, FileNotFoundError):  # some end by themselves meanwhile
        os.kill(process, signal.SIGSTOP)  # so that it has no more of them
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            kill_all_below(int(child))
        os.kill(process, signal.SIGKILL)
