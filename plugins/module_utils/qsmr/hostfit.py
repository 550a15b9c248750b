"""How many workers fit a host, and what each of them may take of it.

Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .errors import QsmrError

GB = 1_000_000_000
MOST_WORKERS = 1000
# What Docker takes: at least 6 MB, with its own letters for binary units.
MEMORY = re.compile(r"([0-9]+)([bkmg]?)")
UNITS = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
LEAST_MEMORY = 6 * 1024**2
COUNT = re.compile(r"([0-9]+)(?: per (?:([0-9]+(?:\.[0-9]+)?) )?(cores?|GB))?")


def host_cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


def host_memory() -> int:
    """The memory of this machine in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def machine_id() -> str:
    """What no other machine has now: its boot, and the process numbers that a machine in a container has for itself.

    Machines that were made from one disk or image share what stands in their files, /etc/machine-id and Docker's id
    among it. Empty where the kernel tells neither.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def worker_count(text: str, cores: int, memory: int) -> int:
    """The number of workers that ``qsmr_workers_per_host`` means on a host with these cores and bytes of memory.

    "4"; "2 per core", "1 per 2 cores"; "1 per 4 GB" (of 10^9 bytes). A host that is too small for one gets one.
    Raises QsmrError for anything else.
    """
    found = COUNT.fullmatch(" ".join(text.split()))
    each = float(found[2] or 1) if found else 0.0
    if not found or not each:
        raise QsmrError(
            f'qsmr_workers_per_host is "{text}": give a number ("4"), or one for the size of the host '
            '("2 per core", "1 per 2 cores", "1 per 4 GB")'
        )
    number, unit = int(found[1]), found[3]
    if unit and number:
        number = max(1, int(number * (memory / GB if unit == "GB" else cores) / each))
    if number > MOST_WORKERS:
        raise QsmrError(f'qsmr_workers_per_host is "{text}", {number} on this host: {MOST_WORKERS} are the most')
    return number


def checked_job_timeout(text: str) -> str:
    """What a worker gets for ``qsmr_job_timeout``: seconds, or nothing for no limit. Raises QsmrError for others."""
    if not re.fullmatch(r"[0-9]{0,9}", text, re.ASCII):
        raise QsmrError(f'qsmr_job_timeout is "{text}": give whole seconds, 0 for no limit, or nothing')
    return text.lstrip("0")


@dataclass(frozen=True)
class Limits:
    """What each worker may take of the host: processors ("1.5") and memory ("4g"); empty texts limit nothing."""

    cpus: str = ""
    memory: str = ""

    @classmethod
    def checked(cls, cpus: str, memory: str) -> Limits:
        """Raises QsmrError for what Docker would not take."""
        if not re.fullmatch(r"([0-9]{1,4}(\.[0-9]{1,2})?)?", cpus) or (cpus and not float(cpus)):
            raise QsmrError(f'qsmr_worker_cpus is "{cpus}": give a number of processors, such as 2 or 0.5, or nothing')
        limits = cls(cpus, memory.lower())
        if memory and (not MEMORY.fullmatch(limits.memory) or limits.memory_bytes < LEAST_MEMORY):
            raise QsmrError(f'qsmr_worker_memory is "{memory}": give it as Docker does, such as 512m or 4g, or nothing')
        return limits

    @property
    def env(self) -> dict[str, str]:
        """What docker-compose.yml puts in for its limits; 0 is none."""
        return {"UWORKER_CPUS": self.cpus or "0", "UWORKER_MEMORY": self.memory or "0"}

    @property
    def nano_cpus(self) -> int:
        return round(float(self.cpus or 0) * 1_000_000_000)

    @property
    def memory_bytes(self) -> int:
        number, unit = MEMORY.fullmatch(self.memory or "0").groups()  # type: ignore[union-attr]
        return int(number) * UNITS[unit]
