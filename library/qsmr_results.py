#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Thin adapter: level 2 of a project's finished jobs on disk."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_results
short_description: Keep level 2 of a project's finished jobs on disk
version_added: "0.1.0"
description:
  - Asks the job service which jobs are finished, and fetches from the Odin API those level 2 documents that are
    not on disk yet, or whose scan was processed again since.
  - Each document is checked to belong to its scan and frequency mode, and appears whole or not at all.
options:
  directory:
    description: Where the documents go, as C(<frequency mode>/<scan id>.json).
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: Says what would be fetched and writes nothing.
  diff_mode:
    support: none
    description: Documents are large and hold numbers only.
  idempotent:
    support: full
    description: A second run fetches what finished since, and is unchanged when that is nothing.
extends_documentation_fragment: [qsmr, qsmr.odin_project]
author: qsmr-fleet developers
"""

EXAMPLES = r"""
- name: Level 2 of the finished scans is on disk
  qsmr_results:
    config_file: /home/ana/lab.conf
    project: myproject
    directory: /home/ana/results/myproject
"""

RETURN = r"""
finished:
  description: Number of finished jobs that are scans.
  returned: always
  type: int
new:
  description: Number of documents fetched, or to be fetched in check mode.
  returned: always
  type: int
missing:
  description: Scans whose job is finished but whose level 2 is not there, as C(<frequency mode>:<scan id>).
  returned: always
  type: list
  elements: str
wrong:
  description: Documents that were not kept because they belong to another scan or frequency mode, one line for each.
  returned: always
  type: list
  elements: str
failed_scans:
  description: Scan ids whose level 2 says that the scan could not be retrieved.
  returned: always
  type: list
  elements: int
snapshots:
  description: How many of the documents each snapshot made, by snapshot id.
  returned: always
  type: dict
profile:
  description: Ozone profile of the first scan, by altitude (km), VMR and a priori (ppm), measurement response.
  returned: when there is a document
  type: list
  elements: dict
directory:
  description: Where the documents are.
  returned: always
  type: str
"""

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.adapter import ODIN_PROJECT, SERVICES, run_module, settings_of
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.jobapi import JobApi
from ansible.module_utils.qsmr.odinapi import OdinApi
from ansible.module_utils.qsmr.results import CONNECTIONS, FinishedJob, document_path, fetch, profile_table

OPTIONS = {
    **SERVICES,
    **ODIN_PROJECT,
    "directory": {"type": "path", "required": True},
}


def run(module: AnsibleModule) -> dict:
    parameters = module.params
    settings = settings_of(module)
    project, odin_project = parameters["project"], parameters["odin_project"]
    directory = Path(parameters["directory"])
    with JobApi(settings.job_api_root) as api:
        if not api.exists(project):
            raise QsmrError(f"The job service has no project {project}: check qsmr_project, or add jobs with jobs.yml")
        listing = api.jobs(project, status="finished")
    jobs = sorted(
        (job for entry in listing if (job := FinishedJob.from_listing(entry))), key=lambda j: (j.freq_mode, j.scan_id)
    )
    outcome = fetch(
        OdinApi(settings.odin_api_root, CONNECTIONS),
        odin_project,
        jobs,
        directory,
        check_mode=module.check_mode,
    )
    first = next((path for job in jobs if (path := document_path(directory, job)).exists()), None)
    return {
        "changed": bool(outcome.new),
        "directory": str(directory),
        "finished": len(jobs),
        "new": len(outcome.new),
        "missing": [f"{job.freq_mode}:{job.scan_id}" for job in outcome.missing],
        "wrong": outcome.wrong,
        "failed_scans": outcome.failed_scans,
        "snapshots": dict(outcome.snapshots),
        "profile": profile_table(json.loads(first.read_text())) if first else [],
    }


def main() -> None:
    run_module(run, OPTIONS)


if __name__ == "__main__":
    main()
