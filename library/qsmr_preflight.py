#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a host is fit to run a snapshot's workers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_preflight
short_description: Tell what keeps a host from running a snapshot's workers
version_added: "0.1.0"
description:
  - Looks at Docker, Compose, the release directory, the architecture and the room for the image, and changes nothing.
options:
  project:
    description: Project of the job service.
    type: str
    required: true
  host_dir:
    description: Directory on the host that holds C(<project>/releases).
    type: path
    required: true
  snapshot:
    description: Content of the snapshot's C(snapshot.json).
    type: dict
    required: true
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
author: qsmr-fleet developers
"""

EXAMPLES = r"""
- name: What the host lacks is known
  qsmr_preflight:
    project: demo
    host_dir: /opt/qsmr
    snapshot: "{{ lookup('ansible.builtin.file', directory ~ '/snapshot.json') | from_json }}"
  register: found
"""

RETURN = r"""
faults:
  description: What keeps the host from running the workers, one line for each with what to do. Empty if it is fit.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.dockercli import Docker
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.hostcheck import faults
from ansible.module_utils.qsmr.release import Releases


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "host_dir": {"type": "path", "required": True},
            "snapshot": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    releases = Releases(Path(module.params["host_dir"]), module.params["project"])
    try:
        module.exit_json(changed=False, faults=faults(Docker(), releases, module.params["snapshot"]))
    except QsmrError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
