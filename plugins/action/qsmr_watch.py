# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The control node's half of qsmr_watch, and all of it: here it ends with the playbook, however that is interrupted."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# Ansible finds a project's module_utils for modules, but not for plugins, which run in its own process.
sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
from qsmr.errors import QsmrError  # noqa: E402
from qsmr.files import write_state  # noqa: E402
from qsmr.jobapi import JobApi  # noqa: E402
from qsmr.libraries import check_libraries  # noqa: E402
from qsmr.settings import CONFIG, load_settings  # noqa: E402
from qsmr.verdict import EXIT_CODES, STALLS  # noqa: E402
from qsmr.watch import Goal, Watch, parse_deadline  # noqa: E402


class ActionModule(ActionBase):
    """Waits for a project's jobs."""

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(
            {
                "config_file": {"type": "path"},
                "config": CONFIG,
                "project": {"type": "str", "required": True},
                "state_dir": {"type": "path"},
                "share": {"type": "float", "default": 1.0},
                "max_failed_share": {"type": "float", "default": 1.0},
                "deadline": {"type": "str", "default": ""},
                "stall_timeout": {"type": "float", "default": 600.0},
            }
        )
        try:
            check_libraries()
            settings = load_settings(arguments["config_file"], arguments["config"])
            goal = Goal(
                arguments["share"],
                arguments["max_failed_share"],
                parse_deadline(arguments["deadline"], datetime.now(UTC)),
                arguments["stall_timeout"],
            )
            with JobApi(settings.job_api_root, read_timeout=60.0) as api:
                ending = Watch(api, arguments["project"], goal, self.note(arguments)).wait()
        except QsmrError as error:
            raise AnsibleActionFail(str(error)) from error
        tally = ending.tally
        return {
            "changed": False,
            "ending": ending.how,
            "reached": ending.exit_code == 0,
            "stalled": ending.how in STALLS,
            "msg": ending.message,
            "exit_codes": EXIT_CODES,
            "finished_jobs": tally.finished,
            "failed_jobs": tally.failed,
            "running": tally.running,
            "available": tally.available,
            "total": tally.total,
        }

    @staticmethod
    def note(arguments):
        """What keeps the view in the file that the callback qsmr_progress draws from."""
        if not arguments["state_dir"]:
            return lambda _view: None
        path = Path(arguments["state_dir"]) / arguments["project"] / "watch.json"
        started = time.time()

        def note(view):
            write_state(path, json.dumps({**view, "started": started}))

        return note
