#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation only: the action plugin of this name does the work, on the control node."""

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
  trusted_keys:
    description:
      - Files with Ed25519 public keys (PEM), or such keys. If there are any, one of them must have signed the snapshot,
        see M(qsmr_snapshot).
    type: list
    elements: str
    default: []
  foretold:
    description: For check mode. The snapshot that M(qsmr_snapshot) would have made before, which is then the newest.
    type: dict
    default: {}
attributes:
  action:
    support: full
    description: There is nothing else, since the snapshots are on the control node.
  check_mode:
    support: full
    description:
      - With O(foretold) it answers as if that snapshot were there.
      - Where there is no snapshot yet, as before the first run, it warns and finds none instead of failing.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
author: qsmr-fleet developers (@qsmr-fleet)
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
  description: The snapshot's directory; empty in check mode if it is still to be made.
  returned: success
  type: str
manifest:
  description: Content of its C(snapshot.json); empty in check mode if there is none yet.
  returned: success
  type: dict
foretold:
  description: O(foretold), if that is the snapshot; else empty.
  returned: success
  type: dict
compose_project:
  description: Name of the Compose project of its workers.
  returned: success
  type: str
"""
