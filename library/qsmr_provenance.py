#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Thin adapter: what made the level 2 of a scan."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_provenance
short_description: Tell what made the level 2 of a scan
version_added: "0.1.0"
description:
  - From a scan's document, as M(qsmr_results) keeps it, back to the snapshot, git commit, settings and base image that
    made it, and to the worker and the times of its job. Asks no service.
options:
  project:
    description: Project of the job service.
    type: str
    required: true
  directory:
    description: Where M(qsmr_results) put the results.
    type: path
    required: true
  state_dir:
    description: Where the project's audit is, which tells who brought the snapshot to the hosts.
    type: path
  scan:
    description: Scan id, or C(<frequency mode>:<scan id>) for a scan that was processed in several modes.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
    description: Changes nothing.
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: What made the level 2 of the scan is known
  qsmr_provenance:
    project: myproject
    directory: /home/ana/results/myproject
    scan: "7123991206"
  register: made_by
"""

RETURN = r"""
scan:
  description: What is known of the scan.
  returned: success
  type: dict
  contains:
    freq_mode: {type: int, description: Frequency mode.}
    scan_id: {type: int, description: Scan id.}
    outcome: {type: str, description: "What became of it, as in C(outcomes) of M(qsmr_results)."}
    reason: {type: str, description: Why there is no profile.}
    products: {type: list, elements: str, description: Its products.}
    document: {type: str, description: Path of its document; null if there is none.}
    worker: {type: str, description: Worker that did the job.}
    claimed: {type: str, description: When the worker took the job (UTC).}
    ended: {type: str, description: When the job ended (UTC).}
    processing_time: {type: float, description: Seconds that it took.}
    told: {type: list, elements: str, description: The retrieval's own words about its settings.}
    snapshot:
      type: dict
      description: >-
        The snapshot that made it (C(snapshot_id), C(created), C(git_commit), C(git_dirty), C(code_directory), C(image),
        C(image_digest), C(base_image), C(base_image_digest), C(settings)). Null if there is no document; parts that its
        snapshot.json would tell are null where that was never found.
    rolled_out: {type: list, elements: dict, description: "When and by whom it was brought to the hosts (time, by)."}
    others: {type: list, elements: str, description: Snapshots that made other scans of the project.}
text:
  description: The same for the screen.
  returned: success
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.adapter import run_module
from ansible.module_utils.qsmr.audit import Audit
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.names import check_project_name
from ansible.module_utils.qsmr.provenance import answer, of_scan, scan_key
from ansible.module_utils.qsmr.resultindex import FILE, opened
from ansible.module_utils.qsmr.results import document_path

OPTIONS = {
    "project": {"type": "str", "required": True},
    "directory": {"type": "path", "required": True},
    "scan": {"type": "str", "required": True},
    "state_dir": {"type": "path"},
}


def run(module: AnsibleModule) -> dict:
    project, directory = module.params["project"], Path(module.params["directory"])
    check_project_name(project)
    if not (directory / FILE).exists():
        raise QsmrError(f"{directory} has no results of project {project} yet: run results.yml")
    state_dir = module.params["state_dir"]
    audit = Audit(Path(state_dir)).events() if state_dir else []
    with opened(directory, check_mode=True) as index:
        key = scan_key(module.params["scan"], index)
        found = of_scan(index, directory, key, document_path(directory, key), audit)
    return {"changed": False, "scan": found, "text": answer(found, project)}


def main() -> None:
    run_module(run, OPTIONS)


if __name__ == "__main__":
    main()
