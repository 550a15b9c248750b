"""Make snapshots of local code: build it, put it into an image, save that, and write what starts it.

Which image goes into a snapshot is decided by digests of what the image is made of ("inputs"), so that nothing is built
or saved that is there already. Control node only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from .archive import file_sha256, read_image, write_layer
from .codetree import ARCHIVES, git_state, tree, tree_digest
from .dockercli import TIMEOUT_KEY, Docker
from .errors import QsmrError
from .files import write_atomically
from .hostfit import checked_job_timeout
from .hostimage import INPUTS_LABEL, common_prefix, layers_of
from .hostpaths import SNAPSHOT_SETTING, why
from .libraries import libraries
from .lock import held_directory
from .names import check_project_name, docker_name
from .pushplan import pack
from .release import parse_env
from .settings import Settings, load_settings
from .signature import SIGNATURE, SigningKey, TrustedKeys, environment_digest
from .snapshot import (
    COMPOSE_FILE,
    CREATED,
    ENV_FILE,
    FORMAT,
    IMAGE_FILE,
    MANIFEST,
    PASSWORD_KEY,
    START_SCRIPT,
    SUMMED,
    SUMS,
    TO_BE_MADE,
    Snapshot,
    env_text,
    environment,
    find_snapshots,
    read_snapshot,
)

with libraries():
    import jinja2

# What lies beside the snapshots while we work, and in the code directory while it is built.
PARTIAL = ".qsmr_snapshot_"
# Building and saving take as long as they take (5 minutes for the original's 4.6 GB); this ends what hangs. In seconds.
DOCKER_TIMEOUT = 4 * 3600.0
LINES_SHOWN = 20


@dataclass(frozen=True)
class Request:
    """What is wanted: whose snapshot, of which code, where.

    ``source`` is a snapshot whose image to use instead of building one; ``templates`` holds those of COMPOSE_FILE and
    START_SCRIPT. With a ``signing_key`` the snapshot gets signed, and images are taken only from snapshots which that
    key or a trusted one has signed. ``worker_image_to_be_made``: a run that is no check would have made it anew by now.
    """

    project: str
    odin_project: str
    settings: Settings
    qsmr_config: str
    invemode: str
    code_dir: Path
    build_command: tuple[str, ...]
    job_command: str
    job_timeout: str
    worker_image: str
    worker_image_to_be_made: bool
    dockerfile: Path
    templates: Path
    directory: Path
    source: Path | None
    stop_grace_seconds: int
    signing_key: SigningKey | None
    trusted_keys: TrustedKeys

    @classmethod
    def checked(cls, given: Mapping[str, Any]) -> Request:
        """The request in the module's parameters. Raises QsmrError with a line for each fault, all at once."""
        faults: list[str] = []
        settings: Settings | None = None
        odin_project = given["odin_project"] or given["project"]
        source = Path(given["source"]).absolute() if given["source"] else None
        code_dir = Path(given["code_dir"] or ".").absolute()
        with _collected(faults):
            check_project_name(given["project"])
        if odin_project != given["project"]:
            with _collected(faults):
                check_project_name(odin_project, "Odin project")
        with _collected(faults):
            settings = load_settings(given["config_file"], given["config"])
        for name in ("qsmr_config", "invemode", "job_command"):
            if not given[name].isprintable():
                faults.append(f"{name} must be one line of printable characters")
        job_timeout = ""
        with _collected(faults):
            job_timeout = checked_job_timeout(given["job_timeout"])
        signing_key, trusted_keys = None, TrustedKeys([])
        with _collected(faults):
            trusted_keys = TrustedKeys(given["trusted_keys"])
        with _collected(faults):
            signing_key = SigningKey(Path(given["signing_key"])) if given["signing_key"] else None
        build_command: tuple[str, ...] = ()
        with _collected(faults):
            if source:
                _check_trust(read_snapshot(source), signing_key, trusted_keys)
            elif given["code_dir"]:
                build_command = _checked_command(code_dir, given["build_command"])
            else:
                raise QsmrError("No code to build from: set qsmr_code_dir to the directory of the QSMR code")
        if faults or settings is None:
            raise QsmrError("\n".join(faults))
        return cls(
            project=given["project"],
            odin_project=odin_project,
            settings=settings,
            qsmr_config=given["qsmr_config"],
            invemode=given["invemode"],
            code_dir=code_dir,
            build_command=build_command,
            job_command=given["job_command"],
            job_timeout=job_timeout,
            worker_image=given["worker_image"],
            worker_image_to_be_made=given["worker_image_to_be_made"],
            dockerfile=Path(given["dockerfile"]),
            templates=Path(given["templates"]),
            directory=Path(given["directory"]).absolute(),
            source=source,
            stop_grace_seconds=given["stop_grace_seconds"],
            signing_key=signing_key,
            trusted_keys=trusted_keys,
        )


