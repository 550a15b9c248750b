#!/usr/bin/python
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of qsmr_push, which is an action plugin."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qsmr_push
short_description: Send all hosts of a play what they lack of a snapshot's image
version_added: "0.1.0"
description:
  - Plans for each host what it lacks, and sends it through the host's SSH session, in chunks whose digests are checked
    on arrival. What an earlier run left there is taken up again.
  - In relay mode a chunk leaves the control node once, and the hosts pass it on to each other over TLS, with a
    certificate that is made for this push. What a host cannot get from others it gets from the control node.
  - Each host has its Docker take over layers as they arrive. Where that fails, M(qsmr_image) does it afterwards, and
    says why it cannot.
  - Nothing is installed on a host, and nothing runs or listens there afterwards. Python 3.9 or newer has to be there.
  - Run it with C(run_once), so that its result is there for every host. A host that could not be sent everything has
    a C(fault) in it, and does not fail the others.
options:
  snapshot:
    description: Directory of the snapshot.
    type: path
    required: true
  probes:
    description:
      - The key C(probe) of what M(qsmr_image) with C(state=probe) returned, by name of the host. Blobs arrive in
        C(<project>/incoming) below the directory that it names, which is made if it is missing.
    type: dict
    required: true
  mode:
    description: Whether hosts pass on what they have. C(auto) is relay from three hosts on.
    type: str
    choices: [auto, direct, relay]
    default: auto
  bandwidth:
    description: Limit of what leaves the control node, in Mbit/s. 0 is no limit.
    type: float
    default: 0
  hosts_at_once:
    description: How many hosts are served at a time without relay. 0 is all.
    type: int
    default: 0
  disk_share:
    description: The share of a host's free disk that may be used.
    type: float
    default: 0.9
  state_dir:
    description: Directory whose C(<project>/push.json) tells how far the push is.
    type: path
    required: true
  project:
    description: Project of the job service.
    type: str
    required: true
attributes:
  action:
    support: full
    description: Runs on the control node, once for all hosts.
  check_mode:
    support: none
    description: Skipped in check mode.
  diff_mode:
    support: none
    description: What is sent has no text to compare.
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: What a host lacks is sent
  qsmr_push:
    snapshot: /home/ana/qsmr_snapshot_demo_251123
    probes: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, ['found', 'probe']))) }}"
    state_dir: /home/ana/state
    project: demo
  run_once: true
  register: sent
"""

RETURN = r"""
mode:
  description: Whether hosts passed on what they had.
  returned: success
  type: str
  sample: relay
hosts:
  description: How it went, by name of the host.
  returned: success
  type: dict
  contains:
    order:
      description: How M(qsmr_image) makes the image of what was sent.
      type: dict
    sent:
      description: Bytes that the host got, from wherever.
      type: int
    from_control:
      description: Bytes that left the control node for it.
      type: int
    resent:
      description: Those of them that were sent for nothing or a second time.
      type: int
    resumed:
      description: Bytes that were there from an earlier run.
      type: int
    seconds:
      description: Seconds until everything was there.
      type: float
    loaded:
      description: Whether Docker took over the image meanwhile.
      type: bool
    fault:
      description: Why not everything is there, in one line; empty if it is.
      type: str
"""
