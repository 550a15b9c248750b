"""The command `uworker`."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import time

from . import executor
from .loop import Worker
from .output import Output
from .settings import Settings, SettingsError, load_settings
from .signals import Stop


def main() -> int:
    """Run the worker; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="uworker",
        description="Works on the jobs of a project until it is stopped. Its settings are environment variables.",
    )
    parser.add_argument("url", nargs="?", metavar="INPUT_URL", help="run the job command once on this URL, then exit")
    parser.add_argument("--no-command", action="store_true", help="docker mode of the former worker: not offered")
    arguments = parser.parse_args()
    if arguments.no_command:
        return _refuse("docker mode (--no-command) is not offered, this worker runs a job command only")
    try:
        settings = load_settings(os.environ, socket.gethostname())
    except SettingsError as error:
        return _refuse(str(error))
    stop = Stop(settings.grace_period)
    stop.install()
    if arguments.url:
        return _once(settings, stop, arguments.url)
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        worker = Worker(settings, stop)
    except OSError as error:
        return _refuse(f"UWORKER_STATE_DIR={settings.state_dir} can't be written: {error.strerror}")
    log = logging.getLogger("uworker")
    log.info("Worker %s starts: project %s at %s", settings.worker, settings.project, settings.root)
    worker.run()
    log.info("Worker %s stops", settings.worker)
    return 0


def _once(settings: Settings, stop: Stop, url: str) -> int:
    """Run the job command on `url`, print its output as it comes, and return its exit status as a shell would."""
    if problem := settings.command_problem():
        return _refuse(problem)
    stop.grace_period = 0
    output = Output(echo=lambda entry: print(entry, end="", flush=True))
    try:
        result = executor.run([*settings.command, url], settings.job_environment, settings.job_timeout, output, stop)
    except executor.CommandError as error:
        return _refuse(str(error))
    return result.code if result.code >= 0 else 128 - result.code


def _refuse(message: str) -> int:
    print(f"uworker: {message}", file=sys.stderr)
    return 1
