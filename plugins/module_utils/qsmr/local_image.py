"""Images of this machine's Docker engine, built from directories of this project, and only when their inputs change.

The inputs of an image are the names, modes and contents of its directory's files, its base image, its build arguments
or its command. Their digest is the image's label ``org.qsmr.fleet.inputs``, which is what tells whether it is current.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from .dockercli import Result, explain
from .errors import QsmrError
from .hostimage import INPUTS_LABEL
from .lock import held_directory

IMAGE_LABEL = "org.qsmr.fleet.image"
EVIDENCE_LINES = 15


@dataclass(frozen=True)
class Recipe:
    """How to make the image ``name`` from the directory ``context``.

    With ``command``, a program of the context writes the image's root file system as tar to stdout, and keeps its
    downloads in ``$CACHE_DIR``. Without, the context's Dockerfile is built, on ``base`` (its argument BASE_IMAGE).
    """

    name: str
    context: Path
    base: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = ()


@dataclass(frozen=True)
class Image:
    """An image that the engine has."""

    id: str
    inputs: str
    tags: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a recipe. ``before`` and ``after`` are the inputs' digests, None where there is no image."""

    name: str
    id: str | None
    before: str | None
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


def context_tar(context: Path) -> bytes:
    """The directory as tar that depends on names, contents and the executable bits only.

    Raises QsmrError when there is no such directory.
    """
    if not context.is_dir():
        raise QsmrError(f"{context}: there is no such directory to build an image from.")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in _files(context):
            entry = tarfile.TarInfo(path.relative_to(context).as_posix())
            content = path.read_bytes()
            entry.size = len(content)
            # As git keeps modes: another umask is no other input.
            entry.mode = 0o755 if os.access(path, os.X_OK) else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _files(context: Path) -> Iterator[Path]:
    for path in sorted(context.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def inspect(name: str) -> Image | None:
    """The image of that name or id, None when the engine has none. Raises QsmrError when the engine does not answer."""
    process = _docker("image", "inspect", "--format", "{{json .}}", name)
    if process.returncode == 0:
        answer = json.loads(process.stdout)
        labels = answer["Config"].get("Labels") or {}
        return Image(answer["Id"], labels.get(INPUTS_LABEL, ""), answer["RepoTags"])
    if b"No such image" in process.stderr:
        return None
    reason = explain(Result(process.returncode, "", process.stderr.decode(errors="replace")))
    raise QsmrError(f"Image {name} cannot be looked up: {reason}")


def ensure(
    recipes: Sequence[Recipe], cache_dir: Path, check_mode: bool = False, to_be_made: Sequence[str] = ()
) -> list[Outcome]:
    """Make every image current, side by side since building is mostly waiting.

    A base image has to be there before the images that are built on it: give it to an earlier call. In check mode name
    those that such a call would have made in ``to_be_made``.
    Raises QsmrError that names every image that could not be made.
    """
    with _one_at_a_time(cache_dir, check_mode), ThreadPoolExecutor(max(1, len(recipes))) as pool:
        attempts = [pool.submit(_ensure, recipe, cache_dir, check_mode, to_be_made) for recipe in recipes]
    faults = [str(error) for attempt in attempts if isinstance(error := attempt.exception(), QsmrError)]
    if faults:
        raise QsmrError("\n".join(faults))
    return [attempt.result() for attempt in attempts]


@contextmanager
def _one_at_a_time(cache_dir: Path, check_mode: bool) -> Iterator[None]:
    """Lets a second run of ours wait, instead of making the same images beside the first."""
    if check_mode:
        yield
        return
    cache_dir.mkdir(parents=True, exist_ok=True)
    with held_directory(cache_dir, "the cache directory of the role"):
        yield


def _ensure(recipe: Recipe, cache_dir: Path, check_mode: bool, to_be_made: Sequence[str]) -> Outcome:
    context = context_tar(recipe.context)
    base = inspect(recipe.base) if recipe.base and recipe.base not in to_be_made else None
    if recipe.base and not base and not check_mode:
        raise QsmrError(f"Image {recipe.name} was not built: its base image {recipe.base} is not there. Make it first.")
    facts = {"base": base.id if base else None, "build_args": dict(recipe.build_args), "command": list(recipe.command)}
    inputs = "sha256:" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode() + context).hexdigest()
    old = inspect(recipe.name)
    image_id = old.id if old else None
    if not check_mode and (old is None or old.inputs != inputs):
        labels = {IMAGE_LABEL: recipe.name, INPUTS_LABEL: inputs}
        image_id = _import(recipe, cache_dir, labels) if recipe.command else _build(recipe, context, labels)
        if old and old.id != image_id and len(old.tags) == 1:
            # Refused while a container or another image needs it.
            _docker("image", "rm", old.id)
    return Outcome(recipe.name, image_id, old.inputs if old else None, inputs)


def _build(recipe: Recipe, context: bytes, labels: Mapping[str, str]) -> str:
    arguments = [f"--label={key}={value}" for key, value in labels.items()]
    build_args = {**({"BASE_IMAGE": recipe.base} if recipe.base else {}), **recipe.build_args}
    arguments += [f"--build-arg={key}={value}" for key, value in build_args.items()]
    with tempfile.TemporaryFile() as stream:
        stream.write(context)
        stream.seek(0)
        process = _docker("build", "--force-rm", f"--tag={recipe.name}", *arguments, "-", stdin=stream)
    image = inspect(recipe.name) if process.returncode == 0 else None
    if image is None:
        raise _not_built(recipe, process.stdout + process.stderr)
    return image.id


def _import(recipe: Recipe, cache_dir: Path, labels: Mapping[str, str]) -> str:
    changes = [f'--change=LABEL {key}="{value}"' for key, value in labels.items()]
    program = [str(recipe.context / recipe.command[0]), *recipe.command[1:]]
    environment = {**os.environ, "CACHE_DIR": str(cache_dir)}
    with tempfile.TemporaryFile() as messages:
        with subprocess.Popen(  # noqa: S603 - a program of this project
            program, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages, env=environment
        ) as producer:
            process = _docker("import", '--change=CMD ["/bin/sh"]', *changes, "-", stdin=producer.stdout)
        messages.seek(0)
        output = messages.read() + process.stderr
    _hand_over(cache_dir)
    image_id = process.stdout.decode().strip()
    if producer.returncode and image_id:
        # The file system broke off: what was imported of it gets no name.
        _docker("image", "rm", image_id)
    if producer.returncode or process.returncode:
        raise _not_built(recipe, output)
    tagged = _docker("image", "tag", image_id, recipe.name)
    if tagged.returncode:
        raise _not_built(recipe, tagged.stderr)
    return image_id


def _hand_over(directory: Path) -> None:
    """Give what root put into the directory to the directory's owner, who wants to remove it some day."""
    if os.geteuid() == 0:
        owner = directory.stat()
        for path in directory.rglob("*"):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _not_built(recipe: Recipe, output: bytes) -> QsmrError:
    return QsmrError(f"Image {recipe.name} was not built from {recipe.context}:\n{_evidence(output, EVIDENCE_LINES)}")


def _evidence(output: bytes, lines: int) -> str:
    return "\n".join(output.decode(errors="replace").strip().splitlines()[-lines:])


def _docker(*arguments: str, stdin: IO[bytes] | int | None = subprocess.DEVNULL) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["docker", *arguments], stdin=stdin, capture_output=True, check=False)  # noqa: S603, S607
    except FileNotFoundError as error:
        raise QsmrError("The command docker is not there: run playbooks/engine.yml first.") from error
