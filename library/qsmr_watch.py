#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of qsmr_watch, which is an action plugin."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_watch
short_description: Wait until every job of a project is finished or failed
version_added: "0.1.0"
description:
  - Polls the job service and prints a line now and then. Interrupting it stops nothing but the waiting.
options:
  config_file:
    description: KEY=VALUE file with the five settings of the former scripts.
    type: path
    required: true
  config:
    description: The same keys, for values that come from a vault. They win over the file.
    type: dict
    default: {}
  project:
    description: Project of the job service.
    type: str
    required: true
  stall_timeout:
    description: Seconds without any movement after which the wait fails.
    type: float
    default: 600.0
attributes:
  action:
    support: full
    description: Runs on the control node only.
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
    description: Changes nothing.
author: qsmr-fleet developers
"""

EXAMPLES = r"""
- name: Every job of the project is done
  qsmr_watch:
    config_file: /home/ana/lab.conf
    project: myproject
"""

RETURN = r"""
finished:
  description: Number of finished jobs.
  returned: success
  type: int
failed_jobs:
  description: Number of failed jobs.
  returned: success
  type: int
total:
  description: Number of jobs of the project.
  returned: success
  type: int
"""
