"""Settings from the environment.

SECRET_KEY (required)  the secret that the target tokens are encrypted with, the clients' ODIN_SECRET
ODIN_CIPHER            ecb (default): SECRET_KEY is 16, 24 or 32 ASCII characters; eax: base64 of as many bytes
ODIN_RULES             2020 (default) or 2016: what a level 2 document must hold, and whether it may be sent again
DATABASE_URL           SQLAlchemy URL, default sqlite:////var/lib/odin/odin.sqlite

Each can also be given as <NAME>_FILE, the path of a file that holds the value.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .token import CIPHERS, aes_key

DEFAULT_DATABASE_URL = "sqlite:////var/lib/odin/odin.sqlite"


class ConfigError(RuntimeError):
    """One line for whoever starts the service (gunicorn prints a RuntimeError without a traceback)."""


@dataclass(frozen=True)
class Settings:
    secret: str = field(repr=False)
    database_url: str = field(default=DEFAULT_DATABASE_URL, repr=False)
    rules: str = "2020"
    cipher: str = "ecb"

    def __post_init__(self) -> None:
        if self.rules not in ("2016", "2020"):
            raise ConfigError(f"ODIN_RULES is {self.rules!r}, it must be 2016 or 2020")
        if self.cipher not in CIPHERS:
            raise ConfigError(f"ODIN_CIPHER is {self.cipher!r}, it must be one of {', '.join(CIPHERS)}")
        try:
            aes_key(self.cipher, self.secret)
        except ValueError as error:
            raise ConfigError(f"SECRET_KEY {error}") from None


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; raises ConfigError naming the variable that is missing or wrong."""

    def value(name: str, default: str = "") -> str:
        path = environ.get(f"{name}_FILE")
        if not path:
            return environ.get(name) or default
        if environ.get(name):
            raise ConfigError(f"both {name} and {name}_FILE are set, keep one of them")
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise ConfigError(f"{name}_FILE: cannot read {path}: {error.strerror}") from None

    if not (secret := value("SECRET_KEY")):
        raise ConfigError("SECRET_KEY is not set, give the secret of the target tokens or SECRET_KEY_FILE")
    return Settings(
        secret=secret,
        database_url=value("DATABASE_URL", DEFAULT_DATABASE_URL),
        rules=value("ODIN_RULES", "2020"),
        cipher=value("ODIN_CIPHER", "ecb"),
    )
