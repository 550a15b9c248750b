"""What each host has to be sent so that it has a snapshot's image: layers it lacks, compressed, or deltas to what it has.

Control node only. The action plugin qsmr_push gets ``snapshot`` (the directory), ``staging`` (a directory on the hosts,
made by the transport) and ``probes`` (by host name), sends each plan's ``blobs``, and returns
``hosts: {<name>: {"order": plan.order, "sent": <bytes>, "fault": <one line, or empty>}}``. Each host's module (qsmr_image
with ``state: present``) then makes the image as ``order`` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Blob:
    """A file on the control node that is named by the SHA-256 of its bytes (hexadecimal); ``size`` in bytes.

    On a host it is ``<staging>/<sha256>``, and ``<staging>/<sha256>.part`` as long as it is not there to the byte.
    """

    sha256: str
    size: int
    path: Path


@dataclass(frozen=True)
class HostPlan:
    """What one host lacks.

    ``blobs`` in the order in which it needs them, those left out that it has staged; ``order`` (JSON) says what to make
    of them; ``fault`` why nothing can be sent (one line without the host's name; empty if all is well): then there are
    no blobs. A host that has the image already has an empty plan.
    """

    blobs: list[Blob] = field(default_factory=list)
    order: dict[str, Any] = field(default_factory=dict)
    fault: str = ""

    @property
    def size(self) -> int:
        """Bytes to be sent."""
        return sum(blob.size for blob in self.blobs)


def plan(snapshot_dir: Path, probe: Mapping[str, Any], disk_share: float = 0.9) -> HostPlan:
    """What to send to the host that answered ``probe`` (key ``probe`` in the answer of qsmr_image, ``state: probe``).

    Compresses what no push before needed; equal probes give equal plans, and the blobs are verified on the control node
    before they are handed out. ``disk_share`` is the share of a host's free disk that may be used. Raises QsmrError
    where the snapshot is damaged: then there is nothing to send to any host.
    """
    raise NotImplementedError
