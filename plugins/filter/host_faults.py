"""What the hosts of a fleet answered to M(qsmr_preflight), as lines for the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def host_faults(answers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line ``host: fault`` for each fault; an unreachable host has one."""
    return [f"{host}: {fault}" for host, answer in answers.items() for fault in _faults(answer)]


def _faults(answer: Mapping[str, Any]) -> list[str]:
    if answer.get("unreachable"):
        said = " ".join(str(answer.get("msg", "")).split()).rpartition("over ssh: ")[2]
        return [f"unreachable ({said}): repair it, or leave it out with --limit"]
    if "faults" not in answer:
        said = str(answer.get("module_stderr") or answer.get("msg") or "no answer").strip().splitlines()[-1]
        return [f"it could not be checked: {said}"]
    return [str(fault) for fault in answer["faults"]]


class FilterModule:
    """The filters of this file, as Ansible wants them."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"host_faults": host_faults}
