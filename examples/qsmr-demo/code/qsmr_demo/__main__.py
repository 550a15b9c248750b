"""python3 -m qsmr_demo SOURCE_URL [TARGET_URL [USER] [PASSWORD]]

Environment: QSMR_CONFIG (default q_std) and QSMR_INVEMODE (default stnd) name a file of the data archive,
QSMR_SNAPSHOT_ID says where the program came from. Exit status 0 means that the target has the result, which may be
the reason why there is no profile.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from .odin_api import ApiError, deliver, get
from .retrieval import NoResult, retrieve

DATA = Path(__file__).parents[1]
"""Where both archives are unpacked."""


class SettingError(Exception):
    """One line for the job's output."""


def setting(variable: str, directory: str, default: str) -> tuple[str, dict[str, Any]]:
    """Name and content of the file that an environment variable chooses."""
    name = os.environ.get(variable) or default
    choices = {path.stem: path for path in sorted((DATA / directory).glob("*.json"))}
    if name not in choices:
        raise SettingError(f"{variable} is {name!r}, it must be one of {', '.join(choices)}")
    return name, json.loads(choices[name].read_text())


def process(source: str, target: str | None, credentials: tuple[str, ...]) -> None:
    config_name, config = setting("QSMR_CONFIG", "config", "q_std")
    mode_name, mode = setting("QSMR_INVEMODE", "invemode", "stnd")
    spectroscopy = json.loads((DATA / "spectroscopy.json").read_text())
    log = get(source)["Info"]
    urls = log["URLS"]
    comments = [
        f"Snapshot: {os.environ.get('QSMR_SNAPSHOT_ID') or 'none'}",
        f"Config: {config_name} {json.dumps(config)}",
        f"InvMode: {mode_name} {json.dumps(mode)}",
    ]
    products: list[dict[str, Any]] = []
    information: dict[str, Any] = {}
    try:
        product, information, status = retrieve(
            get(urls["URL-spectra"]),
            get(urls["URL-ptz"]),
            get(urls["URL-apriori-O3"]),
            spectroscopy,
            config,
            mode,
            mode_name,
        )
        products = [product]
    except NoResult as reason:
        status = [f"Error: {reason}"]
    print(f"Scan {log['ScanID']}, frequency mode {log['FreqMode']}", *status, sep="\n", flush=True)
    if target:
        deliver(target, {"L2": products, "L2I": information, "L2C": "\n".join(comments + status)}, credentials)
        print("The target has the result")


def main(arguments: list[str]) -> int:
    source, target, *credentials = [*arguments, None][: max(2, len(arguments))]
    try:
        process(source, target, tuple(credentials))
    except (ApiError, SettingError) as error:
        reason = str(error)
    except Exception as error:  # a job's output shall say in one line what nobody foresaw
        reason = f"unexpected {type(error).__name__}: {error}"
    else:
        return 0
    print(f"qsmr-demo: {' '.join(reason.split())}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
