"""Is a host fit to run a snapshot's workers? Everything that can be known before anything is changed.

Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .dockercli import Docker
from .errors import QsmrError
from .hostimage import ImageStore, Wanted
from .hostpaths import unwritable
from .release import Releases

# Docker's names of machines (of the Linux kernel) and of image architectures (of Go).
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


def faults(docker: Docker, releases: Releases, snapshot: Mapping[str, Any]) -> list[str]:
    """All that keeps this host from running the snapshot, one line for each with what to do."""
    found = [fault for fault in map(unwritable, (releases.root, releases.directory(snapshot["snapshot_id"]))) if fault][
        :1
    ]
    try:
        info = docker.info()
    except QsmrError as error:
        return [*found, str(error)]
    try:
        docker.compose(info)
    except QsmrError as error:
        found.append(str(error))
    wanted = snapshot["image"]["architecture"]
    machine = info.get("Architecture", "")
    if ARCHITECTURES.get(machine, machine) != wanted:
        found.append(
            f"The snapshot's image is for {wanted}, this host is {machine}: build a snapshot on such a machine"
        )
    store = ImageStore(docker, Wanted.from_snapshot(snapshot), releases.incoming, snapshot["archive"])
    if not store.find():
        found += filter(None, [store.room_fault(Path(info["DockerRootDir"]))])
    return found
