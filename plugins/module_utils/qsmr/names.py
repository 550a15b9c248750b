"""Names of projects, images and workers: what the services take, and what Docker can take in their place.

Runs on lab hosts, too: Python 3.9 and the standard library.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import QsmrError

# The job service keeps a project's jobs in a table "jobs_<project>", and a table name has at most 64 characters.
LONGEST_PROJECT_NAME = 59
# Names that are routes of the job service themselves.
RESERVED_PROJECT_NAMES = ("projects", "auth")
# A longer name breaks claiming in the job service (REST contract v4, section 6).
LONGEST_WORKER_NAME = 64
# Of the host's part of it, so that the container's name, twelve digits of Docker's, finds room, too.
LONGEST_HOST_PART = LONGEST_WORKER_NAME - len("UWorker_") - len("_0123456789ab")
# What tells names that were cut, and parts of them, from others of the same beginning.
DIGEST = 10
CUT_AT = LONGEST_WORKER_NAME - DIGEST - 1


def check_project_name(name: str, what: str = "Project") -> None:
    """Raise QsmrError unless the name can be a project of the job service (REST contract v4, section 1).

    ``what`` says whose name it is in the message: "Project", "Odin project".
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name):
        raise QsmrError(f"{what} name must only contain ascii letters and digits and start with an ascii letter")
    if len(name) > LONGEST_PROJECT_NAME:
        raise QsmrError(
            f"{what} name has {len(name)} characters: the job service takes at most {LONGEST_PROJECT_NAME}, shorten it"
        )
    if name in RESERVED_PROJECT_NAMES:
        raise QsmrError(f'{what} name "{name}" is a route of the job service: choose another one')


def is_plain(name: str) -> bool:
    """Whether a name can be that of a file or of an image's tag: one component of a path, and no option."""
    return bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name))


def check_image_names(manifest: Mapping[str, Any]) -> None:
    """Raise QsmrError for names in a snapshot.json that would be something else where they are used: on command lines,
    in scripts and as parts of paths. LookupError, TypeError or AttributeError where it is no snapshot.json.
    """
    image = manifest["image"]
    repository, _colon, tag = image["name"].rpartition(":")
    digests = [image["id"], manifest["inputs"], *(layer["diff_id"] for layer in image["layers"])]
    wrong = [digest for digest in digests if not (digest.startswith("sha256:") and is_plain(digest[7:]))]
    if not (all(map(is_plain, repository.split("/"))) and is_plain(tag)):
        wrong.append(image["name"])
    if not is_plain(manifest["snapshot_id"]):
        wrong.append(manifest["snapshot_id"])
    if wrong:
        raise QsmrError(f"snapshot.json holds names that cannot be right: {wrong[0]!r}; build the snapshot again")


def docker_name(project: str) -> str:
    """The lower-case name that stands for the project in names of images, containers and Compose projects.

    Docker takes lower case only. A name with capitals gets a part of its digest, so that "Demo" and "demo" don't clash.
    """
    lower = project.lower()
    return lower if lower == project else f"{lower}-{hashlib.sha256(project.encode()).hexdigest()[:6]}"


def host_part(host: str) -> str:
    """What stands for a host in the names of its workers: its name, or of a long one the beginning and a digest."""
    if len(host) <= LONGEST_HOST_PART:
        return host
    return f"{host[: LONGEST_HOST_PART - DIGEST - 1]}-{_digest(host)}"


def worker_name(hostname: str, part: str = "", container: str = "") -> str:
    """The name under which a worker claims jobs, as the worker itself makes it (images/worker/uworker/settings.py).

    ``hostname`` is the container's own, ``part`` its host's part, ``container`` the name that the scripts of 2016 gave.
    """
    name = f"UWorker_{part}_{container or hostname}" if part else f"UWorker_{hostname}"
    return name if len(name) <= LONGEST_WORKER_NAME else f"{name[:CUT_AT]}_{_digest(name)}"


def part_of(worker: str) -> str | None:
    """The host's part of a worker's name; None for a stranger.

    A container's name has no "_" in it, but for those of 2016. So no host is taken for one whose name goes on.
    """
    found = re.fullmatch(r"UWorker_(.+?)_(?:uworker_[0-9]{1,4}|[^_]+)", worker, re.DOTALL)
    return found[1] if found else None


def homes_of(worker: str, hosts: Iterable[str]) -> list[str]:
    """Those of these hosts whose worker this may be: one, or none for a stranger.

    Several only where earlier versions of this program, which cut the whole name, left nothing to tell long ones apart.
    """
    part = part_of(worker)
    return [host for host in hosts if part in (host, host_part(host)) or _is_cut_name_of(host, worker)]


def _is_cut_name_of(host: str, worker: str) -> bool:
    """Whether this may be the name of a worker of this host that was cut, and ends with a digest of the whole."""
    is_cut = len(worker) == LONGEST_WORKER_NAME and re.fullmatch(rf"_[0-9a-f]{{{DIGEST}}}", worker[CUT_AT:])
    return len(host) > LONGEST_HOST_PART and bool(is_cut) and worker[:CUT_AT] == f"UWorker_{host}_"[:CUT_AT]


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:DIGEST]
