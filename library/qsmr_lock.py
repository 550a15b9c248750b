#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lock on a project's workers on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_lock
short_description: Hold a host's lock on a project, so that nobody else switches its release meanwhile
version_added: "0.1.0"
description:
  - The lock is a file beside the project's releases. It tells who has it, since when and for what.
  - A lock that has expired counts for nothing, nor does one of the same id, which an earlier run of the same control
    node has left. It is given back by the same run only.
options:
  state:
    description: Whether the lock is to be held. V(absent) leaves the locks of others alone.
    type: str
    choices: [present, absent]
    default: present
  lock:
    description: The lock, with C(id), C(run), C(who), C(since), C(what) and C(expires) in seconds since 1970.
    type: dict
    required: true
  by_force:
    description: Take the lock even if somebody else has it.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Tells that somebody else has the lock, and takes none.
  diff_mode:
    support: none
    description: A lock is nothing that lasts.
  idempotent:
    support: full
    description: Changes nothing that lasts.
extends_documentation_fragment: qsmr.host
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: Nobody else switches the project's release on the host
  qsmr_lock:
    project: demo
    host_dir: /opt/qsmr
    lock: {id: 4f1c, run: 9a2b, who: ana@lab1, since: "2026-11-23 10:00 UTC", what: rollout, expires: 1795428000}
"""

RETURN = r"""
taken_from:
  description: Who had the lock, if it was taken from somebody.
  returned: success
  type: str
"""

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.lock import LOCK_FILE, Lock, Locked, told
from ansible.module_utils.qsmr.release import Releases


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "project": {"type": "str", "required": True},
            "host_dir": {"type": "path", "required": True},
            "lock": {"type": "dict", "required": True},
            "by_force": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    mine = {**parameters["lock"], "expires": float(parameters["lock"]["expires"])}
    taken_from = ""
    try:
        lock = Lock(Releases(Path(parameters["host_dir"]), parameters["project"]).root / LOCK_FILE)
        if module.check_mode:
            there = lock.read()
            if there and there["id"] != mine["id"] and there["expires"] > time.time() and not parameters["by_force"]:
                raise Locked(told(there))
        elif parameters["state"] == "absent":
            lock.release(mine)
        else:
            taken_from = lock.take(mine, time.time(), parameters["by_force"])
    except Locked as error:
        module.fail_json(msg=str(error), locked=True)
    except QsmrError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, taken_from=taken_from)


if __name__ == "__main__":
    main()
