"""Snapshots on disk: one directory that holds all that a worker needs to start.

``qsmr_snapshot_<project>_<yymmdd>[_N]/`` appears whole or not at all, and is never written to again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .archive import file_sha256
from .dockercli import TIMEOUT_KEY
from .errors import QsmrError
from .names import check_image_names, check_project_name
from .settings import Settings, load_settings

FORMAT = 1
IMAGE_FILE, MANIFEST, SUMS, ENV_FILE = "docker_image", "snapshot.json", "SHA256SUMS", "worker.env"
COMPOSE_FILE, START_SCRIPT = "docker-compose.yml", "start_worker.sh"
# Not worker.env: a digest of known lines and one password, readable by all, would let the password be guessed offline.
SUMMED = (IMAGE_FILE, COMPOSE_FILE, START_SCRIPT, MANIFEST)
CREATED = "%Y-%m-%dT%H:%M:%SZ"
ID_KEY, PASSWORD_KEY = "QSMR_SNAPSHOT_ID", "UWORKER_JOB_API_PASSWORD"
# Stands in check mode for a snapshot's id and its image's tag, which are known when they are made.
TO_BE_MADE = "to-be-made"
DIRECTORY_NAME = re.compile(r"qsmr_snapshot_(?P<project>[A-Za-z][A-Za-z0-9]*)_(?P<date>\d{6})(?:_(?P<number>\d+))?")


class NoSnapshot(QsmrError):
    """There is no whole snapshot to be found."""


@dataclass(frozen=True)
class Snapshot:
    """A snapshot: its directory and the content of its snapshot.json."""

    directory: Path
    manifest: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.manifest["snapshot_id"])

    @property
    def project(self) -> str:
        return str(self.manifest["project"])

    @property
    def created(self) -> datetime:
        """When it was made, to the second, in UTC; never before those of its project that were made earlier."""
        return datetime.strptime(self.manifest["created"], CREATED).replace(tzinfo=UTC)

    @property
    def image_file(self) -> Path:
        return self.directory / IMAGE_FILE

    def check_image(self) -> None:
        """Raise QsmrError unless docker_image is what it was, byte for byte.

        All of it is read, each time: seconds, where a build takes minutes. The size would not show damage, the time
        would not survive copying, and what is handed out from here goes to every host.
        """
        archive = self.manifest["archive"]
        try:
            size = self.image_file.stat().st_size
            intact = size == archive["size"] and file_sha256(self.image_file) == archive["sha256"]
        except OSError as error:
            raise QsmrError(f"{self.image_file} cannot be read: {error.strerror}") from None
        if not intact:
            raise QsmrError(f"{self.image_file} is damaged: its {size} bytes are not those of {SUMS}")


def read_snapshot(directory: Path) -> Snapshot:
    """The snapshot in ``directory``. Raises QsmrError where there is none, or only a part of one.

    Everything but the image is checked against SHA256SUMS; the image by its size only (``check_image`` reads it all).
    """
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise QsmrError(
                f"{directory} has snapshot format {manifest['format']}, not {FORMAT}: build the snapshot again"
            )
        check_image_names(manifest)
        for key in ("project", "odin_project"):
            check_project_name(manifest[key], f"{directory / MANIFEST}: {key}")
        lines = (directory / SUMS).read_text(encoding="utf-8").splitlines()
        sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        wrong = [name for name in SUMMED if name != IMAGE_FILE and sums[name] != file_sha256(directory / name)]
        if sums[IMAGE_FILE] != manifest["archive"]["sha256"]:
            wrong.append(SUMS)
        if (directory / IMAGE_FILE).stat().st_size != manifest["archive"]["size"]:
            wrong.append(IMAGE_FILE)
        (directory / ENV_FILE).stat()
        datetime.strptime(manifest["created"], CREATED)
    except FileNotFoundError as error:
        raise QsmrError(f"{directory} is not a whole snapshot: {Path(error.filename).name} is missing") from None
    except OSError as error:
        raise QsmrError(f"{directory} cannot be read: {error.strerror}") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise QsmrError(f"{directory} is not a whole snapshot: {MANIFEST} or {SUMS} is damaged") from None
    if wrong:
        raise QsmrError(f"{directory} is not what was built: {', '.join(wrong)} changed since")
    return Snapshot(directory, manifest)


def environment(settings: Settings, project: str, given: Mapping[str, str], snapshot_id: str) -> dict[str, str]:
    """What worker.env holds; ``given`` are the settings of retrieval and jobs, as snapshot.json has them."""
    return {
        "UWORKER_JOB_API_ROOT": settings.job_api_root,
        "UWORKER_JOB_API_PROJECT": project,
        "UWORKER_JOB_API_USERNAME": settings.job_api_username,
        PASSWORD_KEY: settings.job_api_password,
        "UWORKER_EXTERNAL_API_USERNAME": "notused",
        "UWORKER_EXTERNAL_API_PASSWORD": "notused",
        TIMEOUT_KEY: "",
        **given,
        ID_KEY: snapshot_id,
    }


def env_text(values: Mapping[str, str]) -> str:
    """The content of worker.env."""
    return "".join(f"{key}={value}\n" for key, value in values.items())


def take_release(arguments: dict[str, Any]) -> None:
    """Put what a host needs of a release in the place of the words that name it on the control node.

    Those are ``directory``, or in check mode ``foretold``, the snapshot that a run would make first, as the module
    qsmr_snapshot tells it: what its worker.env would hold follows from ``config_file`` and ``config``.
    """
    directory, foretold = arguments.pop("directory", ""), arguments.pop("foretold", {})
    config = arguments.pop("config_file", ""), arguments.pop("config", {})
    if foretold:
        manifest = foretold["snapshot"]
        values = environment(load_settings(*config), manifest["project"], manifest["settings"], manifest["snapshot_id"])
        arguments |= {"snapshot": manifest, "files": foretold["files"], "worker_env": env_text(values)}
    elif directory:
        arguments |= release_of(Path(directory))


def in_words(answer: Any) -> Any:
    """A host's answer about a release that is foretold, with words for what has no name yet."""
    if isinstance(answer, Mapping):
        return {key: in_words(value) for key, value in answer.items()}
    if isinstance(answer, list):
        return [in_words(value) for value in answer]
    if not isinstance(answer, str):
        return answer
    text = re.sub(rf"qsmr_snapshot_[a-z0-9-]+:{TO_BE_MADE}", "the image to be built", answer)
    return text.replace(TO_BE_MADE, "the snapshot to be made")


