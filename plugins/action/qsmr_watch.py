# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The control node's half of qsmr_watch: the only half, since it has to write to the screen while it waits."""

from __future__ import annotations

from ansible.errors import AnsibleActionFail
from ansible.module_utils.qsmr.errors import QsmrError
from ansible.module_utils.qsmr.jobapi import JobApi
from ansible.module_utils.qsmr.settings import load_settings
from ansible.module_utils.qsmr.watch import wait_until_done
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

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
