#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Old releases of a project on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_prune
short_description: Have a project's last releases on a host, and no older ones
version_added: "0.1.0"
description:
  - Removes old releases and their images. The release that runs, those that a rollback may go back to, and whatever a
    container of anybody's is made from stay, and so do layers that another image has.
  - Removes what a push that was cut off left, if workers were started since or it is three days old.
options:
  image:
    description: Name of the project's images without the tag, which is the snapshot id.
    type: str
    required: true
  keep:
    description: How many of the newest releases to keep.
    type: int
    default: 3
attributes:
  check_mode:
    support: full
    description: Tells what would go and changes nothing.
  diff_mode:
    support: full
    description: Shows the releases before and after.
  idempotent:
    support: full
    description: Removes nothing where nothing is old.
extends_documentation_fragment: [qsmr.host, qsmr.workers]
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: The last two releases are kept
  qsmr_prune:
    project: demo
    compose_project: qsmr-demo
    image: qsmr_snapshot_demo
    host_dir: /opt/qsmr
    keep: 2
"""

RETURN = r"""
differences:
  description: What was removed, in a line; empty if nothing was.
  returned: success
  type: list
  elements: str
  sample: ["old releases: 261121-0a1b2c3d4e; files of pushes that were cut off: 2 -> none, 12.3 MB"]
note:
  description: What is kept, and why.
  returned: success
  type: str
removed:
  description: Snapshot ids of the releases that are gone, newest first.
  returned: success
  type: list
  elements: str
  sample: ["261121-0a1b2c3d4e"]
kept:
  description: Snapshot ids of the releases that are kept, newest first.
  returned: success
  type: list
  elements: str
abandoned:
  description: The files that are gone of pushes that were cut off.
  returned: success
  type: list
  elements: str
used:
  description: Images of old releases that stay because a container is made from them.
  returned: success
  type: list
  elements: str
freed:
  description: Bytes that are free now, of files and of layers that no other image has.
  returned: success
  type: int
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.dockercli import Docker
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.hostprune import Pruning
from ansible.module_utils.qsmr.lock import changing
from ansible.module_utils.qsmr.release import Releases


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "compose_project": {"type": "str", "required": True},
            "image": {"type": "str", "required": True},
            "host_dir": {"type": "path", "required": True},
            "keep": {"type": "int", "default": 3},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        releases = Releases(Path(given["host_dir"]), given["project"])
        pruning = Pruning(Docker(), releases, given["compose_project"], given["image"])
        if given["keep"] < 1:
            raise QsmrError(f"qsmr_keep_releases is {given['keep']}: give 1 or more; stop.yml removes all of them")
        with changing(releases, module.check_mode):
            plan = pruning.plan(given["keep"])
            if not module.check_mode:
                pruning.carry_out(plan)
    except QsmrError as error:
        module.fail_json(msg=str(error))
    going = [f"old releases: {', '.join(plan.removed)}"] if plan.removed else []
    going += [f"files of pushes that were cut off: {len(plan.abandoned)}"] if plan.abandoned else []
    differences = [f"{'; '.join(going)} -> none, {plan.freed / 1e6:,.1f} MB"] if going else []
    notes = [f"keeps {', '.join(plan.kept) or 'none'}"]
    notes += [f"{name} stays, a container is made from it" for name in plan.used]
    module.exit_json(
        changed=bool(going),
        differences=differences,
        note="; ".join(notes),
        removed=plan.removed,
        kept=plan.kept,
        used=plan.used,
        abandoned=plan.abandoned,
        freed=plan.freed,
        diff={
            "before": {"releases": sorted([*plan.kept, *plan.removed]), "abandoned": plan.abandoned},
            "after": {"releases": sorted(plan.kept), "abandoned": []},
        },
    )


if __name__ == "__main__":
    main()
