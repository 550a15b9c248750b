"""What of a project's workers should be on a host, what is there, and how the two differ.

Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .dockercli import GRACE_KEY, HOSTNAME_KEY, RELEASE_KEY, TIMEOUT_KEY, Container
from .hostfit import Limits, checked_job_timeout
from .hostimage import Wanted
from .names import host_part
from .release import COMPOSE_FILE, ENV_FILE, parse_env

# Conditions that pass by themselves, or that are what we want.
FINE = ("healthy", "starting")


@dataclass(frozen=True)
class Desired:
    """What should run. ``files`` are the release's, by name, worker.env among them."""

    compose_project: str
    snapshot_id: str
    image: Wanted
    files: Mapping[str, str]
    hostname: str
    count: int
    drain_timeout: int
    limits: Limits = Limits()
    job_timeout: str = ""

    @property
    def env(self) -> dict[str, str]:
        own = {HOSTNAME_KEY: host_part(self.hostname), GRACE_KEY: str(self.drain_timeout)}
        if self.job_timeout and not self.unheard:
            own[TIMEOUT_KEY] = checked_job_timeout(self.job_timeout)
        return {**parse_env(self.files[ENV_FILE]), **own}

    @property
    def unheard(self) -> str:
        """Which setting of this host an older release cannot take up, with what to do; empty if there is none."""
        if not self.job_timeout or TIMEOUT_KEY in self.files[COMPOSE_FILE]:
            return ""
        return (
            f"Release {self.snapshot_id} was made before qsmr_job_timeout could be set: build the snapshot again, or "
            'give -e qsmr_job_timeout=""'
        )

    def view(self) -> dict[str, Any]:
        """What ``--diff`` shows."""
        return {"release": self.snapshot_id, "images": [self.image.name], "workers": self.count, "sick": []}


@dataclass(frozen=True)
class Found:
    """What is there. ``image_id`` is empty when the host lacks the image, ``stable`` when no release proved itself."""

    release: str
    stable: str
    differing_files: Sequence[str]
    image_id: str
    containers: Sequence[Container]

    def view(self) -> dict[str, Any]:
        return {
            "release": self.release,
            "images": sorted({container.image_name for container in self.containers}),
            "workers": len(self.containers),
            "sick": [container.name for container in self.containers if container.condition not in FINE],
        }


def compare(desired: Desired, found: Found) -> list[str]:
    """The differences, one a line, without the values of the environment."""
    lines = compare_settings(desired, found)
    lines += [f"container {c.name}: {c.condition}" for c in found.containers if c.condition not in FINE]
    if found.release == desired.snapshot_id != found.stable:
        lines.append(f"stable release: {found.stable or 'none'} -> {desired.snapshot_id}")
    return lines


def compare_settings(desired: Desired, found: Found) -> list[str]:
    """The differences that ``docker compose up`` settles."""
    lines = []
    if found.release != desired.snapshot_id:
        lines.append(f"release: {found.release or 'none'} -> {desired.snapshot_id}")
    else:
        lines += [f"{name}: differs" for name in found.differing_files]
    names = {container.image_name for container in found.containers if container.image_id != found.image_id}
    lines += [f"image: {name} -> {desired.image.name}" for name in sorted(names)]
    env = desired.env
    keys = {key for container in found.containers for key in env if container.env.get(key) != env[key]}
    if found.release != desired.snapshot_id:
        keys.discard(RELEASE_KEY)
    lines += [f"{ENV_FILE}: key {key} changed" for key in sorted(keys)]
    limits = desired.limits
    for name, wanted, actual in (
        ("cpus", limits.cpus, {c.nano_cpus / 1e9 for c in found.containers if c.nano_cpus != limits.nano_cpus}),
        ("memory", limits.memory, {c.memory for c in found.containers if c.memory != limits.memory_bytes}),
    ):
        lines += [f"{name}: {value or 'all'} -> {wanted or 'all'}" for value in sorted(actual)]
    if len(found.containers) != desired.count:
        lines.append(f"workers: {len(found.containers)} -> {desired.count}")
    return lines
