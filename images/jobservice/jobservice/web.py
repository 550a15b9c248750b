"""What all routes share: request bodies, times, links, error answers and the request log."""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

from dateutil import parser
from flask import Flask, Response, abort, g, request
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import HTTPException, ServiceUnavailable

API = "/rest_api/<any(v1, v2, v3, v4):version>"
MAX_PROJECT_NAME = 59
RESERVED_PROJECTS = ("projects", "auth")
# Some 50,000 jobs in a list. What is longer is refused before it is read.
MAX_BODY_BYTES = 32 * 2**20

log = logging.getLogger("jobservice")


def refuse(reason: str) -> NoReturn:
    abort(400, reason)


def json_body() -> Any:
    """The JSON that came; None if none came or its type is not JSON (the contract ignores such a body)."""
    data = request.get_data() if request.is_json else b""
    if not data:
        return None
    if len(data) >= MAX_BODY_BYTES:
        abort(413)  # came in chunks, and was cut
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        refuse(f"The body is not JSON: {error}")


def json_object() -> dict[str, Any]:
    """The JSON object that came, empty if none came."""
    body = json_body()
    if body is None:
        return {}
    if not isinstance(body, dict):
        refuse("Invalid input")
    return body


def clean_text(value: Any, field: str, limit: int = sys.maxsize) -> str | None:
    """Text that every database stores; numbers become text, None stays."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        refuse(f"Expected string in field '{field}'")
    if len(value) > limit:
        refuse(f"Field '{field}' is longer than {limit} characters")
    if "\0" in value or not (value.isascii() or _is_unicode(value)):
        refuse(f"Field '{field}' has characters that cannot be stored")
    return value


def _is_unicode(value: str) -> bool:
    """False with half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def utcnow() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def whole_seconds(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


def parse_time(value: Any, field: str) -> datetime:
    """Naive time with whole seconds; an offset is dropped, not converted, as the contract says."""
    try:
        moment = parser.parse(value)
    except (TypeError, ValueError, OverflowError):
        refuse(f"'{field}' is not a time: {value}")
    return moment.replace(tzinfo=None, microsecond=0)


def time_argument(name: str) -> datetime | None:
    """Time in the URL's query, None if it is absent."""
    value = request.args.get(name)
    return parse_time(value, name) if value else None


def now_argument() -> datetime:
    """The time that ?now= sets, else the clock's."""
    return time_argument("now") or utcnow()


def path_segment(text: str) -> str:
    """Text as it stands in a URL's path; the usual job ids stay as they are."""
    return quote(text, safe="/:@!$&'()*+,;=~")


def link(*path: str, **query: str | None) -> str:
    """URL of the service as the client addressed it; always v4."""
    url = f"{request.host_url}rest_api/v4/" + "/".join(map(path_segment, path))
    given = {name: value for name, value in query.items() if value is not None}
    return f"{url}?{urlencode(given)}" if given else url


def install(app: Flask) -> None:
    """Error answers as JSON, the check of project names, and one log line for each request."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s")

    @app.errorhandler(HTTPException)
    def answer_error(error: HTTPException) -> Response:
        headers = [header for header in error.get_headers() if header[0] != "Content-Type"]
        return Response(json.dumps({"error": error.description}), error.code, headers, mimetype="application/json")

    @app.errorhandler(OperationalError)
    def answer_database_trouble(error: OperationalError) -> Response:
        log.error("database: %s", " ".join(str(error.orig).split()))
        return answer_error(ServiceUnavailable("The database cannot be reached, try again later"))

    @app.before_request
    def start_clock() -> None:
        g.started = time.monotonic()

    @app.before_request
    def check_project_name() -> None:
        name = (request.view_args or {}).get("project")
        if name is None:
            return
        if name in RESERVED_PROJECTS:
            abort(405, f"'{name}' is a reserved name")
        if not (name[0].isalpha() and name.isalnum()):
            abort(404, "A project name is a letter and then letters or digits")
        if len(name) > MAX_PROJECT_NAME:
            refuse(f"A project name has at most {MAX_PROJECT_NAME} characters")

    @app.after_request
    def log_request(response: Response) -> Response:
        # The path only: queries and bodies may hold secrets (a target URL's token, a password).
        user = quote(g.user.username) if g.get("user") else "-"
        milliseconds = 1000 * (time.monotonic() - g.started)
        path = quote(request.path)
        log.info("%s %s %d %.0fms user=%s", request.method, path, response.status_code, milliseconds, user)
        return response
