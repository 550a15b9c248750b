#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Thin adapter: a project's report."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_report
short_description: Keep a project's report current
version_added: "0.1.0"
description:
  - Writes C(report.html), one page that needs no network, from the job list, the output of failed jobs and the level 2
    that M(qsmr_results) fetched. Each of its figures lies beside it as SVG in C(report_figures).
  - A project that the job service does not know has no report, which is no failure.
extends_documentation_fragment: qsmr
options:
  directory:
    description: Where the report goes, and where the level 2 is that M(qsmr_results) fetched.
    type: path
    required: true
  picture:
    description: What M(qsmr_status) returned under that name, for the hosts and what needs attention.
    type: dict
    default: {}
  snapshot_dir:
    description: Where snapshots are, whose C(snapshot.json) tells what the hosts' releases were made of.
    type: path
attributes:
  check_mode:
    support: full
    description: Says whether the report would be written.
  diff_mode:
    support: none
    description: The report is made anew as a whole.
  idempotent:
    support: full
    description: A report that would tell the same but for the time is left as it is.
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: Report is current
  qsmr_report:
    config_file: /home/ana/lab.conf
    project: myproject
    directory: /home/ana/results/myproject
"""

RETURN = r"""
path:
  description: The report; empty if the project does not exist.
  returned: always
  type: str
"""

from datetime import UTC, datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.adapter import SERVICES, run_module, settings_of
from ansible.module_utils.qsmr.jobapi import JobApi
from ansible.module_utils.qsmr.level2set import unreadable_files
from ansible.module_utils.qsmr.report import FILE, write_report

OPTIONS = {
    "directory": {"type": "path", "required": True},
    "picture": {"type": "dict", "default": {}},
    "snapshot_dir": {"type": "path"},
}


def run(module: AnsibleModule) -> dict:
    parameters = module.params
    settings = settings_of(module)
    for path in unreadable_files(Path(parameters["directory"])):
        module.warn(f"{path} cannot be read and is left out: if it is level 2, results.yml makes it anew")
    with JobApi(settings.job_api_root, read_timeout=60.0) as api:
        if module.check_mode and parameters["picture"].get("foretold"):
            # Other hosts or jobs are to be told of then.
            return {"changed": True, "path": str(Path(parameters["directory"]) / FILE)}
        if not api.exists(parameters["project"]):
            return {"changed": False, "path": ""}
        report = write_report(
            api,
            parameters["project"],
            Path(parameters["directory"]),
            parameters["picture"],
            datetime.now(UTC),
            snapshot_dir=Path(parameters["snapshot_dir"]) if parameters["snapshot_dir"] else None,
            check_mode=module.check_mode,
        )
    return {"changed": report.changed, "path": str(report.path)}


def main() -> None:
    run_module(run, {**SERVICES, **OPTIONS})


if __name__ == "__main__":
    main()
