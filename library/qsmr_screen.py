#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of qsmr_screen, which is an action plugin."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_screen
short_description: Print where a project stands
version_added: "0.1.0"
description:
  - Prints what M(qsmr_status) found, as a screen for 80 columns or more, in colour where Ansible itself uses colour.
options:
  picture:
    description: What M(qsmr_status) returned under that name.
    type: dict
    required: true
  format:
    description: The screen, or the same as JSON.
    type: str
    choices: [text, json]
    default: text
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
- name: Where the project stands is on the screen
  qsmr_screen:
    picture: "{{ status_found.picture }}"
"""

RETURN = r"""
changed:
  description: Always false.
  returned: always
  type: bool
"""
