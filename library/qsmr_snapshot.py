#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Thin adapter: a snapshot of local code."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_snapshot
short_description: Keep a snapshot of local code
version_added: "0.1.0"
description:
  - Has a directory C(qsmr_snapshot_<project>_<yymmdd>) that holds the image of the code as it is now, and all that
    starts a worker with it. It appears whole or not at all.
  - What the image is made of (code, build command, C(Dockerfile), worker image, job command) and the project's settings
    are compared with the newest snapshot of the project. Where they are the same, nothing is built or saved.
  - An image that another snapshot in O(directory) has is taken from there without a build.
  - Runs on the control node, whose Docker engine builds and saves the image.
options:
  state:
    description:
      - V(present) has the snapshot.
      - V(checked) only checks the parameters, all of them.
    type: str
    choices: [present, checked]
    default: present
  project:
    description: Project of the job service that the workers work for.
  code_dir:
    description: Directory of the code. Needed unless O(source) is given.
    type: path
    default: ""
  build_command:
    description: Command that is run in O(code_dir), without a shell; it makes C(qsmr.tar.gz) and C(qsmr_data.tar.gz).
    type: str
    default: ./build.sh
  job_command:
    description: Command in the image that processes one job (C(UWORKER_JOB_CMD)).
    type: str
    default: /qsmr/run_runscript.sh /opt/matlab/v90
  qsmr_config:
    description: C(QSMR_CONFIG) of the workers; empty for the code's own default.
    type: str
    default: ""
  invemode:
    description: C(QSMR_INVEMODE) of the workers; empty for the code's own default.
    type: str
    default: ""
  job_timeout:
    description: Seconds after which a worker ends a job as failed. Empty or 0 means never.
    type: str
    default: ""
  worker_image:
    description: Image that the snapshot's image is built on.
    type: str
    default: qsmr-fleet/worker
  worker_image_to_be_made:
    description: For check mode. An earlier task would have made O(worker_image) anew.
    type: bool
    default: false
  directory:
    description: Where snapshots lie.
    type: path
    required: true
  source:
    description: A snapshot directory whose image to use; nothing is built.
    type: path
    default: ""
  signing_key:
    description:
      - A file with the Ed25519 private key (PEM, no passphrase, for nobody else's eyes) that signs the snapshot.
      - Images are then taken only from snapshots that this key or one of O(trusted_keys) has signed.
    type: path
    default: ""
  trusted_keys:
    description: Files with public keys (PEM), or such keys. O(source) must be signed with one of them.
    type: list
    elements: str
    default: []
  stop_grace_seconds:
    description: Time that a stopping worker gets to finish its job.
    type: int
    default: 60
  dockerfile:
    description: How the archives go into an image.
    type: path
    required: true
  templates:
    description: Directory with the templates C(docker-compose.yml.j2) and C(start_worker.sh.j2).
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: Says what would be made, for the tasks that follow, too, and builds nothing.
  diff_mode:
    support: full
    description: Shows what the newest snapshot differs in. Of a secret it shows only that it does.
  idempotent:
    support: full
    description: Unchanged as long as code, settings and worker image are.
extends_documentation_fragment: [qsmr, qsmr.odin_project]
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: Snapshot is there
  qsmr_snapshot:
    project: myproject
    config_file: /home/ana/lab.conf
    code_dir: /home/ana/qsmr
    directory: /home/ana/snapshots
    dockerfile: "{{ role_path }}/files/Dockerfile"
    templates: "{{ role_path }}/templates"
"""

RETURN = r"""
directory:
  description: The snapshot's directory; in check mode that of the snapshot that is there now, if any.
  returned: when there is one
  type: str
snapshot_id:
  description: Its id, C(<yymmdd>-<10 hexadecimal digits>).
  returned: when there is one
  type: str
image:
  description: Name, id, architecture, size (bytes) and layers of its image.
  returned: when there is one
  type: dict
code:
  description: Directory of the code, its git commit, and whether that was changed; the latter are null outside of git.
  returned: when there is one
  type: dict
created:
  description: When it was made (UTC, ISO 8601).
  returned: when there is one
  type: str
differences:
  description: What made a further snapshot necessary.
  returned: when O(state=present)
  type: list
  elements: str
  sample: ["code: 3a5f0c9be711 -> 90b1d2e4aa03"]
actions:
  description: What was done; in check mode, what would be.
  returned: when O(state=present)
  type: list
  elements: str
foretold:
  description: What is known in check mode of the snapshot that would be made, for M(qsmr_snapshot_info); else empty.
  returned: when O(state=present)
  type: dict
reused:
  description: Directory of the snapshot whose image was used; empty if none was.
  returned: when O(state=present)
  type: str
"""

import os
from datetime import datetime

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.adapter import ODIN_PROJECT, SERVICES, run_module, warn_of_readers
from ansible.module_utils.qsmr.dockercli import Docker
from ansible.module_utils.qsmr.snapshotmaker import Request, ensure

OPTIONS = {
    **SERVICES,
    **ODIN_PROJECT,
    "state": {"type": "str", "choices": ["present", "checked"], "default": "present"},
    "code_dir": {"type": "path", "default": ""},
    "build_command": {"type": "str", "default": "./build.sh"},
    "job_command": {"type": "str", "default": "/qsmr/run_runscript.sh /opt/matlab/v90"},
    "qsmr_config": {"type": "str", "default": ""},
    "invemode": {"type": "str", "default": ""},
    "job_timeout": {"type": "str", "default": ""},
    "worker_image": {"type": "str", "default": "qsmr-fleet/worker"},
    "worker_image_to_be_made": {"type": "bool", "default": False},
    "directory": {"type": "path", "required": True},
    "source": {"type": "path", "default": ""},
    "signing_key": {"type": "path", "default": "", "no_log": False},
    "trusted_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "stop_grace_seconds": {"type": "int", "default": 60},
    "dockerfile": {"type": "path", "required": True},
    "templates": {"type": "path", "required": True},
}


def run(module: AnsibleModule) -> dict:
    request = Request.checked(module.params)
    if module.params["state"] == "checked":
        warn_of_readers(module)
        return {"changed": False}
    # The classic builder is part of every engine, BuildKit's client is not.
    docker = Docker(environ={**os.environ, "DOCKER_BUILDKIT": "0"})
    outcome = ensure(request, docker, datetime.now().astimezone(), module.check_mode)
    for warning in outcome.warnings:
        module.warn(warning)
    result = {
        "changed": bool(outcome.actions),
        "differences": outcome.differences,
        "actions": outcome.actions,
        "reused": outcome.reused,
        "foretold": outcome.foretold,
        "diff": {"before": outcome.before, "after": outcome.after},
    }
    if outcome.snapshot:
        manifest = outcome.snapshot.manifest
        result |= {name: manifest[name] for name in ("snapshot_id", "image", "code", "created")}
        result["directory"] = str(outcome.snapshot.directory)
    return result


def main() -> None:
    run_module(run, OPTIONS)


if __name__ == "__main__":
    main()
