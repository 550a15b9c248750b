#!/usr/bin/env python3
"""Faults of all layers at random on five hosts, while snapshots are built, rolled out, and jobs added: ``make chaos``.

In the end all faults are lifted, everything is run once more, and what must be true is looked at: see invariants.py.

The seed decides which fault hits what, when and for how long: that is written down first, and ``--replay FILE`` does it
again. How processes take turns meanwhile is the machine's. Screens are kept in build/chaos/<seed>/.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from fault_lab import HOST, HOSTS, PROJECT, REPOSITORY, Lab, docker, id_of, kill_all_below  # noqa: E402
from invariants import Facts, leaks_in_files, leaks_on_host, violations  # noqa: E402
from qsmr.odinapi import OdinApi  # noqa: E402
from qsmr.settings import load_settings  # noqa: E402

NAME, NET = "qsmr-chaos", "10.97.0"
BUILD = REPOSITORY / "build/chaos"
SERVICES = ("jobservice", "odin")
PLAYBOOKS = ("snapshot.yml", "workers.yml", "jobs.yml", "retry.yml", "results.yml")
SCANS = 20  # in each list
LONGEST = 300.0  # seconds that a playbook may take, whatever happens to it
CLOCK = REPOSITORY / "tests/faults/stepped_clock/sitecustomize.py"
# What a kind of fault may hit, and for how many seconds; a kill has no end: that is the age of the run that it hits.
KINDS: dict[str, tuple[tuple[str, ...], tuple[float, float]]] = {
    "host_stopped": (HOSTS, (3, 30)),
    "host_paused": (HOSTS, (3, 30)),
    "host_cut_off": (HOSTS, (3, 30)),
    "host_cut_from_services": (HOSTS, (5, 30)),
    "link_slow": (HOSTS, (10, 40)),
    "disk_full": (HOSTS, (10, 40)),
    "dockerd_killed": (HOSTS, (0, 1)),
    "service_killed": (SERVICES, (1, 20)),
    "database_locked": ((*SERVICES, "ledger"), (3, 20)),
    "clock_stepped": ((*HOSTS, "jobservice", "control"), (10, 40)),
    "control_node_killed": (PLAYBOOKS, (0, 15)),
}


@dataclass(frozen=True)
class Fault:
    """One fault: ``at`` is seconds after the beginning, ``lasts`` seconds."""

    at: float
    kind: str
    where: str
    lasts: float

    def __str__(self) -> str:
        return f"{self.at:6.1f} s  {self.kind} {self.where} {self.lasts:.1f} s"


def schedule(seed: int, minutes: float) -> list[Fault]:
    """What happens in so many minutes; every kind comes once before any comes again, nothing is hit twice at a time."""
    choose = random.Random(seed)
    faults: list[Fault] = []
    free: dict[str, float] = defaultdict(float)
    kinds: list[str] = []
    at, end = 0.0, 60 * minutes
    while (at := round(at + choose.uniform(3, 12), 1)) < end:
        kinds = kinds or choose.sample(list(KINDS), len(KINDS))
        for kind in kinds:
            places, (least, most) = KINDS[kind]
            idle = [place for place in places if free[place] <= at]
            if idle:
                fault = Fault(at, kind, choose.choice(idle), round(min(choose.uniform(least, most), end - at), 1))
                faults.append(fault)
                free[fault.where] = at + fault.lasts
                kinds.remove(kind)
                break
    return faults


class Chaos:
    """One run: the faults, each a context that ends with it lifted, and the work that goes on meanwhile."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab, self.directory = lab, directory
        self.over = Event()
        self.began = time.monotonic()
        self.busy: dict[str, Lock] = defaultdict(Lock)
        self.runs: dict[str, tuple[float, subprocess.Popen[str]]] = {}
        self.environment: dict[str, str] = {}
        self.numbers = itertools.count(1)
        self.wrong: list[str] = []
        self.code = lab.directory / "code"

    def say(self, what: object) -> None:
        line = f"{time.monotonic() - self.began:6.1f} s  {what}"
        with (self.directory / "log.txt").open("a") as log:
            log.write(f"{line}\n")
        print(line, flush=True)

    # The faults

    @contextmanager
    def host_stopped(self, host: str) -> Iterator[None]:
        docker("kill", f"{NAME}-{host}")
        yield
        self.lab.bring_up(host)

    @contextmanager
    def host_paused(self, host: str) -> Iterator[None]:
        """By signals: a container with containers in it cannot be frozen on every machine."""
        self.lab.on(host, "kill -STOP -1")
        yield
        self.lab.on(host, "kill -CONT -1")

    @contextmanager
    def host_cut_off(self, host: str) -> Iterator[None]:
        docker("network", "disconnect", NAME, f"{NAME}-{host}")
        yield
        docker("network", "connect", "--ip", f"{NET}.2{host[-1]}", NAME, f"{NAME}-{host}")

    @contextmanager
    def host_cut_from_services(self, host: str) -> Iterator[None]:
        self.lab.on(host, f"for end in 10 11; do ip route add blackhole {NET}.$end/32; done")
        yield
        self.lab.on(host, f"for end in 10 11; do ip route del blackhole {NET}.$end/32; done")

    @contextmanager
    def link_slow(self, host: str) -> Iterator[None]:
        # It is not eth0 any more on a host that was cut off once.
        link = self.lab.on(host, f"ip -4 -o address show to {NET}.0/24").split()[1]
        self.lab.on(host, f"tc qdisc replace dev {link} root tbf rate 256kbit burst 16kb latency 400ms")
        yield
        self.lab.on(host, f"tc qdisc del dev {link} root")

    @contextmanager
    def disk_full(self, host: str) -> Iterator[None]:
        """Where pushes arrive, and where the newest release goes to unless it is there."""
        newest = f"{HOST}/releases/{id_of(self.newest())}"
        with self.lab.full_disk(host, f"{HOST}/incoming", *([] if self.lab.current(host) in newest else [newest])):
            yield

    @contextmanager
    def dockerd_killed(self, host: str) -> Iterator[None]:
        self.lab.on(host, "pkill -KILL -x dockerd")
        yield
        self.lab.bring_up(host)

    @contextmanager
    def service_killed(self, service: str) -> Iterator[None]:
        docker("kill", f"{NAME}-{service}")
        yield
        docker("start", f"{NAME}-{service}")

    @contextmanager
    def database_locked(self, whose: str) -> Iterator[None]:
        if whose == "ledger":
            with closing(sqlite3.connect(self.state / "ledger.sqlite", isolation_level=None, timeout=20)) as ledger:
                ledger.execute("BEGIN EXCLUSIVE")
                yield
            return
        script = "import sqlite3, sys; s = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)"
        script += "; s.execute('BEGIN EXCLUSIVE'); print(flush=True); sys.stdin.read()"
        words = ["docker", "exec", "-i", f"{NAME}-{whose}", "python3", "-c", script, f"/var/lib/{whose}/{whose}.sqlite"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as lock:
            assert lock.stdin and lock.stdout
            assert lock.stdout.readline(), "it could not be locked"
            yield
            lock.stdin.close()

    @contextmanager
    def clock_stepped(self, whose: str) -> Iterator[None]:
        """Python's clock only, which is what all of ours reads; a running service sees it after a restart."""
        if whose == "control":
            self.environment = {"PYTHONPATH": str(CLOCK.parent)}
            yield
            self.environment = {}
            return
        container, packages = f"{NAME}-{whose}", "/usr/lib/python3/dist-packages"
        again: Callable[[], Any] = (lambda: None) if whose in HOSTS else lambda: docker("restart", container)
        docker("cp", str(CLOCK), f"{container}:{packages}/stepped_clock.py")
        docker("exec", "--user", "root", container, "sh", "-c", f"echo import stepped_clock > {packages}/stepped.pth")
        again()
        yield
        docker("exec", "--user", "root", container, "rm", f"{packages}/stepped.pth")
        again()

    @contextmanager
    def control_node_killed(self, playbook: str) -> Iterator[None]:
        """As soon as there is a run of that playbook which is as old as the fault lasts."""
        asked = time.monotonic()
        yield
        age = time.monotonic() - asked
        while not self.over.wait(0.1):
            began, run = self.runs.get(playbook, (time.monotonic(), None))
            if run and time.monotonic() - began >= age:
                kill_all_below(run.pid)
                self.say(f"killed {playbook}")
                return

    def inflict(self, fault: Fault) -> None:
        if self.over.wait(max(0.0, self.began + fault.at - time.monotonic())):
            return
        with self.busy[fault.where]:
            self.say(f"{fault.kind} {fault.where}")
            try:
                with getattr(self, fault.kind)(fault.where):
                    self.over.wait(fault.lasts)
                self.say(f"{fault.kind} {fault.where} is over")
            except (AssertionError, OSError, sqlite3.Error, subprocess.CalledProcessError) as error:
                why = getattr(error, "stderr", "") or error
                self.wrong.append(f"a fault that did not work: {fault}: {why}")
                self.say(self.wrong[-1])

    # The work

    @property
    def state(self) -> Path:
        return self.lab.directory / "state" / PROJECT

    def newest(self) -> Path:
        found = self.lab.directory.glob(f"qsmr_snapshot_{PROJECT}_*/snapshot.json")
        return max(found, key=lambda path: path.stat().st_mtime).parent

    def run(self, playbook: str, **settings: Any) -> int:
        """Run a playbook and keep its screen; it has to end by itself, in whatever way."""
        run = self.lab.start(playbook, env=self.environment, **settings)
        self.runs[playbook] = (time.monotonic(), run)
        try:
            screen = run.communicate(timeout=LONGEST)[0]
        except subprocess.TimeoutExpired:
            kill_all_below(run.pid)
            screen = run.communicate()[0]
            self.wrong.append(f"{playbook} went on for more than {LONGEST:.0f} s")
        del self.runs[playbook]
        (self.directory / f"{next(self.numbers):03d}-{playbook}.txt").write_text(screen)
        last = (screen.rstrip().splitlines() or [""])[-1]
        self.say(f"{playbook} ended with {run.returncode}: {last[:150]}")
        return int(run.returncode)

    def build(self) -> int:
        """A snapshot of code that has changed."""
        (self.code / "code/round").write_text(f"{time.time_ns()}\n")
        return self.run("snapshot.yml", qsmr_code_dir=str(self.code))

    def build_and_roll_out(self) -> None:
        while not self.over.is_set():
            self.build()
            self.run("workers.yml", qsmr_skip_unfit=True, qsmr_max_failed_hosts=2, qsmr_rollout_batches="2,100%")

    def add_and_fetch(self) -> None:
        while not self.over.is_set():
            self.run("jobs.yml", qsmr_jobs_file=str(self.lab.scan_list(SCANS)))
            self.run("retry.yml", qsmr_max_attempts=100)
            self.run("results.yml")

    def prepare(self) -> None:
        """A fleet that works: one release everywhere, and the first jobs."""
        # What is left of a run that was killed would be in the way.
        self.lab.play("demo_fleet_clean.yml")
        shutil.copytree(REPOSITORY / "examples/qsmr-demo", self.code)
        start = self.code / "code/run_runscript.sh"
        # Long enough that what happens to a worker happens in the middle of a job.
        start.write_text(start.read_text().replace("\nshift\n", "\nshift\nsleep 2\n"))
        for playbook in ("demo_fleet.yml", "services.yml"):
            self.lab.ok(playbook)
        self.build()
        self.lab.ok("workers.yml", qsmr_rollout_batches="100%")
        self.lab.ok("jobs.yml", qsmr_jobs_file=str(self.lab.scan_list(SCANS)))

    def rage(self, faults: list[Fault], seconds: float) -> None:
        """Work and faults, until the time is over; then all faults are lifted, and the last runs come to their end."""
        self.began = time.monotonic()
        with ThreadPoolExecutor(len(faults) + 2) as pool:
            all_of_it = [pool.submit(self.inflict, fault) for fault in faults]
            all_of_it += [pool.submit(self.build_and_roll_out), pool.submit(self.add_and_fetch)]
            try:
                time.sleep(seconds)
            finally:
                self.over.set()
        self.wrong += [f"chaos itself broke: {error!r}" for one in all_of_it if (error := one.exception())]

    def settle(self) -> None:
        """Everything once more: each playbook has to do what it says now."""
        everything = self.lab.directory / "all-scans.txt"
        everything.write_text("".join(f"{scan}\n" for scan in self.scans()))

        def must(playbook: str, **settings: Any) -> None:
            if self.run(playbook, **settings):
                self.wrong.append(f"{playbook} failed when all faults were gone")

        must("services.yml")
        must("snapshot.yml", qsmr_code_dir=str(self.code))
        must("workers.yml")
        must("jobs.yml", qsmr_jobs_file=str(everything))
        end = time.monotonic() + LONGEST
        while (states := self.record()["JobStates"]).keys() != {"Finished"} and time.monotonic() < end:
            self.say(f"jobs: {states}")
            must("retry.yml", qsmr_max_attempts=100)
            time.sleep(15)
        must("results.yml")
        must("prune.yml", qsmr_keep_releases=1)
        must("status.yml")

    def scans(self) -> list[str]:
        lists = sorted(self.lab.directory.glob("scans-*.txt"))
        return [scan for path in lists for scan in path.read_text().split()]

    def record(self) -> dict[str, Any]:
        return self.lab.api().project(PROJECT) or {"JobStates": {}}

    def facts(self) -> Facts:
        lab, wanted = self.lab, self.scans()
        settings = load_settings(lab.directory / "demo.conf")
        odin = OdinApi(settings.odin_api_root)
        with closing(sqlite3.connect(self.state / "ledger.sqlite")) as ledger:
            jobs = ledger.execute("SELECT freq_mode || ':' || scan_id, state FROM job").fetchall()
        secrets = [settings.odin_secret, settings.job_api_password]
        leaks = leaks_in_files(lab.directory, secrets) + leaks_in_files(self.directory, secrets)
        for service in SERVICES:
            logs = subprocess.run(["docker", "logs", f"{NAME}-{service}"], check=True, capture_output=True, text=True)
            told = logs.stdout + logs.stderr + docker("inspect", f"{NAME}-{service}")
            leaks += [f"log or settings of {service}" for secret in secrets if secret in told]
        workers = [f"UWorker_{host}_{name}" for host in HOSTS for name in lab.on(host, "docker ps -q").split()]
        debris = [str(path) for path in lab.directory.rglob("*.part")]
        for host in HOSTS:
            leaks += [f"{host}: {place}" for place in leaks_on_host(functools.partial(lab.on, host), secrets)]
            debris += [f"{host}: {line}" for line in lab.on(host, DEBRIS).splitlines()]
        return Facts(
            wanted=[f"1:{scan}" for scan in wanted],
            jobs=lab.api().jobs(PROJECT),
            record=self.record(),
            ledger=dict(jobs),
            level2={f"1:{scan}" for scan in wanted if odin.level2(PROJECT, 1, int(scan))},
            release=id_of(self.newest()),
            current={host: lab.current(host) for host in HOSTS},
            running={host: lab.running(host) for host in HOSTS},
            workers=set(workers),
            audit=lab.audit(),
            screens={path.name: path.read_text() for path in self.directory.glob("*.yml.txt")},
            leaks=leaks,
            debris=debris,
        )

    def remove(self) -> list[str]:
        """Remove the fleet; what is left of it on this machine."""
        images = {json.loads(path.read_text())["image"]["name"] for path in self.lab.directory.glob("*/snapshot.json")}
        self.lab.play("demo_fleet_clean.yml")
        subprocess.run(["docker", "image", "rm", "--force", *images], check=False, capture_output=True)
        shutil.rmtree(self.lab.directory, ignore_errors=True)
        left = []
        for kind, words in (("container", ["--all"]), ("volume", []), ("network", [])):
            mine = ["--filter", f"label=org.qsmr.fleet.demo={NAME}", "--quiet"]
            left += [f"{kind} {name}" for name in docker(kind, "ls", *words, *mine).split()]
        built = docker(
            "container", "ls", "--quiet", "--filter", "status=exited", "--filter", "ancestor=qsmr-fleet/worker"
        )
        return left + [f"container {name} of a build" for name in built.split()]


# Staged or half-written files, senders, and containers, volumes and networks beside the workers'.
DEBRIS = f"""\
find {HOST} -name '*.part' -o -path '*/incoming/*'
ps ax | grep 'qsmr-pus[h]' || true
docker ps --all --format '{{{{.Names}}}} {{{{.Status}}}}' | grep -v '^qsmr-{PROJECT}.*uworker.*Up' || true
docker volume ls --quiet
docker network ls --filter type=custom --format '{{{{.Name}}}}' | grep -v '^qsmr-{PROJECT}_default$' || true
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=int(time.time()), help="what decides about the faults")
    parser.add_argument("--minutes", type=float, default=10, help="how long there are faults")
    parser.add_argument("--replay", type=Path, help="the faults of another run: the file that it wrote")
    options = parser.parse_args()
    if options.replay:
        told = json.loads(options.replay.read_text())
        seed, minutes = told["seed"], told["minutes"]
        faults = [Fault(**fault) for fault in told["faults"]]
    else:
        seed, minutes = options.seed, options.minutes
        faults = schedule(seed, minutes)
    BUILD.mkdir(parents=True, exist_ok=True)
    file = BUILD / f"{seed}.json"
    told = {"seed": seed, "minutes": minutes, "faults": [asdict(fault) for fault in faults]}
    file.write_text(json.dumps(told, indent=1) + "\n")
    print(
        f"seed {seed}, {len(faults)} faults; again: make chaos ARGS='--replay {file.relative_to(REPOSITORY)}'",
        flush=True,
    )
    directory = BUILD / str(seed)
    for place in (directory, BUILD / "fleet"):
        shutil.rmtree(place, ignore_errors=True)
    directory.mkdir()
    chaos = Chaos(Lab(NAME, NET, BUILD / "fleet"), directory)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        chaos.prepare()
        chaos.rage(faults, 60 * minutes)
        chaos.settle()
        facts = chaos.facts()
        wrong = chaos.wrong + violations(facts)
    finally:
        left = chaos.remove()
    wrong += [f"left behind: {name}" for name in left]
    print("\n".join(wrong))
    done = f"{len(faults)} faults in {minutes:g} minutes, {len(facts.wanted)} scans, {len(facts.screens)} runs"
    print(f"{done}: {f'{len(wrong)} things are wrong, see {directory}' if wrong else 'all is as it must be'}")
    return len(wrong) > 0


if __name__ == "__main__":
    sys.exit(main())
