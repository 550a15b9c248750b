# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Show how far adding jobs, waiting for them and pushing an image are while they are at work."""

from __future__ import annotations

DOCUMENTATION = r"""
name: qsmr_progress
type: aggregate
short_description: Shows how far qsmr_jobs, qsmr_reprocess, qsmr_watch and qsmr_push are while they are at work
version_added: "0.1.0"
description:
  - Reads the progress file that the modules M(qsmr_jobs), M(qsmr_reprocess), M(qsmr_watch) and M(qsmr_push) keep in
    their state directory.
  - On a terminal it draws a bar that is gone when the task ends. Elsewhere, with C(-v), and under ansible-runner it
    prints a line now and then.
  - When waiting is interrupted it says, as the last thing, that all goes on, and how to wait again.
options:
  seconds_between_lines:
    description: How often a line is printed where there is no bar. In long runs they come less often, after 10 minutes
      each minute.
    type: float
    default: 10
    env:
      - name: QSMR_PROGRESS_SECONDS
    ini:
      - section: callback_qsmr_progress
        key: seconds_between_lines
author: qsmr-fleet developers (@qsmr-fleet)
"""

import atexit
import json
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

from ansible import context
from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.callback import CallbackBase
from ansible.template import Templar

sys.path.append(str(Path(__file__).parents[1] / "module_utils"))

from qsmr.progress import bar_of, line_of  # noqa: E402

# The file of each task whose progress is shown.
_FILES = {
    "qsmr_jobs": "progress.json",
    "qsmr_reprocess": "progress.json",
    "qsmr_watch": "watch.json",
    "qsmr_push": "push.json",
}
_SECONDS_BETWEEN_BARS = 0.5
_MOST_SECONDS_BETWEEN_LINES = 300
# Names of settings whose values are, or hold, secrets.
_SECRET = re.compile(r"password|secret|qsmr_config(?!_file)", re.IGNORECASE)
_CLEAR_LINE = "\r\033[K"


def _again() -> str:
    """The command that waits again: that of this run with watch.yml for its playbook.

    Of the values given with -e those are left out that hold a secret.
    """
    playbooks = context.CLIARGS["args"]
    secrets = [text for text in context.CLIARGS["extra_vars"] if _SECRET.search(text)]
    shown = ["ansible-playbook"]
    for word in sys.argv[1:]:
        secret = next((text for text in secrets if word.endswith(text)), "")
        if secret:
            shown.append(f"{word.removesuffix(secret)}'...'")
        elif word not in playbooks:
            shown.append(shlex.quote(word))
        elif word == playbooks[0]:
            shown.append(shlex.quote(str(Path(word).with_name("watch.yml"))))
    return " ".join(shown)


class CallbackModule(CallbackBase):
    """Watches the progress file from a thread while the task runs."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "qsmr_progress"

    def __init__(self) -> None:
        super().__init__()
        self._play = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._interrupt = None

    def v2_playbook_on_play_start(self, play) -> None:
        self._play = play

    def v2_runner_on_start(self, host, task) -> None:
        if task.action not in _FILES or self._play is None:
            return
        variables = self._play.get_variable_manager().get_vars(play=self._play, host=host, task=task)
        templar = Templar(loader=self._play.get_loader(), variables=variables)
        words = [to_text(templar.template(task.args.get(name))) for name in ("state_dir", "project")]
        self._stop()
        self._ended.clear()
        path = Path(words[0]).expanduser() / words[1] / _FILES[task.action]
        self._thread = threading.Thread(target=self._watch, args=(path, time.time()), daemon=True)
        self._thread.start()
        if task.action == "qsmr_watch":
            self._interrupt = signal.signal(signal.SIGINT, self._interrupted)

    def v2_runner_on_ok(self, result) -> None:
        self._stop()

    def v2_runner_on_failed(self, result, ignore_errors=False) -> None:
        self._stop()

    def v2_runner_on_unreachable(self, result) -> None:
        self._stop()

    def _interrupted(self, number, frame) -> None:
        self._ended.set()
        atexit.register(self._say_how_to_wait_again)
        self._interrupt(number, frame)

    def _say_how_to_wait_again(self) -> None:
        # The thread clears the bar's line at its end, which must not be this one.
        self._stop()
        print(f"No longer waiting; workers and jobs go on. To wait again: {_again()}")

    def _stop(self) -> None:
        if self._interrupt:
            signal.signal(signal.SIGINT, self._interrupt)
            self._interrupt = None
        if self._thread:
            self._ended.set()
            self._thread.join()
            self._thread = None

    def _watch(self, path: Path, since: float) -> None:
        # ansible-runner's terminal is a file in truth.
        drawn = sys.stdout.isatty() and not self._display.verbosity and "AWX_ISOLATED_DATA_DIR" not in os.environ
        pause = _SECONDS_BETWEEN_BARS if drawn else self.get_option("seconds_between_lines")
        # The first look comes after a pause: short runs show nothing, and Ansible has forked the task by then.
        begun = time.monotonic()
        while not self._ended.wait(pause):
            if not drawn:
                pause = max(pause, min((time.monotonic() - begun) / 10, _MOST_SECONDS_BETWEEN_LINES))
            try:
                progress = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            if progress["started"] < since - 1:
                continue  # of an earlier run
            if drawn:
                sys.stdout.write(_CLEAR_LINE + bar_of(progress, shutil.get_terminal_size().columns))
                sys.stdout.flush()
            else:
                self._display.display(line_of(progress))
        if drawn:
            sys.stdout.write(_CLEAR_LINE)
            sys.stdout.flush()
