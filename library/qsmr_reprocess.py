#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Thin adapter: results are by the snapshot that runs, or it is told by which they are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_reprocess
short_description: Tell which snapshot made a project's results, and have the one that runs make them all
version_added: "0.1.0"
description:
  - Asks the Odin API how many results each snapshot made, by the line C(Snapshot:) in the comments of level 2. An Odin
    API that does not answer is warned of.
  - When O(wanted), finished and failed jobs that the snapshot which runs has not done are made available again, each
    once for each snapshot. The ledger has each before the first request and after the last. The module may be killed
    at any moment and run again.
  - Jobs that are being worked on are left alone.
  - Where the Odin API refuses a second delivery of a scan (until 2017), the old level 2 of each job is deleted first.
    To know that, level 2 without a result of scan 1, which there is not, is delivered twice and deleted.
options:
  freq_mode:
    description: Frequency mode of the scans, or several with commas between.
    type: str
    required: true
  target_version:
    description: Version of the Odin API that level 2 is delivered to.
    type: str
    choices: [v4, v5]
    default: v4
  target_cipher:
    description: Cipher of the target parameter.
    type: str
    choices: [ecb, eax]
    default: ecb
  state_dir:
    description: Where the ledger and the audit of each project are kept.
    type: path
    required: true
  snapshot_dir:
    description: Where snapshots are.
    type: path
    required: true
  wanted:
    description: Whether the snapshot that runs is to make all results.
    type: bool
    default: false
  hosts:
    description:
      - What M(qsmr_worker_info) registered, by the host's name. Needed when O(wanted). Hosts that run different
        snapshots are an error, one that does not answer is warned of.
      - Without it, the audit tells which snapshot runs.
    type: dict
    default: {}
  comes:
    description: Check mode tells what would be when this snapshot ran on all hosts. Empty for the one that runs.
    type: str
    default: ""
  connections:
    description: Most requests under way at once.
    type: int
    default: 8
attributes:
  check_mode:
    support: full
    description: Says how many jobs would be made available.
  diff_mode:
    support: none
    description: The return values tell.
  idempotent:
    support: full
    description: What was made available for a snapshot once is not made so for it again.
extends_documentation_fragment: [qsmr, qsmr.odin_project]
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: All results are by the snapshot that runs
  qsmr_reprocess:
    config_file: /home/ana/lab.conf
    project: myproject
    freq_mode: "1"
    state_dir: /home/ana/state
    snapshot_dir: /home/ana/snapshots
    wanted: true
    hosts: "{{ probes }}"
"""

RETURN = r"""
snapshot:
  description: Snapshot that runs; empty if nobody knows.
  returned: success
  type: str
made_by:
  description: How many results each snapshot made (C(by)), as known here. Empty when O(wanted).
  returned: success
  type: dict
available:
  description: Number of jobs that were made available; in check mode, that would be.
  returned: success
  type: int
at_work:
  description: Number of jobs that are being worked on, when O(wanted).
  returned: success
  type: int
summary:
  description: What to know and to do in a line; empty if all results are by the snapshot that runs.
  returned: success
  type: str
