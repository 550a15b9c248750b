#!/usr/bin/env bash
# ansible-core 2.21.5: a module returns how many things it finished, {"finished": 60, "total": 60}. With 2.19 the next task
# reads 60. With 2.21 it reads true: the key belongs to Ansible's own asynchronous tasks, and a number in it is made a
# bool, with a warning. A comparison with total then fails; a comparison "finished == 1" holds for any number.
# One would expect that a module's own keys keep their values, as all versions before did.
set -euo pipefail
for newer in python3.12 python3.13 python3.14 ~/.pyenv/versions/3.1[234].*/bin/python3 ""; do
  if "$newer" -c "" 2>/dev/null; then break; fi
done
[ -n "$newer" ] || { echo "This needs Python 3.12 or newer." >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$newer" -m venv python
python/bin/pip -q --disable-pip-version-check install ansible-core==2.21.5 2>/dev/null

mkdir library
cat >library/count_things.py <<'PYTHON'
#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule

AnsibleModule(argument_spec={}).exit_json(changed=False, finished=60, total=60)
PYTHON
cat >play.yml <<'YAML'
- hosts: localhost
  gather_facts: false
  tasks:
    - count_things:
      register: told
    - ansible.builtin.debug:
        msg: "finished={{ told.finished }} total={{ told.total }} equal={{ told.finished == told.total }}"
YAML
python/bin/ansible --version | head -n 1
python/bin/ansible-playbook -i localhost, -c local -e ansible_python_interpreter="$PWD/python/bin/python" play.yml 2>&1 | tee said | grep -E 'msg|WARNING' || true
grep -q 'finished=True total=60 equal=False' said
