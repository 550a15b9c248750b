"""Is a host fit to run a release's workers? Everything that can be known before anything is changed.

Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .dockercli import Docker
from .errors import QsmrError
from .hostcompose import Compose
from .hostimage import HostImage
from .hostpaths import unwritable
from .release import Releases

# Docker's names of machines (of the Linux kernel) and of image architectures (of Go).
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


# Seconds for each answer of a service.
SERVICE_TIMEOUT = 10.0


def faults(docker: Docker, releases: Releases, snapshot: Mapping[str, Any], pushed: bool = False) -> list[str]:
    """All that keeps this host from running the snapshot, one line for each with what to do.

    With ``pushed`` the image must be there already.
    """
    places = (releases.root, releases.directory(snapshot["snapshot_id"]))
    found = [fault for fault in map(unwritable, places) if fault][:1]
    try:
        info = docker.info()
    except QsmrError as error:
        return [*found, str(error)]
    try:
        Compose.of(docker, info)
    except QsmrError as error:
        found.append(str(error))
    wanted = snapshot["image"]["architecture"]
    machine = info.get("Architecture", "")
    # In check mode it may be unknown as yet.
    if wanted and ARCHITECTURES.get(machine, machine) != wanted:
        found.append(
            f"The snapshot's image is for {wanted}, this host is {machine}: build a snapshot on such a machine"
        )
    image = HostImage(docker, snapshot, releases)
    if not image.find():
        if pushed:
            found.append(f"The image {image.wanted.name} is not here any more: run workers.yml with that snapshot")
        else:
            found += filter(None, [image.room_fault(Path(info["DockerRootDir"]))])
    return found


def service_faults(env: Mapping[str, str], odin_api_root: str) -> list[str]:
    """Why the services cannot be used from this host. ``env`` is the workers', ``odin_api_root`` may be empty."""
    root = env.get("UWORKER_JOB_API_ROOT", "")
    account = f"{env.get('UWORKER_JOB_API_USERNAME', '')}:{env.get('UWORKER_JOB_API_PASSWORD', '')}"
    found = []
    if root:
        status, said = _get(f"{root}/token", {"Authorization": f"Basic {base64.b64encode(account.encode()).decode()}"})
        if status == 200 and not _is_token(said):
            status = 404
        if status in (401, 403):
            found.append(f"The job service {root} refuses the account: check JOB_API_USERNAME and JOB_API_PASSWORD")
        elif status != 200:
            what = f"answers {status}" if status else f"cannot be reached ({said})"
            found.append(f"The job service {root} {what}: check JOB_API_ROOT, the network and the service")
    if odin_api_root:
        # Any answer of the server itself will do: what there is to be read differs from one era to the other.
        status, said = _get(f"{odin_api_root}/", {})
        if not status or status >= 500:
            what = f"answers {status}" if status else f"cannot be reached ({said})"
            found.append(f"The Odin API {odin_api_root} {what}: check ODIN_API_ROOT, the network and the service")
    return found


def _get(url: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """Status and body of a GET that follows no redirect and uses no proxy; status 0 and the reason if none came."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    try:
        request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310  settings are checked to be http(s)
        with opener.open(request, timeout=SERVICE_TIMEOUT) as answer:
            return answer.status, answer.read(65536).decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, ""
    except urllib.error.URLError as error:
        return 0, str(getattr(error.reason, "strerror", None) or error.reason)
    except (OSError, ValueError) as error:
        return 0, str(error) or type(error).__name__


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """A redirect could carry the account to another host."""


def _is_token(text: str) -> bool:
    try:
        return bool(json.loads(text)["token"])
    except (ValueError, LookupError, TypeError):
        return False
