"""What it takes to bring a snapshot's image to hosts: the first way, rsync, and ours.

usage: push_bench.py [--size MB] [--payload MB] [--repeats N] [--only images|fan-out]

Hosts are containers behind links whose speed tc sets (push_lab.py). One host at 200 Mbit/s gets an image whose top
layer, 7 % of it, changes; up to eight at 100 Mbit/s each, from an uplink as fast as one of theirs, get random bytes.
Bytes are those of the interfaces' counters. Prints tables, writes build/bench/push.json, and fails on a ratio that is
missed. Times are medians, and of the playbook's time only what is beyond that of a playbook that does nothing.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import itertools
import json
import os
import random
import shlex
import shutil
import signal
import statistics
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / folder) for folder in ("plugins/module_utils", "tests", "tests/bench")]

import numpy as np  # noqa: E402
from figures import Figure, save, wide_console  # noqa: E402
from push_lab import Host, Lab, run  # noqa: E402
from push_snapshots import write_snapshot  # noqa: E402
from qsmr.pushplan import plan  # noqa: E402
from qsmr.transport import Job, Outcome, Report, Start, agent_command, distribute  # noqa: E402
from rich.table import Table  # noqa: E402

DIRECTORY = REPOSITORY / "build/bench/push"
LINK, FAN_OUT_LINK, SLOW_LINK = 200, 100, 10  # Mbit/s
# Shares of the image: three layers that stay, and the one that changes: an encrypted archive, tables, xml.
BASE, TOP = (0.37, 0.37, 0.185), {"archive": 0.0075, "tables": 0.045, "xml": 0.0225}
LARGEST = 20_000_000  # bytes of a file that is taken: a larger one would spoil the shares
PIECES = 20  # files of tables, and of xml; a typical change is a new archive and one in ten of these

PLAYBOOK = """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: push
      when: preflight_snapshot is defined
    - ansible.builtin.ping:
      when: preflight_snapshot is not defined
"""


class Bytes(NamedTuple):
    """A blob of the fan-out."""

    sha256: str
    size: int
    path: Path


def base_layers(size: int) -> Iterator[bytes]:
    """Layers made of copies of this machine's shared libraries: what a Matlab runtime is like."""
    tree = next(Path("/usr/lib").glob("*-linux-gnu"))
    files = [path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink()]
    files = [path for path in files if path.stat().st_size < LARGEST]
    copies = ((f"copy{number}", path) for number in itertools.count() for path in files)
    for share in BASE:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            while buffer.tell() < share * size:
                copy, path = next(copies)
                member = tarfile.TarInfo(f"{copy}/{path.relative_to(tree)}")
                member.size = path.stat().st_size
                with path.open("rb") as stream:
                    tar.addfile(member, stream)
        yield buffer.getvalue()


def top_layer(size: int, version: int) -> bytes:
    """The code: another archive in each version, and one in ten of the other files."""
    files = {"qsmr/code.bin": random.Random(version).randbytes(int(TOP["archive"] * size))}
    for n in range(PIECES):
        numbers = np.random.default_rng(n + 1000 * version * (n % 10 == 0))
        count = int(TOP["tables"] * size / PIECES / 4)
        files[f"qsmr/table{n}"] = np.round(np.cumsum(numbers.normal(size=count)), 1).astype("float32").tobytes()
        line = "<point lat='{}' lon='{}'>{}</point>\n"
        count = int(TOP["xml"] * size / PIECES / 46)
        points = np.round(numbers.normal(scale=90, size=(count, 3)), 4)
        files[f"qsmr/profile{n}.xml"] = "".join(line.format(*point) for point in points).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


