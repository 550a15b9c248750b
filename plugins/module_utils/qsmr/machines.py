"""One machine is one host: an inventory may have it under two names all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import QsmrError


def check_machines(answers: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Raise QsmrError where one machine answers under several names: each would replace the others' workers."""
    names: dict[str, list[str]] = {}
    for host, raw in answers.items():
        if machine := (raw or {}).get("machine"):
            names.setdefault(machine, []).append(host)
    if several := [" and ".join(hosts) for hosts in names.values() if len(hosts) > 1]:
        raise QsmrError(
            f"Nothing was changed: {'; '.join(several)} are one machine, whose workers each name would replace "
            "by its own: keep one of its names in the inventory"
        )
