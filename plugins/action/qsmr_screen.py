# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Print the status screen once and as it is, which the debug module's quoting would not do."""

from __future__ import annotations

import json
import locale
import sys
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils import color
from ansible.utils.display import Display

# Ansible finds a project's module_utils for modules, but not for plugins, which run in its own process.
sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
from qsmr.errors import QsmrError  # noqa: E402
from qsmr.libraries import check_libraries  # noqa: E402
from qsmr.screen import render  # noqa: E402

display = Display()


class ActionModule(ActionBase):
    """Runs on the control node only."""

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(
            {
                "picture": {"type": "dict", "required": True},
                "format": {"type": "str", "choices": ["text", "json"], "default": "text"},
            }
        )
        try:
            check_libraries()
        except QsmrError as error:
            raise AnsibleActionFail(str(error)) from error
        picture = arguments["picture"]
        if arguments["format"] == "json":
            display.display(json.dumps(picture, indent=2))
        else:
            encoding = locale.getpreferredencoding(do_setlocale=False)
            display.display("\n" + render(picture, display.columns, color.ANSIBLE_COLOR, encoding))
        return {"changed": False}
