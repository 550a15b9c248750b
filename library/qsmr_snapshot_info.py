#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The snapshot of a project that the fleet should run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_snapshot_info
short_description: Find a project's snapshot and see that it is whole
version_added: "0.1.0"
description:
  - Finds the newest snapshot of a project. Compares its files with its C(SHA256SUMS), and the size of the image's
    archive. The archive's content is compared on each host before Docker loads it.
options:
  project:
    description: Project of the job service.
    type: str
    required: true
  directory:
    description: Where the snapshots are.
    type: path
    required: true
  source:
    description:
      - A snapshot directory to use instead of the newest. If it is of another project, the newest snapshot that was
        made from its image is meant.
    type: path
attributes:
  check_mode:
    support: full
    description: Where there is no snapshot yet, as before the first run, it warns and finds none instead of failing.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
author: qsmr-fleet developers
"""

EXAMPLES = r"""
- name: The newest snapshot of the project is known
  qsmr_snapshot_info:
    project: demo
    directory: /home/ana
  register: found
"""

RETURN = r"""
directory:
  description: The snapshot's directory; empty in check mode if there is none yet.
  returned: success
  type: str
manifest:
  description: Content of its C(snapshot.json).
  returned: success
  type: dict
compose_project:
  description: Name of the Compose project of its workers.
  returned: success
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.names import check_project_name, docker_name
from ansible.module_utils.qsmr.snapshot import Snapshot, find_snapshots, read_snapshot


class NoSnapshot(QsmrError):
    """There is no whole snapshot to be found."""


def find(project: str, directory: Path, source: Path | None) -> Snapshot:
    check_project_name(project)
    given = read_snapshot(source) if source else None
    if given and given.project == project:
        return given
    snapshots, faults = find_snapshots(directory)
    for snapshot in snapshots:
        if snapshot.project == project and (given is None or snapshot.manifest["inputs"] == given.manifest["inputs"]):
            return snapshot
    made_of = f" made from {source}" if source else ""
    left_out = "".join(f"; not used: {fault}" for fault in faults)
    raise NoSnapshot(f"No snapshot of project {project}{made_of} in {directory}: run snapshot.yml first{left_out}")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "source": {"type": "path"},
        },
        supports_check_mode=True,
    )
    project, source = module.params["project"], module.params["source"]
    directory, manifest = "", {}
    try:
        # Absolute, since lookups of files begin elsewhere than a module does.
        found = find(project, Path(module.params["directory"]).absolute(), Path(source).absolute() if source else None)
        directory, manifest = str(found.directory), found.manifest
    except NoSnapshot as error:
        if not module.check_mode:
            module.fail_json(msg=str(error))
        module.warn(f"{error}. Until then nobody can say what it would change on the hosts")
    except QsmrError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False,
        directory=directory,
        manifest=manifest,
        compose_project=f"qsmr-{docker_name(project)}",
    )


if __name__ == "__main__":
    main()