def release_of(directory: Path) -> dict[str, Any]:
    """What a host needs of a snapshot to run it, as parameters of the module qsmr_worker. ``worker_env`` is secret."""
    try:
        texts = {name: (directory / name).read_text(encoding="utf-8") for name in (COMPOSE_FILE, MANIFEST, ENV_FILE)}
    except OSError as error:
        raise QsmrError(f"{directory} cannot be read: {error.strerror}") from None
    worker_env = texts.pop(ENV_FILE)
    return {"snapshot": json.loads(texts[MANIFEST]), "files": texts, "worker_env": worker_env}


def find_snapshots(directory: Path) -> tuple[list[Snapshot], list[str]]:
    """All whole snapshots in ``directory``, newest first, and a line for each that is not whole."""
    found: list[Snapshot] = []
    faults: list[str] = []
    for path in sorted(directory.glob("qsmr_snapshot_*/")):
        if DIRECTORY_NAME.fullmatch(path.name):
            try:
                found.append(read_snapshot(path))
            except QsmrError as error:
                faults.append(str(error))
    return sorted(found, key=_age, reverse=True), faults


def choose_snapshot(project: str, directory: Path, source: Path | None = None) -> Snapshot:
    """The snapshot of a project that the fleet should run, with its whole path: whoever reads it may begin elsewhere.

    That is ``source``, or if that is another project's, the newest one that was made from the same image; without a
    source the newest in ``directory``. Raises NoSnapshot where there is none, and QsmrError for a wrong name or source.
    """
    check_project_name(project)
    given = read_snapshot(source.absolute()) if source else None
    if given and given.project == project:
        return given
    directory = directory.absolute()
    snapshots, faults = find_snapshots(directory)
    for snapshot in snapshots:
        if snapshot.project == project and (given is None or snapshot.manifest["inputs"] == given.manifest["inputs"]):
            return snapshot
    made_of = f" made from {source}" if source else ""
    left_out = "".join(f"; not used: {fault}" for fault in faults)
    raise NoSnapshot(f"No snapshot of project {project}{made_of} in {directory}: run snapshot.yml first{left_out}")


def newest_snapshot(directory: Path, project: str) -> Snapshot | None:
    """The newest whole snapshot of a project in ``directory``."""
    return next((snapshot for snapshot in find_snapshots(directory)[0] if snapshot.project == project), None)


def _age(snapshot: Snapshot) -> tuple[datetime, str, int]:
    name = DIRECTORY_NAME.fullmatch(snapshot.directory.name)
    return (snapshot.created, name["date"] if name else "", int(name["number"] or 1) if name else 0)
