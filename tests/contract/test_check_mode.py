"""``site.yml --check`` before anything is made: what it foretells of a snapshot that is not there yet, host by host.

The engine is a script that has nothing: whatever else it is asked for would be a change.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from contract import odin_service
from push_snapshots import write_snapshot
from qsmr.release import Releases
from worker_snapshots import write_sums

REPOSITORY = Path(__file__).parents[2]
ROW = ["the", "snapshot", "to", "be", "made", "to", "be", "started", "0", "0", "-"]
OLD = "251101-0000000001"
ENGINE = """\
#!/bin/sh
case "$1 $2" in
"info --format") echo '{"DockerRootDir": "/", "Architecture": "x86_64", "Driver": "overlay2", "ServerVersion": "26.1.5",
  "ClientInfo": {"Plugins": [{"Name": "compose", "Version": "2.26"}]}}' ;;
"image inspect") echo '[]'; echo "Error: No such image: $3" >&2; exit 1 ;;
"image ls" | "ps --all") ;;
"compose --project-name") [ "$6 $7" = "config --quiet" ] || { echo "$*" >>"$(dirname "$0")/changes"; exit 1; } ;;
*) echo "$*" >>"$(dirname "$0")/changes"; exit 1 ;;
esac
"""
odin = odin_service.odin


class Lab:
    """This machine as a host with a directory of its own, and the services: one machine is one host."""

    def __init__(self, directory: Path, config: str) -> None:
        self.directory = directory
        self.engine = directory / "bin/docker"
        self.code = directory / "code"
        for path, text in {
            self.engine: ENGINE,
            self.code / "build.sh": "#!/bin/sh\n",
            directory / "lab.conf": config,
            directory / "scans.txt": "7014791071\n7014792431\n",
        }.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            path.chmod(0o700)
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        groups = {
            "control": {"hosts": {"localhost": local}},
            "services": {"hosts": {"localhost": {}}},
            "workers": {"hosts": {"h1": {}}, "vars": local},
        }
        (directory / "hosts.json").write_text(json.dumps({"all": {"children": groups}}))
        self.settings = {
            "qsmr_project": "demo",
            "qsmr_freq_mode": 1,
            "qsmr_config_file": str(directory / "lab.conf"),
            "qsmr_jobs_file": str(directory / "scans.txt"),
            "qsmr_code_dir": str(self.code),
            "qsmr_snapshot_dir": str(directory / "snapshots"),
            "qsmr_state_dir": str(directory / "state"),
            "qsmr_host_dir": str(directory / "{{ inventory_hostname }}"),
            "qsmr_base_image_source": "registry",
            "qsmr_base_image": "lab/base:1",
        }

    def check(self, playbook: str, **settings: object) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(self.directory / "hosts.json")]
        extra = ["-e", json.dumps({**self.settings, **settings})]
        path = f"{self.engine.parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [*command, f"playbooks/{playbook}", "--check", *extra], cwd=REPOSITORY, capture_output=True, text=True,
            timeout=300, env=os.environ | {"PATH": path, "NO_COLOR": "1", "COLUMNS": "200"},
        )  # fmt: skip

    def left(self) -> list[str]:
        return sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*"))


class Forward(socketserver.BaseRequestHandler):
    """Passes on what comes to this machine's own address to a service on 127.0.0.1, which no worker could use."""

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.service_port)) as service:
            threading.Thread(target=self.copy, args=(self.request, service), daemon=True).start()
            self.copy(service, self.request)

    @staticmethod
    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def seen_from_hosts(root):
    """A service's root with an address that is not the asking machine's itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        address = probe.getsockname()[0]
    with socketserver.ThreadingTCPServer((address, 0), Forward) as server:
        server.daemon_threads, server.service_port = True, urlsplit(root).port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield root.replace(urlsplit(root).netloc, f"{address}:{server.server_address[1]}")
        server.shutdown()


@pytest.fixture
def lab(tmp_path, job_service, odin):
    directory = tmp_path / "lab"
    directory.mkdir()
    with seen_from_hosts(odin.root) as odin_root, seen_from_hosts(job_service.root) as job_root:
        yield Lab(
            directory,
            f"ODIN_API_ROOT={odin_root}\nODIN_SECRET={odin.secret}\nJOB_API_ROOT={job_root}\n"
            f"JOB_API_USERNAME={job_service.username}\nJOB_API_PASSWORD={job_service.password}\n",
        )


def test_all_is_foretold_where_nothing_is_there(lab):
    before = lab.left()
    run = lab.check("site.yml")
    assert run.returncode == 0, run.stdout + run.stderr
    for told in (
        "A snapshot is to be made (snapshot: none -> new)",
        "h1: release: none -> the snapshot to be made; workers: 0 -> 1",
        "Project demo: 2 jobs to be added, 0 were there, the project is to be made",
        "Check mode: the snapshot to be made would be started on h1.",
        "Check mode: 2 jobs to be added, 0 were there, the project is to be made",
        f"Report: {lab.directory}/state/demo/results/report.html",
    ):
        assert told in run.stdout
    rows = [line.split() for line in run.stdout.partition("\nHosts\n")[2].splitlines()[1:2]]
    assert rows == [["h1", *ROW]]
    assert "Attention" not in run.stdout, "the run does what there is to be done"
    assert lab.left() == before


def test_new_code_is_foretold_from_what_the_host_runs(lab):
    former = write_snapshot(lab.directory / "snapshots", 1, [b"base", b"code"])
    manifest = json.loads((former / "snapshot.json").read_text())
    manifest |= {"image_inputs": {"code": "sha256:older"}, "code": {}}
    (former / "snapshot.json").write_text(json.dumps(manifest))
    write_sums(former)
    releases = Releases(lab.directory / "h1", "demo")
    releases.write(OLD, {"snapshot.json": "{}"})
    releases.switch(OLD)
    before = lab.left()
    run = lab.check("site.yml")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "A snapshot is to be made (code: older -> " in run.stdout
    assert f"h1: release: {OLD} -> the snapshot to be made; workers: 0 -> 1" in run.stdout
    assert "Check mode: the snapshot to be made would be started on h1." in run.stdout
    assert lab.left() == before
    alone = lab.check("workers.yml")
    assert f"Check mode: {OLD} would be started on h1." in alone.stdout, "without snapshot.yml none is made"


def test_services_are_foretold_where_their_images_are_still_to_be_made(lab):
    before = lab.left()
    run = lab.check("services.yml")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "qsmr-jobservice is to be made of qsmr-fleet/jobservice" in run.stdout
    assert "qsmr-odin is to be made of qsmr-fleet/odin" in run.stdout
    assert lab.left() == before
