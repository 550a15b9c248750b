#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation only: the action plugin of this name does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_rollout
short_description: Decide what a rollout does next, from what all hosts answered
version_added: "0.1.0"
description:
  - Runs once for the fleet, on the control node, and touches no host. The tasks around it do.
  - A host without an answer counts as failed, whatever the reason. That is what Ansible's own C(serial) does not do.
options:
  step:
    description:
      - V(check) finds the hosts that are fit and those that differ, and fails if any is not fit.
      - V(lock) takes the control node's lock. V(begin) plans the stages. V(judge) takes the answers of a stage.
      - V(taken_back) takes those of the hosts that were taken back. V(end) tells the outcome.
    type: str
    required: true
    choices: [check, lock, begin, judge, taken_back, end]
  state_dir:
    description: Where the lock and the audit of each project are kept.
    type: path
    required: true
  what:
    description: What it is called in the lock and in the audit.
    type: str
    default: rollout
  hosts:
    description: All hosts of the play, those that Ansible has dropped from it, too.
    type: list
    elements: str
    default: []
  answers:
    description: Name of the variable that the hosts' answers are registered under.
    type: str
    default: ""
  plan:
    description: What V(check) returned.
    type: dict
    default: {}
  rollout:
    description: What the step before returned as RV(rollout).
    type: dict
    default: {}
  lock:
    description: What V(lock) returned as RV(lock).
    type: dict
    default: {}
  skip_unfit:
    description: Leave out hosts that are not fit, instead of failing.
    type: bool
    default: false
  break_lock:
    description: Take the lock from whoever holds it.
    type: bool
    default: false
  batches:
    description: Hosts in each stage, as numbers or percentages of those that differ. The last one repeats.
    type: raw
    default: 1
  max_failed_hosts:
    description: How many hosts of the fleet may fail or get lost.
    type: raw
    default: 0
  on_failure:
    description: What becomes of hosts that are switched when the rollout stops.
    type: str
    choices: [revert_all, keep]
    default: revert_all
  canary_jobs:
    description: How many jobs the workers of the first stage must end.
    type: raw
    default: 0
  canary_deadline:
    description: Seconds for those jobs.
    type: raw
    default: 1800
  seconds_per_stage:
    description: How long a stage may take. The lock expires accordingly.
    type: float
    default: 600
attributes:
  action:
    support: full
    description: There is nothing else.
  check_mode:
    support: full
    description: Locks nothing and writes no audit.
  diff_mode:
    support: none
    description: The tasks on the hosts show their differences.
  idempotent:
    support: N/A
    description: Decides only.
extends_documentation_fragment: qsmr
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: Stage is judged
  qsmr_rollout:
    step: judge
    project: demo
    state_dir: /home/ana/state
    hosts: "{{ ansible_play_hosts_all }}"
    answers: worker_result
    rollout: "{{ rollout_run.rollout }}"
  run_once: true
  register: rollout_run
"""

RETURN = r"""
rollout:
  description: The rollout so far; C(stage) are the hosts to be switched now, C(hold) those that must stay healthy.
  returned: after V(begin), V(judge) and V(taken_back)
  type: dict
lock:
  description: The lock as the module M(qsmr_lock) takes it.
  returned: after V(lock)
  type: dict
left_out:
  description: The faults of hosts that are left out.
  returned: after V(check)
  type: dict
work:
  description: The hosts on which something differs.
  returned: after V(check)
  type: list
  elements: str
fit:
  description: The hosts that take part.
  returned: after V(check)
  type: list
  elements: str
stopped:
  description: Whether the rollout was stopped.
  returned: after V(end)
  type: bool
why:
  description: The outcome in a line.
  returned: after V(end)
  type: str
foretold:
  description: In check mode the release that each host would run then, of the hosts that would be switched.
  returned: after V(end)
  type: dict
bad:
  description: What is wrong with each host that failed or got lost.
  returned: after V(end)
  type: dict
"""
