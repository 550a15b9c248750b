#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""A snapshot's image on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_image
short_description: Have a snapshot's image on a host, sent only if it is missing
version_added: "0.1.0"
description:
  - Asks the host once. If the host has the image under another name, it is named. If it lacks the image, the action
    plugin of this name sends the archive as C(<sha256>.part), the module compares its SHA-256 before Docker sees it,
    loads it, and checks that the image is the snapshot's.
options:
  archive:
    description: The snapshot's C(docker_image) on the control node.
    type: path
    required: true
  snapshot:
    description: Content of the snapshot's C(snapshot.json).
    type: dict
    required: true
  incoming:
    description: Directory on the host for archives on arrival. Nothing stays in it.
    type: path
    required: true
  received:
    description: The archive has been sent. For the action plugin's use.
    type: bool
    default: false
attributes:
  action:
    support: full
    description: The archive is sent from the control node.
  check_mode:
    support: full
    description: Tells whether the image would be sent or named; a host without room for it fails.
  diff_mode:
    support: full
    description: Shows the image's name before and after.
  idempotent:
    support: full
    description: Sends and changes nothing where the image is.
author: qsmr-fleet developers
"""

EXAMPLES = r"""
- name: Image of the snapshot is on the host
  qsmr_image:
    archive: /home/ana/qsmr_snapshot_demo_251123/docker_image
    snapshot: "{{ lookup('ansible.builtin.file', '/home/ana/qsmr_snapshot_demo_251123/snapshot.json') | from_json }}"
    incoming: /opt/qsmr/demo/incoming
"""

RETURN = r"""
image:
  description: Name of the image.
  returned: success
  type: str
actions:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample: ["sent 1,090 MB", "loaded qsmr_snapshot_demo:251123-0a1b2c3d4e"]
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.dockercli import Docker
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.hostimage import Damaged, ImageStore, Wanted, megabytes


def run(store: ImageStore, docker: Docker, received: bool, check_mode: bool) -> dict:
    """What the host needed. ``send_to`` in the answer asks for the archive; the module is then called once more."""
    name = store.wanted.name
    sent = f"sent {megabytes(store.size)}"
    if received:
        store.take_up()
        return {"actions": [sent, f"loaded {name}"], "before": None}
    found = store.find()
    if found:
        actions = [] if found == name else [f"named {found} {name}"]
        actions += [f"removed {path}" for path in store.leftovers()]
        if not check_mode:
            if found != name:
                store.tag(found)
            store.tidy()
        return {"actions": actions, "before": found}
    fault = store.room_fault(Path(docker.info()["DockerRootDir"]))
    if fault:
        raise QsmrError(fault)
    if check_mode:
        return {"actions": [f"loaded {name}"] if store.is_received else [sent, f"loaded {name}"], "before": None}
    if store.is_received:
        store.take_up()
        return {"actions": [f"loaded {name}"], "before": None}
    store.make_incoming()
    return {"actions": [], "before": None, "send_to": str(store.part)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "archive": {"type": "path", "required": True},
            "snapshot": {"type": "dict", "required": True},
            "incoming": {"type": "path", "required": True},
            "received": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    snapshot = module.params["snapshot"]
    docker = Docker()
    store = ImageStore(docker, Wanted.from_snapshot(snapshot), Path(module.params["incoming"]), snapshot["archive"])
    try:
        result = run(store, docker, module.params["received"], module.check_mode)
    except Damaged as error:
        module.fail_json(msg=str(error), damaged=True)
    except QsmrError as error:
        module.fail_json(msg=str(error))
    name = store.wanted.name
    before = result.pop("before")
    module.exit_json(
        changed=bool(result["actions"]),
        image=name,
        diff={"before": {"image": before}, "after": {"image": name}},
        **result,
    )


if __name__ == "__main__":
    main()
