"""A snapshot's image on a host: is it there, what of it is, is there room for the rest, and have it.

Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .compression import has_zstd
from .dockercli import PODMAN, Docker, explain
from .errors import QsmrError
from .hostlayers import HostLayers, Lacking, copy_layers, write_archive
from .hostpaths import disk_free, on_one_disk
from .names import check_image_names
from .release import Releases

# What an image was made from. It goes with the image, unlike the id, whose meaning Docker 29 changed.
INPUTS_LABEL = "org.qsmr.fleet.inputs"
# What an image of the lowest layers only belongs to: the name, without tag, of the image that is being loaded.
PART_LABEL = "org.qsmr.fleet.part-of"
LOAD_TIMEOUT = 3600.0
# Bytes of layers that Docker takes over in a go, while the next ones arrive.
LOADED_AT_ONCE = 128 << 20
# A store of Docker's that takes images only whole, those parts included that it has.
CONTAINERD = "containerd"
CONTAINERD_ROOT, CONTAINERD_CONFIG = Path("/var/lib/containerd"), Path("/etc/containerd/config.toml")
# How a load ends that refers to layers which Docker has not, or not to its satisfaction.
THIN_REFUSED = ("no such file or directory", "not found", "does not exist")


@dataclass(frozen=True)
class Wanted:
    """The image that a snapshot names: ``image`` and ``inputs`` of snapshot.json."""

    name: str
    id: str
    layers: Sequence[Mapping[str, Any]]
    inputs: str

    @classmethod
    def from_snapshot(cls, snapshot: Mapping[str, Any]) -> Wanted:
        check_image_names(snapshot)
        image = snapshot["image"]
        return cls(image["name"], image["id"], image["layers"], snapshot["inputs"])

    @property
    def diff_ids(self) -> list[str]:
        return [layer["diff_id"] for layer in self.layers]

    def is_(self, found: Mapping[str, Any]) -> bool:
        """Whether ``docker image inspect`` shows this image: the same id, or equal layers made from the same inputs."""
        labels = (found.get("Config") or {}).get("Labels") or {}
        return found["Id"] == self.id or (layers_of(found) == self.diff_ids and labels.get(INPUTS_LABEL) == self.inputs)

    def known_layers(self, images: Iterable[Mapping[str, Any]]) -> int:
        """How many of its lowest layers ``images`` have. A layer counts with all that lies below it, as for Docker."""
        return max((common_prefix(self.diff_ids, layers_of(found)) for found in images), default=0)


def layers_of(found: Mapping[str, Any]) -> list[str]:
    return (found.get("RootFS") or {}).get("Layers") or []


def common_prefix(first: Sequence[str], second: Sequence[str]) -> int:
    shorter = min(len(first), len(second))
    return next((n for n in range(shorter) if first[n] != second[n]), shorter)


class HostImage:
    """The image of a snapshot on this host, and what of it the host has in Docker and beside it."""

    def __init__(self, docker: Docker, snapshot: Mapping[str, Any], place: Releases) -> None:
        self.docker = docker
        self.wanted = Wanted.from_snapshot(snapshot)
        self.layers = HostLayers(place)
        self._host_dir = place.root.parent

    def find(self) -> str:
        """The name or id under which the host has the image; empty if it has not."""
        return self._find()[0]

    def _find(self) -> tuple[str, list[dict[str, Any]]]:
        """Where the image is, and if need be all others.

        The wanted name may belong to another image, and the wanted image to another name or to none.
        """
        named = self.docker.image(self.wanted.name)
        if named and self.wanted.is_(named):
            return self.wanted.name, []
        images = self.docker.images()
        return next((str(found["Id"]) for found in images if self.wanted.is_(found)), ""), images

    def probe(self) -> dict[str, Any]:
        """What the host has of the image and to make it from: what a push is planned by. JSON; changes nothing.

        ``image`` is its name or id, empty if it is not there; ``staged`` what has arrived in ``incoming``, in bytes by
        file name. Only if the image is not there: ``host_dir``, where all of it lies; ``layers``, how many of its
        lowest Docker has; ``kept``, diff ids of layers beside Docker, the latest first; ``store``, Docker's; ``zstd``,
        whether it unpacks that; ``memory`` and ``room`` that are free, in bytes.
        """
        found, images = self._find()
        answer: dict[str, Any] = {"image": found, "staged": self.layers.staged()}
        if found:
            return answer
        info = self.docker.info()
        containerd = has_containerd_store(info)
        return {
            **answer,
            "host_dir": str(self._host_dir),
            "layers": self.wanted.known_layers(images),
            "kept": list(self.layers.kept()),
            "store": CONTAINERD if containerd or info.get("Driver") == PODMAN else str(info.get("Driver", "")),
            "docker": str(info.get("ServerVersion", "")),
            "zstd": has_zstd(),
            "memory": memory_free(),
            "room": room(self.layers.incoming, image_root(info)),
        }

    def room_fault(self, docker_root: Path) -> str:
        """Why Docker has no room for the image, as far as can be known before it is planned what to send."""
        sizes = [int(layer["size"]) for layer in self.wanted.layers]
        known = self.wanted.known_layers(self.docker.images())
        loading = room_to_load(sizes, [known, *loads(sizes, known)])
        return room_fault(self.wanted.name, room(self.layers.incoming, docker_root), 0, loading)

    def make(self, order: Mapping[str, Any], wait: Callable[[str], None] = lambda _sha256: None) -> None:
        """Have the image as ``order`` says (see qsmr.pushplan), from what has arrived, was kept, and Docker has.

        ``wait`` returns when the blob that it is given has arrived. Raises Lacking for what has to be sent once more.
        Whatever fails, what has arrived stays for the next run, and what Docker took over, too.
        """
        diff_ids = self.wanted.diff_ids
        lower, images = diff_ids[: order["absent"]], self.docker.images()
        known = self.wanted.known_layers(images)
        if known < len(lower):
            raise Lacking("Docker has lost layers of it since it was asked", lower[known:])
        wait(order["config"])
        config = self.layers.config(order["config"])
        found_parts = [found for found in images if is_part(found, repository(self.wanted.name))]
        parts = [found["Id"] for found in found_parts]
        known = len(lower)
        if len(order["loads"]) > 1:  # an earlier run may have been cut off between two of them
            known = max(known, self.wanted.known_layers(found_parts))
        for count in order["loads"]:
            if count == len(diff_ids):
                self._load(order, self.wanted.name, config, lower if order["whole"] else diff_ids[:known], wait, images)
            elif count > known:
                part = part_of(config, count, self.wanted.name)
                self._load(order, "", part, diff_ids[:known], wait, images)
                parts.append(f"sha256:{hashlib.sha256(part).hexdigest()}")
                known = count
        found = self.find()
        if not found:
            raise QsmrError(
                f"Docker loaded another image than the snapshot's {self.wanted.name}: build the snapshot again"
            )
        self.name(found)
        for part in parts:
            self.docker.call("image", "rm", part)
        self.layers.settle(order, diff_ids)

    def _load(
        self,
        order: Mapping[str, Any],
        name: str,
        config: bytes,
        below: list[str],
        wait: Callable[[str], None],
        images: list[dict[str, Any]],
    ) -> None:
        """Have Docker take over the layers of an image above those ``below``; ``name`` may be empty."""
        diff_ids: list[str] = json.loads(config)["rootfs"]["diff_ids"]
        numbers = range(len(below), len(diff_ids))
        steps = {number: order["layers"][number - order["absent"]] for number in numbers}
        for layer in steps.values():
            if "blob" in layer:
                self.layers.prepare(layer)
                wait(layer["blob"])
        contents = (
            (layer["diff_id"], layer["size"], self.layers.content(layer, number >= order["keep_from"]))
            for number, layer in steps.items()
        )

        def write(stream: IO[bytes]) -> None:
            names = self._copy_lower(stream, below, images) if order["whole"] else []
            write_archive(stream, name, config, diff_ids, contents, names)

        result = self.docker.load(write, LOAD_TIMEOUT)
        if result.code and below and any(words in result.words for words in THIN_REFUSED):
            raise Lacking(f"Docker wants all layers: {result.words}", below, refused=True)
        if result.code:
            raise QsmrError(
                f"Docker did not load {self.wanted.name}: {explain(result)} (run again, it need not be resent)"
            )

    def _copy_lower(self, stream: IO[bytes], lower: list[str], images: list[dict[str, Any]]) -> list[str]:
        """Write layers that Docker has, as it saves them; returns their names. Raises Lacking if it does not."""
        source = next(found for found in images if layers_of(found)[: len(lower)] == lower)
        names: list[str] = []
        try:
            with self.docker.saved(source["Id"]) as saved:
                names = copy_layers(stream, saved)[: len(lower)]
        except QsmrError as error:
            raise Lacking(f"Docker does not save {source['Id']}: {error}", lower, refused=True) from None
        if len(names) < len(lower):
            raise Lacking(f"Docker saved {source['Id']} without its layers", lower, refused=True)
        return names

    def name(self, found: str) -> None:
        """Give the image that was found its name, if it has another one."""
        if found != self.wanted.name:
            self.docker.out(f"Naming the image {self.wanted.name}", "tag", found, self.wanted.name)


def has_containerd_store(info: Mapping[str, Any]) -> bool:
    """Whether images are containerd's (the default of Docker 29), and not Docker's own."""
    return any("io.containerd.snapshotter" in str(value) for _name, value in info.get("DriverStatus") or [])


def image_root(info: Mapping[str, Any]) -> Path:
    """Where the engine of this ``docker info`` keeps images: whatever its data-root is, containerd has its own."""
    root = Path(info["DockerRootDir"])
    if not has_containerd_store(info):
        return root
    address = str((info.get("Containerd") or {}).get("Address", ""))
    # One that Docker starts itself has its files below Docker's.
    if "/docker/containerd/" in address or not (address or CONTAINERD_ROOT.is_dir()):
        return root / "containerd/daemon"
    try:
        configured = re.search(
            r"^root\s*=\s*[\"']([^\"']+)", CONTAINERD_CONFIG.read_text(encoding="utf-8"), re.MULTILINE
        )
    except (OSError, UnicodeDecodeError):
        configured = None
    return Path(configured[1]) if configured else CONTAINERD_ROOT


def made(name: str, sent: int, found: str = "") -> dict[str, Any]:
    """What the module qsmr_image answers when the image has its ``name``, as it was ``found`` or made of what was sent.

    ``sent`` is in bytes.
    """
    actions = [f"sent {megabytes(sent)}"] * bool(sent) + [f"loaded {name}"]
    if found:
        actions = [f"named {found} {name}"] * (found != name)
    diff = {"before": {"image": found or None}, "after": {"image": name}}
    return {"actions": actions, "diff": diff, "lacks": [], "probe": {"image": name, "staged": {}}}


def part_of(config: bytes, count: int, name: str) -> bytes:
    """The configuration of an image of the ``count`` lowest layers of the image that has this configuration and name.

    Source of the format: Docker image specification v1.2.
    """
    whole = json.loads(config)
    kept = {key: whole[key] for key in ("architecture", "os", "variant") if key in whole}
    layers = {"type": "layers", "diff_ids": whole["rootfs"]["diff_ids"][:count]}
    labels = {PART_LABEL: repository(name)}
    return json.dumps({**kept, "config": {"Labels": labels}, "rootfs": layers}).encode()


def is_part(found: Mapping[str, Any], of: str) -> bool:
    """Whether an image is of the lowest layers only of one with this name."""
    labels = (found.get("Config") or {}).get("Labels") or {}
    return bool(labels.get(PART_LABEL) == of)


def repository(name: str) -> str:
    """An image's name without its tag."""
    return name.rpartition(":")[0]