class Images:
    """One host with a Docker engine, two snapshots, and the ways to bring them there."""

    def __init__(self, lab: Lab, size: int) -> None:
        self.lab = lab
        (self.host,) = lab.add(1, LINK, engine=True)
        run("docker", "exec", self.host.name, "sh", "-c", "apt-get -qq update && apt-get -qq install -y rsync")
        snapshots = DIRECTORY / "snapshots"
        shutil.rmtree(snapshots, ignore_errors=True)
        base = list(base_layers(size))
        self.snapshots = [write_snapshot(snapshots, n, [*base, top_layer(size, n)], len(base)) for n in (1, 2)]
        (DIRECTORY / "push.yml").write_text(PLAYBOOK)
        (DIRECTORY / "hosts.yml").write_text(json.dumps(self._inventory()))
        self.packing = [self._pack(snapshot) for snapshot in self.snapshots]

    def _inventory(self) -> dict[str, Any]:
        variables = {
            "ansible_host": self.host.address,
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": str(self.lab.key),
            "ansible_ssh_common_args": shlex.join(self.lab.options[:4]),
        }
        return {"all": {"hosts": {self.host.name: variables}}}

    def _pack(self, snapshot: Path) -> float:
        """Seconds to compress what is new in a snapshot, once for all hosts; the first way has docker save there."""
        began = time.monotonic()
        place = {"path": "/", "free": 1 << 40}
        room = {"staging": place, "docker": place, "one_disk": True}
        probe = {"image": "", "staged": {}, "layers": 0, "kept": [], "store": "overlay2", "zstd": True}
        plan(snapshot, {**probe, "memory": 1 << 34, "room": room})
        return time.monotonic() - began

    def first_way(self, snapshot: Path) -> None:
        run("scp", "-q", *self.lab.options, snapshot / "docker_image", f"root@{self.host.address}:/root/docker_image")
        self.host.ssh("docker load --quiet --input /root/docker_image")

    def rsync(self, snapshot: Path) -> None:
        ssh = shlex.join(self.lab.ssh)
        target = f"root@{self.host.address}:/root/docker_image"
        run("rsync", "--compress", "--compress-choice=zstd", "-e", ssh, snapshot / "docker_image", target)
        self.host.ssh("docker load --quiet --input /root/docker_image")

    def ours(self, snapshot: Path | None) -> None:
        """The role as the playbook workers.yml runs it; without a snapshot, a playbook that does nothing."""
        variables: dict[str, Any] = {"qsmr_project": "demo"}
        if snapshot:
            manifest = json.loads((snapshot / "snapshot.json").read_text())
            variables |= {
                "preflight_snapshot": {"directory": str(snapshot), "manifest": manifest},
                "push_project": "demo",
                "push_host_dir": "/opt/qsmr",
                "push_state_dir": str(DIRECTORY / "state"),
            }
        settings = ["-e", f"@{REPOSITORY}/playbooks/group_vars/all.yml", "-e", json.dumps(variables)]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")}
        playbook = Path(sys.executable).with_name("ansible-playbook")
        run(playbook, "-i", DIRECTORY / "hosts.yml", DIRECTORY / "push.yml", *settings, env=environment, cwd=REPOSITORY)

    def clean(self) -> None:
        """Have nothing of any image on the host."""
        self.host.ssh(
            "docker image ls --all --quiet | sort -u | xargs -r docker image rm --force >/dev/null;"
            "rm -rf /root/docker_image /opt/qsmr; sync"
        )

    def timed(self, way: Callable[[Path | None], None], snapshot: Path | None) -> dict[str, float]:
        bytes_before, began = self.host.received, time.monotonic()
        way(snapshot)
        seconds = time.monotonic() - began
        if snapshot:
            image = json.loads((snapshot / "snapshot.json").read_text())["image"]
            assert self.host.ssh(f"docker image inspect -f '{{{{.Id}}}}' {image['name']}").strip() == image["id"]
        return {"seconds": seconds, "MB": (self.host.received - bytes_before) / 1e6}

    def repeat(self) -> dict[str, dict[str, float]]:
        """Each way once: first push, a push after a typical change, and another with nothing to do."""
        first, second = self.snapshots
        found = {}
        ways: dict[str, Callable[[Any], None]] = {"first way": self.first_way, "rsync": self.rsync, "ours": self.ours}
        for name, way in ways.items():
            self.clean()
            if name == "ours":
                found["start"] = self.timed(way, None)
            steps = [("first", first), ("second", second), ("nothing", second)]
            for step, snapshot in steps[: 2 if name == "first way" else 3]:  # the first way does all again, each time
                found[f"{name}, {step}"] = self.timed(way, snapshot)
        for step in ("first", "second", "nothing"):
            found[f"ours, {step}"]["whole seconds"] = found[f"ours, {step}"]["seconds"]
            found[f"ours, {step}"]["seconds"] -= found["start"]["seconds"]
        return found


