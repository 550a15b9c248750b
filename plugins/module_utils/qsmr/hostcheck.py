"""Is a host fit to run a release's workers? Everything that can be known before anything is changed.

Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .dockercli import PODMAN, Docker
from .errors import QsmrError
from .hostcompose import Compose
from .hostfit import Limits
from .hostimage import HostImage, image_root
from .hostpaths import unwritable
from .hostprobe import Probe, proxies_of
from .hoststate import Desired, Found
from .hostworker import WorkerHost
from .release import ENV_FILE, Releases
from .servicecheck import JOB_SERVICE, NO_NAME, NO_TRUST, answers, largest_packet

# Docker's names of machines (of the Linux kernel) and of image architectures (of Go).
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}
LINGER = Path("/var/lib/systemd/linger")
SYSTEMD = Path("/run/systemd/system")


def unfit(
    host: WorkerHost,
    snapshot: Mapping[str, Any],
    desired: Desired | None,
    found: Found | None,
    odin_api_root: str,
    pushed: bool = False,
    asked: bool = False,
) -> tuple[list[str], bool]:
    """All that keeps this host from running the snapshot's workers, and whether a container of its image was asked.

    With ``pushed`` the image must be there already; with ``asked`` such a container has been asked in the same run.
    """
    limits = desired.limits if desired else Limits()
    lines, compose = engine_faults(host.docker, host.releases, snapshot, pushed, limits)
    lines += filter(None, [desired.unheard if desired else ""])
    if desired is None or asked:
        return lines, asked
    seen: dict[str, Any] = {}
    has_image = bool(found and found.image_id)
    if compose and not lines and desired.count:
        try:
            seen = look_from_inside(Probe(host, compose), host, desired, has_image, odin_api_root)
        except QsmrError as error:
            return [str(error)], False
    return [*lines, *service_faults(desired.env, odin_api_root, seen, has_image)], has_image and bool(seen)


def look_from_inside(
    probe: Probe, host: WorkerHost, desired: Desired, has_image: bool, odin_api_root: str
) -> dict[str, Any]:
    """What a worker will see: from a container of its image, or as long as that is not here, of the release that runs.

    Nothing where there is neither. Raises QsmrError if there can be no worker.
    """
    if has_image:
        return probe.view(desired, odin_api_root)
    probe.check_file(desired)
    try:
        former = host.installed(desired, host.releases.named("current"))
        if former.image.name and host.docker.image(former.image.name):
            files = {**former.files, ENV_FILE: desired.files[ENV_FILE]}
            return probe.view(replace(former, files=files), odin_api_root)
    except QsmrError:
        pass  # what keeps the former release from being started need not keep this one
    return {}


def engine_faults(
    docker: Docker, releases: Releases, snapshot: Mapping[str, Any], pushed: bool, limits: Limits
) -> tuple[list[str], Compose | None]:
    """What of directory, engine, Compose and image keeps the host from running the snapshot; and its Compose."""
    places = (releases.root, releases.directory(snapshot["snapshot_id"]))
    found = [fault for fault in map(unwritable, places) if fault][:1]
    try:
        info = docker.info()
    except QsmrError as error:
        return [*found, str(error)], None
    compose = None
    try:
        compose = Compose.of(docker, info)
    except QsmrError as error:
        found.append(str(error))
    found += filter(None, [session_fault(info), *limit_faults(info, limits)])
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
            found += filter(None, [image.room_fault(image_root(info))])
    return found, compose


def limit_faults(info: Mapping[str, Any], limits: Limits) -> list[str]:
    """Why the engine cannot keep workers to these limits."""
    found = []
    cores = int(info.get("NCPU") or 0)
    if info.get("Driver") != PODMAN and cores and limits.nano_cpus > cores * 1_000_000_000:
        found.append(f"qsmr_worker_cpus is {limits.cpus}, and this host has {cores}: give no more than that")
    if limits.nano_cpus and info.get("CpuCfsQuota") is False:
        found.append("This host's engine cannot limit processors: empty qsmr_worker_cpus for it")
    if limits.memory_bytes and info.get("MemoryLimit") is False:
        found.append("This host's engine cannot limit memory: empty qsmr_worker_memory for it")
    return found


def session_fault(info: Mapping[str, Any]) -> str:
    """Why the containers of an engine that is the user's own end when the user logs out; empty if they do not."""
    rootless = info.get("Rootless") or any("rootless" in str(option) for option in info.get("SecurityOptions") or [])
    user = pwd.getpwuid(os.getuid()).pw_name
    if not rootless or not SYSTEMD.is_dir() or (LINGER / user).exists():
        return ""
    return f"The engine is {user}'s own, and its containers end when {user} logs out: loginctl enable-linger {user}"


