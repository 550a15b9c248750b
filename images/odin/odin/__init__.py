"""A stand-in for the Odin API: synthetic level 1 out, level 2 in and out, kept in a database."""

from __future__ import annotations

from pathlib import Path

from flask import Flask
from flask.typing import ResponseReturnValue
from werkzeug.routing import IntegerConverter, ValidationError

from . import level1, level2, level2_in
from .config import Settings, load_settings
from .scans import BANDS
from .store import Store

API = "/rest_api"
MAX_DOCUMENT_BYTES = 32 * 2**20


class FreqModeConverter(IntegerConverter):
    """A frequency mode that the instrument has; a path with another one is not found."""

    def to_python(self, value: str) -> int:
        if (freqmode := super().to_python(value)) not in BANDS:
            raise ValidationError
        return freqmode


class ScanIdConverter(IntegerConverter):
    """A scan id that the database can hold."""

    def to_python(self, value: str) -> int:
        if (scanid := super().to_python(value)) >= 2**63:
            raise ValidationError
        return scanid


def create_app(settings: Settings | None = None) -> Flask:
    """Make the WSGI application.

    Raises ConfigError if the environment does not hold what is needed.
    """
    settings = settings or load_settings()
    app = Flask(__name__, root_path=str(Path(__file__).parent))
    app.config["MAX_CONTENT_LENGTH"] = MAX_DOCUMENT_BYTES
    app.url_map.converters |= {"freqmode": FreqModeConverter, "scanid": ScanIdConverter}
    store = Store(settings.database_url)
    app.extensions |= {"settings": settings, "store": store}

    app.register_blueprint(level1.api, url_prefix=API)
    app.register_blueprint(level2_in.api, url_prefix=API)
    app.register_blueprint(level2.v4, url_prefix=f"{API}/v4/level2")
    for name, path, published in (("development", "/development", False), ("published", "", True)):
        app.register_blueprint(
            level2.v5, name=name, url_prefix=f"{API}/v5/level2{path}", url_defaults={"published": published}
        )

    @app.get("/health")
    def health() -> ResponseReturnValue:
        store.ping()
        return {"status": "ok"}

    return app
