"""Start the service: migrations, the administrator, then gunicorn in this process."""

from __future__ import annotations

import os
import sys

from sqlalchemy.exc import OperationalError

from .auth import add_user
from .database import Database
from .settings import Settings, SettingsError, read


def main() -> None:
    os.umask(0o077)  # the database holds password hashes
    try:
        _prepare(Settings.from_environment())
        command = [
            sys.executable, "-m", "gunicorn", "jobservice:create_app()",
            f"--bind=0.0.0.0:{read('PORT') or 5000}",
            f"--workers={read('GUNICORN_WORKERS') or 2}",
            f"--threads={read('GUNICORN_THREADS') or 4}",
            "--worker-class=gthread", "--timeout=180", "--worker-tmp-dir=/dev/shm", "--keep-alive=75",
        ]  # fmt: skip
    except SettingsError as error:
        sys.exit(f"jobservice: {error}")
    except OperationalError as error:
        sys.exit(f"jobservice: DATABASE_URL: the database cannot be used: {error.orig}")
    # The administrator is in the database now, the process that serves need not know the password.
    os.environ.pop("USERVICE_ADMIN_PASSWORD", None)
    os.execv(command[0], command)  # noqa: S606


def _prepare(settings: Settings) -> None:
    if not (settings.admin_user and settings.admin_password):
        raise SettingsError("USERVICE_ADMIN_USER and USERVICE_ADMIN_PASSWORD must be set (or <NAME>_FILE)")
    settings.secret_key()
    database = Database(settings.database_url)
    database.migrate()
    with database.writer.begin() as connection:
        add_user(connection, settings.admin_user, settings.admin_password, is_admin=True)
    database.reader.dispose()


main()
