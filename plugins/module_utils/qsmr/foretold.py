"""What status shows in check mode: where the project would stand by now if the run were no check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .attention import TO_BE_STARTED, attention
from .verdict import STALLS, Ending, Tally


def foretell(picture: Mapping[str, Any], releases: Mapping[str, str], jobs: str) -> dict[str, Any]:
    """The picture with what tasks before it would have done: ``releases`` started, by host, and ``jobs``, in a line."""
    hosts = [
        {**host, "state": TO_BE_STARTED, "release": releases[host["host"]], "running": [releases[host["host"]]]}
        if host["host"] in releases and host["state"] == "answers"
        else host
        for host in picture["hosts"]
    ]
    told = {**picture, "hosts": hosts, "foretold": True}
    if jobs and picture["ending"] != "failures":
        line = f"Check mode: {jobs}"
        told |= {"ending": "going", "exit_code": 0, "message": f"{line}.", "last_line": line}
    elif releases and picture["ending"] in STALLS:
        tally = Tally.of(picture["states"])
        told |= Ending("going", tally, f"{tally}.").record
    told["attention"] = list(attention(told))
    return told
