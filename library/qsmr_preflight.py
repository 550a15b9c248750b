#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host has of a project, how that differs from what it should have, and what keeps it from that."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_preflight
short_description: Tell in one call what a host has, what differs from what it should have, and what is in the way
version_added: "0.1.0"
description:
  - Compares release, image, files, environment and workers as M(qsmr_worker) does, and changes nothing.
  - Where something differs, it looks at all that a change needs as well - Docker, Compose, directory, architecture,
    room, the services and their account, and the clock.
  - The services are asked from a container of the image, which Compose starts as it will start the workers, and which
    is gone afterwards. As long as the image is not here, they are asked from a container of the release that runs;
    where there is none, from the host, with the proxies that its containers get.
options:
  directory:
    description:
      - The snapshot's directory on the control node. From it the action plugin of this name fills O(snapshot), O(files)
        and O(worker_env).
    type: path
  foretold:
    description: For check mode. A snapshot that is still to be made, instead of O(directory); see M(qsmr_snapshot).
    type: dict
  snapshot:
    description: Content of the snapshot's C(snapshot.json).
    type: dict
  files:
    description: Content of the release's files that are no secret, by name.
    type: dict
  worker_env:
    description: Content of the snapshot's C(worker.env).
    type: str
  release:
    description: A release that is on the host already, instead of a snapshot, as for M(qsmr_worker).
    type: str
  hostname:
    description: The host's part of the workers' names.
    type: str
    required: true
  count:
    description: Number of workers, as for M(qsmr_worker).
    type: str
    default: "1"
  cpus:
    description: Number of processors that each worker may use, as for M(qsmr_worker).
    type: str
    default: ""
  memory:
    description: Memory that each worker may use, as for M(qsmr_worker).
    type: str
    default: ""
  job_timeout:
    description: Seconds after which a worker ends a job as failed, as for M(qsmr_worker).
    type: str
    default: ""
  drain_timeout:
    description: Seconds that a worker which has to stop gets for its job at hand.
    type: int
    default: 60
  config_file:
    description: File with the five settings. The action plugin takes O(odin_api_root) from it.
    type: path
  config:
    description: The same settings, for values that come from a vault. They win over the file.
    type: dict
    default: {}
  odin_api_root:
    description: Where the Odin API is. It is not asked if this is empty.
    type: str
    default: ""
  asked:
    description:
      - The same was asked already in this run, from a container of the image that is wanted (RV(asked)). Then neither
        services nor Compose are asked again.
    type: bool
    default: false
attributes:
  action:
    support: full
    description: The snapshot and the settings are read on the control node, whose clock is compared, too.
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
extends_documentation_fragment: [qsmr.host, qsmr.workers]
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: What the host has, and what it lacks, is known
  qsmr_preflight:
    project: demo
    compose_project: qsmr-demo
    host_dir: /opt/qsmr
    directory: /home/ana/qsmr_snapshot_demo_251123
    hostname: "{{ inventory_hostname }}"
  register: found
"""

RETURN = r"""
faults:
  description: What keeps the host from running the workers, one line for each with what to do. Empty if it is fit.
  returned: success
  type: list
  elements: str
differences:
  description: What differs, as M(qsmr_worker) names it. Nothing else was looked at if that is empty.
  returned: success
  type: list
  elements: str
target:
  description: Snapshot id of the release that should run; empty if there is no such release.
  returned: success
  type: str
release:
  description: Snapshot id of the release that runs; empty if none does.
  returned: success
  type: str
back_to:
  description: Snapshot id of the release that the host goes back to if the wanted one does not get healthy.
  returned: success
  type: str
has_image:
  description: Whether the image is there under its name.
  returned: success
  type: bool
asked:
  description: Whether a container of the image was asked, in this call or one before it.
  returned: success
  type: bool
workers:
  description: Condition of each worker's container, by name.
  returned: success
  type: dict
machine:
  description: What tells this machine from all others while it runs; empty if that cannot be known.
  returned: success
  type: str
clock:
  description: The host's time in seconds since 1970.
  returned: success
  type: float
"""

import json
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.dockercli import Docker
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.hostcheck import unfit
from ansible.module_utils.qsmr.hostfit import machine_id
from ansible.module_utils.qsmr.hoststate import compare
from ansible.module_utils.qsmr.hostworker import WorkerHost, desired_of
from ansible.module_utils.qsmr.release import MANIFEST, Releases


def look(parameters: dict) -> dict:
    releases = Releases(Path(parameters["host_dir"]), parameters["project"])
    host = WorkerHost(Docker(), releases, parameters["compose_project"], parameters["drain_timeout"])
    answer = {"faults": [], "differences": [], "target": "", "release": releases.current, "back_to": ""}
    answer |= {"has_image": False, "asked": parameters["asked"], "workers": {}}
    snapshot, desired, found, problem = parameters["snapshot"], None, None, ""
    try:
        desired = desired_of(host, parameters)
        snapshot = snapshot or json.loads(desired.files[MANIFEST])
        answer |= {"target": desired.snapshot_id, "back_to": releases.before(desired.snapshot_id)}
        found = host.find(desired)
        answer["has_image"] = bool(found.image_id)
        answer["workers"] = {worker.name: worker.condition for worker in found.containers}
        answer["differences"] = compare(desired, found)
    except QsmrError as error:
        problem = str(error)
    if problem or answer["differences"]:
        if snapshot:
            pushed, odin_api_root = bool(parameters["release"]), parameters["odin_api_root"]
            given = (snapshot, desired, found, odin_api_root, pushed, parameters["asked"])
            answer["faults"], answer["asked"] = unfit(host, *given)
        if problem and not answer["faults"]:
            answer["faults"].append(problem)
    return answer


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "compose_project": {"type": "str", "required": True},
            "host_dir": {"type": "path", "required": True},
            "directory": {"type": "path"},
            "foretold": {"type": "dict"},
            "snapshot": {"type": "dict"},
            "files": {"type": "dict"},
            "worker_env": {"type": "str", "no_log": True},
            "release": {"type": "str"},
            "hostname": {"type": "str", "required": True},
            "count": {"type": "str", "default": "1"},
            "cpus": {"type": "str", "default": ""},
            "memory": {"type": "str", "default": ""},
            "job_timeout": {"type": "str", "default": ""},
            "drain_timeout": {"type": "int", "default": 60},
            "config_file": {"type": "path"},
            "config": {"type": "dict", "default": {}},
            "odin_api_root": {"type": "str", "default": ""},
            "asked": {"type": "bool", "default": False},
        },
        required_one_of=[("snapshot", "release")],
        required_together=[("snapshot", "files", "worker_env")],
        mutually_exclusive=[("snapshot", "release")],
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, clock=time.time(), machine=machine_id(), **look(module.params))
    except QsmrError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
