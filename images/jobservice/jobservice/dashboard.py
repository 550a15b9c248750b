"""The page for people: files that read the public API from the browser. No login, and no secret to show."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, send_from_directory

FILES = Path(__file__).with_name("dashboard")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

blueprint = Blueprint("dashboard", __name__)


@blueprint.get("/")
def get_page() -> Response:
    return get_file("index.html")


@blueprint.get("/dashboard/<name>")
def get_file(name: str) -> Response:
    answer = send_from_directory(FILES, name)
    answer.headers.update(HEADERS)
    return answer
