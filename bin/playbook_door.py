#!/usr/bin/env python3
"""Run one of the project's playbooks on this machine through ansible-runner, for the former commands.

usage: playbook_door.py PLAYBOOK [SETTING=VALUE ...]

PLAYBOOK is a file of playbooks/, SETTING one of the qsmr_* settings. The exit code is that of ansible-playbook.
The inventory is this machine alone; a lab's own inventory is used where ANSIBLE_INVENTORY names one.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHON = REPOSITORY / ".venv" / "bin" / "python"


def enter_environment() -> None:
    """Go on in the project's own Python environment: whoever calls a script need not know of it."""
    if Path(sys.prefix) != PYTHON.parent.parent and PYTHON.exists():
        os.execv(PYTHON, [str(PYTHON), *sys.argv])  # noqa: S606 the same script, no shell
    if importlib.util.find_spec("ansible_runner") is None:
        sys.exit(f"qsmr-fleet is not set up yet: run 'make setup' in {REPOSITORY} first")


def run_playbook(playbook, settings, on_event=None, quiet=False):
    """Run ``playbooks/<playbook>`` with the settings as extra variables; returns its exit code.

    ``on_event`` is called with each event of ansible-runner; ``quiet`` keeps Ansible's own output off the screen.
    """
    import ansible_runner

    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    groups = {"control": {"hosts": {"localhost": local}}, "fleet": {"children": {"control": {}}}}
    inventory = os.environ.get("ANSIBLE_INVENTORY") or {"all": {"children": groups}}
    with tempfile.TemporaryDirectory(prefix="qsmr-") as directory:
        runner = ansible_runner.run(
            private_data_dir=directory,
            project_dir=str(REPOSITORY),
            playbook=str(REPOSITORY / "playbooks" / playbook),
            inventory=inventory,
            extravars=settings,
            envvars={
                "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
                # ansible-runner sets this for its own callback, which hides the path that ansible.cfg has.
                "ANSIBLE_CALLBACK_PLUGINS": str(REPOSITORY / "plugins" / "callback"),
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            },
            event_handler=on_event,
            quiet=quiet,
        )
    return runner.rc


def main() -> int:
    playbook, *words = sys.argv[1:] or [""]
    pairs = [word.partition("=") for word in words]
    if not (REPOSITORY / "playbooks" / playbook).is_file() or not all(separator for _, separator, _ in pairs):
        print("usage: playbook_door.py PLAYBOOK [SETTING=VALUE ...]", file=sys.stderr)
        return 2
    return run_playbook(playbook, {name: value for name, _, value in pairs})


if __name__ == "__main__":
    enter_environment()
    sys.exit(main())
