"""The config file of the former scripts: five settings as KEY=VALUE lines, read as data and never executed."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import QsmrError


@dataclass(frozen=True)
class Settings:
    """Where the services are and how to log in. Roots are URLs without a slash at the end."""

    odin_api_root: str
    odin_secret: str = field(repr=False)
    job_api_root: str
    job_api_username: str
    job_api_password: str = field(repr=False)


KEYS = tuple(setting.name.upper() for setting in fields(Settings))
SECRETS = tuple(setting.name.upper() for setting in fields(Settings) if not setting.repr)

CONFIG: dict[str, Any] = {
    "type": "dict",
    "default": {},
    "options": {key: {"type": "str", "no_log": key in SECRETS} for key in KEYS},
}
"""The option of modules and actions that takes settings from a vault. Ansible hides what is secret, and nothing else: a
user who is called ana leaves /home/ana as it is."""


def parse_settings(text: str) -> dict[str, str]:
    """The KEY=VALUE pairs of a config file.

    Blank lines, ``#`` lines and lines without ``=`` say nothing. A line is split at its first ``=``; blanks around key
    and value and one pair of quotes around the value are dropped; the last of two equal keys wins.
    """
    pairs = {}
    for line in text.removeprefix("\ufeff").splitlines():
        key, separator, value = line.partition("=")
        key, value = key.strip(), value.strip()
        if not separator or key.startswith("#"):
            continue
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        pairs[key] = value
    return pairs


def load_settings(path: str | os.PathLike[str] | None, overrides: Mapping[str, object] | None = None) -> Settings:
    """The checked settings of a config file.

    ``overrides`` has the same keys (for values from a vault) and wins where it is not empty; without a path it must
    hold them all. Raises QsmrError with a line for each fault, all at once.
    """
    pairs = parse_settings(_read(path)) if path else {}
    unknown = sorted(set(overrides or {}) - set(KEYS))
    if unknown:
        raise QsmrError(f"Not a setting: {', '.join(unknown)}; there are {', '.join(KEYS)}")
    for key, value in (overrides or {}).items():
        if value not in (None, ""):
            pairs[key] = str(value)

    faults = [f"Missing in config: {key}" for key in KEYS if not pairs.get(key)]
    faults += [
        f"{key} must be one line of printable characters"
        for key in KEYS
        if not all(character.isprintable() for character in pairs.get(key, ""))
    ]
    for key in ("ODIN_API_ROOT", "JOB_API_ROOT"):
        if pairs.get(key):
            faults += _url_faults(key, pairs[key])
    if faults:
        raise QsmrError("\n".join(faults))
    return Settings(**{key.lower(): pairs[key] for key in KEYS})


def readable_by_others(path: str | os.PathLike[str]) -> bool:
    """Whether group or others may read the file, which holds secrets."""
    return bool(Path(path).stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _read(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise QsmrError(f"Config file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise QsmrError(f"Config file {path} is not text in UTF-8: save it as such") from None


def _url_faults(key: str, value: str) -> list[str]:
    try:
        url = urlsplit(value)
        looks_right = url.scheme in ("http", "https") and bool(url.hostname) and not any(map(str.isspace, value))
        _port = url.port
    except ValueError:
        looks_right = False
    if not looks_right:
        return [f"{key} does not look like an url: {value}"]
    faults = []
    if "@" in url.netloc:
        # It would stand in every job, in messages and in logs.
        faults.append(f"{key} must not hold a user name or password")
    if url.query or url.fragment:
        faults.append(f"{key} must end with a path, without ? or #")
    if value.endswith("/"):
        faults.append(f"{key} must not end with /")
    return faults
