#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The workers of a project on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_worker
short_description: Have the workers of a snapshot run on a host, healthy
version_added: "0.1.0"
description:
  - Compares the release, the image, the environment and the containers on the host with what should be there, does what
    differs by Docker Compose (v1 or v2), and waits until every worker is healthy.
  - The image must be on the host, see M(qsmr_image).
options:
  directory:
    description:
      - The snapshot's directory on the control node. From it the action plugin of this name fills O(snapshot), O(files)
        and O(worker_env).
    type: path
  foretold:
    description: For check mode. A snapshot that is still to be made, instead of O(directory); see M(qsmr_snapshot).
    type: dict
  config_file:
    description: File with the five settings, which O(foretold) needs on the control node.
    type: path
  config:
    description: The same settings, for values that come from a vault. They win over the file.
    type: dict
    default: {}
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
    description:
      - A release that is on the host already, to be run instead of a snapshot. One of the two is required.
        V(current) means the one that runs, V(before) the one that ran before.
    type: str
  hostname:
    description: The host's part of the workers' names.
    type: str
    required: true
  count:
    description:
      - Number of workers; or one for the size of the host, as in V(2 per core), V(1 per 2 cores), V(1 per 4 GB).
        More or fewer of them leave the others running.
    type: str
    default: "1"
  cpus:
    description: Number of processors that each worker may use, such as V(0.5). Empty means all.
    type: str
    default: ""
  memory:
    description: Memory that each worker may use, such as V(512m) or V(4g). Empty means all.
    type: str
    default: ""
  job_timeout:
    description:
      - Seconds after which a worker ends a job as failed; V(0) means never. Empty means what the release says.
      - A release of an older snapshot cannot take it up; then a warning says so.
    type: str
    default: ""
  healthy_deadline:
    description: Seconds until every worker must be healthy.
    type: int
    default: 120
  min_healthy_time:
    description: Seconds that every worker must stay healthy.
    type: int
    default: 0
  revert:
    description: Take the host back to what ran before if the release does not get healthy; it fails all the same.
    type: bool
    default: false
  mark:
    description:
      - What a release that is healthy is marked as. V(stable) means that later ones are taken back to it, V(none) that
        it has to prove itself yet, V(restored) that it is stable again and the one after it forgotten.
    type: str
    choices: [stable, none, restored]
    default: stable
  hold:
    description: Only make sure that all is as it should be. A difference, or a worker that is not healthy, fails.
    type: bool
    default: false
  drain_timeout:
    description: Seconds that a worker which has to stop gets for its job at hand.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: Tells the differences and changes nothing.
  diff_mode:
    support: full
    description: Shows release, images and workers, and never the environment.
  idempotent:
    support: full
    description: Changes nothing where nothing differs.
extends_documentation_fragment: [qsmr.host, qsmr.workers]
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: Two workers of the snapshot run on the host
  qsmr_worker:
    project: demo
    compose_project: qsmr-demo
    host_dir: /opt/qsmr
    snapshot: "{{ lookup('ansible.builtin.file', directory ~ '/snapshot.json') | from_json }}"
    files:
      docker-compose.yml: "{{ lookup('ansible.builtin.file', directory ~ '/docker-compose.yml', rstrip=false) }}"
    worker_env: "{{ lookup('ansible.builtin.file', directory ~ '/worker.env', rstrip=false) }}"
    hostname: "{{ inventory_hostname }}"
    count: 2
"""

RETURN = r"""
differences:
  description: What differed, each as C(what) C(old -> new), or as the name of a key of the environment that changed.
  returned: always
  type: list
  elements: str
  sample: ["release: 251122-0a1b2c3d4e -> 251123-5f6a7b8c9d", "workers: 1 -> 2"]
release_before:
  description: Snapshot id that ran before; empty if none did.
  returned: always
  type: str
release:
  description: Snapshot id that runs now; empty if none does.
  returned: always
  type: str
reverted:
  description: Whether the host is as it was before, after a failure.
  returned: failure
  type: bool
check:
  description: What is not healthy, in a line.
  returned: failure
  type: str
