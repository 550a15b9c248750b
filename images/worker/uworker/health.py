#!/usr/bin/env -S python3 -IS
"""`uworker-health`: can the worker of this container do work?

The worker keeps a small state file up to date, and this command judges it: exit status 0 and "healthy: ..." or 1 and
"unhealthy: <reason>". Docker runs it every few seconds on every host, so it is one file with few imports, and asks
nothing of the job service.
"""

from __future__ import annotations

import os
import sys
import time

DEFAULT_STATE_DIR = "/run/uworker"
STATE_FILE = "state"  # KEY=VALUE lines: reading JSON would take longer than all the rest
# The worker beats every few seconds, but one call to a service that doesn't answer can hold it for about 35 s.
STALE_AFTER = 60.0


def verdict(directory: str) -> tuple[bool, str]:
    """Return (healthy, the reason in one line) for the worker that keeps its state in `directory`."""
    try:
        with open(os.path.join(directory, STATE_FILE), encoding="utf-8") as file:  # noqa: PTH118, PTH123 - pathlib is slow
            state = dict(line.rstrip("\n").split("=", 1) for line in file)
        age = time.monotonic() - float(state["beat"])
        if not 0 <= age <= STALE_AFTER:
            return False, f"the worker has given no sign of life for {abs(age):.0f} s (it was {state['activity']})"
        if state["problem"]:
            return False, state["problem"]
        return True, f"{state['activity']}, last contact with the job service {state['contact']}"
    except FileNotFoundError:
        return False, f"no worker runs here ({directory}/{STATE_FILE} is missing)"
    except (OSError, ValueError, KeyError) as error:
        return False, f"{directory}/{STATE_FILE} is not readable: {error!r}"


def main() -> int:
    """Print the verdict; return the exit status for Docker."""
    healthy, reason = verdict(os.environ.get("UWORKER_STATE_DIR") or DEFAULT_STATE_DIR)
    print(("healthy: " if healthy else "unhealthy: ") + reason)
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())
