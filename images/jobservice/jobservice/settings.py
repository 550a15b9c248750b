"""Settings, all from the environment; a secret may also lie in the file that <NAME>_FILE names."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

DATA_DIRECTORY = Path("/var/lib/jobservice")


class SettingsError(Exception):
    """A setting is missing or wrong; the message is the one line for the operator."""


def read(name: str) -> str:
    """Value of the setting, empty if it is not set."""
    if path := os.environ.get(f"{name}_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{name}_FILE: cannot read {path}: {error}") from None
    return os.environ.get(name, "")


def read_number(name: str, default: int) -> int:
    value = read(name) or str(default)
    if not (value.isascii() and value.isdigit() and 0 < int(value) < 65536):
        raise SettingsError(f"{name}: {value!r} is not a whole number from 1 to 65535")
    return int(value)


@dataclass(frozen=True)
class Settings:
    database_url: URL
    admin_user: str
    admin_password: str = field(repr=False)
    port: int
    workers: int
    threads: int

    @classmethod
    def from_environment(cls) -> Settings:
        """Raises SettingsError."""
        try:
            url = make_url(read("DATABASE_URL") or f"sqlite:///{DATA_DIRECTORY}/jobservice.sqlite")
        except ArgumentError:
            raise SettingsError("DATABASE_URL is no database URL, use sqlite:///PATH or postgresql://...") from None
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() not in ("sqlite", "postgresql"):
            raise SettingsError(f"DATABASE_URL: {url.get_backend_name()} is not supported, use sqlite or postgresql")
        if url.get_backend_name() == "sqlite" and not url.database:
            raise SettingsError("DATABASE_URL: a database in memory would not outlive the request, name a file")
        return cls(
            url,
            admin_user=read("USERVICE_ADMIN_USER"),
            admin_password=read("USERVICE_ADMIN_PASSWORD"),
            port=read_number("PORT", 5000),
            workers=read_number("GUNICORN_WORKERS", 2),
            threads=read_number("GUNICORN_THREADS", 4),
        )

    def secret_key(self) -> str:
        """Key that signs the tokens: SECRET_KEY, else one made at the first start and kept beside the data."""
        if key := read("SECRET_KEY"):
            return key
        is_file = self.database_url.get_backend_name() == "sqlite"
        path = (Path(str(self.database_url.database)).parent if is_file else DATA_DIRECTORY) / "secret_key"
        if not path.exists():
            # Written aside and linked, so that of two first starts one wins and nobody reads half a key.
            draft = path.with_name(f"secret_key.{secrets.token_hex(8)}")
            draft.touch(mode=0o600, exist_ok=False)
            draft.write_text(secrets.token_hex(32), encoding="ascii")
            try:
                path.hardlink_to(draft)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return path.read_text(encoding="ascii")
