#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Thin adapter: the job service has a job for each scan of a list."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_jobs
short_description: Make the job service have a job for each scan of a list
version_added: "0.1.0"
description:
  - Compares the list with the jobs of the project, sends what is missing, and asks the service whether it is there.
  - Each job is recorded in a ledger before it is sent and after the answer. The module may be killed at any moment and
    run again; nothing is lost and nothing is added twice.
  - Services of all ages are spoken to, those that take jobs only one by one among them.
options:
  project:
    description: Project of the job service. It is made if it is not there.
    type: str
    required: true
  freq_mode:
    description:
      - Frequency mode of the scans, or several with commas between.
      - A line of a file or list may name one of them, as C(<frequency mode>:<scan id>); with several, each line must.
    type: str
    required: true
  scans_from:
    description:
      - V(file) is O(jobs_file), V(list) is O(scans).
      - V(period) is all that level 1 has from O(first_day) to O(last_day), V(verification) the verification data set.
      - V(production) is all that level 1 has, in those days if they are given, and never after the weather data end.
      - Other sources than a file are written to C(scans.txt) in the project's state first, so that a run can be
        repeated to the letter.
    type: str
    choices: [file, list, period, verification, production]
    default: file
  jobs_file:
    description: File with one scan id a line. It is checked whole before anything is sent.
    type: path
  scans:
    description: The scan ids.
    type: list
    elements: str
    default: []
  first_day:
    description: First day of the period, as YYYY-MM-DD.
    type: str
    default: ""
  last_day:
    description: Last day of the period, as YYYY-MM-DD; it belongs to it.
    type: str
    default: ""
  skip:
    description: Leave out so many rows at the beginning of the list; blank lines are no rows.
    type: int
    default: 0
  check_scans:
    description:
      - Whether new scans of a file or list that level 1 does not have are refused, before any job is added. Level 1 is
        asked by day, not by scan; that it gives no answer is warned of.
    type: bool
    default: true
  target_version:
    description: Version of the Odin API that level 2 is delivered to.
    type: str
    choices: [v4, v5]
    default: v4
  target_cipher:
    description: Cipher of the target parameter. V(ecb) until June 2020, V(eax) from then on.
    type: str
    choices: [ecb, eax]
    default: ecb
  on_conflict:
    description:
      - What to do about a scan whose job in the service has another document (another source, target or result URL).
      - V(fail) adds all others and fails, V(keep) lets it be.
      - A job whose EAX target alone differs is there. Other programs make random ones, and whether it was made with
        your secret the service does not show. V(strict) takes it for a conflict, and fails as V(fail).
    type: str
    choices: [fail, keep, strict]
    default: fail
  state_dir:
    description: Where the ledger and the progress of each project are kept.
    type: path
    required: true
  connections:
    description: Most requests under way at once; fewer where the service is not faster for them.
    type: int
    default: 8
  patience_seconds:
    description: For how long a service without an answer of use is asked again before the run ends.
    type: float
    default: 300
attributes:
  check_mode:
    support: full
    description: Says what would be added; sends nothing and writes nothing.
  diff_mode:
    support: full
    description: Shows how many jobs of the list the service has, before and after.
  idempotent:
    support: full
    description: When all jobs are there, nothing is sent.
extends_documentation_fragment: [qsmr, qsmr.odin_project]
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: All scans have their jobs
  qsmr_jobs:
    config_file: /home/ana/lab.conf
    project: myproject
    freq_mode: 1
    jobs_file: /home/ana/scanids.txt
    state_dir: /home/ana/state
"""

RETURN = r"""
wanted:
  description: Number of different scans in the list.
  returned: always
  type: int
added:
  description: Number of jobs that the service has now and had not before; in check mode, that would be added.
  returned: always
  type: int
were_there:
  description: Number of jobs that the service had already.
  returned: always
  type: int
conflict:
  description: Number of scans whose job in the service is another one.
  returned: always
  type: int
refused:
  description: Number of jobs that the service does not take.
  returned: always
  type: int
remain:
  description: Number of jobs that are not there because the run ended early.
  returned: always
  type: int
repeated:
  description: Number of rows that name a scan again.
  returned: always
  type: int
gone:
  description: Number of jobs that had been added and that the service had no more.
  returned: always
  type: int
answers:
  description: HTTP statuses of the service's answers, by number of jobs.
  returned: always
  type: dict
repeated_requests:
  description: Number of requests that had to be made again.
  returned: always
  type: int
scan_list:
  description: The file that the scans were read from.
  returned: always
  type: str