def loads(sizes: Sequence[int], absent: int) -> list[int]:
    """After how many layers each Docker is to take over what it got, if it has the lowest ``absent`` ones.

    ``sizes`` of all layers in bytes. The last number is that of all layers.
    """
    counts, size = [], 0
    for count in range(absent + 1, len(sizes)):
        size += sizes[count - 1]
        if size >= LOADED_AT_ONCE:
            counts.append(count)
            size = 0
    return [*counts, len(sizes)]


def room_to_load(sizes: Sequence[int], counts: Sequence[int]) -> int:
    """Bytes that Docker needs to load layers between these ``counts``: it unpacks what it gets before it takes it."""
    steps = [sum(sizes[counts[n] : counts[n + 1]]) for n in range(len(counts) - 1)]
    return sum(steps) + max(steps)


def room(incoming: Path, docker_root: Path) -> dict[str, Any]:
    """Free disk where what is sent arrives, and where Docker keeps images."""
    return {
        "staging": {"path": str(incoming), "free": disk_free(incoming)},
        "docker": {"path": str(docker_root), "free": disk_free(docker_root)},
        "one_disk": on_one_disk(incoming, docker_root),
    }


def room_fault(name: str, found: Mapping[str, Any], staged: int, loading: int, share: float = 1.0) -> str:
    """Why ``staged`` bytes to be sent, and ``loading`` bytes of Docker's, find no room; empty if they do.

    ``share`` is that of the free disk which may be used.
    """
    needs = [(found["staging"], staged), (found["docker"], loading)]
    if found["one_disk"]:
        needs = [(found["docker"], staged + loading)]
    for place, needed in needs:
        if needed > share * place["free"]:
            part = (
                "" if share == 1 else f", {megabytes(share * place['free'])} of them may be used (qsmr_push_disk_share)"
            )
            return (
                f"No room for the image {name}: it needs {megabytes(needed)} below {place['path']}, "
                f"{megabytes(place['free'])} are free{part}: remove old images (docker image prune) or files there"
            )
    return ""


def memory_free() -> int:
    """Bytes of memory that can be had without swapping (proc(5), MemAvailable); 0 where that is not told."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 0


def megabytes(size: float) -> str:
    """A number of bytes in words: MB, or kB where that would be next to nothing."""
    if size < 1e6:
        return f"{size / 1e3:,.1f} kB"
    return f"{size / 1e6:,.1f} MB" if size < 1e8 else f"{size / 1e6:,.0f} MB"
