"""The job service: hands out jobs to workers over the job service REST contract, v4."""

from __future__ import annotations

from flask import Flask
from sqlalchemy import text

from . import auth, counts, dashboard, failures, jobs, projects, users, web, workers
from .database import Database, reading
from .guesses import Guesses
from .settings import Settings


def create_app() -> Flask:
    """WSGI application on the database that the environment names; the schema must be there (see __main__)."""
    settings = Settings.from_environment()
    app = Flask(__name__, static_folder=None)
    app.extensions["database"] = Database(settings.database_url)
    app.extensions["tokens"] = auth.token_serializer(settings.secret_key())
    app.extensions["guesses"] = Guesses()
    web.install(app)
    for module in (auth, users, projects, jobs, counts, failures, workers, dashboard):
        app.register_blueprint(module.blueprint)

    @app.get("/health")
    def health() -> dict[str, str]:
        with reading() as connection:
            connection.execute(text("SELECT 1"))
        return {"status": "ok"}

    return app
