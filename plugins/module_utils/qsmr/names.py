"""Project names: what the services take, and what Docker can take in their place."""

from __future__ import annotations

import hashlib
import re

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


def docker_name(project: str) -> str:
    """The lower-case name that stands for the project in names of images, containers and Compose projects.

    Docker takes lower case only. A name with capitals gets a part of its digest, so that "Demo" and "demo" don't clash.
    """
    lower = project.lower()
    return lower if lower == project else f"{lower}-{hashlib.sha256(project.encode()).hexdigest()[:6]}"
