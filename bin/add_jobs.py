#!/usr/bin/env python3
"""The former command that adds jobs for a list of scans; it runs playbooks/jobs.yml."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from playbook_door import REPOSITORY, enter_environment, run_playbook

DESCRIPTION = """\
Add the scans of a file, one scan id a line, as jobs to a project of the job service.
Without --jobs-file or --freq-mode only the project name and the config file are checked.
"""
CONFIG_HELP = """\
The config file has these settings, as lines KEY=VALUE:
  ODIN_API_ROOT      root of the Odin API, such as http://example.com/rest_api
  ODIN_SECRET        secret that the target parameter is encrypted with
  JOB_API_ROOT       root of the job service, such as http://example.com/rest_api
  JOB_API_USERNAME   user of the job service
  JOB_API_PASSWORD   password of that user
"""
# A line of our progress callback. What else Ansible prints beside its results is not for the user of this command.
PROGRESS = re.compile(r"\w+: [\d,]+ of [\d,]+ jobs \(")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, epilog=CONFIG_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("project", metavar="PROJECT_NAME", help="project of the job service")
    parser.add_argument("config", metavar="CONFIG_FILE", help="file with the settings below")
    parser.add_argument("--freq-mode", type=int, help="frequency mode of the scans")
    parser.add_argument("--jobs-file", help="file with one scan id a line")
    parser.add_argument("--skip", type=int, default=0, help="leave out the first SKIP rows of the file")
    return parser.parse_args()


def check(project: str, config: str) -> None:
    """The former checks, in the former order: whoever gets one of these messages has sent nothing."""
    sys.path.insert(0, str(REPOSITORY / "plugins" / "module_utils"))
    from qsmr.errors import QsmrError
    from qsmr.names import check_project_name
    from qsmr.settings import load_settings

    try:
        check_project_name(project)
        load_settings(config)
    except QsmrError as fault:
        sys.exit(str(fault))


def main() -> int:
    wanted = arguments()
    check(wanted.project, wanted.config)
    if wanted.jobs_file is None or wanted.freq_mode is None:
        print("Project name and config are right. No jobs were added: that takes --jobs-file and --freq-mode.")
        return 0
    if wanted.skip:
        print(f"Skipping the first {wanted.skip} rows in {wanted.jobs_file}", flush=True)

    outcome: dict = {}

    def listen(event: dict) -> None:
        """Keep what the module says, show its progress, and keep what Ansible itself has to say against it."""
        details = event.get("event_data", {})
        if event["event"] in ("runner_on_ok", "runner_on_failed") and details.get("task_action") == "qsmr_jobs":
            outcome.update(details["res"])
        elif event["event"] == "verbose" and PROGRESS.match(event["stdout"].strip()):
            print(event["stdout"].strip(), flush=True)
        elif event["event"] in ("runner_on_failed", "error"):
            outcome.setdefault("msg", details.get("res", {}).get("msg") or event.get("stdout", ""))

    code = run_playbook(
        "jobs.yml",
        {
            "qsmr_project": wanted.project,
            "qsmr_odin_project": wanted.project,
            "qsmr_config_file": str(Path(wanted.config).absolute()),
            # The arguments say it all: an inventory's vault and other sources of scans are not meant.
            "qsmr_config": {},
            "qsmr_scans_from": "file",
            # The former command added whatever the file had.
            "qsmr_check_scans": False,
            "qsmr_freq_mode": str(wanted.freq_mode),
            "qsmr_jobs_file": str(Path(wanted.jobs_file).absolute()),
            "qsmr_skip": wanted.skip,
        },
        on_event=listen,
        quiet=True,
    )
    for warning in outcome.get("warnings", []):
        print(warning, file=sys.stderr)
    if "wanted" in outcome:
        print(f"{outcome['added']} jobs added (skipped {wanted.skip})")
        print(f"Processed {outcome['wanted'] - outcome['remain']}: {outcome['summary']}", flush=True)
        for status, number in outcome["answers"].items():
            print(f"  Status code {status}: {number}", flush=True)
    if code == 0 and "wanted" in outcome:
        print("Done")
        return 0
    print(f"Add job failed: {outcome.get('msg') or 'ansible-playbook ended with ' + str(code)}", file=sys.stderr)
    if "resume_row" in outcome:
        print(f"Exiting, you can try add_jobs.py again with --skip={outcome['resume_row']}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    enter_environment()
    sys.exit(main())
