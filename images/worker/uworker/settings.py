"""The worker's settings, from the environment variables of the former worker (worker contract, section 2)."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from .health import DEFAULT_STATE_DIR

WORKER_NAME_LIMIT = 64  # characters, the job service's
PROJECT_NAME_LIMIT = 59  # from 60 on the job service can't make the project's table
RESERVED_PROJECTS = ("projects", "auth")  # routes of the job service
# A job command has no need for the account of the job service; the user name can be a token.
CREDENTIALS = ("UWORKER_JOB_API_USERNAME", "UWORKER_JOB_API_PASSWORD")


class SettingsError(Exception):
    """The environment does not make a worker; the message names every fault in one line."""


@dataclass(frozen=True)
class Settings:
    """What a worker needs to know; times are in seconds."""

    root: str
    username: str = field(repr=False)
    password: str = field(repr=False)
    project: str
    command: tuple[str, ...]
    worker: str
    job_environment: Mapping[str, str] = field(repr=False)
    external: tuple[str, ...] = field(repr=False, default=())
    job_type: str = ""
    job_timeout: int | None = None
    grace_period: int = 60
    state_dir: Path = Path(DEFAULT_STATE_DIR)

    def command_problem(self) -> str:
        """Say why the job command can't be started, in one line; empty if it can."""
        program = self.command[0]
        if shutil.which(program):
            return ""
        if Path(program).exists():
            return f"the job command {program} is not executable: check UWORKER_JOB_CMD and the image"
        return f"the job command {program} does not exist: check UWORKER_JOB_CMD and the image"


def load_settings(environ: Mapping[str, str], hostname: str) -> Settings:
    """Make the settings from the environment variables; `hostname` is this machine's or container's own.

    Raises SettingsError naming all missing and all invalid variables at once.
    """
    faults: list[str] = []

    def need(name: str) -> str:
        if not environ.get(name, "").strip():
            faults.append(f"{name} is not set")
        return environ.get(name, "").strip()

    def seconds(name: str, least: int) -> int | None:
        text = environ.get(name, "").strip()
        if not text:
            return None
        if re.fullmatch(r"[0-9]{1,9}", text) and int(text) >= least:
            return int(text)
        faults.append(f"{name}={text} is not a whole number of seconds >= {least}")
        return None

    root = need("UWORKER_JOB_API_ROOT").rstrip("/")
    username, password = need("UWORKER_JOB_API_USERNAME"), environ.get("UWORKER_JOB_API_PASSWORD", "")
    need("UWORKER_JOB_API_PASSWORD")
    project, command = need("UWORKER_JOB_API_PROJECT"), need("UWORKER_JOB_CMD").split()
    if root and (root_fault := _root_fault(root)):
        faults.append(f"UWORKER_JOB_API_ROOT {root_fault}")
    if project and (project_fault := _project_fault(project)):
        faults.append(f"UWORKER_JOB_API_PROJECT={project} {project_fault}")
    job_timeout = seconds("UWORKER_JOB_TIMEOUT", 1)
    grace_period = seconds("UWORKER_GRACE_PERIOD", 0)
    if faults:
        raise SettingsError("; ".join(faults))
    return Settings(
        root=root,
        username=username,
        password=password,
        project=project,
        command=tuple(command),
        worker=worker_name(hostname, environ.get("UWORKER_HOSTNAME", ""), environ.get("UWORKER_CONTAINER_NAME", "")),
        job_environment={name: value for name, value in environ.items() if name not in CREDENTIALS},
        external=tuple(
            value
            for name in ("UWORKER_EXTERNAL_API_USERNAME", "UWORKER_EXTERNAL_API_PASSWORD")
            if (value := environ.get(name, ""))
        ),
        job_type=environ.get("UWORKER_JOB_TYPE", ""),
        job_timeout=job_timeout,
        grace_period=Settings.grace_period if grace_period is None else grace_period,
        state_dir=Path(environ.get("UWORKER_STATE_DIR") or DEFAULT_STATE_DIR),
    )


def worker_name(hostname: str, host: str = "", container: str = "") -> str:
    """Return `UWorker_<host>_<container or hostname>`, or `UWorker_<hostname>` if no host name was passed in.

    A name that is too long for the job service is cut and ends with a digest of the whole, so it stays unique.
    """
    name = f"UWorker_{host}_{container or hostname}" if host else f"UWorker_{hostname}"
    if len(name) <= WORKER_NAME_LIMIT:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    return f"{name[: WORKER_NAME_LIMIT - 11]}_{digest}"


def _root_fault(root: str) -> str:
    try:
        parts = urlsplit(root)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        return "is no URL like http://host:5000/rest_api"
    if "@" in parts.netloc:
        return "holds credentials: put them into UWORKER_JOB_API_USERNAME and UWORKER_JOB_API_PASSWORD"
    return "must end with the path, without ? and #" if parts.query or parts.fragment else ""


def _project_fault(project: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", project):
        return "is no project name: letters and digits only, the first one a letter"
    if len(project) > PROJECT_NAME_LIMIT:
        return f"is longer than {PROJECT_NAME_LIMIT} characters"
    return "is a reserved name of the job service" if project in RESERVED_PROJECTS else ""
