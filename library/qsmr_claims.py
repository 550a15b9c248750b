#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Thin adapter: no job of a project is held by a failure or by a worker that is gone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_claims
short_description: Make failed jobs and jobs of dead workers available again
version_added: "0.1.0"
description:
  - Takes jobs from their workers and sets their status back, so that other workers can have them.
  - A worker is dead when its host answers and does not run it. A host that does not answer is named, and its jobs are
    left alone.
  - The ledger keeps count of the failures, of which losing a worker is one. A job that failed too often is set aside,
    that is, left or marked as failed, and named.
  - A job that is finished is never touched.
options:
  state_dir:
    description: Where the ledger of each project is kept.
    type: path
    required: true
  failed:
    description: Whether failed jobs become available.
    type: bool
    default: true
  max_attempts:
    description: A job that failed so often is set aside.
    type: int
    default: 3
  stale_minutes:
    description:
      - Jobs that were claimed so many minutes ago and are not done become available, too. Else age does not count.
      - It must be longer than any job takes. The times of the service and of the control node are compared.
    type: float
  dead_workers:
    description: Jobs that these workers have become available, too, whatever their hosts say. A name may hold C(*).
    type: list
    elements: str
    default: []
  hosts:
    description: >-
      What M(qsmr_worker_info) registered, by the name that the host's workers carry; empty for a host that was not
      asked, whose workers' jobs stay as they are.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Says which jobs would become available.
  diff_mode:
    support: none
    description: The return values name the jobs.
  idempotent:
    support: full
    description: What is available already is left alone.
extends_documentation_fragment: qsmr
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: Failed jobs and those of host3 are available
  qsmr_claims:
    config_file: /home/ana/lab.conf
    project: myproject
    state_dir: /home/ana/state
    dead_workers: ["UWorker_host3_*"]
"""

RETURN = r"""
failed_jobs:
  description: Ids of the failed jobs that became available.
  returned: always
  type: list
  elements: str
stale_jobs:
  description: Ids of the jobs that were taken from their workers.
  returned: always
  type: list
  elements: str
tidied_jobs:
  description: Ids of the jobs that were free already, and had an old status.
  returned: always
  type: list
  elements: str
set_aside:
  description: Ids of the jobs that failed too often.
  returned: always
  type: list
  elements: str
odd:
  description: What is the matter with jobs that were left as they are, such as one without a status, by their ids.
  returned: always
  type: dict
summary:
  description: The outcome in a line.
  returned: always
  type: str
"""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.adapter import SERVICES, run_module, settings_of
from ansible.module_utils.qsmr.claims import Rules, release, running_workers
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.hostpaths import database_why
from ansible.module_utils.qsmr.jobapi import JobApi
from ansible.module_utils.qsmr.ledger import Ledger

OPTIONS = {
    **SERVICES,
    "state_dir": {"type": "path", "required": True},
    "failed": {"type": "bool", "default": True},
    "max_attempts": {"type": "int", "default": 3},
    "stale_minutes": {"type": "float"},
    "dead_workers": {"type": "list", "elements": "str", "default": []},
    "hosts": {"type": "dict", "default": {}},
}


def run(module: AnsibleModule) -> dict:
    parameters = module.params
    settings = settings_of(module)
    project = parameters["project"]
    directory = Path(parameters["state_dir"]) / project
    rules = Rules(
        parameters["failed"],
        parameters["max_attempts"],
        parameters["stale_minutes"],
        parameters["dead_workers"],
        {host: running_workers(probe) for host, probe in parameters["hosts"].items() if probe},
        [host for host, probe in parameters["hosts"].items() if not probe],
    )
    with JobApi(settings.job_api_root, settings.job_api_username, settings.job_api_password) as api:
        if not api.exists(project):
            raise QsmrError(f"The job service has no project {project}: check qsmr_project")
        if not module.check_mode:
            directory.mkdir(parents=True, exist_ok=True)
        try:
            with closing(Ledger(directory, throwaway=module.check_mode)) as ledger:
                released = release(api, project, ledger, rules, datetime.now(UTC), module.check_mode)
        except sqlite3.Error as error:
            raise QsmrError(f"The ledger in {directory} cannot be used: {database_why(error)}") from None
    for warning in released.warnings():
        module.warn(warning)
    if released.faults:
        raise QsmrError(f"{released.summary(rules)}: {next(iter(released.faults.values()))}")
    return {
        "changed": released.changed,
        "failed_jobs": released.failed,
        "stale_jobs": released.stale,
        "tidied_jobs": released.tidied,
        "set_aside": released.set_aside,
        "odd": released.odd,
        "summary": released.summary(rules),
    }


def main() -> None:
    run_module(run, OPTIONS)


if __name__ == "__main__":
    main()
