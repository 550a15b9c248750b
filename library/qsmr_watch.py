#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of qsmr_watch, which is an action plugin."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_watch
short_description: Wait until every job of a project is finished or failed
version_added: "0.1.0"
description:
  - Asks the job service now and then until the project is done, and keeps a file that the callback C(qsmr_progress)
    draws a bar from. Interrupting it stops nothing but the waiting.
  - It fails for what is wrong with its options, the settings or the project only. How waiting ended is RV(ending).
extends_documentation_fragment: qsmr
options:
  state_dir:
    description: Directory that gets C(<project>/watch.json). No file is written without it.
    type: path
  share:
    description: Part of the jobs, 0 to 1, that must have ended.
    type: float
    default: 1.0
  max_failed_share:
    description: Part of the jobs that ended which may have failed. Judged from 20 jobs on, and when all have ended.
    type: float
    default: 1.0
  deadline:
    description: When waiting ends. A time in ISO 8601 (UTC if it names no offset) or a duration like C(90m) or C(2h).
    type: str
    default: ""
  stall_timeout:
    description: Seconds without any movement, or any answer of the service, after which waiting ends.
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
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: Every job of the project is done
  qsmr_watch:
    config_file: /home/ana/lab.conf
    project: myproject
"""

RETURN = r"""
ending:
  description: >-
    How waiting ended: C(done), C(share), C(failures) (more than allowed), C(deadline), C(no claims) (nothing moved and
    no worker holds a job), C(no ends) (those who hold jobs end none), C(service down).
  returned: success
  type: str
msg:
  description: The same in a sentence, with the numbers.
  returned: success
  type: str
reached:
  description: Whether what was waited for has come.
  returned: success
  type: bool
stalled:
  description: Whether nothing moved.
  returned: success
  type: bool
exit_codes:
  description: The exit code that stands for each ending.
  returned: success
  type: dict
finished_jobs:
  description: Number of finished jobs.
  returned: success
  type: int
failed_jobs:
  description: Number of failed jobs.
  returned: success
  type: int
running:
  description: Number of jobs that workers hold.
  returned: success
  type: int
available:
  description: Number of jobs that nobody holds.
  returned: success
  type: int
total:
  description: Number of jobs of the project.
  returned: success
  type: int
"""
