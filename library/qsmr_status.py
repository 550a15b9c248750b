#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Thin adapter: where a project stands."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_status
short_description: Tell where a project stands
version_added: "0.1.0"
description:
  - Asks the job service for the project's jobs and the Odin API for its level 2, and puts beside it what
    M(qsmr_worker_info) found on the hosts.
  - A project that the job service does not know is no failure. A job service that does not answer is one.
options:
  freq_mode:
    description: Frequency mode of the scans. Level 2 is not counted without it.
    type: str
    default: ""
  target_version:
    description: Odin API that jobs deliver to.
    type: str
    choices: [v4, v5]
    default: v4
  hosts:
    description: What M(qsmr_worker_info) registered, by the host's name; empty for a host that was not asked.
    type: dict
    default: {}
  max_failed_share:
    description: Part of the jobs that ended which may have failed. Judged from 20 jobs on, and when all have ended.
    type: float
    default: 0.5
  stall_timeout:
    description: Seconds without any movement after which the project is said to stand still.
    type: float
    default: 600.0
  state_dir:
    description: Where the audit of each project is, which tells what was brought to the hosts.
    type: path
  snapshot_dir:
    description: Where snapshots are. By which of them the results are is asked of the Odin API.
    type: path
  foretold_releases:
    description: For check mode. The release that a task before would have started, by the host's name.
    type: dict
    default: {}
  foretold_jobs:
    description: For check mode. What a task before would have done about the jobs, in a line.
    type: str
    default: ""
  output_file:
    description: JSON file to write the picture to, as a whole or not at all. Nothing is written if it is empty.
    type: path
attributes:
  check_mode:
    support: full
    description: Writes no file. Shows what O(foretold_releases) and O(foretold_jobs) name as if it were there.
  diff_mode:
    support: none
    description: Numbers move all the time.
  idempotent:
    support: full
    description: A file whose picture differs in its time only is left as it is.
extends_documentation_fragment: [qsmr, qsmr.odin_project]
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: Where the project stands is known
  qsmr_status:
    config_file: /home/ana/lab.conf
    project: myproject
    freq_mode: "1"
    output_file: /home/ana/myproject.json
  register: found
