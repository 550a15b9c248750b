"""Have the image made on a host while its layers still arrive: a process that hostagent.py starts.

Its standard input has a line of JSON, which says what is to be made (``order_to_make``), and then a line whenever
something has arrived. It ends with 0 if the image is there. If not, nothing is lost: the module qsmr_image tries again
when all has arrived, and tells what is wrong. Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .dockercli import Docker
from .errors import QsmrError
from .hostimage import HostImage
from .release import Releases

# This module, and what it imports.
_PACKAGE = (
    "__init__",
    "archive",
    "compression",
    "dockercli",
    "errors",
    "files",
    "hostimage",
    "hostlayers",
    "hostmaker",
    "hostpaths",
    "names",
    "release",
)


def order_to_make(snapshot: Mapping[str, Any], project: str, host_dir: str, order: Mapping[str, Any]) -> dict[str, Any]:
    """What the process is told: content of snapshot.json, and how to make its image (see qsmr.pushplan)."""
    return {"snapshot": snapshot, "project": project, "host_dir": host_dir, "order": order}


def package() -> bytes:
    """What the process needs, as a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name in _PACKAGE:
            file.write(Path(__file__).with_name(f"{name}.py"), f"qsmr/{name}.py")
    return buffer.getvalue()


def main() -> None:
    given = json.loads(sys.stdin.readline())
    place = Releases(Path(given["host_dir"]), given["project"])

    def wait(sha256: str) -> None:
        while not (place.incoming / sha256).exists():
            if not sys.stdin.readline():
                raise QsmrError("the push was cut off")

    try:
        HostImage(Docker(), given["snapshot"], place).make(given["order"], wait)
    except QsmrError as error:
        raise SystemExit(str(error)) from None
