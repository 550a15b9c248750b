# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""End a run with what matters: how long each stage took, and what the playbook has to say."""

from __future__ import annotations

DOCUMENTATION = r"""
name: qsmr_story
type: aggregate
short_description: Ends a run with the time of each stage and a summary
version_added: "0.1.0"
description:
  - When a playbook imports others, each of them is a stage, and the time that each took is listed after the recap.
  - Text that a task left with M(ansible.builtin.set_stats) under C(qsmr_summary) follows it, as the last thing
    on the screen.
  - A run that failed and left no such text ends with the host and its message.
  - A number left under C(qsmr_exit_code) is what ansible-playbook exits with, for endings that programs tell apart.
author: qsmr-fleet developers (@qsmr-fleet)
"""

import re
import time
from pathlib import Path

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """Times the imported playbooks of a run, and prints the summary last."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "qsmr_story"

    def __init__(self) -> None:
        super().__init__()
        self._stages: list[tuple[str, float]] = []
        self._said: dict[str, str] = {}

    def v2_runner_on_failed(self, result, ignore_errors=False) -> None:
        self._said[result.host.get_name()] = str(result.result.get("msg") or "see above")

    def v2_runner_on_unreachable(self, result) -> None:
        self._said[result.host.get_name()] = str(result.result.get("msg") or "see above")

    def _fault(self, stats) -> str:
        """Why the run failed, in a line; empty if it did not. What was rescued or ignored is no failure."""
        failed = [host for host in self._said if stats.failures.get(host) or stats.dark.get(host)]
        if not failed:
            return ""
        words = re.sub(r"^((Task|Action|Module) failed: )+", "", " ".join(self._said[failed[-1]].split()))
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        return f"Failed on {failed[-1]}{more}: {words}"

    def v2_playbook_on_play_start(self, play) -> None:
        stage = Path(play.get_path().rsplit(":", 1)[0]).stem
        if not self._stages or self._stages[-1][0] != stage:
            self._stages.append((stage, time.monotonic()))

    def v2_playbook_on_stats(self, stats) -> None:
        end = time.monotonic()
        if len({stage for stage, _start in self._stages}) > 1:
            self._display.display("Time of each stage")
            starts = [start for _stage, start in self._stages]
            for (stage, start), following in zip(self._stages, [*starts[1:], end], strict=True):
                self._display.display(f"  {stage.replace('_', ' '):<16} {following - start:6.1f} s")
            self._display.display(f"  {'all':<16} {end - starts[0]:6.1f} s")
        left = stats.custom.get("_run") or {}
        for text in left.get("qsmr_summary", []) or filter(None, [self._fault(stats)]):
            # Words of hosts and jobs are among it, which could be commands to the terminal.
            plain = "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text.rstrip())
            self._display.display(f"\n{plain}")
        if left.get("qsmr_exit_code"):
            # No Exception, so that it goes all the way; the run has ended and cleans up on the way.
            raise SystemExit(left["qsmr_exit_code"])
