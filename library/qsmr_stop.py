#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The end of a project's workers on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_stop
short_description: Have the workers of a project stopped on a host, or nothing of it there
version_added: "0.1.0"
description:
  - Lets the workers end, each after its job at hand or when it has given it back. A restart of the host starts none.
options:
  image:
    description: Name of the project's images without the tag, which is the snapshot id.
    type: str
    required: true
  remove:
    description:
      - Also remove the containers, the project's networks and releases, and the names of its images. An image that only
        this project names and that another container is made from stays, and a warning says so.
    type: bool
    default: false
  drain_timeout:
    description: Seconds that each worker gets for its job at hand.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: Tells the differences and changes nothing.
  diff_mode:
    support: full
    description: Shows running workers, and with O(remove) containers, networks, releases and images.
  idempotent:
    support: full
    description: Changes nothing where nothing runs, and with O(remove) nothing is there.
extends_documentation_fragment: [qsmr.host, qsmr.workers]
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: Nothing of the project is on the host
  qsmr_stop:
    project: demo
    compose_project: qsmr-demo
    host_dir: /opt/qsmr
    image: qsmr_snapshot_demo
    remove: true
"""

RETURN = r"""
differences:
  description: What was there that should not be.
  returned: always
  type: list
  elements: str
  sample: ["running workers: 2 -> 0"]
gone:
  description: Names of workers that ran and do no more. They can hold no job any longer.
  returned: always
  type: list
  elements: str
release:
  description: Snapshot id of the release that is started again by M(qsmr_worker); empty if there is none.
  returned: always
  type: str
"""

from contextlib import suppress
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.dockercli import Container, Docker
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.hostcompose import networks
from ansible.module_utils.qsmr.hostlayers import HostLayers
from ansible.module_utils.qsmr.hostprune import Pruning
from ansible.module_utils.qsmr.hostworker import ENDLESS, WorkerHost
from ansible.module_utils.qsmr.lock import changing
from ansible.module_utils.qsmr.release import Releases


def running_of(containers: list[Container]) -> set[str]:
    """The names of the workers that run, or do so again by themselves."""
    return {worker.worker for worker in containers if worker.state in ENDLESS}


def run(module: AnsibleModule, host: WorkerHost, result: dict) -> None:
    if module.params["drain_timeout"] < 0:
        raise QsmrError(f"drain_timeout is {module.params['drain_timeout']}: give 0 or more")
    containers = host.containers()
    running = running_of(containers)
    before = {"running workers": len(running)}
    after = {"running workers": 0}
    if module.params["remove"]:
        pruning = Pruning(host.docker, host.releases, host.compose_project, module.params["image"])
        containers += host.docker.containers(host.compose_project, oneoff=True)
        images, staying = pruning.removable_images(containers)
        for name in staying:
            module.warn(f"{name} stays: a container that is not of this project is made from it")
        before |= {"containers": len(containers), "networks": networks(host.docker, host.compose_project)}
        before |= {"releases": host.releases.ids(), "images": images}
        after |= {"containers": 0, "networks": [], "releases": [], "images": []}
    result["diff"] = {"before": before, "after": after}
    result["differences"] = [
        f"{name}: {', '.join(value)} -> none" if isinstance(value, list) else f"{name}: {value} -> 0"
        for name, value in before.items()
        if value
    ]
    result["changed"] = bool(result["differences"])
    if module.check_mode:
        result["gone"] = sorted(running)
        return
    try:
        if module.params["remove"]:
            with HostLayers(host.releases).without_push():  # it would bring back what is removed
                host.stop()
                host.remove()  # its directory, too, which a lock alone may have made
                pruning.remove_images(images)
        else:
            host.stop()
    finally:
        with suppress(QsmrError):  # an engine that does not tell: then nobody knows that they are gone
            result["gone"] = sorted(running - running_of(host.containers()))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "compose_project": {"type": "str", "required": True},
            "host_dir": {"type": "path", "required": True},
            "image": {"type": "str", "required": True},
            "remove": {"type": "bool", "default": False},
            "drain_timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    result = {"changed": False, "differences": [], "gone": []}
    try:
        releases = Releases(Path(module.params["host_dir"]), module.params["project"])
    except QsmrError as error:
        module.fail_json(msg=str(error), **result)
    host = WorkerHost(Docker(), releases, module.params["compose_project"], module.params["drain_timeout"])
    try:
        with changing(releases, module.check_mode):
            run(module, host, result)
    except QsmrError as error:
        module.fail_json(msg=str(error), **{**result, "release": releases.current})
    module.exit_json(**result, release=releases.current)


if __name__ == "__main__":
    main()
