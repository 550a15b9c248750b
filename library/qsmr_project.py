#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Thin adapter: a project of the job service is as it should be, or is gone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_project
short_description: Have a project in the job service, or have it no more
version_added: "0.1.0"
description:
  - Makes a project, or sets what is given of its deadline, environment and processing image.
  - Removes a project with all of its jobs, if that is confirmed with the project's name.
options:
  state:
    description: Whether there is to be such a project.
    type: str
    choices: [present, absent]
    default: present
  confirm:
    description: The project's name once more, without which it is not removed.
    type: str
  deadline:
    description: By when its jobs should be done, in UTC or with an offset. V(none) for no deadline.
    type: str
  environment:
    description: Environment that the service hands out with the project's jobs.
    type: dict
  processing_image:
    description: Name of the image that processes its jobs.
    type: str
attributes:
  check_mode:
    support: full
    description: Says what would be changed.
  diff_mode:
    support: full
    description: Shows the fields before and after.
  idempotent:
    support: full
    description: Only what differs is set.
extends_documentation_fragment: qsmr
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: The project is there and urgent
  qsmr_project:
    config_file: /home/ana/lab.conf
    project: myproject
    deadline: "2026-12-24"
"""

RETURN = r"""
differences:
  description: What was not as it should be.
  returned: always
  type: list
  elements: str
counters:
  description: What the service counts of the project; null without a project.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.qsmr.adapter import SERVICES, run_module, settings_of
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.jobapi import JobApi
from ansible.module_utils.qsmr.projects import counters, current_fields, wanted_fields

OPTIONS = {
    **SERVICES,
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "confirm": {"type": "str"},
    "deadline": {"type": "str"},
    "environment": {"type": "dict"},
    "processing_image": {"type": "str"},
}


def run(module: AnsibleModule) -> dict:
    parameters = module.params
    project, absent = parameters["project"], parameters["state"] == "absent"
    settings = settings_of(module)
    wanted = wanted_fields(parameters["deadline"], parameters["environment"], parameters["processing_image"])
    with JobApi(settings.job_api_root, settings.job_api_username, settings.job_api_password) as api:
        record = api.project(project)
        if absent:
            changed = record is not None
            if record and parameters["confirm"] != project:
                jobs = sum((record.get("JobStates") or {}).values())
                raise QsmrError(f"Removing project {project} removes its {jobs} jobs: confirm it with {project}")
            if changed and not module.check_mode:
                api.delete_project(project)
            differences = ["project: present → absent"] if changed else []
            return {"changed": changed, "differences": differences, "counters": None}
        current = current_fields(record or {})
        fields = {name: value for name, value in wanted.items() if value != current[name]}
        differences = [] if record else ["project: absent → present"]
        differences += [f"{name}: {current[name]} → {value}" for name, value in fields.items()]
        if differences and not module.check_mode:
            # A project that is not there needs a field, too: the service makes no update of nothing.
            api.put_project(project, **(fields if record else {"name": project, **fields}))
            record = api.project(project)
    return {
        "changed": bool(differences),
        "differences": differences,
        "counters": counters(record) if record else None,
        "diff": {"before": {name: current[name] for name in wanted}, "after": wanted},
    }


def main() -> None:
    run_module(run, OPTIONS)


if __name__ == "__main__":
    main()
