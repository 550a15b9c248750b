"""A stand-in for the Odin API: synthetic level 1 out, level 2 in and out, kept in a database."""

from __future__ import annotations

from pathlib import Path

from flask import Flask
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.routing import IntegerConverter, ValidationError

from . import level1, level2, level2_in
from .config import ConfigError, Settings, load_settings
from .scans import BANDS
from .store import Store

API = "/rest_api"
MAX_DOCUMENT_BYTES = 32 * 2**20


class FreqModeConverter(IntegerConverter):
    """A frequency mode that the instrument has; a path with another one is not found."""

    def to_python(self, value: str) -> int:
        freqmode = int(super().to_python(value))
        if freqmode not in BANDS:
            raise ValidationError
        return freqmode


class ScanIdConverter(IntegerConverter):
    """A scan id that the database can hold."""

    def to_python(self, value: str) -> int:
        scanid = int(super().to_python(value))
        if scanid >= 2**63:
            raise ValidationError
        return scanid


def create_app(settings: Settings | None = None) -> Flask:
    """Make the WSGI application.

    Raises ConfigError if the environment does not hold what is needed or the database cannot be used.
    """
    settings = settings or load_settings()
    app = Flask(__name__, root_path=str(Path(__file__).parent))
    app.config["MAX_CONTENT_LENGTH"] = MAX_DOCUMENT_BYTES
    app.url_map.converters |= {"freqmode": FreqModeConverter, "scanid": ScanIdConverter}
    try:
        store = Store(settings.database_url)
    except SQLAlchemyError as error:
        reason = " ".join(f"{getattr(error, 'orig', None) or error}".split())
        raise ConfigError(f"DATABASE_URL: the database cannot be used: {reason}") from None
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
        try:
            store.ping()
        except SQLAlchemyError:
            return {"status": "the database does not answer"}, 503
        return {"status": "ok"}

    return app