resume_row:
  description: The first row whose job is not there, to be skipped to.
  returned: when there is one
  type: int
summary:
  description: The run in a line.
  returned: always
  type: str
actions:
  description: What was done.
  returned: always
  type: list
  elements: str
differences:
  description: In what the service differed from the list.
  returned: always
  type: list
  elements: str
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.adapter import ODIN_PROJECT, SERVICES, run_module, settings_of, warn_of_readers
from ansible.module_utils.qsmr.addjobs import Adding
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.jobapi import JobApi
from ansible.module_utils.qsmr.jobdoc import JobMaker
from ansible.module_utils.qsmr.ledger import Scan
from ansible.module_utils.qsmr.odinapi import OdinApi
from ansible.module_utils.qsmr.scancheck import MissingScans, check_scans
from ansible.module_utils.qsmr.scanids import freq_modes_of, read_scans, rows_before
from ansible.module_utils.qsmr.scansource import ScanSource, scan_list
from ansible.module_utils.qsmr.settings import Settings

# A run that outlived a killed playbook gets so many seconds to come to its end.
LOCK_PATIENCE = 20.0

OPTIONS = {
    **SERVICES,
    **ODIN_PROJECT,
    "freq_mode": {"type": "str", "required": True},
    "scans_from": {
        "type": "str",
        "choices": ["file", "list", "period", "verification", "production"],
        "default": "file",
    },
    "jobs_file": {"type": "path"},
    "scans": {"type": "list", "elements": "str", "default": []},
    "first_day": {"type": "str", "default": ""},
    "last_day": {"type": "str", "default": ""},
    "skip": {"type": "int", "default": 0},
    "check_scans": {"type": "bool", "default": True},
    "target_version": {"type": "str", "choices": ["v4", "v5"], "default": "v4"},
    "target_cipher": {"type": "str", "choices": ["ecb", "eax"], "default": "ecb"},
    "on_conflict": {"type": "str", "choices": ["fail", "keep", "strict"], "default": "fail"},
    "state_dir": {"type": "path", "required": True},
    "connections": {"type": "int", "default": 8},
    "patience_seconds": {"type": "float", "default": 300},
}


def run(module: AnsibleModule) -> dict:
    parameters = module.params
    settings = settings_of(module)
    project, odin_project = parameters["project"], parameters["odin_project"]
    warn_of_readers(module)
    freq_modes = freq_modes_of(parameters["freq_mode"])
    directory = Path(parameters["state_dir"]) / project
    make = JobMaker(settings, odin_project, parameters["target_version"], parameters["target_cipher"])
    api = JobApi(
        settings.job_api_root,
        settings.job_api_username,
        settings.job_api_password,
        connections=parameters["connections"],
    )
    with api, TemporaryDirectory() as elsewhere:
        listed_in = Path(elsewhere) if module.check_mode else directory
        source = ScanSource(
            parameters["scans_from"], freq_modes, parameters["scans"], parameters["first_day"], parameters["last_day"]
        )
        path = scan_list(source, parameters["jobs_file"], settings.odin_api_root, listed_in)
        adding = Adding(
            api,
            make,
            project,
            directory,
            parameters["connections"],
            parameters["patience_seconds"],
            parameters["on_conflict"],
            LOCK_PATIENCE,
            # What level 1 listed it has.
            level1_check(module, settings) if parameters["scans_from"] in ("file", "list") else None,
        )
        result = adding.run(read_scans(path, freq_modes, parameters["skip"]), check=module.check_mode)
        row = {"resume_row": rows_before(path, result.faults[0].line)} if result.failed and result.faults else {}
    outcome = {**result.facts, "scan_list": str(path)}
    for fault in result.faults if not result.failed else []:
        module.warn(f"{fault} is kept as it is")
    if result.failed:
        module.fail_json(
            msg=result.complaint(str(path) if parameters["scans_from"] == "file" else "the list"), **outcome, **row
        )
    return outcome


def level1_check(module: AnsibleModule, settings: Settings) -> Callable[..., None] | None:
    """What refuses scans that level 1 does not have. That it cannot be asked is warned of."""

    def check(scans: Iterable[Scan], say: Callable[[int, int], None]) -> None:
        try:
            check_scans(OdinApi(settings.odin_api_root, connections=4, tries=2), scans, say)
        except MissingScans:
            raise
        except QsmrError as error:
            module.warn(f"Nobody knows whether level 1 has the new scans: {error}")

    return check if module.params["check_scans"] else None


def main() -> None:
    run_module(run, OPTIONS)


if __name__ == "__main__":
    main()