log:
  description: The last lines of the first worker that is not healthy.
  returned: failure
  type: list
  elements: str
workers:
  description: Condition of each worker's container, by name.
  returned: success
  type: dict
  sample: {"qsmr-demo-uworker-1": "healthy"}
worker_names:
  description: The names under which the workers claim jobs.
  returned: success
  type: list
  elements: str
gone:
  description: Names of workers that were here and are no more. They can hold no job any longer.
  returned: always
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.dockercli import Docker
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.hoststate import compare
from ansible.module_utils.qsmr.hostworker import WorkerHost, desired_of
from ansible.module_utils.qsmr.lock import changing
from ansible.module_utils.qsmr.release import Releases


def present(module: AnsibleModule, host: WorkerHost, result: dict) -> None:
    parameters = module.params
    for name in ("drain_timeout", "healthy_deadline", "min_healthy_time"):
        if parameters[name] < 0:
            raise QsmrError(f"{name} is {parameters[name]}: give 0 or more")
    desired = desired_of(host, parameters)
    if desired.unheard:
        module.warn(desired.unheard)
    found = host.find(desired)
    result["differences"] = compare(desired, found)
    result["changed"] = bool(result["differences"])
    result["diff"] = {"before": found.view(), "after": desired.view() if result["changed"] else found.view()}
    workers = found.containers
    if not module.check_mode:
        fallback = host.fallback(desired, found, parameters["hold"]) if parameters["revert"] else None
        try:
            how = {name: parameters[name] for name in ("healthy_deadline", "min_healthy_time", "hold", "mark")}
            workers = host.converge(desired, found, **how)
        except QsmrError as error:
            result["check"] = getattr(error, "check", str(error))
            result["log"] = getattr(error, "log", [])
            if not parameters["revert"]:
                raise
            outcome, result["reverted"] = host.take_back(found, fallback, parameters["healthy_deadline"])
            raise QsmrError(f"{error}\n{outcome}") from None
        finally:
            result["gone"] = host.gone()
    result["workers"] = {worker.name: worker.condition for worker in workers}
    result["worker_names"] = [worker.worker for worker in workers]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "compose_project": {"type": "str", "required": True},
            "host_dir": {"type": "path", "required": True},
            "directory": {"type": "path"},
            "foretold": {"type": "dict"},
            "config_file": {"type": "path"},
            "config": {"type": "dict", "default": {}},
            "snapshot": {"type": "dict"},
            "release": {"type": "str"},
            "files": {"type": "dict"},
            "worker_env": {"type": "str", "no_log": True},
            "hostname": {"type": "str", "required": True},
            "count": {"type": "str", "default": "1"},
            "cpus": {"type": "str", "default": ""},
            "memory": {"type": "str", "default": ""},
            "job_timeout": {"type": "str", "default": ""},
            "healthy_deadline": {"type": "int", "default": 120},
            "min_healthy_time": {"type": "int", "default": 0},
            "revert": {"type": "bool", "default": False},
            "mark": {"type": "str", "choices": ["stable", "none", "restored"], "default": "stable"},
            "hold": {"type": "bool", "default": False},
            "drain_timeout": {"type": "int", "default": 60},
        },
        required_one_of=[("snapshot", "release")],
        required_together=[("snapshot", "files", "worker_env")],
        mutually_exclusive=[("snapshot", "release")],
        supports_check_mode=True,
    )
    try:
        releases = Releases(Path(module.params["host_dir"]), module.params["project"])
    except QsmrError as error:
        module.fail_json(msg=str(error), changed=False, differences=[], gone=[])
    host = WorkerHost(Docker(), releases, module.params["compose_project"], module.params["drain_timeout"])
    result = {"changed": False, "differences": [], "gone": [], "release_before": releases.current}
    try:
        with changing(releases, module.check_mode):
            present(module, host, result)
    except QsmrError as error:
        module.fail_json(msg=str(error), **{**result, "release": releases.current})
    module.exit_json(**result, release=releases.current)


if __name__ == "__main__":
    main()
