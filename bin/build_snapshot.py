"""The former build_snapshot.sh: its arguments, exit codes and last words, by way of snapshot.yml and add_jobs.py."""

from __future__ import annotations

import argparse
import configparser
import os
import subprocess
import sys
from collections import deque
from pathlib import Path

from playbook_door import REPOSITORY, enter_environment, run_playbook

FAILED = 1

LAST_WORDS = """
========= Snapshot built =========

{news}
Copy the directory {directory}
to each machine that shall run a worker, and start one there, in that directory, with

>>> bash start_worker.sh

Status of the jobs:
{job_api_root}/v4/{project}
Level 2 data:
{odin_api_root}/v4/level2/{project}/<freqmode>/<scanid>
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="build_snapshot.sh",
        description="Build the code, make a snapshot of it in the working directory, and add jobs for its workers. "
        "Nothing is built when the newest snapshot of the project is up to date, or another one there has the image.",
        epilog="The code is that of the working directory, or of the nearest directory above it that has a build.sh "
        "(so that this can be called in the code's snapshot directory, as before). If there is none, it is the "
        "qsmr_code_dir of the inventory that ANSIBLE_INVENTORY or ansible.cfg names.",
    )
    parser.add_argument("project", metavar="PROJECT", help="project of the job service: ASCII letters and digits")
    parser.add_argument("config", metavar="CONFIG", type=Path, help="file with the five KEY=VALUE settings")
    parser.add_argument("jobs_file", metavar="JOBS_FILE", type=Path, nargs="?", help="file with one scan id a line")
    parser.add_argument("freq_mode", metavar="FREQ_MODE", type=int, nargs="?", help="frequency mode of these scans")
    arguments = parser.parse_args()
    if arguments.jobs_file and arguments.freq_mode is None:
        parser.error("the following arguments are required with JOBS_FILE: FREQ_MODE")
    return arguments


def code_directory() -> Path | None:
    here = Path.cwd()
    return next((directory for directory in (here, *here.parents) if (directory / "build.sh").is_file()), None)


class Story:
    """What the events of the playbook tell: progress and faults for the user, the snapshot for us."""

    def __init__(self) -> None:
        self.snapshot: dict = {}
        self.faults = False
        self.last_words = "snapshot.yml failed before its first task: run it with ansible-playbook"

    def __call__(self, event: dict) -> None:
        data = event.get("event_data", {})
        result = data.get("res") or {}
        for warning in result.get("warnings") or []:
            print(f"Warning: {warning}", file=sys.stderr)
        if event["event"] == "playbook_on_play_start":
            print(data["play"], flush=True)
        elif event["event"] == "runner_on_ok" and not data["task"].startswith("Validating arguments"):
            print(f"  {data['task']}", flush=True)
            self.snapshot = result if "snapshot_id" in result else self.snapshot
        elif event["event"] in ("runner_on_failed", "runner_on_unreachable"):
            self.faults = True
            print(result.get("msg", f'"{data.get("task")}" failed'), file=sys.stderr)
        elif event["event"] == "error":
            self.last_words = event["stdout"]


def main() -> int:
    arguments = parse_arguments()
    sys.path.insert(0, str(REPOSITORY / "plugins" / "module_utils"))
    from qsmr.errors import QsmrError
    from qsmr.names import check_project_name
    from qsmr.scanids import read_scans
    from qsmr.settings import load_settings

    checks = [lambda: check_project_name(arguments.project), lambda: load_settings(arguments.config)]
    if arguments.jobs_file:
        checks.append(lambda: deque(read_scans(arguments.jobs_file, [arguments.freq_mode]), maxlen=0))
    faults = []
    for check in checks:
        try:
            check()
        except QsmrError as error:
            faults.append(str(error))
    if faults:
        print("\n".join(faults), file=sys.stderr)
        return FAILED

    variables = {
        "qsmr_project": arguments.project,
        "qsmr_odin_project": arguments.project,
        "qsmr_config_file": str(arguments.config.absolute()),
        # The arguments say it all: an inventory's vault and the snapshot that it may name are not meant.
        "qsmr_config": {},
        "qsmr_snapshot": "",
        "qsmr_snapshot_dir": str(Path.cwd()),
    }
    code = code_directory()
    if code:
        variables["qsmr_code_dir"] = str(code)
    elif "ANSIBLE_INVENTORY" not in os.environ:
        ansible = configparser.ConfigParser(interpolation=None)
        ansible.read(REPOSITORY / "ansible.cfg")
        os.environ["ANSIBLE_INVENTORY"] = str(REPOSITORY / ansible["defaults"]["inventory"])
    story = Story()
    if run_playbook("snapshot.yml", variables, on_event=story, quiet=True):
        if not story.faults:
            print(story.last_words, file=sys.stderr)
        return FAILED

    settings = load_settings(arguments.config)
    made_of = story.snapshot["code"]["directory"]
    print(
        LAST_WORDS.format(
            news=f"Made of {made_of}." if story.snapshot["changed"] else f"It was there: nothing changed in {made_of}.",
            directory=story.snapshot["directory"],
            project=arguments.project,
            job_api_root=settings.job_api_root,
            odin_api_root=settings.odin_api_root,
        )
    )
    if not arguments.jobs_file:
        return 0
    print(f"Adding jobs from {arguments.jobs_file}", flush=True)
    add_jobs = [sys.executable, str(REPOSITORY / "bin" / "add_jobs.py"), arguments.project, str(arguments.config)]
    options = ["--freq-mode", str(arguments.freq_mode), "--jobs-file", str(arguments.jobs_file)]
    return subprocess.run(add_jobs + options).returncode  # noqa: S603 our own command


if __name__ == "__main__":
    enter_environment()
    sys.exit(main())
