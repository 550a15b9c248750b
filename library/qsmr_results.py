#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Thin adapter: level 2 of a project's finished jobs on disk."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_results
short_description: Keep level 2 of a project's finished jobs on disk
version_added: "0.1.0"
description:
  - Asks the job service which jobs ended, and fetches from the Odin API those level 2 documents that are not on disk
    yet, or whose scan was processed again since, over several connections.
  - Each document is checked to be the level 2 of its scan, frequency mode and project, and to be whole.
  - What is on disk is put together as NetCDF files, one for each product, and as a table, C(summary.csv).
  - A run that is killed leaves nothing half; the next one goes on where it stopped.
options:
  directory:
    description: >-
      Where the results go, the documents as C(<frequency mode>/<scan id without its last 7 digits>/<scan id>.json).
    type: path
    required: true
  snapshot_dir:
    description: Where snapshots are, whose C(snapshot.json) is kept with the results.
    type: path
    required: true
  state_dir:
    description: Where the audit of each project is, which tells which snapshot runs.
    type: path
attributes:
  check_mode:
    support: full
    description: Says what would be fetched and writes nothing.
  diff_mode:
    support: none
    description: Documents are large and hold numbers only.
  idempotent:
    support: full
    description: A second run asks for what ended since, and is unchanged when that is nothing.
extends_documentation_fragment: [qsmr, qsmr.odin_project]
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: Level 2 of the finished scans is on disk
  qsmr_results:
    config_file: /home/ana/lab.conf
    project: myproject
    directory: /home/ana/results/myproject
    snapshot_dir: /home/ana/snapshots
"""

RETURN = r"""
finished_scans:
  description: Number of finished jobs that are scans.
  returned: success
  type: int
new:
  description: Number of documents that came in, or that would in check mode.
  returned: success
  type: int
outcomes:
  description: >-
    Number of scans by what became of them. C(retrieved), C(no_result) (the retrieval says why there is no profile),
    C(job_failed), C(missing) (finished without level 2), C(wrong) (what is there is not the scan's), C(wanted)
    (not asked for yet).
  returned: success
  type: dict
missing:
  description: Some scans whose job is finished but whose level 2 is not there, as C(<frequency mode>:<scan id>).
  returned: success
  type: list
  elements: str
wrong:
  description: Why documents were not kept, one line for each of some.
  returned: success
  type: list
  elements: str
snapshots:
  description: How many of the documents each snapshot made, by snapshot id.
  returned: success
  type: dict
made_by:
  description: >-
    The same with the snapshot that runs (C(current)), the number of documents that it did not make (C(outdated)), and
    what to do in a sentence (C(told)).
  returned: success
  type: dict
profile:
  description: Ozone profile of the first scan, by altitude (km), VMR and a priori (ppm), measurement response.
  returned: success
  type: list
  elements: dict
directory:
  description: Where the results are.
  returned: success
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.adapter import ODIN_PROJECT, SERVICES, run_module, settings_of
from ansible.module_utils.qsmr.audit import Audit, only_release, running_now
from ansible.module_utils.qsmr.jobapi import JobApi
from ansible.module_utils.qsmr.odinapi import OdinApi
from ansible.module_utils.qsmr.provenance import made_by
from ansible.module_utils.qsmr.resultindex import opened
from ansible.module_utils.qsmr.results import CONNECTIONS, bring_up_to_date, profile_table

OPTIONS = {
    **SERVICES,
    **ODIN_PROJECT,
    "directory": {"type": "path", "required": True},
    "snapshot_dir": {"type": "path", "required": True},
    "state_dir": {"type": "path"},
}


def run(module: AnsibleModule) -> dict:
    parameters = module.params
    settings = settings_of(module)
    directory, state_dir = Path(parameters["directory"]), parameters["state_dir"]
    events = Audit(Path(state_dir) / parameters["project"]).events() if state_dir else []
    current = only_release(running_now(events).values())
    with JobApi(settings.job_api_root) as jobs, opened(directory, check_mode=module.check_mode) as index:
        outcome = bring_up_to_date(
            jobs,
            OdinApi(settings.odin_api_root, CONNECTIONS),
            parameters["project"],
            parameters["odin_project"],
            index,
            directory,
            Path(parameters["snapshot_dir"]),
            check_mode=module.check_mode,
        )
        for path in outcome.aside:
            module.warn(f"{path}: it had the name of a file of results.yml, which did not make it, or it is damaged")
        return {
            "changed": outcome.changed,
            "directory": str(directory),
            "finished_scans": index.states()["finished"],
            "new": outcome.new,
            "outcomes": outcome.outcomes,
            "missing": outcome.missing,
            "wrong": outcome.wrong,
            "snapshots": outcome.snapshots,
            "made_by": made_by(index, current, events).facts,
            "profile": profile_table(directory, index),
        }


def main() -> None:
    run_module(run, OPTIONS)


if __name__ == "__main__":
    main()
