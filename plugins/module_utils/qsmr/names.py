"""Project names: what the services take, and what Docker can take in their place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from .errors import QsmrError

# The job service keeps a project's jobs in a table "jobs_<project>", and a table name has at most 64 characters.
LONGEST_PROJECT_NAME = 59
# Names that are routes of the job service themselves.
RESERVED_PROJECT_NAMES = ("projects", "auth")


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
