"""Every command of the documentation, run as it stands there, page after page, as a reader of all of it would."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from container_fleet import NAME, NET, REPOSITORY, Fleet, docker
from docs_commands import blocks, commands, pages

pytestmark = pytest.mark.slow

NOT_RUN = {
    "git clone <this repository>": "the clone is what runs this test",
    "cd qsmr-fleet": "so that it is there already",
    "make demo-clean": "it removes the images that other tests need; the fleet's end is demo_fleet_clean.yml",
}
NEWEST = "$(ls -td ~/snapshots/qsmr_snapshot_myproject_* | head -1)"
# What the pages name, and what stands for it here.
HERE = {
    "https://jobs.example.com/rest_api": f"http://{NET}.10:5000/rest_api",
    "http://jobs.example.com/rest_api": f"http://{NET}.10:5000/rest_api",
    "http://odin.example.com/rest_api": f"http://{NET}.11:5001/rest_api",
    "10.87.0.": f"{NET}.",
    "/home/ana/snapshots/qsmr_snapshot_myproject_261123": NEWEST,
    "261120-5f6a7b8c9d": f"$(docker exec {NAME}-host2 ls -tr /opt/qsmr/myproject/releases | head -1)",
    "7123991206": "$(head -1 ~/scanids.txt)",
    "/home/ana": "$HOME",
    "inventory/lab": "$HOME/inventory/lab",
}
SNAPSHOT = "ansible-playbook playbooks/snapshot.yml"
CHANGE_CODE = f"echo '# changed' >> ~/qsmr/code/run_runscript.sh; {SNAPSHOT}"
# What a reader does besides, or somewhere else than on the control node: {} is the command.
AROUND = {
    "cp -r inventory/example inventory/lab": "mkdir -p ~/inventory; {}; cp -rf ~/mine/. ~/inventory/lab",
    "openssl pkeyutl": f"{SNAPSHOT} -e qsmr_signing_key=~/.qsmr-signing.key; cd {NEWEST}; {{}}; cd - > /dev/null",
    "bash start_worker.sh": f"docker cp {NEWEST} {NAME}-host3:/snapshot; docker exec -w /snapshot {NAME}-host3 {{}}",
    "docker compose -p": f"docker exec {NAME}-host3 {{}}",
    "ansible-playbook playbooks/workers.yml  ": f"{CHANGE_CODE}; {{}}",
    "ansible-playbook playbooks/workers.yml --check": f"{CHANGE_CODE}; {{}}",
    "ansible-playbook playbooks/workers.yml -e qsmr_canary_jobs": (
        "seq 7300000001 317 7300095000 > ~/more.txt; "
        "ansible-playbook playbooks/jobs.yml -e qsmr_jobs_file=~/more.txt; {}"
    ),
    "make dashboard": (
        "{} & curl -fs --retry 30 --retry-delay 1 --retry-connrefused http://127.0.0.1:8080/ | grep -q dashboard.js; "
        "kill $!; wait"
    ),
}
# The lab is there when its page has been read.
ON_THE_DEMO = {"index", "tutorial", "lab", "services"}
PROJECTS = ("demo", "coarse", "myproject", "other", "standard", "loose")


class Reader:
    """Somebody with the page's files in a home of their own, and the fleet of the tests as demo and as lab."""

    def __init__(self, fleet: Fleet, home: Path) -> None:
        self.fleet = fleet
        self.home = home
        settings = fleet.settings
        self.here = HERE | {
            "build/demo": str(fleet.directory),
            "sixteencharacter": settings.odin_secret,
            "JOB_API_USERNAME=ana": f"JOB_API_USERNAME={settings.job_api_username}",
            "a password, taken literally": settings.job_api_password,
        }
        shutil.copytree(REPOSITORY / "examples/qsmr-demo", home / "qsmr")
        (home / "qsmr-fleet").symlink_to(REPOSITORY)
        scans = (fleet.directory / "scanids.txt").read_text().split()
        (home / "scanids.txt").write_text("\n".join(scans[:6]) + "\n")
        self.write_inventories()

    def write_inventories(self) -> None:
        """The demo's with what makes it this fleet on top; and the lab's, whose settings are those of the page."""
        overlay, lab = self.home / "overlay", self.home / "mine"
        hosts = yaml.safe_load((self.fleet.inventory / "hosts.yml").read_text())
        workers = hosts["workers"]["hosts"]
        hosts["workers"]["hosts"] = {name.replace("host", "lab"): host for name, host in workers.items()}
        hosts["services"]["hosts"] = {}
        [settings] = blocks(REPOSITORY / "docs/lab.md", "yaml")
        for directory, inventory, variables in (
            (overlay, {"fleet": {}}, json.dumps(self.fleet.variables)),
            (lab, hosts, settings.replace("/home/ana", str(self.home))),
        ):
            (directory / "group_vars").mkdir(parents=True)
            (directory / "hosts.yml").write_text(yaml.safe_dump(inventory))
            (directory / "group_vars/fleet.yml").write_text(variables)
        (lab / "group_vars/all.yml").write_text(json.dumps(self.fleet.variables))

    def shell(self, script: str, *, demo: bool = False) -> None:
        """Run a script in the project's directory; what it printed is the failure's message."""
        inventory = f"{self.fleet.inventory},{self.home}/overlay" if demo else f"{self.home}/inventory/lab"
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"HOME": str(self.home), "PATH": programs, "ANSIBLE_INVENTORY": inventory}
        path = self.home / "page.sh"  # not on the command line: the page on the config file has its secrets
        path.write_text(script)
        run = subprocess.run(
            ["bash", "-eo", "pipefail", path],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert run.returncode == 0, run.stdout[-8000:]

    def line(self, command: str) -> str:
        """A command as it is run here, told before it is."""
        if command in NOT_RUN:
            return ""
        done = command
        for shown, here in self.here.items():
            done = done.replace(shown, here)
        around = next((around for start, around in AROUND.items() if command.startswith(start)), "{}")
        return f"echo {shlex.quote('$ ' + command)}\n{around.replace('{}', done)}\n"


@pytest.fixture(scope="module")
def reader(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    reader = Reader(fleet, tmp_path_factory.mktemp("home"))
    try:
        yield reader
    finally:
        for project in PROJECTS:
            fleet.ok("stop.yml", qsmr_project=project, qsmr_remove=True)
        docker("exec", fleet.container("host3"), "rm", "-rf", "/snapshot")


@pytest.mark.parametrize("page", [page for page in pages() if commands(page)], ids=lambda page: page.stem)
def test_commands_of_the_page_do_what_they_are_shown_for(reader, page):
    reader.shell("".join(map(reader.line, commands(page))), demo=page.stem in ON_THE_DEMO)


def test_python_of_the_page_finds_what_results_left(reader):
    for text in blocks(REPOSITORY / "docs/results.md", "python"):
        results = reader.home / "state/myproject/results"
        subprocess.run([sys.executable, "-c", text], cwd=results, check=True)