"""

RETURN = r"""
picture:
  description: Where the project stands.
  returned: success
  type: dict
  contains:
    time: {type: str, description: When the services were asked (UTC).}
    project: {type: str, description: Project of the job service.}
    exists: {type: bool, description: Whether the job service knows the project.}
    service: {type: str, description: Root of the job service.}
    ending:
      type: str
      description: >-
        How it stands, in the words of M(qsmr_watch): C(no project), C(no jobs), C(going), C(done), C(failures) (more
        than allowed, or none finished, or a release fails more than what ran before), C(no workers), C(no claims) or
        C(no ends) (nothing moves).
    exit_code: {type: int, description: "The code that stands for it, with which status.yml ends: 0, 10, 12, 13, 14."}
    message: {type: str, description: The same in a sentence.}
    last_line: {type: str, description: The same in 80 columns.}
    states:
      type: dict
      description: >-
        Jobs by state (C(available), C(claimed), C(started), C(finished), C(failed), and what else a client made up), by
        the service's C(JobStates). Where claims were given back these and the counter of claims disagree, and the job
        list decides.
    total: {type: int, description: Number of jobs.}
    remaining: {type: int, description: Jobs that are neither finished nor failed.}
    counters: {type: dict, description: "The service's own counters: added, claimed, finished, failed. They can drift."}
    deadline: {type: str, description: The project's deadline as the service says it.}
    rate:
      type: dict
      description: >-
        How fast jobs ended, finished or failed, in the shortest of 2 minutes, 15 minutes, 2 hours and a day that 20 of
        them ended in; null if none did.
      contains:
        jobs: {type: int, description: Jobs that ended.}
        seconds: {type: int, description: In how many seconds.}
        per_minute: {type: float, description: Jobs in a minute.}
    eta_seconds: {type: int, description: Seconds until every job has ended at this rate; null if nothing tells.}
    eta_service: {type: str, description: What the service expects.}
    workers:
      type: list
      elements: dict
      description: Every worker that a host has, holds a job or ended one in the time that the rate was measured over.
      contains:
        name: {type: str, description: Name under which it claims jobs.}
        host: {type: str, description: "Host that has it, or has replaced it; null if it is no worker of these hosts."}
        holds: {type: int, description: Jobs that it holds.}
        ended: {type: int, description: Jobs that it ended.}
    orphans:
      type: list
      elements: dict
      description: Jobs that are claimed by nobody, or, when every host answered, by a worker that none of them has.
      contains:
        id: {type: str, description: Job id.}
        worker: {type: str, description: Who claimed it.}
        state: {type: str, description: Its state.}
        since: {type: str, description: When it was claimed (UTC).}
    overdue:
      type: dict
      description: Jobs that run more than five times as long as 95 % of the others took. Empty if there are none.
      contains:
        jobs: {type: list, elements: dict, description: "These jobs, as in C(orphans)."}
        usual: {type: float, description: Seconds that 95 % of the others took at most.}
    hosts:
      type: list
      elements: dict
      description: The hosts, in the order of their names.
      contains:
        host: {type: str, description: Name of the host.}
        state: {type: str, description: "answers, unreachable, fails, not asked."}
        error: {type: str, description: Why it does not answer.}
        release: {type: str, description: Snapshot id that it should run.}
        running: {type: list, elements: str, description: Snapshot ids that its workers run.}
        image: {type: str, description: Image of its workers.}
        healthy: {type: int, description: Number of healthy workers.}
        workers:
          type: list
          elements: dict
          description: >-
            Its workers: name, container, condition, release, when each started, and what its health check says against
            it.
    failures:
      type: list
      elements: dict
      description: Why jobs failed, by the lines of their output that tell; the most frequent causes, up to five.
      contains:
        line: {type: str, description: The line of one of them. The query of an URL in it is left out.}
        template: {type: str, description: "What such lines have in common: numbers, ids, paths and times are masked."}
        count: {type: int, description: Jobs that failed so.}
        jobs: {type: list, elements: str, description: Ids of some of them.}
        hosts: {type: dict, description: How many of them failed on each host.}
        output: {type: str, description: URL of the whole output of the first one.}
    failures_read: {type: int, description: "Failed jobs whose output was looked at, the newest."}
    failed_by_host:
      type: list
      elements: dict
      description: Hosts where some of the jobs that ended lately failed, the highest share first.
      contains:
        host: {type: str, description: The host.}
        ended: {type: int, description: Jobs that ended there.}
        failed: {type: int, description: Those of them that failed.}
        p: {type: float, description: "Fisher's exact test: how likely so many are, were it like the others."}
        bad: {type: bool, description: Whether it stands out.}
    bad_releases:
      type: list
      elements: str
      description: Releases whose jobs fail more than those of what ran before, a sentence each.
    level2:
      type: dict
      description: Level 2 of the project at the Odin API.
      contains:
        reachable: {type: bool, description: Whether the Odin API answers.}
        scans: {type: int, description: Scans with level 2; null if the Odin API does not tell.}
        failed: {type: int, description: Scans that could not be retrieved; null if the Odin API does not tell.}
        error: {type: str, description: Why it does not answer.}
    made_by:
      type: dict
      description: By which snapshots the results are, by what level 2 says of itself.
      contains:
        current: {type: str, description: Snapshot that all hosts run which answer; empty if there is no such.}
        by: {type: dict, description: Number of results of each snapshot.}
        unknown: {type: int, description: "Results that say no snapshot, or one that is not known here."}
        outdated: {type: int, description: Finished jobs whose result is not by C(current).}
        told: {type: str, description: The same in a sentence; empty if all results are by C(current).}
    attention: {type: list, elements: str, description: "What somebody should look at, a line each."}
    urls: {type: dict, description: "Where to look: status, jobs, failures, level_2."}
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.adapter import ODIN_PROJECT, SERVICES, run_module, settings_of
from ansible.module_utils.qsmr.audit import Audit, only_release, running_now
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.files import write_state
from ansible.module_utils.qsmr.foretold import foretell
from ansible.module_utils.qsmr.jobapi import JobApi
from ansible.module_utils.qsmr.madeby import MadeBy, look
from ansible.module_utils.qsmr.settings import Settings
from ansible.module_utils.qsmr.status import Level2, read_host, take_picture
from ansible.module_utils.qsmr.verdict import Limits

OPTIONS = {
    **SERVICES,
    **ODIN_PROJECT,
    "freq_mode": {"type": "str", "default": ""},
    "target_version": {"type": "str", "choices": ["v4", "v5"], "default": "v4"},
    "hosts": {"type": "dict", "default": {}},
    "max_failed_share": {"type": "float", "default": 0.5},
    "stall_timeout": {"type": "float", "default": 600.0},
    "state_dir": {"type": "path"},
    "snapshot_dir": {"type": "path"},
    "foretold_releases": {"type": "dict", "default": {}},
    "foretold_jobs": {"type": "str", "default": ""},
    "output_file": {"type": "path"},
}


def run(module: AnsibleModule) -> dict:
    parameters = module.params
    settings = settings_of(module)
    limits = Limits(parameters["max_failed_share"], parameters["stall_timeout"])
    project, odin_project = parameters["project"], parameters["odin_project"]
    level2 = Level2(settings.odin_api_root, parameters["target_version"], odin_project, parameters["freq_mode"])
    hosts = [read_host(host, probe) for host, probe in sorted(parameters["hosts"].items())]
    with JobApi(settings.job_api_root, read_timeout=60.0) as api:
        picture = take_picture(api, project, level2, hosts, datetime.now(UTC), limits)
        made_by = results_by(api, settings, parameters, picture)
    foretold = parameters["foretold_releases"], parameters["foretold_jobs"]
    if any(foretold):
        picture = foretell(picture, *foretold)
    picture["made_by"] = made_by.facts
    picture["attention"] += [made_by.told()] * bool(made_by.told())
    if made_by.outdated and not any(foretold):
        picture["last_line"] += ", some by old code"
    file = parameters["output_file"]
    return {"changed": bool(file) and write(Path(file), picture, module.check_mode), "picture": picture}


def results_by(api: JobApi, settings: Settings, parameters: Mapping[str, Any], picture: Mapping[str, Any]) -> MadeBy:
    """By which snapshots the results are; unknown while the Odin API does not answer, which the picture has already."""
    project, state_dir, snapshot_dir = (parameters[name] for name in ("project", "state_dir", "snapshot_dir"))
    events = Audit(Path(state_dir) / project).events() if state_dir else []
    runs = [release for host in picture["hosts"] for release in host["running"] or filter(None, [host["release"]])]
    current = only_release(runs or running_now(events).values())
    if picture["level2"]["error"] or not parameters["freq_mode"]:
        return MadeBy(current)
    try:
        return look(
            *(api, settings.odin_api_root, project, parameters["odin_project"], parameters["freq_mode"], current),
            *(picture["states"]["finished"], events, Path(snapshot_dir) if snapshot_dir else None),
        )
    except QsmrError as error:
        picture["attention"].append(f"Nobody knows by which snapshots the results are: {error}")
        return MadeBy(current)


def write(path: Path, picture: dict, check_mode: bool) -> bool:
    """Whether the file had to be written: a picture that differs in its time only is the same."""
    try:
        if path.exists() and {**json.loads(path.read_text()), "time": None} == {**picture, "time": None}:
            return False
    except (ValueError, TypeError):
        pass  # It holds something else, which is replaced.
    except OSError as error:
        raise QsmrError(f"{path} cannot be read: {error.strerror}") from None
    if not check_mode:
        write_state(path, json.dumps(picture, indent=2) + "\n", "qsmr_output_file")
    return True


def main() -> None:
    run_module(run, OPTIONS)


if __name__ == "__main__":
    main()