@contextlib.contextmanager
def _collected(faults: list[str]) -> Iterator[None]:
    try:
        yield
    except QsmrError as error:
        faults.append(str(error))


def _check_trust(snapshot: Snapshot, signing_key: SigningKey | None, trusted_keys: TrustedKeys) -> None:
    """Raise QsmrError for a snapshot whose image must not become part of what we sign, or of what hosts get."""
    if signing_key and _is_signed(snapshot, signing_key):
        return
    if trusted_keys:
        trusted_keys.check(snapshot)
    elif signing_key:
        signing_key.trusted.check(snapshot)


def _is_signed(snapshot: Snapshot, key: SigningKey) -> bool:
    try:
        key.trusted.check(snapshot)
    except QsmrError:
        return False
    return True


def _checked_command(code_dir: Path, command: str) -> tuple[str, ...]:
    if not code_dir.is_dir():
        raise QsmrError(
            f"Code directory {code_dir} does not exist: set qsmr_code_dir to the directory of the QSMR code"
        )
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise QsmrError(f"Build command {command} cannot be read ({error}): correct qsmr_build_command") from None
    if not words or not shutil.which(str(code_dir / words[0]) if "/" in words[0] else words[0]):
        raise QsmrError(
            f'Build command "{command}" is not there or not executable in {code_dir}: correct qsmr_build_command or '
            "qsmr_code_dir, or make the script executable (chmod +x)"
        )
    return words


@dataclass
class Outcome:
    """What ``ensure`` found and did.

    ``differences`` say why, ``actions`` what was done (in check mode: would be), ``before`` and ``after`` are the pairs
    that differ, without secrets. ``reused`` is the directory whose image was taken, ``snapshot`` what there is now.
    ``foretold`` is what check mode knows of the snapshot that would be made, see ``snapshot.take_release``.
    """

    snapshot: Snapshot | None
    differences: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    reused: str = ""
    foretold: dict[str, Any] = field(default_factory=dict)


def ensure(request: Request, docker: Docker, now: datetime, check_mode: bool = False) -> Outcome:
    """Have a snapshot of what is requested: the newest one of the project if it is that, else a further one.

    ``now`` (with time zone) dates what is made; its local day names the directory. Raises QsmrError, and leaves nothing
    behind then.
    """
    try:
        if check_mode:
            return _Maker(request, docker, now).run(check_mode=True)
        request.directory.mkdir(parents=True, exist_ok=True)
        with _locked(request.directory):
            for partial in request.directory.glob(f"{PARTIAL}*/"):  # of a run that was killed: we hold the lock
                shutil.rmtree(partial)
            return _Maker(request, docker, now).run()
    except OSError as error:
        where = error.filename or request.directory
        raise QsmrError(f"The snapshot cannot be made, {where}: {why(error, SNAPSHOT_SETTING)}") from None


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    busy = f"Another run is making a snapshot in {directory}: run again when it has ended"
    with held_directory(directory, SNAPSHOT_SETTING, busy):
        yield


