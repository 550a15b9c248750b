#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""A snapshot's image in a registry, and from there on hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_registry
short_description: Have a snapshot's image in a registry, and pull it from there
version_added: "0.1.0"
description:
  - With C(state=pushed), on the control node, the registry has the image afterwards. With C(state=pulled), on a host,
    Docker has it under its own name, verified by the digests of its layers.
  - A login lasts as long as the module runs. The password is in no command line and in no file of the user's.
options:
  state:
    description: What is wanted.
    type: str
    choices: [pushed, pulled]
    required: true
  registry:
    description: The registry, with a path if need be, as in the name of an image.
    type: str
    required: true
  username:
    description: Account at the registry. Without one, the user's own login is used.
    type: str
    default: ''
  password:
    description: Its password.
    type: str
    default: ''
  snapshot:
    description: Content of the snapshot's C(snapshot.json).
    type: dict
    required: true
  archive:
    description: The snapshot's C(docker_image), to push from if Docker has lost the image.
    type: path
  reference:
    description: What C(state=pushed) returned.
    type: str
  project:
    description: Project of the job service. For C(state=pulled), as is O(host_dir).
    type: str
  host_dir:
    description: Directory on the host that holds C(<project>), where it is noted that the host is being changed.
    type: path
attributes:
  check_mode:
    support: partial
    description: Whether it can be run in check mode.
    details: Pushes and pulls nothing. Tells whether the image would be pulled, not whether it would be pushed.
  diff_mode:
    support: full
    description: Shows the image's name before and after, for C(state=pulled).
  idempotent:
    support: full
    description: Changes nothing where the image is.
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: Registry has the snapshot's image
  qsmr_registry:
    state: pushed
    registry: registry.example.org/lab
    username: ana
    password: "{{ vault_registry_password }}"
    snapshot: "{{ lookup('ansible.builtin.file', directory ~ '/snapshot.json') | from_json }}"
    archive: "{{ directory }}/docker_image"
  delegate_to: localhost
  run_once: true
  register: registered

- name: Host has it
  qsmr_registry:
    state: pulled
    registry: registry.example.org/lab
    username: ana
    password: "{{ vault_registry_password }}"
    snapshot: "{{ lookup('ansible.builtin.file', directory ~ '/snapshot.json') | from_json }}"
    reference: "{{ registered.reference }}"
    project: demo
    host_dir: /opt/qsmr
"""

RETURN = r"""
reference:
  description: The image in the registry, by digest.
  returned: with C(state=pushed), not in check mode
  type: str
actions:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample: ["pulled qsmr_snapshot_demo:251123-0a1b2c3d4e"]
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.dockercli import Docker
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.hostimage import Wanted
from ansible.module_utils.qsmr.hostregistry import Registry
from ansible.module_utils.qsmr.lock import changing
from ansible.module_utils.qsmr.release import Releases


def pushed(registry: Registry, wanted: Wanted, archive: str, check_mode: bool) -> dict:
    if check_mode:
        return {"actions": []}
    reference, is_new = registry.push(wanted, Path(archive))
    return {"reference": reference, "actions": [f"pushed {wanted.name}"] if is_new else []}


def pulled(registry: Registry, wanted: Wanted, reference: str, check_mode: bool) -> dict:
    found = registry.docker.image(wanted.name)
    diff = {"before": {"image": wanted.name if found else None}, "after": {"image": wanted.name}}
    if found and wanted.is_(found):
        return {"actions": [], "diff": diff}
    if not check_mode:
        registry.pull(wanted, reference)
    return {"actions": [f"pulled {wanted.name}"], "diff": diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["pushed", "pulled"], "required": True},
            "registry": {"type": "str", "required": True},
            "username": {"type": "str", "default": ""},
            "password": {"type": "str", "default": "", "no_log": True},
            "snapshot": {"type": "dict", "required": True},
            "archive": {"type": "path"},
            "reference": {"type": "str"},
            "project": {"type": "str"},
            "host_dir": {"type": "path"},
        },
        required_if=[("state", "pushed", ["archive"]), ("state", "pulled", ["project", "host_dir"])],
        supports_check_mode=True,
    )
    given = module.params
    registry = Registry(Docker(), given["registry"].rstrip("/"), given["username"], given["password"])
    try:
        wanted = Wanted.from_snapshot(given["snapshot"])
        if not registry.address:
            raise QsmrError("qsmr_push_mode is registry, and qsmr_push_registry is empty: name the registry")
        if given["state"] == "pushed":
            result = pushed(registry, wanted, given["archive"], module.check_mode)
        else:
            releases = Releases(Path(given["host_dir"]), given["project"])
            with changing(releases, module.check_mode):
                result = pulled(registry, wanted, given["reference"] or "", module.check_mode)
    except QsmrError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(result["actions"]), **result)


if __name__ == "__main__":
    main()
