#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of a project runs on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_worker_info
short_description: Tell which release and which workers of a project a host has
version_added: "0.1.0"
description:
  - Reads the host's release directory and its Docker engine, and changes nothing.
options:
  log_lines:
    description: How many of each worker's last log lines to return.
    type: int
    default: 0
attributes:
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
- name: The workers of the project are known
  qsmr_worker_info:
    project: demo
    compose_project: qsmr-demo
    host_dir: /opt/qsmr
  register: found
"""

RETURN = r"""
release:
  description: Snapshot id that C(current) points at; empty if none was started.
  returned: success
  type: str
  sample: 251123-0a1b2c3d4e
releases:
  description: Snapshot ids of all releases that the host keeps.
  returned: success
  type: list
  elements: str
containers:
  description: The workers' containers, running or not, by name.
  returned: success
  type: list
  elements: dict
  contains:
    name: {type: str, description: Name of the container.}
    state: {type: str, description: "Docker's state: running, exited, restarting, ..."}
    health: {type: str, description: "healthy, unhealthy, starting, or none where no health check is declared."}
    health_output: {type: str, description: What the last health check printed.}
    image: {type: str, description: Name of the image that it was made from.}
    release: {type: str, description: Snapshot id that it runs.}
    started: {type: str, description: "When it was started (UTC, ISO 8601)."}
    worker: {type: str, description: The name under which it claims jobs.}
    log: {type: list, elements: str, description: Its last log lines.}
disk_free:
  description: Bytes free for this user where Docker keeps its images.
  returned: success
  type: int
docker_version:
  description: Version of the Docker engine.
  returned: success
  type: str
compose_version:
  description: Version of Docker Compose.
  returned: success
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.dockercli import Docker, redact
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.hostcompose import Compose
from ansible.module_utils.qsmr.hostimage import image_root
from ansible.module_utils.qsmr.hostpaths import disk_free
from ansible.module_utils.qsmr.release import Releases


def run(parameters: dict) -> dict:
    docker = Docker()
    info = docker.info()
    releases = Releases(Path(parameters["host_dir"]), parameters["project"])
    lines = parameters["log_lines"]
    return {
        "release": releases.current,
        "releases": releases.ids(),
        "containers": [
            {
                "name": found.name,
                "state": found.state,
                "health": found.health,
                "health_output": redact(found.health_output, found.env),
                "image": found.image_name,
                "release": found.release,
                "started": found.started,
                "worker": found.worker,
                "log": docker.last_lines(found, lines) if lines else [],
            }
            for found in docker.containers(parameters["compose_project"])
        ],
        "disk_free": disk_free(image_root(info)),
        "docker_version": info["ServerVersion"],
        "compose_version": Compose.of(docker, info).version,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "compose_project": {"type": "str", "required": True},
            "host_dir": {"type": "path", "required": True},
            "log_lines": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **run(module.params))
    except QsmrError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
