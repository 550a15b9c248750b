#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""A snapshot's image on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_image
short_description: Tell what a host has of a snapshot's image, and have the image from what was sent
version_added: "0.1.0"
description:
  - With C(state=probe) the host tells whether it has the image, and if not, what it has to make it from.
  - With C(state=present) it has the image afterwards, under its name. What was sent is verified, the layers' digests
    before Docker takes any of them over. What it still lacks then is named and not an error, as it can be sent.
options:
  state:
    description: What is wanted.
    type: str
    choices: [probe, present]
    default: present
  snapshot:
    description: Content of the snapshot's C(snapshot.json).
    type: dict
    required: true
  project:
    description: Project of the job service.
    type: str
    required: true
  host_dir:
    description: Directory on the host that holds C(<project>/incoming), where what is sent arrives.
    type: path
    required: true
  order:
    description: How the image is made from what was sent, as C(qsmr_push) returns it.
    type: dict
    default: {}
  sent:
    description: Bytes that were sent for it, to be told in C(actions).
    type: int
    default: 0
  loaded:
    description: The image was made and seen there while it was sent, as C(qsmr_push) tells. Then the host is not asked.
    type: bool
    default: false
  fault:
    description: Why not everything could be sent. It is the error if the image is not there.
    type: str
    default: ""
  once_more:
    description: It has been sent once more, so that what is lacking now is an error.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Tells whether the image would be sent, or named.
  diff_mode:
    support: full
    description: Shows the image's name before and after.
  idempotent:
    support: full
    description: Changes nothing where the image is.
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: What the host has of the image is known
  qsmr_image:
    state: probe
    snapshot: "{{ lookup('ansible.builtin.file', directory ~ '/snapshot.json') | from_json }}"
    project: demo
    host_dir: /opt/qsmr
  register: found
"""

RETURN = r"""
image:
  description: Name of the image.
  returned: success
  type: str
probe:
  description:
    - What the host has now. C(image) is where it has the image, C(staged) what has arrived and was not used.
    - If it has not, also what to plan a push by, layers, store, memory and room among it.
  returned: success
  type: dict
lacks:
  description: Diff ids of layers that have to be sent once more.
  returned: with C(state=present)
  type: list
  elements: str
why:
  description: Why something has to be sent once more.
  returned: where C(probe.image) is empty after C(state=present)
  type: str
actions:
  description: What was done, or would be done in check mode.
  returned: with C(state=present)
  type: list
  elements: str
  sample: ["sent 23.6 MB", "loaded qsmr_snapshot_demo:251123-0a1b2c3d4e"]
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.dockercli import Docker
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.hostimage import CONTAINERD, HostImage, made
from ansible.module_utils.qsmr.hostlayers import Lacking
from ansible.module_utils.qsmr.lock import changing
from ansible.module_utils.qsmr.release import Releases


def present(image: HostImage, given: dict, check_mode: bool) -> dict:
    """Have the image, and tell what was there before and what was done."""
    name, found = image.wanted.name, image.find()
    answer = made(name, given["sent"], found)
    if check_mode:
        return answer
    if found:
        image.name(found)
        return answer
    if given["fault"]:
        raise QsmrError(given["fault"])
    try:
        image.make(given["order"])
    except Lacking as error:
        if given["once_more"]:
            raise
        probe = image.probe()
        if error.refused:
            probe |= {"layers": 0, "store": CONTAINERD}
        answer.update(lacks=error.layers, why=str(error), probe=probe, actions=answer["actions"][:-1])
    return answer


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["probe", "present"], "default": "present"},
            "snapshot": {"type": "dict", "required": True},
            "project": {"type": "str", "required": True},
            "host_dir": {"type": "path", "required": True},
            "order": {"type": "dict", "default": {}},
            "sent": {"type": "int", "default": 0},
            "loaded": {"type": "bool", "default": False},  # the action plugin sees to it
            "fault": {"type": "str", "default": ""},
            "once_more": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        releases = Releases(Path(given["host_dir"]), given["project"])
        image = HostImage(Docker(), given["snapshot"], releases)
        name = image.wanted.name
        if given["state"] == "probe":
            module.exit_json(changed=False, image=name, probe=image.probe())
        with changing(releases, module.check_mode):
            result = present(image, given, module.check_mode)
    except QsmrError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(result["actions"]), image=name, **result)


if __name__ == "__main__":
    main()
