#!/usr/bin/env bash
# ansible-runner 2.4.3: run() writes the extra variables and the command line that it is given into the private data
# directory, and leaves them there. A second run() in the same directory that gives neither still has both: here the first
# run's variable, and its --check, so that the second run changes nothing and ends with 0.
# One would expect that arguments of a call count for that call.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv python
python/bin/pip -q --disable-pip-version-check install ansible-runner==2.4.3 ansible-core==2.19.14 2>/dev/null

mkdir -p data/project
cat >data/project/play.yml <<'YAML'
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.copy:
        content: "{{ colour | default('none') }}"
        dest: "{{ playbook_dir }}/made"
        mode: "0600"
    - ansible.builtin.debug:
        msg: "colour={{ colour | default('none') }} check={{ ansible_check_mode }}"
YAML
cat >twice.py <<'PYTHON'
import pathlib
import ansible_runner

told = []
for given in ({"extravars": {"colour": "red"}, "cmdline": "--check"}, {}):
    run = ansible_runner.run(private_data_dir="data", playbook="play.yml", quiet=True, **given)
    answers = [event["event_data"]["res"]["msg"] for event in run.events
               if event["event"] == "runner_on_ok" and "msg" in event["event_data"]["res"]]
    told.append((run.rc, answers[-1]))
    print("given", given, "-> exit", *told[-1])
assert told == [(0, "colour=red check=True")] * 2
assert not pathlib.Path("data/project/made").exists()
PYTHON
PATH="$work/python/bin:$PATH" ANSIBLE_PYTHON_INTERPRETER="$work/python/bin/python" python/bin/python twice.py
