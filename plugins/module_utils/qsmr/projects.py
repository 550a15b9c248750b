"""A project of the job service: what it should be, compared with what it is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .errors import QsmrError

# The job service keeps a deadline in 32 bits, and has room for so long an image name (REST contract v4, section 8).
_LATEST = datetime(2038, 1, 19, 3, 14, 7)
_LONGEST_IMAGE = 512


def deadline_of(text: str) -> str | None:
    """A deadline as the service writes it: UTC in whole seconds; None for "none". QsmrError if it cannot be one.

    The service drops an offset from UTC instead of converting it, so that is done here.
    """
    if text == "none":
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise QsmrError(f'The deadline is "{text}": give YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS in UTC, or none') from None
    if moment.tzinfo:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    if moment >= _LATEST:
        raise QsmrError(
            f"The deadline {text} is too late for the job service: {_LATEST.isoformat()} is its end of time"
        )
    return moment.isoformat(timespec="seconds")


def wanted_fields(
    deadline: str | None, environment: Mapping[str, Any] | None, processing_image: str | None
) -> dict[str, Any]:
    """The fields to be put, of those that the user gives."""
    fields: dict[str, Any] = {}
    if deadline:
        fields["deadline"] = deadline_of(deadline)
    if environment is not None:
        fields["environment"] = dict(environment)
    if processing_image is not None:
        if len(processing_image) > _LONGEST_IMAGE:
            raise QsmrError(f"The processing image's name has more than {_LONGEST_IMAGE} characters")
        fields["processing_image_url"] = processing_image
    return fields


def current_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """The same fields as the service shows them."""
    return {
        "deadline": record.get("Deadline"),
        "environment": record.get("Environment") or {},
        "processing_image_url": (record.get("URLS") or {}).get("URL-Processing-image") or "",
    }


def counters(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the service counts: jobs by state, and its own counters, which may drift (REST contract v4, section 4)."""
    names = (
        "JobStates",
        "NrJobsAdded",
        "NrJobsClaimed",
        "NrJobsFinished",
        "NrJobsFailed",
        "TotalProcessingTime",
        "ETA",
    )
    return {name: record.get(name) for name in names}
