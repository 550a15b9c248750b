"""Start the service: migrations, the administrator, then gunicorn."""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from sqlalchemy.exc import OperationalError

from . import create_app
from .auth import set_administrator
from .database import Database
from .settings import Settings, SettingsError

MOST_FILES, OWN_FILES = 20_000, 200
GRACE = 8  # seconds for the requests at hand: Docker kills what has not ended after ten


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn in this process, so that its workers are forks with everything imported."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return create_app()


def main() -> None:
    os.umask(0o077)  # the database holds password hashes
    try:
        settings = Settings.from_environment()
        prepare(settings)
    except SettingsError as error:
        sys.exit(f"jobservice: {error}")
    except OperationalError as error:
        reason = " ".join(str(error.orig).split())
        sys.exit(f"jobservice: DATABASE_URL: the database cannot be used: {reason}")
    Server(
        {
            "bind": f"0.0.0.0:{settings.port}",
            "workers": settings.workers,
            "threads": settings.threads,
            "worker_class": "gthread",
            "worker_tmp_dir": "/dev/shm",  # noqa: S108
            "timeout": 180,
            "graceful_timeout": GRACE,
            "post_fork": end_at_once_before_it_serves,
            "keepalive": 75,
            "worker_connections": most_connections(),
        }
    ).run()


def end_at_once_before_it_serves(_server: object, _worker: object) -> None:
    """A new worker has gunicorn's own handler until it sets its: a SIGTERM in between would be lost, and awaited."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def most_connections() -> int:
    """For each process: as many as it may open files, up to a large fleet's, as each worker keeps one.

    A process that has so many hears none of them until one ends.
    """
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MOST_FILES if limit == resource.RLIM_INFINITY else min(limit, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, limit))
    return files - OWN_FILES


def prepare(settings: Settings) -> None:
    """Make what the first start must make, and bring the rest to this version."""
    if not (settings.admin_user and settings.admin_password):
        raise SettingsError("USERVICE_ADMIN_USER and USERVICE_ADMIN_PASSWORD must be set (or <NAME>_FILE)")
    settings.secret_key()
    database = Database(settings.database_url)
    database.migrate()
    with database.transaction(writes=True) as connection:
        set_administrator(connection, settings.admin_user, settings.admin_password)
    database.engine.dispose()


main()