"""

import sqlite3
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.adapter import ODIN_PROJECT, SERVICES, run_module, settings_of
from ansible.module_utils.qsmr.audit import Audit, only_release, reign, running_now
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.jobapi import JobApi
from ansible.module_utils.qsmr.jobdoc import JobMaker
from ansible.module_utils.qsmr.ledger import Ledger, run_lock
from ansible.module_utils.qsmr.madeby import MadeBy, finished_jobs, look
from ansible.module_utils.qsmr.odinapi import OdinApi
from ansible.module_utils.qsmr.progress import Progress
from ansible.module_utils.qsmr.reprocess import Again, Knowledge, Reprocessing
from ansible.module_utils.qsmr.scanids import freq_modes_of
from ansible.module_utils.qsmr.settings import Settings
from ansible.module_utils.qsmr.status import read_host

OPTIONS = {
    **SERVICES,
    **ODIN_PROJECT,
    "freq_mode": {"type": "str", "required": True},
    "target_version": {"type": "str", "choices": ["v4", "v5"], "default": "v4"},
    "target_cipher": {"type": "str", "choices": ["ecb", "eax"], "default": "ecb"},
    "state_dir": {"type": "path", "required": True},
    "snapshot_dir": {"type": "path", "required": True},
    "wanted": {"type": "bool", "default": False},
    "hosts": {"type": "dict", "default": {}},
    "comes": {"type": "str", "default": ""},
    "connections": {"type": "int", "default": 8},
}


def run(module: AnsibleModule) -> dict[str, Any]:
    parameters = module.params
    settings = settings_of(module)
    directory = Path(parameters["state_dir"]) / parameters["project"]
    events = Audit(directory).events()
    login = settings.job_api_username, settings.job_api_password
    with JobApi(settings.job_api_root, *login, connections=parameters["connections"]) as api:
        if not parameters["wanted"]:
            made_by = told(module, settings, api, events)
            facts = {"snapshot": made_by.current, "made_by": made_by.facts, "summary": made_by.told()}
            return {"changed": False, "available": 0, "at_work": 0, **facts}
        snapshot = parameters["comes"] if module.check_mode else ""
        snapshot = snapshot or running(module, parameters["hosts"])
        if not api.exists(parameters["project"]):
            again = Again(snapshot)  # in check mode
        else:
            again = reprocess(module, settings, api, directory, snapshot, reign(events, snapshot)[1])
    available = again.finished + again.failed
    facts = {"snapshot": snapshot, "made_by": {}, "summary": again.summary()}
    return {"changed": again.changed, "available": available, "at_work": again.at_work, **facts}


def told(module: AnsibleModule, settings: Settings, api: JobApi, events: list[dict[str, Any]]) -> MadeBy:
    """By which snapshots the results are. An Odin API without an answer is warned of: nothing depends on it here."""
    parameters = module.params
    project, current = parameters["project"], only_release(running_now(events).values())
    try:
        return look(
            *(api, settings.odin_api_root, project, parameters["odin_project"], parameters["freq_mode"], current),
            *(finished_jobs(api, project), events, Path(parameters["snapshot_dir"])),
        )
    except QsmrError as error:
        module.warn(f"Nobody knows by which snapshots the results are: {error}")
        return MadeBy(current)


def running(module: AnsibleModule, hosts: Mapping[str, Any]) -> str:
    """The snapshot that all hosts run which answer. Raises QsmrError if they run none, or several."""
    rows = [read_host(host, probe) for host, probe in sorted(hosts.items())]
    releases: dict[str, list[str]] = {}
    for row in rows:
        for release in row["running"] or [row["release"]] * bool(row["release"]):
            releases.setdefault(release, []).append(row["host"])
    which = "; ".join(f"{release} on {', '.join(names)}" for release, names in sorted(releases.items()))
    if len(releases) != 1:
        found = f"the hosts run several snapshots ({which})" if releases else "no host says which snapshot it runs"
        raise QsmrError(f"No job was made available again: {found}. Run workers.yml first, then this again")
    for row in rows:
        if row["error"]:
            module.warn(
                f"{row['host']} does not say which snapshot it runs ({row['error']}): if its workers go on with another"
                " one, they take jobs, too"
            )
    return next(iter(releases))


def reprocess(
    module: AnsibleModule, settings: Settings, api: JobApi, directory: Path, snapshot: str, since: str | None
) -> Again:
    """Make available what the snapshot has not done."""
    parameters, check = module.params, module.check_mode
    project, odin_project = parameters["project"], parameters["odin_project"]
    odin = OdinApi(settings.odin_api_root, parameters["connections"])
    make = JobMaker(settings, odin_project, parameters["target_version"], parameters["target_cipher"])
    known = Knowledge.of(odin, odin_project, freq_modes_of(parameters["freq_mode"]), snapshot, since)
    with ExitStack() as stack:
        try:
            if not check:
                stack.enter_context(run_lock(directory))
            progress = Progress(None if check else directory / "progress.json", project)
            ledger = stack.enter_context(closing(Ledger(directory, throwaway=check)))
            run = Reprocessing(api, odin, make, project, ledger, progress, parameters["connections"])
            again = run.run(snapshot, known, check)
            progress.say("done")
        except sqlite3.Error as error:
            raise QsmrError(f"The ledger in {directory} cannot be used: {error}; check the disk") from None
        return again


def main() -> None:
    run_module(run, OPTIONS)


if __name__ == "__main__":
    main()