class FanOut:
    """Eight hosts that get the same bytes."""

    def __init__(self, lab: Lab, size: int) -> None:
        self.lab = lab
        self.hosts = lab.add(8, FAN_OUT_LINK)
        lab.limit_uplink(FAN_OUT_LINK)
        content = random.Random(1).randbytes(size)
        self.blob = Bytes(hashlib.sha256(content).hexdigest(), size, DIRECTORY / "payload")
        self.blob.path.write_bytes(content)

    def _job(self, host: Host) -> Job:
        command = shlex.join(["/bin/sh", "-c", shlex.join(agent_command("python3"))])
        return Job([self.blob], "/root/staging", lambda: Start([*self.lab.ssh, f"root@{host.address}", command]))

    def push(
        self, count: int, during: Callable[[Report], None] = lambda _report: None, odd: int = 0
    ) -> dict[str, float]:
        """Seconds until the hosts have it, the last ``odd`` ones left out, and images that left the control node."""
        for host in self.hosts:
            host.ssh("rm -rf /root/staging")
        sent = self.lab.sent
        jobs = {host.name: self._job(host) for host in self.hosts[:count]}
        outcomes = distribute(jobs, relay=count > 1, report=during)
        egress = (self.lab.sent - sent) / self.blob.size
        for host in self.hosts[:count]:
            self._check(host, outcomes[host.name])
        seconds = sorted(outcome.seconds for outcome in outcomes.values())
        return {"seconds": seconds[len(seconds) - odd - 1], "images sent": egress}

    def _check(self, host: Host, outcome: Outcome) -> None:
        assert not outcome.fault, f"{host.name}: {outcome.fault}"
        assert host.ssh(f"sha256sum /root/staging/{self.blob.sha256}").split()[0] == self.blob.sha256

    def push_past(self, trouble: Callable[[], None], mend: Callable[[], None]) -> dict[str, float]:
        """Eight hosts; at 30 % one of them gets into trouble, which ends when the others have everything."""
        stages = [
            (lambda report: report.held >= 0.3 * report.total, trouble),
            (lambda report: report.complete >= 7, mend),
        ]

        def during(report: Report) -> None:
            if stages and stages[0][0](report):
                stages.pop(0)[1]()

        return self.push(8, during, odd=1)

    def repeat(self) -> dict[str, dict[str, float]]:
        found = {f"{count} host{'s' * (count > 1)}": self.push(count) for count in (1, 2, 4, 8)}
        odd = self.hosts[3]
        found["8 hosts, one dead"] = self.push_past(
            functools.partial(odd.switch, "down"), functools.partial(odd.switch, "up")
        )
        odd.shape(SLOW_LINK)
        found["8 hosts, one slow"] = self.push_past(lambda: None, functools.partial(odd.shape, FAN_OUT_LINK))
        return found


def medians(what: str, repeat: Callable[[], dict[str, dict[str, float]]], count: int) -> dict[str, dict[str, float]]:
    repeats = []
    for number in range(1, count + 1):
        print(f"{what}, round {number} of {count}", flush=True)
        repeats.append(repeat())
    return {
        row: {column: statistics.median(found[row][column] for found in repeats) for column in values}
        for row, values in repeats[0].items()
    }


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    columns = list(dict.fromkeys(column for values in rows.values() for column in values))
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for row, values in rows.items():
        table.add_row(row, *(f"{values[column]:,.2f}" if column in values else "" for column in columns))
    wide_console().print(table)


def image_figures(found: dict[str, dict[str, float]]) -> list[Figure]:
    first, ours = found["first way, first"], found["ours, second"]
    return [
        Figure("second push, bytes of the first way's", ours["MB"] / found["first way, second"]["MB"], most=0.025),
        Figure(
            "second push, time of the first way's", ours["seconds"] / found["first way, second"]["seconds"], most=0.08
        ),
        Figure("first push, time of the first way's", found["ours, first"]["seconds"] / first["seconds"], most=0.45),
        Figure("nothing to do, seconds beyond Ansible's own start", found["ours, nothing"]["seconds"], most=1.0),
    ]


def fan_out_figures(found: dict[str, dict[str, float]]) -> list[Figure]:
    one, eight = found["1 host"]["seconds"], found["8 hosts"]
    return [
        Figure("8 hosts, time of one", eight["seconds"] / one, most=1.3),
        Figure("8 hosts, images that leave the control node", eight["images sent"], most=1.2),
        Figure("one of 8 dies: the others' time", found["8 hosts, one dead"]["seconds"] / eight["seconds"], most=1.3),
        Figure(
            "one of 8 is slow: the others' time", found["8 hosts, one slow"]["seconds"] / eight["seconds"], most=1.3
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="What it takes to bring a snapshot's image to hosts.")
    parser.add_argument("--size", type=float, default=1090, help="MB of the image")
    parser.add_argument("--payload", type=float, default=100, help="MB that go to one host and to many")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=["images", "fan-out"])
    given = parser.parse_args()
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that the hosts are removed
    results: dict[str, Any] = {"repeats": given.repeats}
    figures: list[Figure] = []
    if given.only != "fan-out":
        with Lab(DIRECTORY) as lab:
            images = Images(lab, int(given.size * 1e6))
            found = medians("An image to one host", images.repeat, given.repeats)
        show(f"An image of {given.size:.0f} MB to one host, {LINK} Mbit/s", found)
        print("Packed once for all hosts, in none of the times: {:.1f} s, then {:.1f} s".format(*images.packing))
        results["images"] = {"MB": given.size, "packing seconds": images.packing, **found}
        figures += image_figures(found)
    if given.only != "images":
        with Lab(DIRECTORY) as lab:
            fan_out = FanOut(lab, int(given.payload * 1e6))
            found = medians("The same bytes to several hosts", fan_out.repeat, given.repeats)
        show(
            f"{given.payload:.0f} MB to several hosts, {FAN_OUT_LINK} Mbit/s each, and as much for all from here", found
        )
        results["fan-out"] = {"MB": given.payload, **found}
        figures += fan_out_figures(found)
    save("push", figures, **results)


if __name__ == "__main__":
    main()