def service_faults(
    env: Mapping[str, str], odin_api_root: str, seen: Mapping[str, Any] | None = None, final: bool = False
) -> list[str]:
    """Why workers cannot use the services. ``env`` is theirs, ``odin_api_root`` may be empty.

    ``seen`` is what a container sees; without it this host is asked in its place. Only with ``final`` is it of the
    image that the workers will have, whose certificates count.
    """
    roots = {"JOB_API_ROOT": env.get("UWORKER_JOB_API_ROOT", ""), "ODIN_API_ROOT": odin_api_root}
    lines = [
        f"{key} is {root}, which is the worker itself in its container: give a name or address that all hosts can use"
        for key, root in roots.items()
        if is_loopback(root)
    ]
    inside = seen["services"] if seen else answers({**env, **proxies_of(os.environ)}, odin_api_root)
    bad = [
        (service, answer)
        for service, answer in inside.items()
        if not (answer["fits"] or is_loopback(answer["root"]) or (answer["why"] == NO_TRUST and not final))
    ]
    outside = answers(env, odin_api_root) if seen and bad else {}
    return lines + [_fault(service, answer, seen or {}, outside.get(service, {})) for service, answer in bad]


def _fault(service: str, answer: Mapping[str, Any], seen: Mapping[str, Any], outside: Mapping[str, Any]) -> str:
    """The cause for which a service is not what it has to be, in a line with what to do.

    ``outside`` is what it answers to this host, where a container was asked.
    """
    key = "JOB_API_ROOT" if service == JOB_SERVICE else "ODIN_API_ROOT"
    root, proxy, status = answer["root"], answer["proxy"], answer["status"]
    what = f"answers {status}" if status else f"cannot be reached ({answer['said']})"
    if answer["direct"]:
        return (
            f"The {service} {root} {what} through the proxy {proxy}, which containers have from ~/.docker/config.json "
            f"or their engine, and can be used without it: put {urlsplit(root).hostname} into noProxy there"
        )
    if service == JOB_SERVICE and status in (401, 403):
        return f"The job service {root} refuses the account: check JOB_API_USERNAME and JOB_API_PASSWORD"
    if outside.get("fits"):
        if answer["why"] == NO_NAME:
            servers = ", ".join(seen["nameservers"]) or "none"
            return (
                f"The {service} {root} has no address in containers, which ask the name servers {servers}; /etc/hosts "
                f"and a resolver on 127.0.0.1 are this host's alone: give {key} an address, or Docker a name server "
                "(dns in /etc/docker/daemon.json)"
            )
        if answer["why"] == NO_TRUST:
            return (
                f"The {service} {root} has a certificate that the workers' image does not trust ({answer['said']}): "
                "set qsmr_ca_file, and build the snapshot again"
            )
        mtu, own = seen["mtu"], largest_packet()
        packets = (
            f" or its packets of {mtu} bytes, where this host's are {own} (mtu in daemon.json)" if mtu > own > 0 else ""
        )
        through = f" through the proxy {proxy}" if proxy else ""
        return (
            f"The {service} {root} {what} from a container{through}, and can be used from this host: look at the "
            f"firewall between Docker's bridge and the service{packets}"
        )
    if answer["why"] == NO_TRUST:
        return f"The {service} {root} {what}: set qsmr_ca_file, and build the snapshot again"
    return f"The {service} {root} {what}: check {key}, the network and the service"


def is_loopback(root: str) -> bool:
    """Whether a URL leads to the machine itself that uses it."""
    host = urlsplit(root).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(host))  # 127.1 and 2130706433 are addresses, too
        except (OSError, ValueError):
            return False
    return address.is_loopback or address.is_unspecified
