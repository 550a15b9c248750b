#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation only: the action plugin of this name does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_operation
short_description: Lock a project's fleet for an operation, write the audit, and tell how it ended
version_added: "0.1.0"
description:
  - Runs once for the fleet, on the control node, before and after what is done on the hosts.
options:
  step:
    description:
      - V(begin) takes the control node's lock. V(end) gives it back, frees jobs that are held by workers which
        are no more, and has the outcome of each host end the run.
    type: str
    required: true
    choices: [begin, end]
  state_dir:
    description: Where the lock and the audit of each project are kept.
    type: path
    required: true
  what:
    description: What it is called in the lock and in the audit.
    type: str
    required: true
  seconds:
    description: How long it may take. The lock expires accordingly.
    type: float
    default: 900
  break_lock:
    description: Take the lock from whoever holds it.
    type: bool
    default: false
  begun:
    description: What V(begin) returned; empty if it did not run.
    type: dict
    default: {}
  hosts:
    description: All hosts of the play.
    type: list
    elements: str
    default: []
  answers:
    description: Names of the variables that a host's answer may be registered under. The first that it has counts.
    type: list
    elements: str
    default: []
attributes:
  action:
    support: full
    description: There is nothing else.
  check_mode:
    support: full
    description: Only tells the outcome.
  diff_mode:
    support: none
    description: The tasks on the hosts show their differences.
  idempotent:
    support: N/A
    description: Frames what others do.
extends_documentation_fragment: qsmr
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: Nobody else is at work from this control node
  qsmr_operation:
    step: begin
    project: demo
    state_dir: /home/ana/state
    what: stop
    hosts: "{{ ansible_play_hosts_all }}"
  run_once: true
"""

RETURN = r"""
lock:
  description: The lock as the module M(qsmr_lock) takes it.
  returned: after V(begin)
  type: dict
run:
  description: The id of the operation in the audit.
  returned: after V(begin)
  type: str
"""