class _Maker:
    def __init__(self, request: Request, docker: Docker, now: datetime) -> None:
        self.request = request
        self.docker = docker
        self.created = now
        self.warnings: list[str] = []
        self.templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(request.templates),
            undefined=jinja2.StrictUndefined,
            keep_trailing_newline=True,
            trim_blocks=True,
            autoescape=False,  # noqa: S701 a compose file and a shell script, filled with names that were checked
        )

    def run(self, check_mode: bool = False) -> Outcome:
        there, faults = find_snapshots(self.request.directory)
        self.warnings += [f"{fault}; it is left alone and not used" for fault in faults]
        source = read_snapshot(self.request.source) if self.request.source else None
        newest = next((snapshot for snapshot in there if snapshot.project == self.request.project), None)
        current = source if source and source.project == self.request.project else newest
        files = {} if source else tree(self.request.code_dir)
        inputs = source.manifest["image_inputs"] if source else self.image_inputs(files, check_mode)

        outcome = Outcome(current, warnings=self.warnings)
        if current:
            outcome.before, outcome.after = _different(_state_of(current), self.wanted_state(inputs, current))
            outcome.differences = [
                f"{name}: {_short(outcome.before.get(name))} -> {_short(value)}"
                for name, value in outcome.after.items()
            ]
        else:
            outcome.differences = ["snapshot: none -> new"]
        key = self.request.signing_key
        if current and key and not _is_signed(current, key):
            outcome.differences.append(f"signature: none of {key.path} -> one")
        if current and not outcome.differences:
            try:
                current.check_image()
                return outcome
            except QsmrError as error:
                outcome.differences.append(str(error))

        with_image = self.with_same_image(inputs, [source] if source else there)
        if source and not with_image:
            source.check_image()  # says what is wrong with it
        outcome.reused = str(with_image.directory) if with_image else ""
        outcome.actions = ["image reused" if with_image else "image built and saved", "snapshot written"]
        if newest:
            self.date_after(newest)
        if check_mode:
            outcome.foretold = self.foretell(inputs, with_image)
        else:
            outcome.snapshot = self.make(inputs, files, with_image)
        return outcome

    @property
    def date(self) -> str:
        """The local day in ids and names."""
        return self.created.strftime("%y%m%d")

    def date_after(self, newest: Snapshot) -> None:
        """Date what is made later than ``newest``, also if the clock was ahead then: fleets run the newest."""
        if self.created < newest.created:
            self.created = (newest.created + timedelta(seconds=1)).astimezone(self.created.tzinfo)
            self.warnings.append(
                f"{newest.directory.name} is dated {newest.manifest['created']}, which is still to come: "
                "check the clock; a snapshot that is made now is dated one second later, to be the newest"
            )

    def image_inputs(self, files: dict[str, str], check_mode: bool = False) -> dict[str, str]:
        """What an image is made of, as far as it can change."""
        to_be_made = check_mode and self.request.worker_image_to_be_made
        worker_image = None if to_be_made else self.docker.image(self.request.worker_image)
        if worker_image is None and not check_mode:
            raise QsmrError(f"Worker image {self.request.worker_image} is not on this machine: snapshot.yml makes it")
        return {
            "code": tree_digest(files),
            "build_command": shlex.join(self.request.build_command),
            "job_command": self.request.job_command,
            "dockerfile": f"sha256:{file_sha256(self.request.dockerfile)}",
            "worker_image": str(worker_image["Id"]) if worker_image else "to be built",
        }

    def with_same_image(self, inputs: dict[str, str], snapshots: list[Snapshot]) -> Snapshot | None:
        for snapshot in snapshots:
            if snapshot.manifest["inputs"] == _inputs_digest(inputs):
                with contextlib.suppress(QsmrError):
                    _check_trust(snapshot, self.request.signing_key, self.request.trusted_keys)
                    snapshot.check_image()
                    return snapshot
        return None

    def wanted_state(self, inputs: dict[str, str], current: Snapshot | None) -> dict[str, str]:
        """All that a snapshot should be; what only its image and id decide, as if they were those of ``current``."""
        if not current:
            return _state(inputs, self.environment(""), {}, self.request.odin_project)
        texts = self.rendered(current.manifest["image"]["name"], current.manifest["inputs"])
        return _state(inputs, self.environment(current.id), texts, self.request.odin_project)

    @property
    def given(self) -> dict[str, str]:
        settings = {"QSMR_CONFIG": self.request.qsmr_config, "QSMR_INVEMODE": self.request.invemode}
        return {**settings, TIMEOUT_KEY: self.request.job_timeout} if self.request.job_timeout else settings

    def environment(self, snapshot_id: str) -> dict[str, str]:
        return environment(self.request.settings, self.request.project, self.given, snapshot_id)

    def rendered(self, image_name: str, inputs_digest: str) -> dict[str, str]:
        values = {
            "image": image_name,
            "inputs_label": INPUTS_LABEL,
            "inputs": inputs_digest,
            "summed": len(SUMMED),
            "project": self.request.project,
            "compose_project": f"qsmr-{docker_name(self.request.project)}",
            "stop_grace_seconds": self.request.stop_grace_seconds,
            "environment": list(self.environment("")),
        }
        return {name: self.templates.get_template(f"{name}.j2").render(values) for name in (COMPOSE_FILE, START_SCRIPT)}

    def snapshot_id(self, image_id: str) -> str:
        open_values = {key: value for key, value in self.environment("").items() if key != PASSWORD_KEY}
        return f"{self.date}-{_digest([image_id, self.request.odin_project, open_values])[:10]}"

    def make(self, inputs: dict[str, str], files: dict[str, str], with_image: Snapshot | None) -> Snapshot:
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=self.request.directory))
        try:
            partial.chmod(0o755)
            if with_image:
                _link_or_copy(with_image.image_file, partial / IMAGE_FILE)
                made_of = _made_of(with_image)
            else:
                made_of = self.build_image(inputs, files, partial)
            with (partial / IMAGE_FILE).open("rb") as stream:
                os.fsync(stream.fileno())
            manifest = self.write_files(partial, made_of)
            snapshot = Snapshot(self.put_in_place(partial), manifest)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        try:
            pack(snapshot)
        except QsmrError as error:
            self.warnings.append(
                f"{error} (its layers could not be compressed now, so that the first push will be slower)"
            )
        return snapshot

    def foretell(self, inputs: dict[str, str], with_image: Snapshot | None) -> dict[str, Any]:
        """What hosts would get of the snapshot if it were made now: all of it where its image is there already."""
        if with_image:
            made_of = _made_of(with_image)
            manifest = self.manifest(made_of, self.snapshot_id(made_of["image"]["id"]))
        else:
            worker_image = self.docker.image(self.request.worker_image) or {}
            image = {
                "name": f"qsmr_snapshot_{docker_name(self.request.project)}:{TO_BE_MADE}",
                "id": f"sha256:{TO_BE_MADE}",
                "architecture": worker_image.get("Architecture", ""),
                "layers": [],
            }
            manifest = self.manifest({"image": image, "inputs": _inputs_digest(inputs)}, TO_BE_MADE)
        texts = self.texts(manifest)
        key = self.request.signing_key
        return {
            "snapshot": manifest,
            "files": {name: texts[name] for name in (COMPOSE_FILE, MANIFEST)},
            "signer": key.public if key else "",
        }

    def build_image(self, inputs: dict[str, str], files: dict[str, str], directory: Path) -> dict[str, Any]:
        """Build the code and the image, save it in ``directory``; returns what snapshot.json says about them."""
        request = self.request
        git = git_state(request.code_dir)
        label = f"label={INPUTS_LABEL}={_inputs_digest(inputs)}"
        listing = self.docker.out("Looking for the image", "image", "ls", "--quiet", "--no-trunc", "--filter", label)
        if listing.split():
            image_id = listing.split()[0]  # of a run that was killed while saving it, or whose docker_image was lost
        else:
            self.run_build_command()
            inputs = self.inputs_after_build(inputs, files)
            image_id = self.docker_build(inputs, directory)
        name = f"qsmr_snapshot_{docker_name(request.project)}:{self.snapshot_id(image_id)}"
        self.docker.out("Naming the image", "tag", image_id, name)
        needed, free = (self.docker.image(name) or {}).get("Size", 0), shutil.disk_usage(directory).free
        if free < needed:
            raise QsmrError(
                f"Not enough disk in {request.directory}: the image needs {needed / 1e6:.0f} MB, "
                f"{free / 1e6:.0f} MB are free"
            )
        target = directory / IMAGE_FILE
        self.docker.out(f"Saving {name}", "save", "--output", str(target), name, timeout=DOCKER_TIMEOUT)
        target.chmod(0o644)
        image = read_image(target)
        diff_ids = [layer.diff_id for layer in image.layers]
        base_layers = common_prefix(diff_ids, layers_of(self.docker.image(request.worker_image) or {}))
        return {
            "image": {
                "name": name,
                "id": image.id,
                "architecture": image.architecture,
                "size": image.size,
                "layers": [{"diff_id": layer.diff_id, "size": layer.size} for layer in image.layers],
                # How many of them are the worker image's, which other snapshots share.
                "base_layers": base_layers,
            },
            "archive": {"file": IMAGE_FILE, "size": target.stat().st_size, "sha256": file_sha256(target)},
            "base_image": {"name": request.worker_image, "id": inputs["worker_image"]},
            "code": {"directory": str(request.code_dir), "git_commit": git.commit, "git_dirty": git.dirty},
            "image_inputs": inputs,
            "inputs": _inputs_digest(inputs),
        }

    def run_build_command(self) -> None:
        """Let the code make its archives: those of an earlier build do not count."""
        words, code_dir = self.request.build_command, self.request.code_dir
        what = f"Build command {shlex.join(words)} in {code_dir}"
        with _set_aside(code_dir):
            try:
                run = subprocess.run(  # noqa: S603 the user's own command
                    words,
                    cwd=code_dir,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    check=False,
                )
            except OSError as error:
                raise QsmrError(f"{what} cannot be started: {error.strerror}; does its first line (#!) fit?") from None
            missing = [name for name in ARCHIVES if not (code_dir / name).is_file()]
            if run.returncode or missing:
                how = (
                    f"ended with exit code {run.returncode}"
                    if run.returncode
                    else f"did not make {' and '.join(missing)}"
                )
                last_lines = run.stdout.rstrip().splitlines()[-LINES_SHOWN:] or ["(none)"]
                raise QsmrError("\n".join([f"{what} {how}. The last lines of its output:", *last_lines]))

    def inputs_after_build(self, inputs: dict[str, str], before: dict[str, str]) -> dict[str, str]:
        """The inputs as the next run finds them: with files that the build command left among the code.

        A file that changed while we built may have gone in as it was before or after: then the next run builds again.
        """
        after = tree(self.request.code_dir)
        changed = sorted(path for path, digest in before.items() if after.get(path) != digest)
        if not changed:
            return {**inputs, "code": tree_digest(after)}
        self.warnings.append(
            f"Files changed while the code was built, so that the next run builds again: {', '.join(changed[:5])}; "
            "if the build command writes them, have git ignore them"
        )
        return inputs

    def docker_build(self, inputs: dict[str, str], directory: Path) -> str:
        request = self.request
        id_file = directory / "image_id"
        with tempfile.TemporaryDirectory(dir=directory) as context:
            shutil.copyfile(request.dockerfile, Path(context, "Dockerfile"))
            for name in ARCHIVES:
                write_layer(request.code_dir / name, Path(context, name.removesuffix(".gz")), "qsmr")
            self.docker.out(
                "Building the image",
                "build", "--force-rm", "--iidfile", str(id_file),
                "--build-arg", f"WORKER_IMAGE={request.worker_image}",
                "--build-arg", f"JOB_COMMAND={request.job_command}",
                "--label", f"{INPUTS_LABEL}={_inputs_digest(inputs)}",
                context,
                timeout=DOCKER_TIMEOUT,
            )  # fmt: skip
        image_id = id_file.read_text(encoding="ascii").strip()
        id_file.unlink()
        return image_id

    def manifest(self, made_of: Mapping[str, Any], snapshot_id: str) -> dict[str, Any]:
        """The content of snapshot.json."""
        return {
            "format": FORMAT,
            "project": self.request.project,
            "odin_project": self.request.odin_project,
            "snapshot_id": snapshot_id,
            "created": self.created.astimezone(UTC).strftime(CREATED),
            "settings": self.given,
            "environment": environment_digest(self.environment(snapshot_id)),
            **made_of,
        }

    def texts(self, manifest: Mapping[str, Any]) -> dict[str, str]:
        """The snapshot's files that are no secret, by name, without SHA256SUMS."""
        texts = self.rendered(manifest["image"]["name"], manifest["inputs"])
        return {**texts, MANIFEST: json.dumps(manifest, indent=2) + "\n"}

    def write_files(self, directory: Path, made_of: dict[str, Any]) -> dict[str, Any]:
        request = self.request
        snapshot_id = self.snapshot_id(made_of["image"]["id"])
        manifest = self.manifest(made_of, snapshot_id)
        texts = self.texts(manifest)
        sums = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
        sums[IMAGE_FILE] = made_of["archive"]["sha256"]
        texts[SUMS] = "".join(f"{sums[name]}  {name}\n" for name in SUMMED)
        texts[ENV_FILE] = env_text(self.environment(snapshot_id))
        for name, text in texts.items():
            write_atomically(directory / name, text, {START_SCRIPT: 0o755, ENV_FILE: 0o600}.get(name, 0o644))
        if request.signing_key:
            (directory / SIGNATURE).write_bytes(request.signing_key.sign(directory))
            (directory / SIGNATURE).chmod(0o644)
        return manifest

    def put_in_place(self, partial: Path) -> Path:
        """Give the directory its name: the day's, with a number from the second on. Nothing is overwritten."""
        stem = f"qsmr_snapshot_{self.request.project}_{self.date}"
        names = (stem if number == 1 else f"{stem}_{number}" for number in count(1))
        target = next(path for name in names if not os.path.lexists(path := self.request.directory / name))
        partial.rename(target)
        descriptor = os.open(self.request.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return target


def _made_of(snapshot: Snapshot) -> dict[str, Any]:
    """What a snapshot with the same image takes over of snapshot.json."""
    kept = ("image", "archive", "base_image", "code", "image_inputs", "inputs")
    return {key: snapshot.manifest[key] for key in kept}


@contextlib.contextmanager
def _set_aside(code_dir: Path) -> Iterator[None]:
    """Keep archives of an earlier build out of the way, so that what is there afterwards is of this one.

    They come back if that fails: one of them may be all that somebody has.
    """
    aside = {code_dir / name: code_dir / f"{PARTIAL}earlier_{name}" for name in ARCHIVES}
    for path, earlier in aside.items():
        if earlier.exists():
            path.unlink(missing_ok=True)  # of a build that was killed
        elif path.exists():
            path.replace(earlier)
    try:
        yield
    except BaseException:
        for path, earlier in aside.items():
            if earlier.exists():
                earlier.replace(path)
        raise
    for earlier in aside.values():
        earlier.unlink(missing_ok=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _state_of(snapshot: Snapshot) -> dict[str, str]:
    texts = {name: (snapshot.directory / name).read_text(encoding="utf-8") for name in (COMPOSE_FILE, START_SCRIPT)}
    try:
        environment = parse_env((snapshot.directory / ENV_FILE).read_text(encoding="utf-8"))
    except (QsmrError, UnicodeDecodeError):
        environment = {}
    return _state(snapshot.manifest["image_inputs"], environment, texts, snapshot.manifest["odin_project"])


def _state(
    inputs: Mapping[str, str], environment: Mapping[str, str], texts: Mapping[str, str], odin_project: str
) -> dict[str, str]:
    return {
        **{name.replace("_", " "): value for name, value in inputs.items()},
        **environment,
        "odin project": odin_project,
        **{name: f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" for name, text in texts.items()},
    }


def _different(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The pairs that differ; of a secret only that it does."""
    names = [name for name in after if before.get(name) != after[name]]
    old = {name: before[name] for name in names if name in before}
    new = {name: after[name] for name in names}
    if PASSWORD_KEY in old:
        old[PASSWORD_KEY] = "(hidden)"
    if PASSWORD_KEY in new:
        new[PASSWORD_KEY] = "(hidden, another one)" if old else "(hidden)"
    return old, new


def _short(value: str | None) -> str:
    return "none" if value is None else value[7:19] if value.startswith("sha256:") else value or '""'


def _inputs_digest(inputs: Mapping[str, str]) -> str:
    return f"sha256:{_digest(inputs)}"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
