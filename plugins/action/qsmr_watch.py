# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The control node's half of qsmr_watch: the only half, since it has to write to the screen while it waits."""

from __future__ import annotations

import sys
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# Ansible finds a project's module_utils for modules, but not for plugins, which run in its own process.
sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
from qsmr.errors import QsmrError  # noqa: E402
from qsmr.jobapi import JobApi  # noqa: E402
from qsmr.settings import load_settings  # noqa: E402
from qsmr.watch import wait_until_done  # noqa: E402

display = Display()


class ActionModule(ActionBase):
    """Waits for a project's jobs."""

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(
            {
                "config_file": {"type": "path", "required": True},
                "config": {"type": "dict", "default": {}, "no_log": True},
                "project": {"type": "str", "required": True},
                "stall_timeout": {"type": "float", "default": 600.0},
            }
        )
        try:
            settings = load_settings(arguments["config_file"], arguments["config"])
            tally = wait_until_done(
                JobApi(settings.job_api_root), arguments["project"], arguments["stall_timeout"], display.display
            )
        except QsmrError as error:
            raise AnsibleActionFail(str(error)) from error
        return {"changed": False, "finished": tally.finished, "failed_jobs": tally.failed, "total": tally.total}
